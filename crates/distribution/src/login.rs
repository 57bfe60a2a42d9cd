//! Checking credentials against a registry, behind `POST /auth`.

use crate::auth::{self, Credentials};
use crate::client::Client;
use crate::endpoint::Purpose;
use crate::error::Error;
use crate::payload::Payload;
use crate::repository::{Names, Repository};

/// Addresses that mean the default registry.
const DEFAULT_SERVERS: [&str; 4] = ["", "docker.io", "index.docker.io", "registry-1.docker.io"];

/// A successful login.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// A refresh token to be kept in the password's place, when the token server gave one.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(..)")
    }
}

impl Client {
    /// Checks credentials. `server` is what the user typed, with or without scheme and path.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when the registry does not take them; otherwise as a pull.
    pub async fn login(&self, server: &str, credentials: &Credentials) -> Result<Login, Error> {
        let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
        let host = bare.split('/').next().unwrap_or_default();
        let host = if DEFAULT_SERVERS.contains(&host) { "docker.io" } else { host };
        let mut last = None;
        let mut endpoints = self.all_endpoints(host).await?;
        endpoints.retain(|endpoint| endpoint.trusted);
        if endpoints.is_empty() {
            // The credentials are for the registry, wherever its content is read.
            endpoints = self.own(host)?;
        }
        for endpoint in endpoints {
            let (transport, proof) = (self.transport.clone(), Some(credentials.clone()));
            let repository =
                Repository::new(transport, endpoint.clone(), Names::registry(host), proof, Purpose::Pull, None);
            match check(&repository).await {
                Err(error @ Error::Connect { .. }) => last = Some(error),
                Ok(login) => {
                    self.remember(host, &endpoint);
                    return Ok(login);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Reference(server.to_owned(), "it names no registry".to_owned())))
    }
}

async fn check(repository: &Repository) -> Result<Login, Error> {
    let url = repository.url("");
    let first = repository.follow("GET", &url, &[], Payload::empty(), None, 0).await?;
    if first.response.status().is_success() {
        return Ok(Login { identity_token: None });
    }
    if first.response.status() != http::StatusCode::UNAUTHORIZED || first.url.origin != repository.endpoint.origin {
        return Err(repository.error_of("GET", first, "", false).await);
    }
    let challenges = auth::challenges(first.response.headers());
    let Some(authorization) = repository.authorize(&challenges, &[], true).await? else {
        return Err(repository.error_of("GET", first, "", false).await);
    };
    let second = repository.follow("GET", &url, &[], Payload::empty(), Some(&authorization.header), 0).await?;
    if !second.response.status().is_success() {
        return Err(repository.error_of("GET", second, "", authorization.is_bearer()).await);
    }
    Ok(Login { identity_token: authorization.identity_token })
}
