//! The ways to a registry, in the order they are tried: hosts of its `hosts.toml`, mirrors of `registry-mirrors`, its
//! server; with what each may be asked for and what it may be told.

use std::sync::{Arc, PoisonError};

use http::{HeaderName, HeaderValue};

use crate::client::Client;
use crate::error::Error;
use crate::hosts::{self, Capabilities, Host, Hosts, Site};
use crate::origin::{Origin, Url};

/// Domain of references without one.
pub(crate) const DEFAULT_DOMAIN: &str = "docker.io";
/// Where that domain's registry is.
const DEFAULT_REGISTRY: &str = "registry-1.docker.io";
/// Path before repository names (distribution-spec, "Endpoints").
const ROOT: &str = "/v2";

/// One way to a registry.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) origin: Origin,
    /// Path before repository names.
    pub(crate) root: String,
    /// Any failure means trying the next endpoint.
    pub(crate) mirror: bool,
    /// It is the registry the user's credentials are for. No other gets them.
    pub(crate) trusted: bool,
    /// The registry it stands in for, which a host for several needs to be told.
    pub(crate) namespace: Option<String>,
    pub(crate) capabilities: Capabilities,
    /// For this origin alone.
    pub(crate) headers: Arc<[(HeaderName, HeaderValue)]>,
    pub(crate) site: Arc<Site>,
}

impl Endpoint {
    fn plain(origin: Origin) -> Endpoint {
        Endpoint {
            origin,
            root: ROOT.to_owned(),
            mirror: false,
            trusted: true,
            namespace: None,
            capabilities: Capabilities::ALL,
            headers: Arc::default(),
            site: Arc::default(),
        }
    }

    /// With the rules of a host, whose address they leave alone.
    fn with(self, host: &Host) -> Endpoint {
        let (headers, site) = (host.headers.as_slice().into(), Arc::new(host.site.clone()));
        Endpoint { capabilities: host.capabilities, headers, site, ..self }
    }
}

/// What an endpoint is wanted for: decides the scope of tokens and the words of a denial, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reading what tags stand for, and lists.
    Resolve,
    /// Reading content.
    Pull,
    /// Reading and writing.
    Push,
}

impl Client {
    /// The ways to a domain for a purpose.
    ///
    /// # Errors
    /// [`Error::Hosts`] when there are rules that cannot be followed, [`Error::Reference`] when they leave no way.
    pub(crate) async fn endpoints(&self, domain: &str, purpose: Purpose) -> Result<Vec<Endpoint>, Error> {
        let mut all = self.all_endpoints(domain).await?;
        all.retain(|endpoint| match purpose {
            Purpose::Resolve => endpoint.capabilities.resolve,
            Purpose::Pull => endpoint.capabilities.pull,
            Purpose::Push => endpoint.capabilities.push,
        });
        // What is pushed goes to one place.
        if purpose == Purpose::Push && all.first().is_some_and(|first| first.mirror) {
            all.truncate(1);
        }
        if all.is_empty() {
            let what = match purpose {
                Purpose::Resolve => "resolve",
                Purpose::Pull => "pull",
                Purpose::Push => "push",
            };
            return Err(Error::Reference(domain.to_owned(), format!("its hosts.toml has no host that can {what}")));
        }
        Ok(all)
    }

    /// Whether a tag must be turned into a digest before content is asked for: some hosts may do only one of both.
    pub(crate) async fn resolves_apart(&self, domain: &str) -> Result<bool, Error> {
        let all = self.all_endpoints(domain).await?;
        Ok(all.iter().any(|endpoint| endpoint.capabilities.pull != endpoint.capabilities.resolve))
    }

    /// The ways to a domain for any purpose.
    pub(crate) async fn all_endpoints(&self, domain: &str) -> Result<Vec<Endpoint>, Error> {
        let rules = self.rules(domain).await?;
        let mut out: Vec<Endpoint> = Vec::new();
        let mut add = |endpoint: Endpoint| {
            if !out.iter().any(|known| (&known.origin, &known.root) == (&endpoint.origin, &endpoint.root)) {
                out.push(endpoint);
            }
        };
        for host in rules.iter().flat_map(|rules| &rules.hosts) {
            if let Some(url) = &host.url {
                add(Endpoint { mirror: true, ..named(domain, url).with(host) });
            }
        }
        if domain == DEFAULT_DOMAIN {
            for mirror in &self.config().mirrors {
                match Url::parse(mirror) {
                    Some(url) => add(Endpoint {
                        mirror: true,
                        trusted: false,
                        capabilities: Capabilities::READ,
                        ..Endpoint::plain(url.origin)
                    }),
                    None => tracing::warn!(mirror, "a registry mirror is not an http or https address: passed over"),
                }
            }
        }
        match rules.map(|rules| rules.server) {
            Some(server) => match &server.url {
                Some(url) => add(named(domain, url).with(&server)),
                None => self.own(domain)?.into_iter().for_each(|endpoint| add(endpoint.with(&server))),
            },
            None => self.own(domain)?.into_iter().for_each(add),
        }
        Ok(out)
    }

    async fn rules(&self, domain: &str) -> Result<Option<Hosts>, Error> {
        let config = self.config();
        if !config.hosts_files {
            return Ok(None);
        }
        let (dirs, domain) = (config.certs_dirs.clone(), domain.to_owned());
        let found = tokio::task::spawn_blocking(move || hosts::find(&dirs, &domain)).await;
        found.map_err(|e| Error::Tls(e.to_string()))?
    }

    /// The ways to the registry itself: with TLS, and without where that is allowed.
    pub(crate) fn own(&self, domain: &str) -> Result<Vec<Endpoint>, Error> {
        let authority = registry_of(domain);
        let bad = || Error::Reference(domain.to_owned(), "its domain is not a host name".to_owned());
        let https = Origin::of_registry(authority, true).ok_or_else(bad)?;
        let explicit_port = authority.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
        let insecure = self.config().is_insecure(&https.host, explicit_port.then_some(https.port));
        let mut out = vec![Endpoint::plain(https)];
        if insecure {
            let http = Endpoint::plain(Origin::of_registry(authority, false).ok_or_else(bad)?);
            let known_plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner).contains(domain);
            out.insert(if known_plain { 0 } else { 1 }, http);
        }
        Ok(out)
    }
}

fn registry_of(domain: &str) -> &str {
    if domain == DEFAULT_DOMAIN { DEFAULT_REGISTRY } else { domain }
}

/// The endpoint at an address that a file names. It is the registry itself when host and port are the same.
fn named(domain: &str, url: &Url) -> Endpoint {
    let mut url = url.clone();
    // People write the name of its references for Docker Hub, where no registry answers.
    if matches!(url.origin.host.as_str(), "docker.io" | "index.docker.io") && url.origin.https {
        url.origin.host = DEFAULT_REGISTRY.to_owned();
    }
    let own = Origin::of_registry(registry_of(domain), url.origin.https);
    let trusted = own.as_ref() == Some(&url.origin);
    let namespace = (!trusted).then(|| domain.to_owned());
    Endpoint { root: url.target, trusted, namespace, ..Endpoint::plain(url.origin) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    async fn origins(client: &Client, domain: &str, purpose: Purpose) -> Vec<String> {
        let endpoints = client.endpoints(domain, purpose).await.unwrap();
        endpoints
            .iter()
            .map(|e| format!("{}{}{}", e.origin, e.root, if e.trusted { "" } else { " untrusted" }))
            .collect()
    }

    #[tokio::test]
    async fn order_without_rules() {
        let mirrors = vec!["https://mirror.example".to_owned(), "nonsense".to_owned()];
        let insecure = vec!["reg.lan:5000".to_owned()];
        let client = Client::new(Config { mirrors, insecure, ..Config::default() });
        let pull = async |domain: &'static str| origins(&client, domain, Purpose::Pull).await;
        assert_eq!(pull("docker.io").await, ["https://mirror.example/v2 untrusted", "https://registry-1.docker.io/v2"]);
        assert_eq!(origins(&client, "docker.io", Purpose::Push).await, ["https://registry-1.docker.io/v2"]);
        assert_eq!(pull("quay.example").await, ["https://quay.example/v2"]);
        assert_eq!(pull("reg.lan:5000").await, ["https://reg.lan:5000/v2", "http://reg.lan:5000/v2"]);
        assert_eq!(pull("localhost:5000").await[1], "http://localhost:5000/v2");
        let plain = client.own("localhost:5000").unwrap().remove(1);
        client.remember("localhost:5000", &plain);
        assert_eq!(pull("localhost:5000").await[0], "http://localhost:5000/v2");
    }

    #[tokio::test]
    async fn order_with_rules() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join("hosts.toml"), text).unwrap();
        };
        let mirrors = vec!["https://mirror.example".to_owned()];
        let certs_dirs = vec![root.path().to_owned()];
        let client = Client::new(Config { mirrors, certs_dirs, hosts_files: true, ..Config::default() });
        write(
            "docker.io",
            "[host.\"https://b.example\"]\ncapabilities = [\"pull\"]\n[host.\"http://a.example/hub\"]\n[host.\"https://registry-1.docker.io\"]",
        );
        let own = "https://registry-1.docker.io/v2";
        assert_eq!(
            origins(&client, "docker.io", Purpose::Pull).await,
            [
                "https://b.example/v2 untrusted",
                "http://a.example/hub/v2 untrusted",
                own,
                "https://mirror.example/v2 untrusted"
            ]
        );
        assert_eq!(origins(&client, "docker.io", Purpose::Resolve).await.len(), 3);
        assert_eq!(origins(&client, "docker.io", Purpose::Push).await, ["http://a.example/hub/v2 untrusted"]);
        assert!(client.resolves_apart("docker.io").await.unwrap());
        assert!(!client.resolves_apart("other.example").await.unwrap());
        // A change is seen at once, an error as well.
        write("docker.io", "server = \"https://elsewhere.example\"\ncapabilities = [\"pull\", \"resolve\"]");
        assert_eq!(origins(&client, "docker.io", Purpose::Pull).await[1], "https://elsewhere.example/v2 untrusted");
        let error = client.endpoints("docker.io", Purpose::Push).await.unwrap_err().to_string();
        assert!(error.contains("no host that can push"), "{error}");
        write("docker.io", "server = 7");
        assert!(matches!(client.endpoints("docker.io", Purpose::Pull).await, Err(Error::Hosts { .. })));
        // The same host on another port is another registry.
        write("reg.lan:5000", "[host.\"https://reg.lan:5000\"]\n[host.\"https://reg.lan\"]");
        assert_eq!(
            origins(&client, "reg.lan:5000", Purpose::Pull).await,
            ["https://reg.lan:5000/v2", "https://reg.lan/v2 untrusted"]
        );
    }
}
