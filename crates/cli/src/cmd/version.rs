//! `version` of client and engine.

use client::ApiVersion;

use super::INSPECT_FORMAT;
use crate::{
    Error, Result,
    flags::{Arity, Command, Parsed},
    format::{Value, template::Template, time},
    session::Session,
    term::output::print,
};

pub(super) static VERSION: Command = Command {
    paths: &["version"],
    synopsis: "[OPTIONS]",
    about: "Show the versions of client and engine",
    flags: &[&[INSPECT_FORMAT]],
    arity: Arity::None,
    interspersed: true,
    run: version,
};

fn version(parsed: &Parsed, session: &Session) -> Result<u8> {
    let context = session.context_name()?;
    let engine = session.client();
    let answer = engine.and_then(|engine| Ok(engine.get("/version").send()?.json::<Value>()?));
    let api = session.client().map_or(ApiVersion::NEWEST, client::Client::version).to_string();
    let text = |text: &str| Value::text_of(text);
    let own = Value::Map(vec![
        ("Platform".into(), Value::Map(vec![("Name".into(), text(""))])),
        ("Version".into(), text(env!("CARGO_PKG_VERSION"))),
        ("ApiVersion".into(), text(&api)),
        ("DefaultAPIVersion".into(), Value::Text(ApiVersion::NEWEST.to_string())),
        ("Os".into(), text(std::env::consts::OS)),
        ("Arch".into(), text(arch())),
        ("Context".into(), text(&context)),
    ]);
    match parsed.text("format") {
        "" => {}
        format => {
            let server = answer.as_ref().map_or(Value::Null, Clone::clone);
            let both = Value::Map(vec![("Client".into(), own), ("Server".into(), server)]);
            let out = match format {
                "json" => both.to_json(),
                text => Template::parse(&crate::format::unescape(text))
                    .and_then(|template| template.run(&both))
                    .map_err(|error| Error::with_code(format!("template parsing error: {error}"), 64))?,
            };
            print(&(out + "\n"))?;
            return answer.map(|_| 0);
        }
    }
    let mut out = format!(
        "Client:\n Version:           {}\n API version:       {api}\n OS/Arch:           {}/{}\n Context:           {context}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        arch()
    );
    let server = match answer {
        Ok(server) => server,
        Err(error) => {
            print(&out)?;
            return Err(error);
        }
    };
    let platform = server.at(&["Platform", "Name"]).as_str();
    out.push_str(&if platform.is_empty() { "\nServer:\n".to_owned() } else { format!("\nServer: {platform}\n") });
    for component in server.get("Components").items() {
        out.push_str(&format!(" {}:\n  {:<18}{}\n", component.str("Name"), "Version:", component.str("Version")));
        let detail = |key: &str| component.at(&["Details", key]).as_str().to_owned();
        if component.str("Name") == "Engine" {
            let api = match (detail("ApiVersion"), detail("MinAPIVersion")) {
                (api, min) if min.is_empty() => api,
                (api, min) => format!("{api} (minimum version {min})"),
            };
            for (key, value) in [
                ("API version:", api),
                ("Go version:", detail("GoVersion")),
                ("Git commit:", detail("GitCommit")),
                ("Built:", time::ansic(&detail("BuildTime"))),
                ("OS/Arch:", format!("{}/{}", detail("Os"), detail("Arch"))),
                ("Experimental:", detail("Experimental")),
            ] {
                if !value.is_empty() {
                    out.push_str(&format!("  {key:<18}{value}\n"));
                }
            }
        } else {
            for (key, value) in component.get("Details").entries() {
                out.push_str(&format!("  {:<18}{}\n", format!("{key}:"), value.as_str()));
            }
        }
    }
    print(&out)?;
    Ok(0)
}

/// The architecture under Go's name.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
