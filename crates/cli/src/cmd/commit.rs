//! `commit`: an image of a container's changes.

use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::output::print_line,
};

pub(super) static COMMIT: Command = Command {
    paths: &["container commit", "commit"],
    synopsis: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Make an image of a container's changes",
    flags: &[&[
        Flag::text("author", "Author of the image").short('a'),
        Flag::list("change", "Dockerfile instruction to apply to the image").short('c'),
        Flag::text("message", "Message of the image's history").short('m'),
        Flag::switch("pause", "Freeze the container meanwhile").short('p').default("true"),
        Flag::switch("no-pause", "Do not freeze the container"),
    ]],
    arity: Arity::Between(1, 2),
    interspersed: true,
    run: commit,
};

fn commit(parsed: &Parsed, session: &Session) -> Result<u8> {
    let name = match parsed.args.get(1) {
        Some(text) => {
            Some(types::Reference::parse(text).map_err(|error| Error::new(error.to_string()))?.with_default_tag())
        }
        None => None,
    };
    let pause = parsed.on("pause") && !parsed.on("no-pause");
    let mut request = session
        .client()?
        .post("/commit")
        .query_opt("author", parsed.opt("author"))
        .query_opt("comment", parsed.opt("message"))
        .query("container", parsed.first())
        .query("pause", if pause { "1" } else { "0" })
        .query_opt("repo", name.as_ref().map(|name| name.name()).as_deref())
        .query_opt("tag", name.as_ref().and_then(|name| name.tag()));
    for change in parsed.list("change") {
        request = request.query("changes", change);
    }
    let created: Value = request.json(&serde_json::Value::Null)?.send()?.json()?;
    print_line(created.str("Id"))?;
    Ok(0)
}
