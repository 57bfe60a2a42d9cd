//! `registry serve`: a registry in the foreground.
//!
//! The server is a part of `dhowd`, which has the HTTP and TLS stack anyway; this program stays small and quick to start
//! by becoming `dhowd registry serve`. The flags are checked here and passed on as given, so that both tables must agree.

use std::{os::unix::process::CommandExt, path::Path, process};

use crate::{
    Error, Result, daemon,
    flags::{Arity, Command, Flag, Parsed},
};

const FLAGS: &[Flag] = &[
    Flag::text("access", "File that says who may do what in which repositories; turns tokens on").value("file"),
    Flag::text("addr", "Address to listen on").value("host:port").default("127.0.0.1:5000"),
    Flag::duration("gc-grace", "Keep what no manifest refers to for so long").default("24h"),
    Flag::duration("gc-interval", "Time between two garbage collections; 0 for none").default("24h"),
    Flag::text("htpasswd", "Let in only the users of this file (bcrypt, as of 'htpasswd -B')").value("file"),
    Flag::text("log-level", "debug, info, warn or error").default("info"),
    Flag::int("max-uploads", "Uploads open at once").default("1024"),
    Flag::text("metrics-addr", "Address to serve /metrics on; none when not given").value("host:port"),
    Flag::text("public-url", "Where clients reach the registry, as 'https://host'; what they ask for when not given")
        .value("url"),
    Flag::text("quota", "Most bytes stored, in all and below names: '100g,team=10g'").value("list"),
    Flag::switch("read-only", "Refuse everything that changes content"),
    Flag::text("root", "Directory of everything the registry keeps").value("dir").default("/var/lib/dhow-registry"),
    Flag::text("storage", "Bucket to keep content in, 's3://bucket/prefix', gs:// or az://; --root when not given")
        .value("url"),
    Flag::text("tls-cert", "Certificate chain to serve TLS with (PEM)").value("file"),
    Flag::text("tls-key", "Private key of the certificate (PEM)").value("file"),
    Flag::text("upstream", "Registries to pull through: 'docker.io', or below names 'hub=docker.io,lan=reg.lan:5000'")
        .value("list"),
    Flag::text("upstream-logins", "Logins for them, a config.json of 'docker login'").value("file"),
    Flag::duration("upload-timeout", "End uploads that no client works on for so long").default("1h"),
];

pub(super) static SERVE: Command = Command {
    paths: &["registry serve"],
    synopsis: "[OPTIONS]",
    about: "Serve a registry of images and artifacts",
    flags: &[FLAGS],
    arity: Arity::None,
    interspersed: true,
    run: |parsed, _| serve(parsed),
};

fn serve(parsed: &Parsed) -> Result<u8> {
    let program = daemon::find_daemon().ok_or_else(|| {
        Error::new("the registry is served by dhowd, and no dhowd is beside dhow or on PATH").hint("Install it.")
    })?;
    Err(become_server(&program, parsed))
}

/// Returns only when that failed.
fn become_server(program: &Path, parsed: &Parsed) -> Error {
    let mut command = process::Command::new(program);
    command.args(["registry", "serve"]);
    for flag in FLAGS.iter().filter(|flag| parsed.given(flag.long)) {
        command.arg(format!("--{}={}", flag.long, parsed.text(flag.long)));
    }
    Error::file("cannot start", program)(command.exec())
}
