//! Registry credentials: `auths` of the configuration and credential helpers (`docker-credential-<name>`, spoken to
//! over standard input and output). The value for `X-Registry-Auth` is made here.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
    time::Duration,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde_json::{Value, json};

use super::ConfigFile;
use crate::{Error, Result};

/// Key of Docker Hub in `auths`, for historical reasons an address.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// Largest answer of a helper read, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

/// How long a helper may take: it may have to ask its user.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is sent to log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    /// Token that stands for user and password.
    pub(crate) identity_token: String,
    pub(crate) server: String,
}

impl Credentials {
    /// Document of `POST /auth` and, encoded, of `X-Registry-Auth`.
    pub(crate) fn document(&self) -> Value {
        let mut out = serde_json::Map::new();
        for (key, value) in [
            ("username", &self.username),
            ("password", &self.password),
            ("serveraddress", &self.server),
            ("identitytoken", &self.identity_token),
        ] {
            if !value.is_empty() {
                out.insert(key.into(), json!(value));
            }
        }
        Value::Object(out)
    }

    /// Value of the `X-Registry-Auth` header (base64url of the document).
    pub(crate) fn header(&self) -> String {
        URL_SAFE.encode(self.document().to_string())
    }
}

/// Key of `auths` for the registry of an image reference's domain.
pub(crate) fn server_key(domain: &str) -> &str {
    match domain {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
        other => other,
    }
}

/// The helper responsible for a server: its own, or the general one.
fn helper<'a>(config: &'a ConfigFile, server: &str) -> Option<&'a str> {
    let own = config.object("credHelpers").and_then(|map| map.get(server)).and_then(Value::as_str);
    own.filter(|name| !name.is_empty()).or_else(|| config.text("credsStore"))
}

/// Credentials for a server; empty ones when none are stored.
pub(crate) fn lookup(config: &ConfigFile, server: &str) -> Result<Credentials> {
    if let Some(name) = helper(config, server) {
        return Ok(from_helper(name, server)?
            .unwrap_or_else(|| Credentials { server: server.into(), ..Credentials::default() }));
    }
    let bare = bare_host(server);
    let entry = config.object("auths").and_then(|auths| {
        auths.get(server).or_else(|| auths.iter().find(|(key, _)| bare_host(key) == bare).map(|(_, value)| value))
    });
    let mut found = Credentials { server: server.into(), ..Credentials::default() };
    let Some(entry) = entry else { return Ok(found) };
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    found.identity_token = text("identitytoken");
    (found.username, found.password) = (text("username"), text("password"));
    let auth = text("auth");
    if !auth.is_empty() {
        let bad =
            || Error::new(format!("the stored login for {server} is damaged; log in again with `dhow login {server}`"));
        let plain = STANDARD.decode(auth).map_err(|_| bad())?;
        let plain = String::from_utf8(plain).map_err(|_| bad())?;
        let (user, password) = plain.split_once(':').ok_or_else(bad)?;
        (found.username, found.password) = (user.to_owned(), password.trim_end_matches('\0').to_owned());
    }
    Ok(found)
}

/// Stores credentials with the responsible helper, or in the configuration. `true`: in plain text.
pub(crate) fn store(config: &mut ConfigFile, found: &Credentials) -> Result<bool> {
    let server = found.server.clone();
    if let Some(name) = helper(config, &server) {
        let (user, secret) = if found.identity_token.is_empty() {
            (found.username.as_str(), &found.password)
        } else {
            ("<token>", &found.identity_token)
        };
        let document = json!({"ServerURL": server, "Username": user, "Secret": secret});
        call(name, "store", &document.to_string())?;
        // The entry without secrets tells Docker's client where a login exists.
        entry(config, &server, json!({}))?;
        config.save()?;
        return Ok(false);
    }
    let mut value = json!({"auth": STANDARD.encode(format!("{}:{}", found.username, found.password))});
    if !found.identity_token.is_empty() {
        value = json!({"auth": STANDARD.encode(format!("{}:", found.username)), "identitytoken": found.identity_token});
    }
    entry(config, &server, value)?;
    config.save()?;
    Ok(true)
}

/// Forgets the credentials of a server; `false` when there were none.
pub(crate) fn erase(config: &mut ConfigFile, server: &str) -> Result<bool> {
    if let Some(name) = helper(config, server).map(str::to_owned) {
        call(&name, "erase", server)?;
    }
    let bare = bare_host(server);
    let mut existed = false;
    if let Some(Value::Object(auths)) = config.root_mut().get_mut("auths") {
        let before = auths.len();
        auths.retain(|key, _| key != server && bare_host(key) != bare);
        existed = auths.len() != before;
    }
    if existed {
        config.save()?;
    }
    Ok(existed)
}

fn entry(config: &mut ConfigFile, server: &str, value: Value) -> Result<()> {
    let auths = config.root_mut().entry("auths").or_insert_with(|| json!({}));
    let auths =
        auths.as_object_mut().ok_or_else(|| Error::new("`auths` of the client configuration is not an object"))?;
    auths.insert(server.into(), value);
    Ok(())
}

/// `https://host/v1/` → `host`.
fn bare_host(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn from_helper(name: &str, server: &str) -> Result<Option<Credentials>> {
    let Some(text) = call(name, "get", server)? else { return Ok(None) };
    let answer: Value = serde_json::from_str(&text)
        .map_err(|error| Error::new(format!("docker-credential-{name}: bad answer: {error}")))?;
    let field = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let (username, secret) = (field("Username"), field("Secret"));
    let server = server.to_owned();
    Ok(Some(if username == "<token>" {
        Credentials { identity_token: secret, server, ..Credentials::default() }
    } else {
        Credentials { username, password: secret, server, ..Credentials::default() }
    }))
}

/// Runs a helper; `None` when it has no such credentials.
fn call(name: &str, verb: &str, input: &str) -> Result<Option<String>> {
    // The name becomes part of a program's name: a path in it would run anything.
    if name.contains('/') || name.is_empty() {
        return Err(Error::new(format!("credential helper {name:?} is not a plain name")));
    }
    run(&format!("docker-credential-{name}"), verb, input, PATIENCE)
}

/// Runs the program of a helper, for so long.
fn run(program: &str, verb: &str, input: &str, patience: Duration) -> Result<Option<String>> {
    let fail = |text: String| Error::new(format!("error getting credentials - {program} {verb}: {text}"));
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| {
            fail(crate::error::os_text(&error))
                .hint(format!("Install {program}, or remove it from the client configuration."))
        })?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (input, (answered, answer)) = (input.to_owned(), sync_channel(1));
    // On threads that nobody waits for: what the helper leaves behind may hold the pipes open for ever.
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A helper that refuses at once need not read its input.
            let _ = stdin.write_all(input.as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(MAX_ANSWER + 1).read_to_end(&mut text));
        let _ = answered.send(read.map(|_| text));
    });
    let text = match answer.recv_timeout(patience) {
        Ok(Ok(text)) if text.len() as u64 <= MAX_ANSWER => text,
        other => {
            let _ = child.kill();
            child.wait()?;
            return Err(fail(match other {
                Ok(Ok(_)) => "answer is too large".to_owned(),
                Ok(Err(error)) => crate::error::os_text(&error),
                Err(_) => format!("no answer within {} seconds", patience.as_secs()),
            }));
        }
    };
    let status = child.wait()?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    match status.success() {
        true => Ok(Some(text)),
        false if text.contains("credentials not found") => Ok(None),
        false => Err(fail(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, ConfigFile) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        let config = ConfigFile::load(Some(dir.path().to_str().unwrap())).unwrap();
        (dir, config)
    }

    #[test]
    fn logins_round_trip_and_keep_foreign_keys() {
        let (dir, mut config) = config(r#"{"psFormat":"x","auths":{"other":{"auth":"YTpi"}}}"#);
        let login = Credentials {
            username: "u".into(),
            password: "p:w".into(),
            server: "reg:5000".into(),
            ..Credentials::default()
        };
        assert!(store(&mut config, &login).unwrap());
        let again = ConfigFile::load(Some(dir.path().to_str().unwrap())).unwrap();
        assert_eq!(lookup(&again, "reg:5000").unwrap(), login);
        assert_eq!(again.text("psFormat"), Some("x"));
        assert_eq!(lookup(&again, "other").unwrap().password, "b");
        assert!(lookup(&again, "none").unwrap().username.is_empty());
        assert!(erase(&mut config, "reg:5000").unwrap());
        assert!(!erase(&mut config, "reg:5000").unwrap());
    }

    #[test]
    fn addresses_match_without_scheme() {
        let (_dir, config) = config(r#"{"auths":{"https://reg/v1/":{"auth":"YTpi"}}}"#);
        assert_eq!(lookup(&config, "reg").unwrap().username, "a");
        assert_eq!(server_key("docker.io"), HUB);
    }

    #[test]
    fn a_helper_is_a_plain_name() {
        for name in ["../../bin/sh", "/bin/sh", "x/y", ""] {
            let error = call(name, "get", "").unwrap_err().to_string();
            assert!(error.contains("plain name"), "{name}: {error}");
        }
    }

    #[test]
    fn a_helper_that_floods_or_hangs_is_ended() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let helper = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let long = Duration::from_secs(60);
        let flood = run(&helper("flood", "exec cat /dev/zero"), "get", "", long).unwrap_err().to_string();
        assert!(flood.contains("too large"), "{flood}");
        let hang =
            run(&helper("hang", "exec sleep 1000"), "get", "", Duration::from_millis(300)).unwrap_err().to_string();
        assert!(hang.contains("no answer"), "{hang}");
        let none = helper("none", "echo credentials not found in native keychain; exit 1");
        assert_eq!(run(&none, "get", "x", long).unwrap(), None);
        // Input larger than a pipe holds, which the helper does not read before it answers.
        let echo = helper("echo", "cat /dev/null; head -c 300000 /dev/zero | tr '\\0' x; cat > /dev/null");
        assert_eq!(run(&echo, "store", &"i".repeat(1 << 20), long).unwrap().map(|text| text.len()), Some(300_000));
    }
}
