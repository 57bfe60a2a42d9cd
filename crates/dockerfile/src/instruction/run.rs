//! `RUN [flags] command`, the command being a list, a line for a shell, or heredocs.

use super::flags::Flags;
use super::{Command, MountSpec, mount};
use crate::error::{Error, Problem};
use crate::heredoc::{self, Heredoc};
use crate::word::{Rest, Word};

/// A command of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command; heredocs are behind it.
    pub command: Command,
    /// The documents that its line opens.
    pub heredocs: Vec<Heredoc>,
    /// The line is nothing but the opening of the one heredoc, which therefore is the command.
    pub only_heredoc: bool,
    /// `--mount`, with variables.
    pub mounts: Vec<MountSpec>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`.
    pub devices: Vec<Device>,
}

/// The network of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The build's.
    #[default]
    Default,
    /// None but loopback.
    None,
    /// The host's, which the build must allow.
    Host,
}

/// How a command is confined. There are these two: what is unknown is refused and never taken for either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// As containers are.
    #[default]
    Sandbox,
    /// Not at all, which the build must allow.
    Insecure,
}

/// A device by its CDI name (Container Device Interface).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `vendor/class=name`, a class or a name.
    pub name: Word,
    /// Whether the build fails without it.
    pub required: bool,
}

/// What is executed for a RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// Program and arguments.
    Exec(Vec<String>),
    /// A line, or several, behind the shell's words.
    Shell(String),
    /// A file of this name that names its interpreter in its first line.
    File { name: String, content: String },
}

impl Run {
    /// What is executed.
    #[must_use]
    pub fn script(&self) -> Script {
        let line = match &self.command {
            Command::Exec(words) => return Script::Exec(words.iter().map(|word| word.text.clone()).collect()),
            Command::Shell(line) => line,
        };
        match self.heredocs.first().filter(|_| self.only_heredoc) {
            Some(heredoc) if heredoc.content.starts_with("#!") => {
                Script::File { name: heredoc.name.clone(), content: heredoc.content.clone() }
            }
            Some(heredoc) => Script::Shell(heredoc.content.clone()),
            None => {
                let mut text = line.text.clone();
                for heredoc in &self.heredocs {
                    text.push('\n');
                    text.push_str(&heredoc.raw);
                    text.push_str(&heredoc.name);
                }
                Script::Shell(text)
            }
        }
    }
}

pub(super) fn parse(flags: &mut Flags, rest: &Rest<'_>, heredocs: &[Heredoc], escape: char) -> Result<Run, Error> {
    let mounts = flags.list("mount")?.into_iter().map(mount::parse).collect::<Result<_, Error>>()?;
    let network = match flags.text("network")? {
        None => Network::Default,
        Some(word) => match word.text.as_str() {
            "default" => Network::Default,
            "none" => Network::None,
            "host" => Network::Host,
            _ => return Err(Error::parse(Problem::Network(word.text)).at(word.span)),
        },
    };
    let security = match flags.text("security")? {
        None => Security::Sandbox,
        Some(word) => match word.text.as_str() {
            "sandbox" => Security::Sandbox,
            "insecure" => Security::Insecure,
            _ => return Err(Error::parse(Problem::Security(word.text)).at(word.span)),
        },
    };
    let devices = flags.list("device")?.into_iter().map(device).collect::<Result<_, Error>>()?;
    let command = Command::parse(rest)?;
    let only_heredoc = heredocs.len() == 1 && heredoc::parse(rest.text(), escape).is_some();
    Ok(Run { command, heredocs: heredocs.to_vec(), only_heredoc, mounts, network, security, devices })
}

/// `NAME[,required]`.
fn device(word: Word) -> Result<Device, Error> {
    let mut required = false;
    let mut name = String::new();
    for field in mount::fields(&word)? {
        match field.split_once('=') {
            None if field.eq_ignore_ascii_case("required") => required = true,
            Some((key, value)) if key.eq_ignore_ascii_case("required") => {
                required = mount::boolean(value)
                    .ok_or_else(|| Error::parse(Problem::MountValueFor("required", value.to_owned())).at(word.span))?;
            }
            Some((key, value)) if key.eq_ignore_ascii_case("name") => name = value.to_owned(),
            _ if name.is_empty() => name = field,
            _ => return Err(Error::parse(Problem::MountField(field)).at(word.span)),
        }
    }
    if name.is_empty() {
        return Err(Error::parse(Problem::FlagValue("device".to_owned())).at(word.span));
    }
    Ok(Device { name: Word::new(name, word.span), required })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instruction;
    use crate::testing::{error, one};

    fn run(line: &str) -> Run {
        match one(line) {
            Instruction::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scripts() {
        for (line, script) in [
            ("RUN [\"a\", \"b\"]", Script::Exec(vec!["a".into(), "b".into()])),
            ("RUN a \\\n b", Script::Shell("a  b".into())),
            ("RUN <<E\na\nb\nE", Script::Shell("a\nb\n".into())),
            ("RUN <<-E\n\ta\n\tE", Script::Shell("a\n".into())),
            ("RUN <<E\n#!/x\nE", Script::File { name: "E".into(), content: "#!/x\n".into() }),
            ("RUN cat <<-E >x\n\ta\n\tE", Script::Shell("cat <<-E >x\n\ta\nE".into())),
            ("RUN", Script::Shell(String::new())),
        ] {
            assert_eq!(run(line).script(), script, "{line}");
        }
    }

    #[test]
    fn flags() {
        let found = run("RUN --network=none --security=insecure --device=a/b=c,required --device=x y");
        assert_eq!((found.network, found.security), (Network::None, Security::Insecure));
        let devices: Vec<_> = found.devices.iter().map(|device| (device.name.text.as_str(), device.required)).collect();
        assert_eq!(devices, [("a/b=c", true), ("x", false)]);
        for (line, end) in [
            ("RUN --network=x y", "invalid network mode \"x\""),
            ("RUN --network=HOST y", "invalid network mode \"HOST\""),
            ("RUN --security=root y", "security \"root\" is not valid"),
            ("RUN --device= y", "failed to parse csv mounts: EOF"),
        ] {
            assert_eq!(error(line), format!("dockerfile parse error on line 2: {end}"));
        }
    }
}
