//! `login` and `logout`.

use std::io::Read;

use crate::{
    Error, Result,
    config::{
        ConfigFile,
        credentials::{self, Credentials, HUB},
    },
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::{
        output::{print, print_line, stdin_is_terminal, warn},
        raw::NoEcho,
    },
};

pub(super) static LOGIN: Command = Command {
    paths: &["login"],
    synopsis: "[OPTIONS] [SERVER]",
    about: "Log in to a registry",
    flags: &[&[
        Flag::text("password", "Password or token").short('p'),
        Flag::switch("password-stdin", "Read the password from standard input"),
        Flag::text("username", "User").short('u'),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
    run: login,
};

pub(super) static LOGOUT: Command = Command {
    paths: &["logout"],
    synopsis: "[SERVER]",
    about: "Forget the login to a registry",
    flags: &[],
    arity: Arity::AtMost(1),
    interspersed: true,
    run: |parsed, session| {
        let server = server(parsed.first());
        let mut config = session.config()?.clone();
        print_line(&format!("Removing login credentials for {server}"))?;
        if !credentials::erase(&mut config, server)? {
            warn(&format!("Not logged in to {server}"));
        }
        Ok(0)
    },
};

/// Longest password read from standard input, in bytes.
const MAX_PASSWORD: u64 = 64 * 1024;

/// The key of a server: Docker Hub when none is named.
fn server(text: &str) -> &str {
    match text.trim_end_matches('/') {
        "" | "docker.io" | "https://index.docker.io/v1" => HUB,
        other => other.strip_prefix("https://").or_else(|| other.strip_prefix("http://")).unwrap_or(other),
    }
}

fn login(parsed: &Parsed, session: &Session) -> Result<u8> {
    let server = server(parsed.first());
    let mut config: ConfigFile = session.config()?.clone();
    let mut user = parsed.text("username").to_owned();
    let mut password = parsed.text("password").to_owned();
    if parsed.on("password-stdin") {
        if !password.is_empty() {
            return Err(Error::new("--password and --password-stdin are mutually exclusive"));
        }
        if user.is_empty() {
            return Err(Error::new("the --password-stdin option requires --username to be set"));
        }
        std::io::stdin().take(MAX_PASSWORD).read_to_string(&mut password)?;
        password = password.trim_end_matches(['\n', '\r']).to_owned();
    } else if !password.is_empty() {
        warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let mut found = if user.is_empty() && password.is_empty() {
        credentials::lookup(&config, server)?
    } else {
        Credentials::default()
    };
    let stored = !found.username.is_empty() || !found.identity_token.is_empty();
    if stored {
        print_line("Authenticating with existing credentials...")?;
    } else {
        if user.is_empty() {
            user = ask("Username: ", true)?;
        }
        if password.is_empty() {
            password = ask("Password: ", false)?;
            if password.is_empty() {
                return Err(Error::new("password is required"));
            }
        }
        found = Credentials { username: user, password, ..Credentials::default() };
    }
    found.server = server.to_owned();
    let answer: Value = session.client()?.post("/auth").json(&found.document())?.send()?.json()?;
    let token = answer.str("IdentityToken");
    if !token.is_empty() {
        found.identity_token = token.to_owned();
        found.password.clear();
    }
    if credentials::store(&mut config, &found)? && !stored {
        warn(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.\n",
            config.dir().join("config.json").display()
        ));
    }
    let status = answer.str("Status");
    if !status.is_empty() {
        print_line(status)?;
    }
    Ok(0)
}

fn ask(prompt: &str, echo: bool) -> Result<String> {
    if !stdin_is_terminal() {
        return Err(Error::new(
            "cannot perform an interactive login from a non-TTY device; use --username and --password-stdin",
        ));
    }
    print(prompt)?;
    let hidden = if echo { None } else { NoEcho::enter() };
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    if hidden.is_some() {
        print("\n")?;
    }
    Ok(line.trim().to_owned())
}
