//! Short ways for the tests of this crate to read something.

use crate::{Dockerfile, Instruction, Source};

/// The instruction of one line, which stands in a stage where it needs one.
pub(crate) fn one(line: &str) -> Instruction {
    let text =
        if line.to_ascii_uppercase().starts_with("FROM") { line.to_owned() } else { format!("FROM scratch\n{line}") };
    let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
    let mut file = Dockerfile::parse(&source).unwrap_or_else(|failure| panic!("{line}: {}", failure.error));
    let mut stage = file.stages.remove(0);
    match stage.statements.pop() {
        Some(statement) => statement.instruction,
        None => Instruction::From(stage.from),
    }
}

/// What is said of a line that cannot be read.
pub(crate) fn error(line: &str) -> String {
    let source = Source::new("Dockerfile", format!("FROM scratch\n{line}").as_bytes()).unwrap();
    Dockerfile::parse(&source).expect_err(line).error.to_string()
}
