//! Files at addresses that somebody names, without a registry: what `ADD` of a build fetches. Redirects may lead to public
//! addresses or to networks of the kind that the named host is on, as a registry's do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::address::Classes;
use crate::client::Client;
use crate::error::Error;
use crate::origin::Url;
use crate::payload::Payload;
use crate::pool::Via;
use crate::transport::{Reach, Transport, broken, describe};

/// Most redirects on the way.
const REDIRECTS: usize = 10;

/// An answer, of any status.
pub struct WebAnswer {
    transport: Arc<Transport>,
    url: Url,
    response: Response<Incoming>,
}

impl Client {
    /// Asks for what is at an `http` or `https` address. Headers, by their names in lower case, go to the named origin alone.
    ///
    /// # Errors
    /// The address is none or carries a password; nobody answers there; it leads to where it may not.
    pub async fn web(&self, address: &str, headers: &[(&'static str, String)]) -> Result<WebAnswer, Error> {
        let bad = |why| Error::Refused { what: "address", target: address.chars().take(200).collect(), why };
        let first =
            Url::parse(address).ok_or_else(|| bad("it is no http or https address without a password in it"))?;
        let header = |(name, value): &(&'static str, String)| {
            let value = HeaderValue::from_str(value).map_err(|_| bad("a header for it is no line of text"))?;
            Ok::<_, Error>((HeaderName::from_static(name), value))
        };
        let headers = headers.iter().map(header).collect::<Result<Vec<_>, _>>()?;
        let classes = AtomicU8::new(Classes::default().bits());
        let mut url = first.clone();
        for _ in 0..=REDIRECTS {
            let own = url.origin == first.origin;
            let reach = if own {
                Reach::Registry(&classes)
            } else {
                Reach::Referred(Classes::from_bits(classes.load(Ordering::Relaxed)))
            };
            let headers = if own { headers.as_slice() } else { &[] };
            let via = Via::default();
            let response = self.transport.send("GET", &url, reach, &via, headers, Payload::empty()).await?;
            if !matches!(response.status().as_u16(), 301..=303 | 307 | 308) {
                return Ok(WebAnswer { transport: Arc::clone(&self.transport), url, response });
            }
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).unwrap_or_default();
            let refused = |why| {
                let target = location.chars().take(200).collect();
                Error::Refused { what: "redirect", target, why }
            };
            let next = url.join(location).ok_or_else(|| refused("it is not an http or https address"))?;
            if url.origin.https && !next.origin.https {
                return Err(refused("it has no TLS although what leads to it does"));
            }
            url = next;
        }
        Err(Error::Refused { what: "redirect", target: url.to_string(), why: "there were ten redirects before it" })
    }
}

impl WebAnswer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Where the answer came from, after redirects.
    #[must_use]
    pub fn address(&self) -> String {
        self.url.to_string()
    }

    /// A header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// The connection broke, or nothing came for too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let idle = self.transport.config.limits.idle;
        loop {
            match timeout(idle, self.response.body_mut().frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(Some(Err(error))) => return Err(broken("GET", &self.url, describe(&error))),
                Err(_) => return Err(broken("GET", &self.url, "timed out while reading the body".to_owned())),
            }
        }
    }
}
