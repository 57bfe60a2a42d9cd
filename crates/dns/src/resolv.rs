//! The host's list of name servers (resolv.conf(5)).

use std::net::IpAddr;

/// Most servers that are asked, as in the C library and dockerd.
pub const MAX_SERVERS: usize = 3;
/// Longest file that is read, in bytes.
pub const MAX_FILE: usize = 64 * 1024;

/// A name server as the file writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub address: IpAddr,
    /// The link of a link-local address, by name or number.
    pub scope: Option<String>,
}

/// The servers of a file's content, in order. Lines that make no sense are passed over, as the C library does.
#[must_use]
pub fn parse(text: &str) -> Vec<Server> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(word) = words.next() else { continue };
        let (address, scope) = match word.split_once('%') {
            Some((address, scope)) => (address, Some(scope.to_owned())),
            None => (word, None),
        };
        let Ok(address) = address.parse() else { continue };
        let server = Server { address, scope };
        if servers.len() < MAX_SERVERS && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_in_order_and_nothing_else() {
        let text = "# nameserver 9.9.9.9\nsearch example.com\n nameserver 192.0.2.1 # first\nnameserver\t2001:db8::1\n\
                    nameserver 192.0.2.1\nnameserver nonsense\nnameserver\noptions edns0\nnameserver fe80::1%eth0\n\
                    nameserver 192.0.2.4\n";
        let server = |address: &str, scope: Option<&str>| Server {
            address: address.parse().unwrap(),
            scope: scope.map(str::to_owned),
        };
        assert_eq!(
            parse(text),
            [server("192.0.2.1", None), server("2001:db8::1", None), server("fe80::1", Some("eth0"))]
        );
        assert!(parse("").is_empty());
    }
}
