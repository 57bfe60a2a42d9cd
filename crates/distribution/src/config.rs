//! What the daemon's configuration says about registries, and the limits of the client.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Configuration of the client, from daemon.json.
#[derive(Debug, Clone)]
pub struct Config {
    /// `registry-mirrors`: addresses tried before the default registry, `https://mirror.example`.
    pub mirrors: Vec<String>,
    /// `insecure-registries`: `host[:port]` or CIDR. Loopback is always among them.
    pub insecure: Vec<String>,
    /// Directories with one directory per `host[:port]`: `*.crt` authorities, `*.cert` and `*.key` pairs to identify
    /// ourselves with, and `hosts.toml` with rules. The first that has something for a host counts; authorities of all.
    pub certs_dirs: Vec<PathBuf>,
    /// Whether the `hosts.toml` in them are followed. A registry that copies others does without: its own address may
    /// stand in one.
    pub hosts_files: bool,
    /// `User-Agent` of every request.
    pub user_agent: String,
    /// Bounds of time and number.
    pub limits: Limits,
}

/// Bounds of time and number.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Layers downloaded at a time.
    pub parallel_layers: usize,
    /// Blobs uploaded at a time.
    pub parallel_uploads: usize,
    /// Tries of a failing request.
    pub attempts: u32,
    /// Wait before the second try, doubled with each further one.
    pub backoff: Duration,
    /// Longest wait, also for what the registry asks for.
    pub backoff_max: Duration,
    /// For name resolution, connection and TLS.
    pub connect: Duration,
    /// From the request to the head of the answer.
    pub head: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// Large blobs on slow paths.
    pub ranges: Ranges,
}

/// When several ranges of a blob are fetched at a time: never on a path that one stream fills, since they only help
/// where each connection is held to a rate.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// Ranges of a blob at a time; fewer than 2 for one stream always.
    pub at_once: usize,
    /// Bytes of a range. So many bytes times `at_once` of a blob are in memory at most.
    pub size: u64,
    /// Ranges of all blobs at a time.
    pub in_all: usize,
    /// Bytes from which on a blob is large.
    pub from: u64,
    /// Bytes per second of one stream below which there are several.
    pub below: u64,
    /// How long one stream must have been waited for until it is judged.
    pub probe: Duration,
}

impl Default for Ranges {
    fn default() -> Ranges {
        Ranges {
            at_once: 4,
            size: 4 << 20,
            in_all: 6,
            from: 64 << 20,
            below: 100_000_000,
            probe: Duration::from_millis(500),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            parallel_layers: 3,
            parallel_uploads: 5,
            attempts: 5,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            connect: Duration::from_secs(15),
            head: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            ranges: Ranges::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            certs_dirs: vec![PathBuf::from("/etc/dhow/certs.d"), PathBuf::from("/etc/docker/certs.d")],
            hosts_files: false,
            user_agent: concat!("dhow/", env!("CARGO_PKG_VERSION")).to_owned(),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// True when `host` (without port) on `port` may be spoken to without TLS or without checking
    /// its certificate.
    pub fn is_insecure(&self, host: &str, port: Option<u16>) -> bool {
        let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        if host.eq_ignore_ascii_case("localhost") || address.is_some_and(|a| a.is_loopback()) {
            return true;
        }
        self.insecure.iter().any(|rule| match (parse_cidr(rule), address) {
            (Some((network, bits)), Some(address)) => in_network(address, network, bits),
            (Some(_), None) => false,
            (None, _) => {
                let with_port = port.is_some_and(|p| rule.eq_ignore_ascii_case(&format!("{host}:{p}")));
                with_port || rule.eq_ignore_ascii_case(host)
            }
        })
    }
}

fn parse_cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok()?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    (bits <= max).then_some((address, bits))
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_registries() {
        let insecure = ["reg.lan:5000", "plain.lan", "10.0.0.0/8", "::/0"].map(str::to_owned).to_vec();
        let config = Config { insecure, ..Config::default() };
        for (host, port, expected) in [
            ("127.0.0.1", Some(5000), true),
            ("127.9.9.9", None, true),
            ("[::1]", None, true),
            ("localhost", Some(1), true),
            ("reg.lan", Some(5000), true),
            ("reg.lan", None, false),
            ("plain.lan", Some(7), true),
            ("10.1.2.3", None, true),
            ("11.1.2.3", None, false),
            ("[2001:db8::1]", None, true),
            ("docker.io", None, false),
        ] {
            assert_eq!(config.is_insecure(host, port), expected, "{host}");
        }
    }
}
