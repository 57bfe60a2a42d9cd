//! Commands: a list for the kernel or a line for a shell.

use crate::error::Error;
use crate::word::{Rest, Word};

/// What RUN, CMD, ENTRYPOINT and HEALTHCHECK run. Variables in it are left to the shell, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Program and arguments, from a JSON list.
    Exec(Vec<Word>),
    /// A line behind the shell's words; empty where nothing is written.
    Shell(Word),
}

impl Command {
    pub(super) fn parse(rest: &Rest<'_>) -> Result<Self, Error> {
        Ok(match rest.list()? {
            Some(words) => Command::Exec(words),
            None => Command::Shell(rest.whole().unwrap_or_else(|| Word::new("", rest.span()))),
        })
    }

    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Command::Exec(words) => words.is_empty(),
            Command::Shell(line) => line.text.is_empty(),
        }
    }

    /// The words that are executed, behind those of the shell where there is one.
    #[must_use]
    pub fn arguments(&self, shell: &[String]) -> Vec<String> {
        match self {
            Command::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
            Command::Shell(line) => shell.iter().cloned().chain([line.text.clone()]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instruction;
    use crate::testing::one;

    #[test]
    fn lists_and_lines() {
        for (line, words) in [
            ("CMD [\"a\", \"\\u0041\\n\"]", vec!["a", "A\n"]),
            ("CMD [a]", vec!["sh", "[a]"]),
            ("CMD [\"a\"] b", vec!["sh", "[\"a\"] b"]),
            ("CMD a \\\n  b \\\n# c\n\tc  ", vec!["sh", "a   b \tc"]),
            ("CMD", vec!["sh", ""]),
            ("CMD []", vec![]),
        ] {
            let Instruction::Cmd(command) = one(line) else { panic!() };
            assert_eq!(command.arguments(&["sh".to_owned()]), words, "{line}");
        }
        assert!(Command::Exec(Vec::new()).is_empty());
    }
}
