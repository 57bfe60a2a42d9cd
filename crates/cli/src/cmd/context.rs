//! `context ls`, `show`, `use` and `inspect` over Docker's contexts.

use super::INSPECT_FORMAT;
use crate::{
    Error, Result,
    config::context::{self, DEFAULT},
    daemon,
    flags::{Arity, Command, Flag, Parsed},
    format::{Column, Listing, Value, json, template::Template},
    session::{Endpoint, Session, non_empty},
    term::output::{print, print_line, warn},
};

pub(super) static LS: Command = Command {
    paths: &["context ls", "context list"],
    synopsis: "[OPTIONS]",
    about: "List contexts",
    flags: &[&[super::FORMAT, Flag::switch("quiet", "Show names only").short('q')]],
    arity: Arity::None,
    interspersed: true,
    run: ls,
};

pub(super) static SHOW: Command = Command {
    paths: &["context show"],
    synopsis: "",
    about: "Print the name of the current context",
    flags: &[],
    arity: Arity::None,
    interspersed: true,
    run: |_, session| {
        print_line(&session.context_name()?)?;
        Ok(0)
    },
};

pub(super) static USE: Command = Command {
    paths: &["context use"],
    synopsis: "CONTEXT",
    about: "Make a context the current one",
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |parsed, session| {
        let name = parsed.first();
        let mut config = session.config()?.clone();
        if name == DEFAULT {
            config.root_mut().remove("currentContext");
        } else {
            context::load(config.dir(), name)?;
            config.root_mut().insert("currentContext".into(), serde_json::json!(name));
        }
        config.save()?;
        print_line(name)?;
        warn(&format!("Current context is now {name:?}"));
        for variable in ["DHOW_HOST", "DOCKER_HOST"] {
            if non_empty(variable).is_some() {
                warn(&format!(
                    "Warning: {variable} environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset {variable} environment variable."
                ));
            }
        }
        Ok(0)
    },
};

pub(super) static INSPECT: Command = Command {
    paths: &["context inspect"],
    synopsis: "[OPTIONS] [CONTEXT] [CONTEXT...]",
    about: "Show the details of contexts",
    flags: &[&[INSPECT_FORMAT]],
    arity: Arity::AtLeast(0),
    interspersed: true,
    run: inspect,
};

const HEADINGS: &[Column] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Current", "CURRENT"),
    ("Error", "ERROR"),
    ("ContextType", "TYPE"),
];

/// The address the default context stands for.
fn default_host(session: &Session) -> String {
    match session.endpoint() {
        Ok(Endpoint::Chosen(host)) if matches!(session.context_name().as_deref(), Ok(DEFAULT)) => host.to_string(),
        _ => format!("unix://{}", daemon::socket_path().display()),
    }
}

fn ls(parsed: &Parsed, session: &Session) -> Result<u8> {
    let current = session.context_name()?;
    let mut all =
        vec![(DEFAULT.to_owned(), "Current DOCKER_HOST based configuration".to_owned(), default_host(session))];
    all.extend(context::list(session.config()?.dir())?.into_iter().map(|one| (one.name, one.description, one.host)));
    all.sort();
    let star = parsed.text("format").is_empty() && !parsed.on("quiet");
    let rows: Vec<Value> = all
        .into_iter()
        .map(|(name, description, host)| {
            let is_current = name == current;
            let shown = if star && is_current { format!("{name} *") } else { name };
            Value::Map(vec![
                ("ContextType".into(), Value::text_of("moby")),
                ("Current".into(), Value::Bool(is_current)),
                ("Description".into(), Value::Text(description)),
                ("DockerEndpoint".into(), Value::Text(host)),
                ("Error".into(), Value::text_of("")),
                ("Name".into(), Value::Text(shown)),
            ])
        })
        .collect();
    let quiet = parsed.on("quiet").then_some("Name");
    let columns = ["Name", "Description", "DockerEndpoint", "Error"];
    print(&Listing { headings: HEADINGS, columns: &columns, format: parsed.text("format"), quiet }.render(&rows)?)?;
    Ok(0)
}

fn inspect(parsed: &Parsed, session: &Session) -> Result<u8> {
    let names = if parsed.args.is_empty() { vec![session.context_name()?] } else { parsed.args.clone() };
    let mut documents = Vec::new();
    for name in names {
        documents.push(if name == DEFAULT {
            serde_json::json!({"Name": DEFAULT, "Metadata": {}, "Endpoints": {"docker": {"Host": default_host(session), "SkipTLSVerify": false}},
                "TLSMaterial": {}, "Storage": {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"}})
        } else {
            context::load(session.config()?.dir(), &name)?.meta
        });
    }
    let mut out = String::new();
    match parsed.text("format") {
        "" => out = json::indent(&serde_json::Value::Array(documents).to_string(), "") + "\n",
        "json" => out = serde_json::Value::Array(documents).to_string() + "\n",
        text => {
            let template = Template::parse(&crate::format::unescape(text))
                .map_err(|error| Error::new(format!("template parsing error: {error}")))?;
            for document in documents {
                let line = template
                    .run(&document.into())
                    .map_err(|error| Error::new(format!("template parsing error: {error}")))?;
                out.push_str(&(line + "\n"));
            }
        }
    }
    print(&out)?;
    Ok(0)
}
