//! What every command works with: global flags, the client configuration and one client, each made when first asked
//! for. A command that needs no daemon never looks for one.

use std::{cell::OnceCell, env};

use client::{Client, Host};

use crate::{
    Error, Result,
    config::{ConfigFile, context},
    daemon,
};

/// Global flags.
#[derive(Debug, Default)]
pub(crate) struct Globals {
    pub(crate) host: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) config_dir: Option<String>,
    pub(crate) debug: bool,
}

/// State of one invocation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) globals: Globals,
    config: OnceCell<ConfigFile>,
    client: OnceCell<Client>,
}

/// Where the engine's address came from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Somebody chose it.
    Chosen(Host),
    /// Nobody did: the engine of this machine, started if need be.
    Default,
}

impl Session {
    pub(crate) fn new(globals: Globals) -> Self {
        Self { globals, config: OnceCell::new(), client: OnceCell::new() }
    }

    /// The client configuration (`~/.docker/config.json`), read once.
    pub(crate) fn config(&self) -> Result<&ConfigFile> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = ConfigFile::load(self.globals.config_dir.as_deref())?;
        Ok(self.config.get_or_init(|| config))
    }

    /// Name of the context in use and the reason it is: flag, environment, configuration or none.
    pub(crate) fn context_name(&self) -> Result<String> {
        if let Some(name) = &self.globals.context {
            return Ok(name.clone());
        }
        if self.globals.host.is_some() || host_variable().is_some() {
            return Ok(context::DEFAULT.into());
        }
        if let Some(name) = non_empty("DOCKER_CONTEXT") {
            return Ok(name);
        }
        Ok(self.config()?.current_context().unwrap_or(context::DEFAULT).to_owned())
    }

    /// The address of the engine by the order of precedence Docker's client has: `-H`, `--context`, environment,
    /// configuration.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        if let Some(host) = &self.globals.host {
            if self.globals.context.is_some() {
                return Err(Error::new("conflicting options: cannot specify both --host and --context"));
            }
            return Ok(Endpoint::Chosen(Host::parse(&expand_host(host))?));
        }
        if self.globals.context.is_none()
            && let Some(host) = host_variable()
        {
            return Ok(Endpoint::Chosen(Host::parse(&host)?));
        }
        let name = self.context_name()?;
        if name == context::DEFAULT {
            return Ok(Endpoint::Default);
        }
        let config = self.config()?;
        let host = context::load(config.dir(), &name)?.host;
        Ok(Endpoint::Chosen(Host::parse(&host)?))
    }

    /// The client; starts the engine when nobody chose an address and none runs.
    pub(crate) fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = match self.endpoint()? {
            Endpoint::Chosen(host) => Client::new(host),
            Endpoint::Default => {
                let client = Client::new(Host::Unix(daemon::socket_path()));
                daemon::ensure_running(&client)?;
                client
            }
        };
        let client = match non_empty("DOCKER_API_VERSION") {
            Some(text) => {
                let version =
                    text.parse().map_err(|()| Error::new(format!("DOCKER_API_VERSION is not a version: {text}")))?;
                client.with_version(version)
            }
            None => client,
        };
        let client = client.with_headers(self.config()?.http_headers());
        Ok(self.client.get_or_init(|| client))
    }
}

/// `-H` also takes a bare path or address, as Docker's does.
fn expand_host(text: &str) -> String {
    match text.trim() {
        path if path.starts_with('/') => format!("unix://{path}"),
        text if text.contains("://") => text.to_owned(),
        text => format!("tcp://{text}"),
    }
}

fn host_variable() -> Option<String> {
    non_empty("DHOW_HOST").or_else(|| non_empty("DOCKER_HOST"))
}

pub(crate) fn non_empty(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
