//! `wait`: exit codes of containers once they have stopped. The reading of wait answers is shared with `run`.

use super::{container_path, parallel::each};
use crate::{
    Error, Result,
    flags::{Arity, Command},
    format::Value,
};

pub(super) static WAIT: Command = Command {
    paths: &["container wait", "wait"],
    synopsis: "CONTAINER [CONTAINER...]",
    about: "Wait until containers stop, then print their exit codes",
    flags: &[],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| {
        let client = session.client()?;
        each(&parsed.args, |name| {
            let answer: Value = client.post(container_path(name, "/wait")).send()?.json()?;
            Ok(Some(status(&answer)?.to_string()))
        })
    },
};

/// Exit code in a wait answer.
pub(super) fn status(answer: &Value) -> Result<i64> {
    match answer.at(&["Error", "Message"]).as_str() {
        "" => Ok(answer.int("StatusCode")),
        message => Err(Error::with_code(message, 125)),
    }
}
