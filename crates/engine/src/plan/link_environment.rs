//! The variables that tell a container of one it is linked to (`--link`): address and ports of the other, and its own
//! environment. Pure. Called by `network::legacy_links`.

use std::net::IpAddr;

use types::{ExposedPort, PortRange, Protocol};

/// A link, as far as its variables go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'a> {
    /// Name of the container that links.
    pub own: &'a str,
    pub alias: &'a str,
    pub address: IpAddr,
    /// Ports that the other one exposes: `80/tcp`, `80-90/udp`.
    pub exposed: &'a [String],
    /// The other one's variables.
    pub env: &'a [String],
}

/// Variables of the other one that are about itself.
const NOT_PASSED_ON: [&str; 2] = ["HOME", "PATH"];

/// `ALIAS_PORT…`, `ALIAS_NAME` and `ALIAS_ENV_…`, in dockerd's order.
pub(crate) fn variables(link: &Link<'_>) -> Vec<String> {
    let alias = link.alias.to_uppercase().replace('-', "_");
    let address = link.address;
    let url = |port: &ExposedPort| format!("{}://{address}:{}", port.protocol, port.port);
    let prefix =
        |port: &ExposedPort| format!("{alias}_PORT_{}_{}", port.port, port.protocol.to_string().to_uppercase());
    let mut env = Vec::new();
    let ports = sorted(link.exposed);
    if let Some(first) = ports.first() {
        env.push(format!("{alias}_PORT={}", url(first)));
    }
    let mut range: Option<(ExposedPort, ExposedPort)> = None;
    for port in ports {
        // A range is told of when a port does not belong to it any more, after that port's own variables; the last port
        // is followed by nothing.
        let (start, end) = range.unwrap_or((port, port));
        let continues = range.is_some() && end.port.checked_add(1) == Some(port.port) && end.protocol == port.protocol;
        let name = prefix(&port);
        env.extend([
            format!("{name}={}", url(&port)),
            format!("{name}_ADDR={address}"),
            format!("{name}_PORT={}", port.port),
            format!("{name}_PROTO={}", port.protocol),
        ]);
        if continues {
            range = Some((start, port));
            continue;
        }
        env.extend(tell(start, end, prefix, url));
        range = Some((port, port));
    }
    env.extend(range.into_iter().flat_map(|(start, end)| tell(start, end, prefix, url)));
    env.push(format!("{alias}_NAME=/{}/{}", link.own, link.alias));
    let passed_on = |entry: &&String| entry.split_once('=').is_some_and(|(name, _)| !NOT_PASSED_ON.contains(&name));
    env.extend(link.env.iter().filter(passed_on).map(|entry| format!("{alias}_ENV_{entry}")));
    env
}

/// Variables of a range of more than one port.
fn tell(
    start: ExposedPort,
    end: ExposedPort,
    prefix: impl Fn(&ExposedPort) -> String,
    url: impl Fn(&ExposedPort) -> String,
) -> Vec<String> {
    if start == end {
        return Vec::new();
    }
    let name = prefix(&start);
    vec![
        format!("{name}_START={}", url(&start)),
        format!("{name}_PORT_START={}", start.port),
        format!("{name}_END={}", url(&end)),
        format!("{name}_PORT_END={}", end.port),
    ]
}

/// TCP first, then by the protocol's name; of one protocol by number.
fn sorted(exposed: &[String]) -> Vec<ExposedPort> {
    let mut ports: Vec<ExposedPort> = exposed
        .iter()
        .filter_map(|text| {
            let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            let (range, protocol) = (PortRange::parse(range)?, protocol.parse::<Protocol>().ok()?);
            Some((range.start..=range.end).map(move |port| ExposedPort { port, protocol }))
        })
        .flatten()
        .collect();
    ports.sort_by_key(|port| (port.protocol != Protocol::Tcp, port.protocol.to_string(), port.port));
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(exposed: &[&str], env: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (exposed, env) = (own(exposed), own(env));
        let address = "172.17.0.2".parse().unwrap();
        variables(&Link { own: "app", alias: "db-one", address, exposed: &exposed, env: &env })
    }

    #[test]
    fn ranges_come_behind_the_port_that_ends_them() {
        let names: Vec<String> = of(&["8000-8001/tcp", "53/udp", "80/tcp", "54/udp"], &[])
            .into_iter()
            .map(|entry| entry.split('=').next().unwrap_or_default().to_owned())
            .filter(|name| !["_ADDR", "_PROTO"].iter().any(|end| name.ends_with(end)))
            .collect();
        let expected = [
            "DB_ONE_PORT",
            "DB_ONE_PORT_80_TCP",
            "DB_ONE_PORT_80_TCP_PORT",
            "DB_ONE_PORT_8000_TCP",
            "DB_ONE_PORT_8000_TCP_PORT",
            "DB_ONE_PORT_8001_TCP",
            "DB_ONE_PORT_8001_TCP_PORT",
            "DB_ONE_PORT_53_UDP",
            "DB_ONE_PORT_53_UDP_PORT",
            "DB_ONE_PORT_8000_TCP_START",
            "DB_ONE_PORT_8000_TCP_PORT_START",
            "DB_ONE_PORT_8000_TCP_END",
            "DB_ONE_PORT_8000_TCP_PORT_END",
            "DB_ONE_PORT_54_UDP",
            "DB_ONE_PORT_54_UDP_PORT",
            "DB_ONE_PORT_53_UDP_START",
            "DB_ONE_PORT_53_UDP_PORT_START",
            "DB_ONE_PORT_53_UDP_END",
            "DB_ONE_PORT_53_UDP_PORT_END",
            "DB_ONE_NAME",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_is_about_the_other_one_itself_stays_there() {
        let env = of(&["80/tcp"], &["A=1", "PATH=/bin", "HOME=/", "EMPTY=", "BARE", "PATHS=x=y"]);
        let expected = [
            "DB_ONE_PORT=tcp://172.17.0.2:80",
            "DB_ONE_PORT_80_TCP=tcp://172.17.0.2:80",
            "DB_ONE_PORT_80_TCP_ADDR=172.17.0.2",
            "DB_ONE_PORT_80_TCP_PORT=80",
            "DB_ONE_PORT_80_TCP_PROTO=tcp",
            "DB_ONE_NAME=/app/db-one",
            "DB_ONE_ENV_A=1",
            "DB_ONE_ENV_EMPTY=",
            "DB_ONE_ENV_PATHS=x=y",
        ];
        assert_eq!(env, expected);
        assert_eq!(of(&[], &[]), ["DB_ONE_NAME=/app/db-one"]);
    }
}
