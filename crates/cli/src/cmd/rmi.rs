//! `rmi` and `tag`.

use client::escape_segment;
use types::Reference;

use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Kind, Parsed},
    format::Value,
    session::Session,
    term::output::{print, warn},
};

pub(super) static RMI: Command = Command {
    paths: &["image rm", "image remove", "rmi"],
    synopsis: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove images",
    flags: &[&[
        Flag::switch("force", "Remove images that are in use").short('f'),
        Flag::switch("no-prune", "Keep untagged parents"),
        Flag::text("platform", "Remove only this platform").kind(Kind::Commas, "strings"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: rmi,
};

pub(super) static TAG: Command = Command {
    paths: &["image tag", "tag"],
    synopsis: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Give an image a further name",
    flags: &[],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |parsed, session| {
        let target = Reference::parse(&parsed.args[1]).map_err(|error| {
            Error::new(format!("Error parsing reference: {:?} is not a valid repository/tag: {error}", parsed.args[1]))
        })?;
        if target.digest().is_some() {
            return Err(Error::new("refusing to create a tag with a digest reference"));
        }
        let target = target.with_default_tag();
        session
            .client()?
            .post(format!("/images/{}/tag", escape_segment(&parsed.args[0])))
            .query("repo", &target.name())
            .query_opt("tag", target.tag())
            .send_discard()?;
        Ok(0)
    },
};

fn rmi(parsed: &Parsed, session: &Session) -> Result<u8> {
    let client = session.client()?;
    let force = parsed.on("force");
    let mut failures = Vec::new();
    let mut fatal = false;
    // One after the other: a tag's removal decides what the next one's means.
    for name in &parsed.args {
        let mut request = client
            .delete(format!("/images/{}", escape_segment(name)))
            .flag("force", force)
            .flag("noprune", parsed.on("no-prune"));
        for platform in parsed.list("platform") {
            let platform: types::Platform =
                platform.parse().map_err(|error: types::PlatformError| Error::new(error.to_string()))?;
            request = request
                .query("platforms", &serde_json::to_string(&platform).map_err(|error| Error::new(error.to_string()))?);
        }
        match request.send().and_then(|answer| answer.json::<Value>()) {
            Ok(list) => {
                let mut out = String::new();
                for one in list.items() {
                    for (key, word) in [("Deleted", "Deleted"), ("Untagged", "Untagged")] {
                        if !one.str(key).is_empty() {
                            out.push_str(&format!("{word}: {}\n", one.str(key)));
                        }
                    }
                }
                print(&out)?;
            }
            Err(error) => {
                fatal |= !error.is_not_found();
                failures.push(error.to_string());
            }
        }
    }
    for failure in &failures {
        warn(failure);
    }
    // What is to be gone and is gone satisfies a forced removal.
    if failures.is_empty() || (force && !fatal) { Ok(0) } else { Err(Error::Silent(1)) }
}
