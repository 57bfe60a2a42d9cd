//! `pull` and `push`.

use client::escape_segment;
use types::Reference;

use crate::{
    Error, Result,
    config::credentials,
    flags::{Arity, Command, Flag, Parsed},
    session::Session,
    term::{
        output::{print_line, warn},
        progress::{self, Show},
    },
};

const NO_TRUST: Flag = Flag::switch("disable-content-trust", "").hidden();

pub(super) static PULL: Command = Command {
    paths: &["image pull", "pull"],
    synopsis: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    flags: &[&[
        Flag::switch("all-tags", "Download every tag of the repository").short('a'),
        NO_TRUST,
        Flag::text("platform", "Platform to take from a multi-platform image"),
        Flag::switch("quiet", "Show the image's name only").short('q'),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: pull,
};

pub(super) static PUSH: Command = Command {
    paths: &["image push", "push"],
    synopsis: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    flags: &[&[
        Flag::switch("all-tags", "Upload every tag of the repository").short('a'),
        NO_TRUST,
        Flag::text("platform", "Upload only this platform of a multi-platform image"),
        Flag::switch("quiet", "Show the image's name only").short('q'),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: push,
};

/// Header with the login for the registry of an image; `None` when none is stored.
pub(super) fn registry_auth(session: &Session, reference: &Reference) -> Result<Option<String>> {
    let found = credentials::lookup(session.config()?, credentials::server_key(reference.domain()))?;
    let empty = found.username.is_empty() && found.identity_token.is_empty();
    Ok((!empty).then(|| found.header()))
}

fn reference(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|error| Error::new(error.to_string()))
}

fn pull(parsed: &Parsed, session: &Session) -> Result<u8> {
    let name = reference(parsed.first())?;
    let all = parsed.on("all-tags");
    let tagged = !name.is_name_only();
    if all && tagged {
        return Err(Error::new("tag can't be used with --all-tags/-a"));
    }
    if !all && !tagged && !parsed.on("quiet") {
        print_line(&format!("Using default tag: {}", name.clone().with_default_tag().tag().unwrap_or("latest")))?;
    }
    let name = if all { name } else { name.with_default_tag() };
    request(session, &name, parsed.opt("platform"), parsed.on("quiet"), false)?;
    print_line(&name.to_string())?;
    Ok(0)
}

/// Pulls the image of a container to be; progress goes to standard error.
pub(super) fn pull_image(
    session: &Session,
    image: &str,
    platform: Option<&str>,
    quiet: bool,
    stderr: bool,
) -> Result<()> {
    let pulled = request(session, &reference(image)?.with_default_tag(), platform, quiet, stderr);
    // What the stream tells of a failure is one of the daemon's, and the container could not be made.
    pulled.map_err(|error| match error {
        Error::Message { text, hint, .. } => Error::Message { text, code: 125, hint },
        other => other,
    })
}

fn request(session: &Session, name: &Reference, platform: Option<&str>, quiet: bool, stderr: bool) -> Result<()> {
    let tag = match (name.digest(), name.tag()) {
        (Some(digest), _) => Some(digest.to_string()),
        (None, tag) => tag.map(str::to_owned),
    };
    let mut request = session
        .client()?
        .post("/images/create")
        .query("fromImage", &name.name())
        .query_opt("tag", tag.as_deref())
        .query_opt("platform", platform);
    if let Some(auth) = registry_auth(session, name)? {
        request = request.header("X-Registry-Auth", &auth);
    }
    let show = match (quiet, stderr) {
        (true, _) => Show::Nothing,
        (false, true) => Show::Stderr,
        (false, false) => Show::Stdout,
    };
    progress::show(request.send()?.into_body(), show, |_| {})
}

fn push(parsed: &Parsed, session: &Session) -> Result<u8> {
    let name = reference(parsed.first())?;
    let (all, quiet) = (parsed.on("all-tags"), parsed.on("quiet"));
    if all && !name.is_name_only() {
        return Err(Error::new("tag can't be used with --all-tags/-a"));
    }
    if !all && name.is_name_only() && !quiet {
        print_line("Using default tag: latest")?;
    }
    let name = if all { name } else { name.with_default_tag() };
    let platform = match parsed.opt("platform") {
        None => None,
        Some(text) => {
            let platform: types::Platform =
                text.parse().map_err(|error: types::PlatformError| Error::new(error.to_string()))?;
            Some(serde_json::to_string(&platform).map_err(|error| Error::new(error.to_string()))?)
        }
    };
    // The API wants the header even when there is no login to send.
    let auth = registry_auth(session, &name)?.unwrap_or_else(|| credentials::Credentials::default().header());
    let answer = session
        .client()?
        .post(format!("/images/{}/push", escape_segment(&name.name())))
        .query_opt("tag", name.tag().filter(|_| !all))
        .query_opt("platform", platform.as_deref())
        .header("X-Registry-Auth", &auth)
        .send()?;
    let mut notes = Vec::new();
    progress::show(answer.into_body(), if quiet { Show::Nothing } else { Show::Stdout }, |aux| {
        let (index, manifest) = (aux.at(&["originalIndex", "digest"]), aux.at(&["selectedManifest", "digest"]));
        if !index.is_null() {
            notes.push(format!(
                "Only a part of the image's platforms is here: {} was pushed in the place of {}",
                manifest.as_str(),
                index.as_str(),
            ));
        }
    })?;
    for note in notes {
        warn(&note);
    }
    if quiet {
        print_line(&name.to_string())?;
    }
    Ok(0)
}
