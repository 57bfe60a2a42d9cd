//! HTTP/1.1 by hand, so that a test says which bytes it sends: one connection, requests whole or in parts, answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

/// Long enough for a machine under load; nothing is asserted about it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Plain or encrypted.
trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// One connection to a server.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Connection {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self { stream: BufReader::new(Box::new(tcp(address))) }
    }

    /// Over TLS, trusting what `config` trusts; the handshake happens with the first request.
    #[track_caller]
    pub fn open_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let name = ServerName::from(address.ip());
        let tls = ClientConnection::new(config, name).expect("a TLS session");
        Self { stream: BufReader::new(Box::new(StreamOwned::new(tls, tcp(address)))) }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Sends a head; the caller names every header but `Host`.
    #[track_caller]
    pub fn send_head(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: registry.test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes()).expect("the server takes a head");
    }

    /// One request with its body, of known length, and its answer.
    #[track_caller]
    pub fn call(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        if !body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH") {
            all.push(("Content-Length", &length));
        }
        self.send_head(method, target, &all);
        // A server that refuses early may have closed its end already; its answer says why.
        let _ = self.send(body);
        self.answer(method).expect("an answer")
    }

    /// Reads the next answer, over interim ones; an error when the connection ends before it does.
    pub fn answer(&mut self, method: &str) -> io::Result<Answer> {
        loop {
            let mut answer = self.head()?;
            if answer.status / 100 == 1 {
                continue;
            }
            if method != "HEAD" && !matches!(answer.status, 204 | 304) {
                let length = answer.header("content-length").and_then(|length| length.parse().ok());
                answer.body = vec![0; length.ok_or_else(|| io::Error::other("an answer without a length"))?];
                self.stream.read_exact(&mut answer.body)?;
            }
            return Ok(answer);
        }
    }

    /// Reads one head, interim or not.
    pub fn head(&mut self) -> io::Result<Answer> {
        let mut line = || -> io::Result<String> {
            let mut line = String::new();
            match self.stream.read_line(&mut line)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(line.trim_end().to_owned()),
            }
        };
        let first = line()?;
        let status = first.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            match line()?.as_str() {
                "" => return Ok(Answer { status, headers, body: Vec::new() }),
                text => {
                    let (name, value) = text.split_once(": ").unwrap_or((text, ""));
                    headers.push((name.to_ascii_lowercase(), value.to_owned()));
                }
            }
        }
    }

    /// The bytes that follow, as they come.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Waits until the other end closes; false when it sends something more.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(count) => count == 0,
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// A header that must be there.
    #[track_caller]
    pub fn must(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("{name} is missing in {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// The error document of the distribution specification, "Error Codes".
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.must("content-type"), "application/json");
        let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
        assert!(!errors.is_empty(), "{}", answer.text());
        for error in &errors {
            assert_eq!(error["code"], code, "{}", answer.text());
            assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{}", answer.text());
        }
        answer
    }
}
