//! The client: asks the endpoints of a registry one after the other and remembers what worked. One per daemon, shared by
//! all pulls.

use crate::auth::Credentials;
use crate::config::Config;
use crate::endpoint::{Endpoint, Purpose};
use crate::error::Error;
use crate::holders::Holders;
use crate::repository::{Names, Repository};
use crate::sessions::Sessions;
use crate::transport::Transport;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use types::Reference;

/// A registry client.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
    /// Domains whose registries answered without TLS.
    pub(crate) plain: Arc<Mutex<HashSet<String>>>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) holders: Arc<Holders>,
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

    /// A client that speaks to one more registry without TLS, or without checking its certificate.
    #[must_use]
    pub fn trusting(&self, domain: &str) -> Client {
        let mut config = self.config().clone();
        config.insecure.push(domain.to_owned());
        Client::new(config)
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.transport.config
    }

    /// Runs `ask` against the endpoints of a reference until one gives an answer that counts.
    pub(crate) async fn with_repository<T, F>(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        purpose: Purpose,
        ask: F,
    ) -> Result<(T, Arc<Repository>), Error>
    where
        F: AsyncFn(&Repository) -> Result<T, Error>,
    {
        let mut first = None;
        for endpoint in self.endpoints(reference.domain(), purpose).await?.into_iter().rev() {
            let names = Names::of(reference);
            let credentials = credentials.filter(|_| endpoint.trusted).cloned();
            let transport = self.transport.clone();
            first = Some(Arc::new(Repository::new(transport, endpoint, names, credentials, purpose, first.take())));
        }
        let first = first.ok_or_else(|| Error::Reference(reference.to_string(), "it has no registry".to_owned()))?;
        let (answer, repository) = first.or_next(ask).await?;
        self.remember(reference.domain(), &repository.endpoint);
        Ok((answer, repository))
    }

    pub(crate) fn remember(&self, domain: &str, endpoint: &Endpoint) {
        if endpoint.mirror {
            return;
        }
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if endpoint.origin.https {
            plain.remove(domain);
        } else {
            plain.insert(domain.to_owned());
        }
    }
}
