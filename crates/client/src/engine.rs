//! The client itself: an address, the API version in use, and idle connections.
//!
//! The version is not asked for: requests go out at the newest version, which the engine of this project speaks, and
//! an older daemon's refusal names the version it does speak. That spares every command a round trip. Only requests
//! whose body cannot be sent twice ask first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    ApiVersion, Error, Request, Result,
    body::Pool,
    connection::{Connection, Stream},
    host::Host,
};

/// Idle time in milliseconds after which a connection is looked at before it is used again.
const LOOK_AFTER: u128 = 1000;

/// What `/_ping` tells.
#[derive(Clone, Debug, Default)]
pub struct Ping {
    /// Newest API version of the daemon.
    pub api_version: Option<ApiVersion>,
    /// Operating system of the containers.
    pub os_type: String,
    /// Whether experimental features are on.
    pub experimental: bool,
}

#[derive(Debug)]
struct Version {
    current: ApiVersion,
    /// Set once an answer showed the daemon to accept it, or when the user fixed it.
    settled: bool,
    /// The user fixed it; it is not negotiated.
    fixed: bool,
}

/// A client of one engine. Cheap to clone; clones share idle connections.
#[derive(Clone, Debug)]
pub struct Client {
    host: Arc<Host>,
    version: Arc<Mutex<Version>>,
    pool: Pool,
    headers: Arc<Vec<(String, String)>>,
}

impl Client {
    /// A client for `host`; nothing is sent yet.
    pub fn new(host: Host) -> Self {
        Self {
            host: Arc::new(host),
            version: Arc::new(Mutex::new(Version { current: ApiVersion::NEWEST, settled: false, fixed: false })),
            pool: Pool::default(),
            headers: Arc::default(),
        }
    }

    /// Uses exactly this API version, as `DOCKER_API_VERSION` asks.
    #[must_use]
    pub fn with_version(self, version: ApiVersion) -> Self {
        *self.version_state() = Version { current: version, settled: true, fixed: true };
        self
    }

    /// Sends these headers with every request (`HttpHeaders` of the client configuration).
    #[must_use]
    pub fn with_headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers = Arc::new(headers);
        self
    }

    /// Where the engine is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The API version in use at the moment.
    pub fn version(&self) -> ApiVersion {
        self.version_state().current
    }

    /// `GET path`.
    pub fn get(&self, path: impl Into<String>) -> Request {
        Request::new(self.clone(), "GET", path.into())
    }

    /// `HEAD path`.
    pub fn head(&self, path: impl Into<String>) -> Request {
        Request::new(self.clone(), "HEAD", path.into())
    }

    /// `POST path`.
    pub fn post(&self, path: impl Into<String>) -> Request {
        Request::new(self.clone(), "POST", path.into())
    }

    /// `PUT path`.
    pub fn put(&self, path: impl Into<String>) -> Request {
        Request::new(self.clone(), "PUT", path.into())
    }

    /// `DELETE path`.
    pub fn delete(&self, path: impl Into<String>) -> Request {
        Request::new(self.clone(), "DELETE", path.into())
    }

    /// Asks the daemon who it is; `HEAD /_ping`, unversioned.
    ///
    /// # Errors
    /// [`Error::Connect`] when nobody answers.
    pub fn ping(&self) -> Result<Ping> {
        let answer = Request::new(self.clone(), "HEAD", "/_ping".into()).unversioned().send()?;
        Ok(Ping {
            api_version: answer.header("Api-Version").and_then(|text| text.parse().ok()),
            os_type: answer.header("Ostype").unwrap_or("linux").to_owned(),
            experimental: answer.header("Docker-Experimental") == Some("true"),
        })
    }

    /// Settles the API version with a ping unless an earlier answer did.
    ///
    /// # Errors
    /// [`Error::Connect`] when nobody answers.
    pub fn settle_version(&self) -> Result<ApiVersion> {
        if !self.version_state().settled {
            let ping = self.ping()?;
            let mut state = self.version_state();
            state.current = ping.api_version.unwrap_or(ApiVersion::OLDEST).min(ApiVersion::NEWEST);
            state.settled = true;
        }
        Ok(self.version())
    }

    /// Opens a connection and keeps it for the next request; tells whether anybody listens.
    ///
    /// # Errors
    /// [`Error::Connect`] when nobody answers, [`Error::Permission`] when this user may not ask.
    pub fn connect(&self) -> Result<()> {
        let mut connection = Connection::new(self.host.connect()?);
        connection.idle_since = Some(std::time::Instant::now());
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(())
    }

    /// A plain connection to the engine's socket, for `system dial-stdio`.
    ///
    /// # Errors
    /// [`Error::Connect`] when nobody answers.
    pub fn dial(&self) -> Result<crate::Hijacked> {
        crate::Hijacked::new(Connection::new(self.host.connect()?), None)
    }

    pub(crate) fn extra_headers(&self) -> &[(String, String)] {
        &self.headers
    }

    pub(crate) fn pool(&self) -> Pool {
        self.pool.clone()
    }

    pub(crate) fn accepted(&self) {
        self.version_state().settled = true;
    }

    /// Takes the daemon's word for the newest version it speaks. `true`: the request is worth repeating.
    pub(crate) fn downgrade(&self, refused: ApiVersion, newest: Option<ApiVersion>, error: &Error) -> bool {
        let Error::Api { status: 400, message } = error else { return false };
        // Answers to HEAD have no message, and their header says the same.
        let Some(offered) = offered_version(message).or(newest) else { return false };
        let mut state = self.version_state();
        if state.fixed || offered >= refused || offered < ApiVersion::OLDEST {
            return false;
        }
        (state.current, state.settled) = (offered, true);
        true
    }

    /// An idle connection, or a new one. The flag tells whether it was used before.
    pub(crate) fn connection(&self) -> Result<(Connection, bool)> {
        loop {
            let idle = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut connection) = idle else { break };
            let waited = connection.idle_since.take().map_or(0, |since| since.elapsed().as_millis());
            if waited < LOOK_AFTER || connection.is_alive() {
                return Ok((connection, true));
            }
        }
        let stream: Stream = self.host.connect()?;
        Ok((Connection::new(stream), false))
    }

    fn version_state(&self) -> MutexGuard<'_, Version> {
        // The state is two plain values: a thread that panicked cannot have left it half changed.
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `client version 1.55 is too new. Maximum supported API version is 1.51`
fn offered_version(message: &str) -> Option<ApiVersion> {
    let (_, rest) = message.split_once("aximum supported API version is ")?;
    rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_daemon_names_its_version() {
        let client = Client::new(Host::Unix("/x".into()));
        let error = Error::Api {
            status: 400,
            message: "client version 1.55 is too new. Maximum supported API version is 1.51".into(),
        };
        assert!(client.downgrade(ApiVersion::NEWEST, None, &error));
        assert_eq!(client.version().to_string(), "1.51");
        // The same words again for the version it offered itself must not loop.
        assert!(!client.downgrade(client.version(), None, &error));
    }

    #[test]
    fn a_fixed_version_stays() {
        let client = Client::new(Host::Unix("/x".into())).with_version("1.54".parse().unwrap());
        let error = Error::Api { status: 400, message: "Maximum supported API version is 1.51".into() };
        assert!(!client.downgrade(client.version(), None, &error));
        assert_eq!(client.version().to_string(), "1.54");
    }
}
