//! The client: chooses among the endpoints of a registry (mirrors, TLS, plain) and remembers what
//! worked. One per daemon, shared by all pulls.

use crate::auth::Credentials;
use crate::config::Config;
use crate::error::Error;
use crate::holders::Holders;
use crate::origin::{Origin, Url};
use crate::repository::{Purpose, Repository};
use crate::sessions::Sessions;
use crate::transport::Transport;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use types::Reference;

/// Domain of references without one.
const DEFAULT_DOMAIN: &str = "docker.io";
/// Where that domain's registry is.
const DEFAULT_REGISTRY: &str = "registry-1.docker.io";

/// A registry client.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
    /// Authorities that answered without TLS.
    plain: Arc<Mutex<HashSet<String>>>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) holders: Arc<Holders>,
}

/// One way to a registry.
pub(crate) struct Endpoint {
    pub(crate) origin: Origin,
    /// A mirror: gets no credentials, and any failure means trying the next endpoint.
    pub(crate) mirror: bool,
}

impl Client {
    /// Makes a client.
    pub fn new(config: Config) -> Client {
        Client {
            transport: Arc::new(Transport::new(config)),
            plain: Arc::default(),
            sessions: Arc::default(),
            holders: Arc::default(),
        }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.transport.config
    }

    /// The ways to a domain, in the order they are tried.
    pub(crate) fn endpoints(&self, domain: &str) -> Result<Vec<Endpoint>, Error> {
        let config = &self.transport.config;
        let mut out = Vec::new();
        let mut authority = domain;
        if domain == DEFAULT_DOMAIN {
            for mirror in &config.mirrors {
                match Url::parse(mirror) {
                    Some(url) => out.push(Endpoint { origin: url.origin, mirror: true }),
                    None => tracing::warn!(mirror, "a registry mirror is not an http or https address: passed over"),
                }
            }
            authority = DEFAULT_REGISTRY;
        }
        let bad = || Error::Reference(domain.to_owned(), "its domain is not a host name".to_owned());
        let https = Origin::of_registry(authority, true).ok_or_else(bad)?;
        let explicit_port = authority.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
        let insecure = config.is_insecure(&https.host, explicit_port.then_some(https.port));
        let known_plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner).contains(authority);
        let at = out.len();
        out.push(Endpoint { origin: https, mirror: false });
        if insecure {
            let http = Origin::of_registry(authority, false).ok_or_else(bad)?;
            let place = if known_plain { at } else { at + 1 };
            out.insert(place, Endpoint { origin: http, mirror: false });
        }
        Ok(out)
    }

    /// Runs `ask` against the endpoints of a reference until one gives an answer that counts.
    pub(crate) async fn with_repository<T, F>(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        purpose: Purpose,
        mut ask: F,
    ) -> Result<(T, Arc<Repository>), Error>
    where
        F: AsyncFnMut(&Repository) -> Result<T, Error>,
    {
        let endpoints = self.endpoints(reference.domain())?;
        let mut last = None;
        // What is pushed goes to the registry itself.
        for endpoint in endpoints.into_iter().filter(|e| purpose == Purpose::Pull || !e.mirror) {
            let repository = Repository::new(
                self.transport.clone(),
                endpoint.origin.clone(),
                reference.path(),
                reference.familiar_name(),
                reference.familiar(),
                credentials.filter(|_| !endpoint.mirror).cloned(),
                purpose,
            );
            match ask(&repository).await {
                Ok(answer) => {
                    self.remember(reference.domain(), &endpoint);
                    return Ok((answer, Arc::new(repository)));
                }
                Err(error) if endpoint.mirror || matches!(error, Error::Connect { .. }) => {
                    tracing::debug!(%error, endpoint = %endpoint.origin, "trying the next endpoint");
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Reference(reference.to_string(), "it has no registry".to_owned())))
    }

    pub(crate) fn remember(&self, authority: &str, endpoint: &Endpoint) {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoint.origin.https || endpoint.mirror {
            plain.remove(authority);
        } else {
            plain.insert(authority.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(client: &Client, domain: &str) -> Vec<String> {
        client.endpoints(domain).unwrap().iter().map(|e| e.origin.to_string()).collect()
    }

    #[test]
    fn endpoint_order() {
        let mirrors = vec!["https://mirror.example".to_owned(), "nonsense".to_owned()];
        let insecure = vec!["reg.lan:5000".to_owned()];
        let client = Client::new(Config { mirrors, insecure, ..Config::default() });
        assert_eq!(origins(&client, "docker.io"), ["https://mirror.example", "https://registry-1.docker.io"]);
        assert_eq!(origins(&client, "quay.example"), ["https://quay.example"]);
        assert_eq!(origins(&client, "reg.lan:5000"), ["https://reg.lan:5000", "http://reg.lan:5000"]);
        assert_eq!(origins(&client, "localhost:5000")[1], "http://localhost:5000");
        let plain = client.endpoints("localhost:5000").unwrap().remove(1);
        client.remember("localhost:5000", &plain);
        assert_eq!(origins(&client, "localhost:5000")[0], "http://localhost:5000");
    }
}
