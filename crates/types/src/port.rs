//! Port specifications as `-p` and `EXPOSE` write them: `[[ip:]host:]container[/proto]`, with
//! ranges. Parsed values hold valid addresses and port numbers; error texts are Docker's.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Why a text is not a port specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// No container port; the field is the whole text.
    #[error("no port specified: {0}<empty>")]
    Empty(String),
    /// The container port or range is wrong.
    #[error("invalid containerPort: {0}")]
    Container(String),
    /// The host port or range is wrong.
    #[error("invalid hostPort: {0}")]
    Host(String),
    /// The address is wrong.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// The protocol is unknown.
    #[error("invalid proto: {0}")]
    Protocol(String),
    /// Two ranges of different length.
    #[error("invalid ranges specified for container and host Ports: {0} and {1}")]
    Ranges(String, String),
}

/// A transport protocol that ports belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Protocol, PortError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(PortError::Protocol(text.to_owned())),
        }
    }
}

/// A range of ports, both ends included; start ≤ end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// First port.
    pub start: u16,
    /// Last port.
    pub end: u16,
}

impl PortRange {
    /// Parses `80` or `80-90`.
    pub fn parse(text: &str) -> Option<PortRange> {
        let number = |t: &str| -> Option<u16> {
            (!t.is_empty() && t.bytes().all(|c| c.is_ascii_digit())).then(|| t.parse().ok()).flatten()
        };
        let (start, end) = match text.split_once('-') {
            Some((start, end)) => (number(start)?, number(end)?),
            None => (number(text)?, number(text)?),
        };
        (start <= end).then_some(PortRange { start, end })
    }

    /// How many ports beyond the first.
    pub const fn span(self) -> u16 {
        self.end - self.start
    }
}

/// A port of a container, `80/tcp`: the key of `ExposedPorts` and `PortBindings`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExposedPort {
    /// Port number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

impl FromStr for ExposedPort {
    type Err = PortError;

    /// Parses `80`, `80/tcp`.
    fn from_str(text: &str) -> Result<ExposedPort, PortError> {
        let (port, protocol) = split_protocol(text);
        match PortRange::parse(port) {
            Some(range) if range.span() == 0 => Ok(ExposedPort { port: range.start, protocol: protocol.parse()? }),
            _ => Err(PortError::Container(text.to_owned())),
        }
    }
}

impl Serialize for ExposedPort {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExposedPort {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ExposedPort, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortMapping {
    /// Port inside the container.
    pub container: ExposedPort,
    /// Address of the host, if one was named.
    pub host_ip: Option<IpAddr>,
    /// Port or range to choose from on the host; none lets the engine choose.
    pub host: Option<PortRange>,
}

fn split_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((port, "")) => (port, "tcp"),
        Some((port, protocol)) => (port, protocol),
        None => (text, "tcp"),
    }
}

/// Parses `[[ip:][host]:]container[/proto]` into one mapping per container port.
///
/// # Errors
/// [`PortError`] in Docker's words.
pub fn parse_port_spec(text: &str) -> Result<Vec<PortMapping>, PortError> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let ip = parts.next().unwrap_or_default();
    let (container, protocol) = split_protocol(container);
    let host_ip = match ip {
        "" => None,
        _ => {
            let bare = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')).unwrap_or(ip);
            Some(bare.parse::<IpAddr>().map_err(|_| PortError::Address(ip.to_owned()))?)
        }
    };
    if container.is_empty() {
        return Err(PortError::Empty(text.to_owned()));
    }
    let inner = PortRange::parse(container).ok_or_else(|| PortError::Container(container.to_owned()))?;
    let outer = match host {
        "" => None,
        _ => Some(PortRange::parse(host).ok_or_else(|| PortError::Host(host.to_owned()))?),
    };
    if let Some(outer) = outer
        && outer.span() != inner.span()
        && inner.span() != 0
    {
        return Err(PortError::Ranges(container.to_owned(), host.to_owned()));
    }
    let protocol: Protocol = protocol.parse()?;
    Ok((0..=inner.span())
        .map(|i| PortMapping {
            container: ExposedPort { port: inner.start + i, protocol },
            host_ip,
            host: outer.map(|o| match inner.span() {
                0 => o,
                _ => PortRange { start: o.start + i, end: o.start + i },
            }),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> PortMapping {
        let mut all = parse_port_spec(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    #[test]
    fn forms() {
        let plain = one("8080:80/tcp");
        assert_eq!(plain.container.to_string(), "80/tcp");
        assert_eq!(plain.host, PortRange::parse("8080"));
        assert_eq!(one("80").host, None);
        assert_eq!(one("127.0.0.1::53/udp").host_ip, Some("127.0.0.1".parse().unwrap()));
        assert_eq!(one("[::1]:1:2").host_ip, Some("::1".parse().unwrap()));
        assert_eq!(one("::1:1:2").host_ip, Some("::1".parse().unwrap()));
        assert_eq!(one("8000-8010:80").host, PortRange::parse("8000-8010"));
        let range = parse_port_spec("8000-8001:80-81/udp").unwrap();
        assert_eq!(range[1].container.to_string(), "81/udp");
        assert_eq!(range[1].host, PortRange::parse("8001"));
    }

    #[test]
    fn wording() {
        for (text, error) in [
            ("", "no port specified: <empty>"),
            ("80:", "no port specified: 80:<empty>"),
            ("x", "invalid containerPort: x"),
            ("70000", "invalid containerPort: 70000"),
            ("9-8", "invalid containerPort: 9-8"),
            ("x:80", "invalid hostPort: x"),
            ("a.b:1:80", "invalid IP address: a.b"),
            ("1:80/foo", "invalid proto: foo"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ] {
            assert_eq!(parse_port_spec(text).unwrap_err().to_string(), error);
        }
        assert!("80-81/tcp".parse::<ExposedPort>().is_err());
    }
}
