//! `system fsck`: is what the image store holds still what it was.

use crate::{
    Result,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::progress::{self, Show},
};

pub(super) static FSCK: Command = Command {
    paths: &["system fsck"],
    synopsis: "[OPTIONS]",
    about: "Check image content against its digests",
    flags: &[&[Flag::switch("repair", "Make damaged layers anew, and fetch damaged blobs again")]],
    arity: Arity::None,
    interspersed: true,
    run: fsck,
};

/// Exit code 1 says that damage is left.
fn fsck(parsed: &Parsed, session: &Session) -> Result<u8> {
    let answer = session.client()?.post("/system/fsck").flag("repair", parsed.on("repair")).send()?;
    let mut left = 0;
    progress::show(answer.into_body(), Show::Stdout, |aux| {
        let count = |key: &str| match aux.get(key) {
            Value::Int(count) => *count,
            _ => 0,
        };
        left = count("Damaged") - count("Repaired");
    })?;
    Ok(u8::from(left > 0))
}
