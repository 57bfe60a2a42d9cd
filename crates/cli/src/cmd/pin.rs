//! `image pin` and `image unpin`: images that no clean-up removes.

use client::escape_segment;

use super::parallel::each;
use crate::{
    Result,
    flags::{Arity, Command, Parsed},
    format::Value,
    session::Session,
};

pub(super) static PIN: Command = Command {
    paths: &["image pin"],
    synopsis: "IMAGE [IMAGE...]",
    about: "Keep images until they are unpinned: prune and making room leave them alone",
    flags: &[],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| change(parsed, session, "pin"),
};

pub(super) static UNPIN: Command = Command {
    paths: &["image unpin"],
    synopsis: "IMAGE [IMAGE...]",
    about: "Let go of pinned images",
    flags: &[],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| change(parsed, session, "unpin"),
};

fn change(parsed: &Parsed, session: &Session, action: &str) -> Result<u8> {
    let client = session.client()?;
    each(&parsed.args, |name| {
        let path = format!("/images/{}/{action}", escape_segment(name));
        client.post(path).send()?.json::<Value>()?;
        Ok(Some(name.to_owned()))
    })
}
