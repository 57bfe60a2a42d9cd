//! Upstreams as they are written on the command line, `docker.io` or `hub=docker.io,lan=http://reg.lan:5000/mirror`, and
//! the logins for them, a `config.json` as `docker login` writes it.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use distribution::Credentials;
use serde::Deserialize;

use crate::config::Upstream;
use crate::error::StartError;
use crate::name::RepositoryName;

/// What Docker calls its own registry in that file.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";

#[derive(Deserialize)]
struct Logins {
    #[serde(default)]
    auths: HashMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    auth: String,
}

impl Upstream {
    /// Parses a list.
    ///
    /// # Errors
    /// What is wrong with which entry.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut all: Vec<Self> = Vec::new();
        for entry in text.split(',') {
            let (prefix, registry) = match entry.split_once('=') {
                Some((prefix, registry)) => (Some(prefix.trim_end_matches('/')), registry),
                None => (None, entry),
            };
            if prefix.is_some_and(|prefix| RepositoryName::parse(prefix).is_err()) {
                return Err(format!("{entry:?}: before '=' is the beginning of repositories' names"));
            }
            let (plain, registry) = match registry.strip_prefix("http://") {
                Some(rest) => (true, rest),
                None => (false, registry.strip_prefix("https://").unwrap_or(registry)),
            };
            let registry = registry.trim_end_matches('/');
            let host = registry.split('/').next().unwrap_or_default();
            let is_host = host.contains(['.', ':']) || host == "localhost";
            let full: Result<types::Reference, _> = format!("{registry}/x").parse();
            if !is_host || full.is_err() {
                return Err(format!(
                    "{entry:?}: an upstream is a host with a dot or a port, as docker.io or reg.lan:5000"
                ));
            }
            let upstream =
                Self { prefix: prefix.map(str::to_owned), registry: registry.to_owned(), plain, credentials: None };
            if all.iter().any(|other| other.prefix == upstream.prefix) {
                return Err(format!("{entry:?}: there are two upstreams for this"));
            }
            all.push(upstream);
        }
        Ok(all)
    }

    /// Gives each upstream its login of a `config.json`. Blocks.
    ///
    /// # Errors
    /// [`StartError::File`] when it cannot be read or understood.
    pub fn read_logins(all: &mut [Self], path: &Path) -> Result<(), StartError> {
        let failed = |source| StartError::File {
            action: "read",
            path: path.display().to_string(),
            source,
            hint: "give a config.json that `docker login` wrote, without a credential store",
        };
        let text = std::fs::read(path).map_err(failed)?;
        let logins: Logins = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
        for upstream in all {
            let host = upstream.registry.split('/').next().unwrap_or_default();
            let key = if host == "docker.io" { DEFAULT_KEY } else { host };
            let Some(login) = logins.auths.get(key).filter(|login| !login.auth.is_empty()) else { continue };
            let decoded = base64::engine::general_purpose::STANDARD.decode(&login.auth).ok();
            let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let (user, password) = decoded.as_deref().and_then(|text| text.split_once(':')).ok_or_else(|| {
                failed(std::io::Error::other(format!("the login for {key} is not base64 of a name and a password")))
            })?;
            upstream.credentials = Some(Credentials::basic(user, password));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_logins() {
        let mut all =
            Upstream::parse_list("docker.io,lan/=http://reg.lan:5000/mirror,q=https://quay.example/").unwrap();
        let shown: Vec<_> = all.iter().map(|u| (u.prefix.as_deref(), u.registry.as_str(), u.plain)).collect();
        assert_eq!(
            shown,
            [
                (None, "docker.io", false),
                (Some("lan"), "reg.lan:5000/mirror", true),
                (Some("q"), "quay.example", false)
            ]
        );
        for bad in
            ["", "hub", "a=b", "A=docker.io", "docker.io,quay.example", "x=docker.io/../y", "=docker.io", "a b.c"]
        {
            assert!(Upstream::parse_list(bad).is_err(), "{bad:?}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let auth = base64::engine::general_purpose::STANDARD.encode("ann:se:cret");
        let text =
            format!(r#"{{"auths":{{"reg.lan:5000":{{"auth":"{auth}"}},"quay.example":{{}}}},"credsStore":"x"}}"#);
        std::fs::write(file.path(), text).unwrap();
        Upstream::read_logins(&mut all, file.path()).unwrap();
        assert_eq!(all[1].credentials, Some(Credentials::basic("ann", "se:cret")));
        assert!(all[0].credentials.is_none() && all[2].credentials.is_none());
        std::fs::write(file.path(), r#"{"auths":{"reg.lan:5000":{"auth":"!"}}}"#).unwrap();
        assert!(Upstream::read_logins(&mut all, file.path()).is_err());
    }
}
