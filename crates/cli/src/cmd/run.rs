//! `run` and `create`.
//!
//! A foreground run asks four things: create, attach and wait side by side, start. Attach and wait are written before
//! either answer is read, so they cost one round trip together; the wait must be registered before the start, or a
//! short-lived container could end unseen.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
};

use client::Client;
use serde_json::json;
use types::Reference;

use super::{DETACH_KEYS, container_path, pull::pull_image, wait};
use crate::{
    Error, Result,
    create::{self, CreateRequest},
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::{
        attach::{Attach, Ended},
        detach::DetachKeys,
        output::{print_line, stdin_is_terminal, warn},
        raw::window_size,
        signals,
    },
};

const RUN_FLAGS: &[Flag] = &[
    Flag::switch("detach", "Run in the background and print the container's ID").short('d'),
    DETACH_KEYS,
    Flag::switch("sig-proxy", "Pass our signals on to the process").default("true"),
];

pub(super) static RUN: Command = Command {
    paths: &["container run", "run"],
    synopsis: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and start a container",
    flags: &[create::CREATE, RUN_FLAGS],
    arity: Arity::AtLeast(1),
    interspersed: false,
    run: |parsed, session| run(parsed, session).map_err(|error| explain(error, parsed)),
};

pub(super) static CREATE: Command = Command {
    paths: &["container create", "create"],
    synopsis: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a container without starting it",
    flags: &[create::CREATE],
    arity: Arity::AtLeast(1),
    interspersed: false,
    run: |parsed, session| {
        let request = create::request(parsed, false).map_err(|error| explain(error, parsed))?;
        let id = match create_container(session, parsed, &request) {
            Err(error @ Error::Message { code: 125, .. }) => return Err(explain(error, parsed)),
            other => other?,
        };
        print_line(&id)?;
        Ok(0)
    },
};

/// Docker's form of a failed run: our name before the message, the way to the help after it. A value a flag does not
/// take is shown with the usage instead.
fn explain(error: Error, parsed: &Parsed) -> Error {
    let hint = Some(format!("\nRun 'dhow {} --help' for more information", parsed.called));
    match error {
        Error::Client(error) => {
            Error::Message { text: format!("dhow: {error}"), code: start_code(&error.message()), hint }
        }
        Error::Message { text, code: 125, hint: None } if text.starts_with("invalid argument ") => {
            Error::usage(text, parsed.called, parsed.command.synopsis)
        }
        Error::Message { text, code: 125, hint: None } => {
            Error::Message { text: format!("dhow: {text}"), code: 125, hint }
        }
        other => other,
    }
}

/// Exit code for a container that could not be started, from the runtime's words.
pub(super) fn start_code(message: &str) -> u8 {
    let any = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if any(&["executable file not found", "no such file or directory"]) {
        127
    } else if any(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    }
}

fn run(parsed: &Parsed, session: &Session) -> Result<u8> {
    let detached = parsed.on("detach");
    let mut request = create::request(parsed, detached)?;
    let keys = DetachKeys::parse(&detach_keys(parsed, session)?)?;
    if !detached && request.tty && request.attach.0 && !stdin_is_terminal() {
        return Err(Error::new("the input device is not a TTY"));
    }
    if let (true, Some((height, width))) = (request.tty, window_size()) {
        request.body["HostConfig"]["ConsoleSize"] = json!([height, width]);
    }
    let id = create_container(session, parsed, &request)?;
    let client = session.client()?;
    if detached {
        client.post(container_path(&id, "/start")).send_discard()?;
        print_line(&id)?;
        return Ok(0);
    }
    // A terminal passes ^C on as a byte; without one the signal itself is passed on.
    if parsed.on("sig-proxy") && !request.tty {
        signals::forward(client, &id);
    }
    let (input, output, errors) = request.attach;
    let attached = client
        .post(container_path(&id, "/attach"))
        .flag("stderr", errors)
        .flag("stdin", input)
        .flag("stdout", output)
        .flag("stream", true)
        .query_opt("detachKeys", parsed.opt("detach-keys"))
        .start_hijack()?;
    let condition = if request.auto_remove { "removed" } else { "next-exit" };
    let waited = client.post(container_path(&id, "/wait")).query("condition", condition).start()?;
    let attached = attached.receive_hijacked()?;
    let waited = waited.receive()?;
    let copying = Attach { stdin: input, tty: request.tty, keys };
    let raw = copying.raw_mode()?;
    if let Err(error) = client.post(container_path(&id, "/start")).send_discard() {
        drop(raw);
        drop(attached);
        if request.auto_remove {
            // The daemon removes what did not start; the name is free once this returns.
            let _ = waited.bytes();
        }
        return Err(error.into());
    }
    if !output && !errors {
        print_line(&id)?;
    }
    if request.tty {
        signals::follow_window(client, signals::Resizable::Container(id.clone()));
    }
    let ended = copying.copy(attached)?;
    drop(raw);
    if ended == Ended::Detached {
        return Ok(0);
    }
    let answer: Value = waited.json()?;
    // Exit codes are eight bits wide; a process cannot have returned more.
    Ok(u8::try_from(wait::status(&answer)? & 0xff).unwrap_or(1))
}

/// The detach sequence: flag, configuration, or the default.
pub(super) fn detach_keys(parsed: &Parsed, session: &Session) -> Result<String> {
    match parsed.opt("detach-keys") {
        Some(keys) => Ok(keys.to_owned()),
        None => Ok(session.config()?.text("detachKeys").unwrap_or_default().to_owned()),
    }
}

/// Creates the container, pulling its image as `--pull` says, and writes `--cidfile`.
fn create_container(session: &Session, parsed: &Parsed, request: &CreateRequest) -> Result<String> {
    let pull = parsed.text("pull");
    if !matches!(pull, "always" | "missing" | "never") {
        return Err(Error::invalid(format!(
            "invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    let by_id = request.image.starts_with("sha256:") || is_id(&request.image);
    if let (false, Err(error)) = (by_id, Reference::parse(&request.image)) {
        return Err(if parsed.called.ends_with("run") { Error::invalid(error) } else { Error::new(error.to_string()) });
    }
    let cid = parsed.opt("cidfile").map(CidFile::create).transpose()?;
    let client = session.client()?;
    let quiet = parsed.on("quiet");
    let platform = (!request.platform.is_empty()).then_some(request.platform.as_str());
    if pull == "always" {
        pull_image(session, &request.image, platform, quiet, true)?;
    }
    let created = match send(client, request, platform) {
        Err(error) if pull == "missing" && error.is_not_found() && is_missing_image(&error) => {
            warn(&format!("Unable to find image '{}' locally", familiar(&request.image)));
            pull_image(session, &request.image, platform, quiet, true)?;
            send(client, request, platform)?
        }
        other => other?,
    };
    for warning in created.get("Warnings").items() {
        warn(&format!("WARNING: {}", warning.as_str()));
    }
    let id = created.str("Id").to_owned();
    if let Some(cid) = cid {
        cid.write(&id)?;
    }
    Ok(id)
}

fn send(client: &Client, request: &CreateRequest, platform: Option<&str>) -> client::Result<Value> {
    let name = (!request.name.is_empty()).then_some(request.name.as_str());
    client
        .post("/containers/create")
        .query_opt("name", name)
        .query_opt("platform", platform)
        .json(&request.body)?
        .send()?
        .json()
}

/// Whether the text is the ID of an image rather than a name.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A 404 to a create may also be about a network or a container; only a missing image is pulled.
fn is_missing_image(error: &client::Error) -> bool {
    let message = error.message().to_lowercase();
    message.contains("no such image") || message.contains("does not provide the specified platform")
}

/// The image's name with its tag, as it is looked for.
fn familiar(image: &str) -> String {
    Reference::parse(image).map_or_else(|_| image.to_owned(), |reference| reference.with_default_tag().familiar())
}

/// The file of `--cidfile`: reserved before anything is created, removed when nothing was.
struct CidFile<'a> {
    path: &'a Path,
    file: File,
    written: bool,
}

impl<'a> CidFile<'a> {
    fn create(path: &'a str) -> Result<Self> {
        let path = Path::new(path);
        let opened = OpenOptions::new().write(true).create_new(true).open(path);
        let file = opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::invalid(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            )),
            _ => Error::invalid(format!(
                "failed to create the container ID file: open {}: {}",
                path.display(),
                crate::error::os_text(&error)
            )),
        })?;
        Ok(Self { path, file, written: false })
    }

    fn write(mut self, id: &str) -> Result<()> {
        self.file.write_all(id.as_bytes()).map_err(Error::file("failed to write the container ID to", self.path))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::start_code;

    #[test]
    fn exit_codes_follow_the_runtime_words() {
        assert_eq!(start_code("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(start_code("exec: \"/x\": stat /x: no such file or directory"), 127);
        assert_eq!(start_code("exec: \"/etc\": is a directory"), 126);
        assert_eq!(start_code("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(start_code("anything else"), 125);
    }
}
