//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container: their text from the host's
//! files and the user's options. Pure texts; the caller writes them into the container's directory
//! and binds them. Called by start.

use std::net::IpAddr;

/// What `/etc/resolv.conf` is made of where the user chose something.
#[derive(Clone, Debug, Default)]
pub(crate) struct DnsChoice<'a> {
    pub servers: &'a [String],
    pub search: &'a [String],
    pub options: &'a [String],
}

/// Fallback where the host's file holds nothing a container can reach.
const PUBLIC_SERVERS: &[&str] = &["8.8.8.8", "8.8.4.4"];

/// The host's file without name servers on loopback (a container has its own loopback), the user's
/// choices put in their place. With `host_network` the host's servers are kept as they are.
pub(crate) fn resolv_conf(host: &str, choice: &DnsChoice<'_>, host_network: bool) -> String {
    let mut servers: Vec<String> = choice.servers.to_vec();
    let mut search: Vec<String> = choice.search.to_vec();
    let mut options: Vec<String> = choice.options.to_vec();
    let mut host_servers = Vec::new();
    let (mut host_search, mut host_options) = (Vec::new(), Vec::new());
    for line in host.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => host_servers.extend(words.next().map(str::to_owned)),
            // The last search line wins, as in resolv.conf(5).
            Some("search" | "domain") => host_search = words.map(str::to_owned).collect(),
            Some("options") => host_options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    if servers.is_empty() {
        servers = host_servers
            .into_iter()
            .filter(|s| {
                let address = s.split('%').next().unwrap_or(s).parse::<IpAddr>();
                host_network || address.is_ok_and(|ip| !ip.is_loopback())
            })
            .collect();
    }
    if servers.is_empty() && !host_network {
        servers = PUBLIC_SERVERS.iter().map(|s| (*s).to_owned()).collect();
    }
    if search.is_empty() {
        search = host_search;
    }
    // A single dot means: no search list at all.
    search.retain(|s| s != ".");
    if options.is_empty() {
        options = host_options;
    }
    let mut out = String::new();
    for server in servers {
        out.push_str(&format!("nameserver {server}\n"));
    }
    if !search.is_empty() {
        out.push_str(&format!("search {}\n", search.join(" ")));
    }
    if !options.is_empty() {
        out.push_str(&format!("options {}\n", options.join(" ")));
    }
    out
}

/// Address of the resolver inside every container on a network of ours.
const OWN_RESOLVER: &str = "127.0.0.11";

/// For a container whose names we serve: our resolver, the host's search list or the user's, and no dots needed in a name
/// for it to be asked as it is.
pub(crate) fn own_resolver(host: &str, choice: &DnsChoice<'_>) -> String {
    let server = [OWN_RESOLVER.to_owned()];
    let text = resolv_conf(host, &DnsChoice { servers: &server, ..choice.clone() }, false);
    let ndots = choice.options.iter().any(|option| option.starts_with("ndots:"));
    let mut out = String::new();
    let mut options = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("options ") {
            // The host's own ndots is about its own resolver.
            Some(list) => {
                let kept = list.split(' ').filter(|option| ndots || !option.starts_with("ndots:"));
                options.extend(kept.map(str::to_owned));
            }
            None => out.push_str(&format!("{line}\n")),
        }
    }
    if !ndots {
        options.push("ndots:0".to_owned());
    }
    out.push_str(&format!("options {}\n", options.join(" ")));
    out
}

/// `/etc/hosts`: the loopback names, the extra hosts (already without `host-gateway`), own addresses.
pub(crate) fn hosts(own: &[IpAddr], hostname: &str, domain: &str, extra: &[(String, String)]) -> String {
    let mut out = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for (name, address) in extra {
        out.push_str(&format!("{address}\t{name}\n"));
    }
    for ip in own {
        if domain.is_empty() {
            out.push_str(&format!("{ip}\t{hostname}\n"));
        } else {
            out.push_str(&format!("{ip}\t{hostname}.{domain} {hostname}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_are_left_out() {
        let host =
            "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.2 # y\nsearch a b\nsearch c\noptions edns0 trust-ad\n";
        let none = DnsChoice::default();
        assert_eq!(resolv_conf(host, &none, false), "nameserver 10.0.0.2\nsearch c\noptions edns0 trust-ad\n");
        assert!(resolv_conf(host, &none, true).starts_with("nameserver 127.0.0.53\nnameserver 10.0.0.2\n"));
        assert_eq!(resolv_conf("", &none, false), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        let dns = ["1.1.1.1".to_owned()];
        let dot = [".".to_owned()];
        let choice = DnsChoice { servers: &dns, search: &dot, options: &[] };
        assert_eq!(resolv_conf(host, &choice, false), "nameserver 1.1.1.1\noptions edns0 trust-ad\n");
    }

    #[test]
    fn own_name_comes_last() {
        let own = ["172.17.0.2".parse().unwrap()];
        let text = hosts(&own, "web", "", &[("db".into(), "10.0.0.1".into())]);
        assert!(text.ends_with("10.0.0.1\tdb\n172.17.0.2\tweb\n"), "{text}");
        assert!(hosts(&[], "web", "", &[]).starts_with("127.0.0.1\tlocalhost\n"));
    }

    #[test]
    fn our_resolver_takes_the_hosts_search_list() {
        let host = "nameserver 10.0.0.2\nsearch a\noptions edns0 ndots:5\n";
        let none = DnsChoice::default();
        assert_eq!(own_resolver(host, &none), "nameserver 127.0.0.11\nsearch a\noptions edns0 ndots:0\n");
        let options = ["ndots:2".to_owned()];
        let choice = DnsChoice { options: &options, ..DnsChoice::default() };
        assert_eq!(own_resolver(host, &choice), "nameserver 127.0.0.11\nsearch a\noptions ndots:2\n");
    }
}
