//! Requests and responses: building, sending, and turning statuses of 400 and more into [`Error::Api`].

use std::io::{IoSlice, Write};

use crate::{
    ApiVersion, Body, Client, Error, Hijacked, Query, Result, Upgraded, Upload,
    body::Framing,
    connection::{Connection, Head},
};

/// Largest document taken into memory, in bytes.
const MAX_DOCUMENT: u64 = 512 * 1024 * 1024;
/// Largest error document taken into memory, in bytes.
const MAX_ERROR: u64 = 1024 * 1024;

/// A request being built.
#[derive(Debug)]
pub struct Request {
    client: Client,
    method: &'static str,
    path: String,
    query: Query,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    versioned: bool,
}

/// A successful answer.
#[derive(Debug)]
pub struct Response {
    head: Head,
    body: Body,
}

/// A request that was sent and whose answer has not been read, so that two can be under way at once.
#[derive(Debug)]
pub struct Pending {
    request: Request,
    connection: Connection,
    reused: bool,
    version: ApiVersion,
}

impl Request {
    pub(crate) fn new(client: Client, method: &'static str, path: String) -> Self {
        Self { client, method, path, query: Query::default(), headers: Vec::new(), body: None, versioned: true }
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(name, value);
        self
    }

    /// Adds a query parameter when there is a value.
    #[must_use]
    pub fn query_opt(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds `name=1` when `on`.
    #[must_use]
    pub fn flag(self, name: &str, on: bool) -> Self {
        if on { self.query(name, "1") } else { self }
    }

    /// Adds a header. Line ends in the value are refused by leaving them out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.chars().filter(|c| !c.is_control()).collect()));
        self
    }

    /// Sends `value` as JSON.
    ///
    /// # Errors
    /// [`Error::Decode`] when the value cannot be written as JSON.
    pub fn json<T: serde::Serialize + ?Sized>(mut self, value: &T) -> Result<Self> {
        self.body = Some(serde_json::to_vec(value)?);
        self.headers.push(("Content-Type", "application/json".into()));
        Ok(self)
    }

    pub(crate) fn unversioned(mut self) -> Self {
        self.versioned = false;
        self
    }

    fn target(&self, version: ApiVersion) -> String {
        let base = self.client.host().base();
        let query = self.query.as_str();
        if self.versioned {
            format!("{base}/v{version}{}{query}", self.path)
        } else {
            format!("{base}{}{query}", self.path)
        }
    }

    fn head_bytes(&self, version: ApiVersion, framing: &str) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: dhow/{} (linux)\r\n",
            self.method,
            self.target(version),
            self.client.host().authority(),
            env!("CARGO_PKG_VERSION"),
        );
        let own = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let configured = self.client.extra_headers().iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(configured) {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.push_str(framing);
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Writes the request; the answer is read by [`Pending::receive`] or [`Pending::receive_hijacked`].
    fn dispatch(self, upgrade: Option<&str>) -> Result<Pending> {
        let version = self.client.version();
        let body = self.body.as_deref().unwrap_or_default();
        let mut framing = String::new();
        if !matches!(self.method, "GET" | "HEAD") || !body.is_empty() {
            framing = format!("Content-Length: {}\r\n", body.len());
        }
        if let Some(protocol) = upgrade {
            framing.push_str(&format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n"));
        }
        let head = self.head_bytes(version, &framing);
        loop {
            let (mut connection, reused) = self.client.connection()?;
            match write_both(&mut connection, &head, body) {
                Ok(()) => return Ok(Pending { request: self, connection, reused, version }),
                // The daemon closed an idle connection: nothing was processed, a new one will do.
                Err(_) if reused => {}
                Err(source) => {
                    // It may have answered before taking the whole body; then that answer is the better story.
                    if matches!(connection.read_head(), Ok(Some(_))) {
                        return Ok(Pending { request: self, connection, reused: false, version });
                    }
                    return Err(Error::Io { action: "sending a request to the daemon", source });
                }
            }
        }
    }

    /// Sends the request without waiting for the answer.
    ///
    /// # Errors
    /// [`Error::Connect`] when nobody answers, [`Error::Io`] when the connection breaks.
    pub fn start(self) -> Result<Pending> {
        self.dispatch(None)
    }

    /// As [`Request::start`], asking for the connection itself (attach, exec).
    ///
    /// # Errors
    /// As [`Request::start`].
    pub fn start_hijack(self) -> Result<Pending> {
        self.dispatch(Some("tcp"))
    }

    /// Sends the request and reads the head of the answer.
    ///
    /// # Errors
    /// [`Error::Api`] for statuses of 400 and more; the others when there is no such answer.
    pub fn send(self) -> Result<Response> {
        self.dispatch(None)?.receive()
    }

    /// Sends the request and discards the body of the answer.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn send_discard(self) -> Result<()> {
        self.send()?.into_body().read_all(MAX_DOCUMENT).map(drop)
    }

    /// Sends the request, taking the connection over when the daemon agrees.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn hijack(self) -> Result<Hijacked> {
        self.dispatch(Some("tcp"))?.receive_hijacked()
    }

    /// Sends the request and takes the connection over for another protocol; the daemon has to agree.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn upgrade(self, protocol: &str) -> Result<Upgraded> {
        let (client, version) = (self.client.clone(), self.client.version());
        let (request, newest, outcome) = self.dispatch(Some(protocol))?.answer(true)?;
        match outcome {
            Ok((connection, head)) if head.status == 101 => {
                client.accepted();
                Ok(Upgraded::new(connection, head))
            }
            Ok((_, head)) => {
                Err(Error::Protocol(format!("the daemon does not speak {protocol} here (status {})", head.status)))
            }
            Err(error) if client.downgrade(version, newest, &error) => request.upgrade(protocol),
            Err(error) => Err(error),
        }
    }

    /// Sends the head and lets the caller write the body as it comes.
    ///
    /// # Errors
    /// As [`Request::start`].
    pub fn upload(self) -> Result<Upload> {
        let version = if self.versioned { self.client.settle_version()? } else { self.client.version() };
        let head = self.head_bytes(version, "Transfer-Encoding: chunked\r\n");
        // A body cannot be sent twice, so this never uses a connection the daemon may just be closing.
        let mut connection = Connection::new(self.client.host().connect()?);
        connection.stream.write_all(&head).map_err(Error::io("sending a request to the daemon"))?;
        Ok(Upload::new(connection, self.client.pool()))
    }
}

impl Pending {
    /// Reads the head of the answer.
    ///
    /// # Errors
    /// [`Error::Api`] for statuses of 400 and more; the others when there is no such answer.
    pub fn receive(self) -> Result<Response> {
        let (client, version) = (self.request.client.clone(), self.version);
        let (request, newest, outcome) = self.answer(false)?;
        match outcome {
            Ok((connection, head)) => {
                client.accepted();
                Response::new(connection, head, request.method, client.pool()).checked()
            }
            Err(error) if client.downgrade(version, newest, &error) => request.send(),
            Err(error) => Err(error),
        }
    }

    /// Reads the head of the answer to a hijack.
    ///
    /// # Errors
    /// As [`Pending::receive`].
    pub fn receive_hijacked(self) -> Result<Hijacked> {
        let (client, version) = (self.request.client.clone(), self.version);
        let (request, newest, outcome) = self.answer(true)?;
        match outcome {
            Ok((connection, head)) => {
                client.accepted();
                Hijacked::new(connection, head.header("Content-Type").map(str::to_owned))
            }
            Err(error) if client.downgrade(version, newest, &error) => request.hijack(),
            Err(error) => Err(error),
        }
    }

    /// The answer's head with its connection, or the error document already read, with the version the daemon names.
    #[allow(clippy::type_complexity)]
    fn answer(mut self, upgrade: bool) -> Result<(Request, Option<ApiVersion>, Result<(Connection, Head)>)> {
        let head = match self.connection.read_head() {
            Ok(Some(head)) => head,
            // Closed without an answer: only an idle connection that died under us is worth another try, and only
            // where doing a thing twice does no harm.
            Ok(None) if self.reused && matches!(self.request.method, "GET" | "HEAD") => {
                let again = if upgrade { self.request.start_hijack()? } else { self.request.start()? };
                return again.answer(upgrade);
            }
            Ok(None) => return Err(Error::Protocol("the daemon closed the connection without an answer".into())),
            Err(error) => return Err(error),
        };
        let newest = head.header("Api-Version").and_then(|text| text.parse().ok());
        if head.status >= 400 {
            let Self { request, connection, .. } = self;
            let pool = request.client.pool();
            let error = Response::new(connection, head, request.method, pool).checked().err();
            let error = error.unwrap_or_else(|| Error::Protocol("unexpected status".into()));
            return Ok((request, newest, Err(error)));
        }
        Ok((self.request, newest, Ok((self.connection, head))))
    }
}

impl Response {
    pub(crate) fn new(connection: Connection, head: Head, method: &str, pool: crate::body::Pool) -> Self {
        let framing = if method == "HEAD" || matches!(head.status, 204 | 304) {
            Framing::Done
        } else if head.header("Transfer-Encoding").is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"))
        {
            Framing::Chunked { left: 0, first: true }
        } else if let Some(length) = head.header("Content-Length").and_then(|value| value.trim().parse().ok()) {
            Framing::Sized(length)
        } else {
            Framing::UntilClose
        };
        let keep = !head.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let body = Body::new(connection, framing, keep.then_some(pool));
        Self { head, body }
    }

    pub(crate) fn checked(self) -> Result<Self> {
        if self.head.status < 400 {
            return Ok(self);
        }
        let status = self.head.status;
        let bytes = self.body.read_all(MAX_ERROR).unwrap_or_default();
        let message = serde_json::from_slice::<serde_json::Value>(&bytes)
            .ok()
            .and_then(|value| value.get("message").and_then(|text| text.as_str()).map(str::to_owned))
            .unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned());
        let message = if message.is_empty() { format!("status {status} without a message") } else { message };
        Err(Error::Api { status, message })
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// First header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as a stream.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// The whole body.
    ///
    /// # Errors
    /// [`Error::Io`] when the connection breaks.
    pub fn bytes(self) -> Result<Vec<u8>> {
        self.body.read_all(MAX_DOCUMENT)
    }

    /// The body as a JSON document.
    ///
    /// # Errors
    /// [`Error::Decode`] when it is not one of the expected form.
    pub fn json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        Ok(serde_json::from_slice(&self.bytes()?)?)
    }
}

fn write_both(connection: &mut Connection, head: &[u8], body: &[u8]) -> std::io::Result<()> {
    // One system call for both parts in all but the largest requests.
    let written = connection.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])?;
    if written < head.len() {
        connection.stream.write_all(&head[written..])?;
        connection.stream.write_all(body)
    } else {
        connection.stream.write_all(&body[written - head.len()..])
    }
}
