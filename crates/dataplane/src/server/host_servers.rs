//! The host's name servers, as its resolv.conf has them when they are needed.
//!
//! The file is looked at when somebody asks and the last look is a second old, so that nothing happens while nobody asks.
//! It may be replaced, written in place, be a link that changes, or be away: then there are no servers until it is back.

use std::hash::BuildHasher;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::poller::Time;

/// Between two looks at the file.
const INTERVAL: Time = 1000;
const DNS_PORT: u16 = 53;

/// Servers and the number that stands for them in keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers {
    pub(crate) list: Vec<SocketAddr>,
    pub(crate) group: u64,
}

/// Numbers lists of servers: equal lists get equal numbers.
#[derive(Default)]
pub(crate) struct Groups(std::hash::RandomState);

impl Groups {
    pub(crate) fn servers(&self, list: Vec<SocketAddr>) -> Servers {
        let group = self.0.hash_one(&list);
        Servers { list, group }
    }

    pub(crate) fn of_addresses(&self, addresses: &[IpAddr]) -> Servers {
        let addresses = addresses.iter().take(dns::resolv::MAX_SERVERS);
        self.servers(addresses.map(|address| SocketAddr::new(*address, DNS_PORT)).collect())
    }
}

/// What tells one state of the file from another.
type Stamp = (u64, u64, u64, i64, i64);

/// The file and what it said.
pub(crate) struct HostServers {
    path: PathBuf,
    looked: Option<Time>,
    stamp: Option<Stamp>,
    servers: Servers,
}

impl HostServers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, looked: None, stamp: None, servers: Servers::default() }
    }

    /// The servers now.
    pub(crate) fn get(&mut self, now: Time, groups: &Groups) -> &Servers {
        if self.looked.is_none_or(|looked| now >= looked + INTERVAL) {
            self.looked = Some(now);
            self.look(groups);
        }
        &self.servers
    }

    fn look(&mut self, groups: &Groups) {
        let stamp = std::fs::metadata(&self.path)
            .ok()
            .map(|meta| (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()));
        if stamp == self.stamp && stamp.is_some() {
            return;
        }
        self.stamp = stamp;
        let mut text = Vec::new();
        // A directory or a pipe in its place reads as nothing and is not waited for.
        let file = std::fs::metadata(&self.path).ok().filter(std::fs::Metadata::is_file);
        if let Some(Ok(file)) = file.map(|_| std::fs::File::open(&self.path)) {
            let _ = file.take(dns::resolv::MAX_FILE as u64).read_to_end(&mut text);
        }
        let list = dns::resolv::parse(&String::from_utf8_lossy(&text)).into_iter().filter_map(address).collect();
        self.servers = groups.servers(list);
    }
}

fn address(server: dns::resolv::Server) -> Option<SocketAddr> {
    match (server.address, server.scope) {
        (IpAddr::V6(address), Some(scope)) => {
            let index = match scope.parse() {
                Ok(index) => index,
                Err(_) => link_index(&scope)?,
            };
            Some(SocketAddrV6::new(address, DNS_PORT, 0, index).into())
        }
        (address, None) => Some(SocketAddr::new(address, DNS_PORT)),
        (IpAddr::V4(_), Some(_)) => None,
    }
}

fn link_index(name: &str) -> Option<u32> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    );
    rustix::net::netdevice::name_to_index(socket.ok()?, name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_followed_through_replacement_and_absence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let groups = Groups::default();
        let mut host = HostServers::new(path.clone());
        assert!(host.get(0, &groups).list.is_empty());
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        // Not looked at again within the second.
        assert!(host.get(500, &groups).list.is_empty());
        let first = host.get(1000, &groups).clone();
        assert_eq!(first.list, ["192.0.2.1:53".parse().unwrap()]);
        let other = dir.path().join("new");
        std::fs::write(&other, "nameserver 192.0.2.2\n").unwrap();
        std::fs::rename(&other, &path).unwrap();
        let second = host.get(2000, &groups).clone();
        assert_eq!(second.list, ["192.0.2.2:53".parse().unwrap()]);
        assert_ne!(first.group, second.group);
        std::fs::remove_file(&path).unwrap();
        assert!(host.get(3000, &groups).list.is_empty());
        std::fs::create_dir(&path).unwrap();
        assert!(host.get(4000, &groups).list.is_empty());
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(host.get(5000, &groups).group, first.group);
    }
}
