//! Legacy links (`--link`) on the default bridge: a name of the container's own for another container, variables that tell
//! of it, and a line in `/etc/hosts`.
//!
//! The invariant: a link means a container, whatever that is called by now, and follows it. The name is answered by way of
//! the other one's id, which names it on its networks; lines in hosts files are put right whenever it starts, ends, joins
//! or leaves the default bridge. On other networks links are settings of a place there (`join`).
//! Called by create, start, exec, exit, inspect and lists.

use std::net::IpAddr;
use std::sync::Arc;

use docker_types::container::HostConfig;
use docker_types::network::EndpointSettings;

use super::{BRIDGE, NONE, hosts};
use crate::container::Container;
use crate::container::record::{Phase, Record};
use crate::engine::Inner;
use crate::error::{Result, fail};
use crate::plan::link_environment;

/// A target and what it is called: of `target:alias`, or `/target:/own-name/alias` as inspect writes it.
pub(super) fn parse(link: &str) -> (&str, &str) {
    let (target, alias) = link.split_once(':').unwrap_or((link, link));
    (target.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias))
}

/// The links of a container, by the ids of their targets.
pub(crate) fn of(record: &Record) -> impl Iterator<Item = (&str, &str)> {
    let links = record.host_config.links.as_deref().filter(|_| applies(&record.host_config));
    links.unwrap_or_default().iter().map(|link| parse(link))
}

/// Other networks have links of their own.
fn applies(host: &HostConfig) -> bool {
    matches!(host.network_mode.as_str(), BRIDGE | NONE)
}

/// Looks the targets of a new container's links up and keeps their ids, as names change. For another network than the
/// default bridge the links become settings of the place there, `endpoint`.
///
/// # Errors
/// Invalid, in Docker's words: a target that does not exist, or has the host's network.
pub(crate) fn settle(inner: &Inner, host: &mut HostConfig, endpoint: Option<&mut EndpointSettings>) -> Result<()> {
    if !applies(host) {
        let links = host.links.take().filter(|links| !links.is_empty());
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.links.as_ref().is_none_or(Vec::is_empty)) {
            endpoint.links = links;
        }
        return Ok(());
    }
    for link in host.links.iter_mut().flatten() {
        if link.matches(':').count() > 1 {
            return Err(fail!(Invalid, "bad format for links: {link}"));
        }
        let (name, alias) = parse(link);
        check_alias(alias)?;
        let missing = |name: &str| fail!(Invalid, "could not get container for {name}: No such container: {name}");
        let mut target = inner.containers.get(name).map_err(|_| missing(name))?;
        // The addresses are those of whose network it is.
        while let Some(donor) = target.record().host_config.network_mode.strip_prefix("container:") {
            target = inner.containers.get(donor).map_err(|_| missing(donor))?;
        }
        if target.record().host_config.network_mode == super::HOST {
            return Err(conflict("host type networking"));
        }
        *link = format!("{}:{alias}", target.id());
    }
    Ok(())
}

/// An alias is a word in hosts files and part of the names of variables.
///
/// # Errors
/// Invalid for what would be several words or lines there, or none.
fn check_alias(alias: &str) -> Result<()> {
    if !alias.is_empty() && alias.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Ok(());
    }
    Err(fail!(Invalid, "invalid alias {alias:?} of a link: only [a-zA-Z0-9_.-] are allowed"))
}

/// Links together with somebody else's network: `host type networking`, `container type network` in Docker's words.
pub(crate) fn conflict(kind: &str) -> crate::error::Error {
    fail!(Invalid, "conflicting options: {kind} can't be used with links. This would result in undefined behavior")
}

/// The links as inspect shows them, by the names of now.
pub(crate) fn shown(inner: &Inner, record: &Record) -> Option<Vec<String>> {
    let links: Vec<String> = of(record)
        .filter_map(|(target, alias)| {
            let target = inner.containers.get(target).ok()?;
            Some(format!("/{}:/{}/{alias}", target.record().name, record.name))
        })
        .collect();
    (!links.is_empty()).then_some(links)
}

/// A target that runs on the default bridge.
struct Linked {
    alias: String,
    target: Arc<Record>,
    addresses: Vec<IpAddr>,
}

fn linked(inner: &Inner, record: &Record) -> Vec<Linked> {
    if !record.endpoints.contains_key(BRIDGE) {
        return Vec::new();
    }
    of(record)
        .filter_map(|(target, alias)| {
            let target = inner.containers.get(target).ok()?.record();
            let place = target.state.endpoints.iter().find(|endpoint| endpoint.network_name == BRIDGE)?;
            let addresses = place.addresses().collect();
            target.state.phase.is_live().then(|| Linked {
                alias: alias.to_owned(),
                target: Arc::clone(&target),
                addresses,
            })
        })
        .collect()
}

/// Whether a container may start, as far as its links go.
///
/// # Errors
/// Internal, as dockerd answers: a target that does not run, or is not on the default bridge.
pub(super) fn check(inner: &Inner, record: &Record) -> Result<()> {
    if !record.endpoints.contains_key(BRIDGE) {
        return Ok(());
    }
    for (id, alias) in of(record) {
        let target = inner.containers.get(id).ok().map(|target| target.record());
        let name = target.as_ref().map_or(id, |target| target.name.as_str());
        // One that is about to be started again counts, so that two of them can wait for each other.
        match target.as_ref().map(|target| target.state.phase) {
            Some(Phase::Running | Phase::Paused | Phase::Restarting) => {}
            _ => {
                return Err(fail!(
                    Internal,
                    "Cannot link to a non running container: /{name} AS /{}/{alias}",
                    record.name
                ));
            }
        }
        if target.is_some_and(|target| !target.endpoints.contains_key(BRIDGE)) {
            return Err(fail!(Internal, "container {id} not attached to default bridge network"));
        }
    }
    Ok(())
}

/// The variables of all links whose targets run.
pub(crate) fn variables(inner: &Inner, record: &Record) -> Vec<String> {
    let mut env = Vec::new();
    for Linked { alias, target, addresses } in linked(inner, record) {
        let Some(address) = addresses.first().copied() else { continue };
        let exposed: Vec<String> =
            target.config.exposed_ports.iter().flat_map(|ports| ports.keys().map(ToString::to_string)).collect();
        env.extend(link_environment::variables(&link_environment::Link {
            own: &record.name,
            alias: &alias,
            address,
            exposed: &exposed,
            env: target.config.env.as_deref().unwrap_or_default(),
        }));
    }
    env
}

/// Lines of a hosts file, as address and names.
pub(crate) fn lines(inner: &Inner, record: &Record) -> Vec<(String, String)> {
    let all = linked(inner, record);
    all.iter().flat_map(|link| link.addresses.iter().map(|ip| (link.names(), ip.to_string()))).collect()
}

impl Linked {
    fn names(&self) -> String {
        let mut names = mark(&self.alias, &self.target);
        if self.target.name != self.alias {
            names.push_str(&format!(" {}", self.target.name));
        }
        names
    }
}

/// Aliases of a container's links, and what the names of their lines begin with.
pub(super) fn marks(inner: &Inner, record: &Record) -> impl Iterator<Item = (String, String)> {
    of(record).filter_map(|(target, alias)| {
        Some((alias.to_owned(), mark(alias, &inner.containers.get(target).ok()?.record())))
    })
}

/// What the names of a link's line begin with.
fn mark(alias: &str, target: &Record) -> String {
    format!("{alias} {}", target.config.hostname)
}

/// A container has begun or ended, or has joined or left the default bridge: puts the hosts files right of those that link
/// to it, and its own. What fails is logged.
pub(crate) async fn follow(inner: &Arc<Inner>, container: &Arc<Container>) {
    if !inner.containers.has_links() {
        return;
    }
    let (worker, id) = (Arc::clone(inner), container.id().to_owned());
    let done = inner.blocking("put the lines of links right", move || {
        for other in worker.containers.all() {
            let record = other.record();
            if !record.state.phase.is_live() || of(&record).next().is_none() {
                continue;
            }
            let is_it = |target: &str| worker.containers.get(target).is_ok_and(|target| target.id() == id);
            if record.id == id || of(&record).any(|(target, _)| is_it(target)) {
                relink(&worker, &other);
            }
        }
        Ok(())
    });
    if let Err(error) = done.await {
        tracing::warn!(container = container.id(), %error, "lines of links in hosts files may be old");
    }
}

fn relink(inner: &Inner, container: &Container) {
    let path = inner.container_dir(container.id()).join("hosts");
    // Looked up with the file in hand: the last one to write knows the latest.
    let links = || {
        let record = container.record();
        let linked = linked(inner, &record);
        of(&record)
            .filter_map(|(target, alias)| {
                let target = inner.containers.get(target).ok()?.record();
                let found = linked.iter().find(|link| link.alias == alias && link.target.id == target.id);
                let lines = found.into_iter().flat_map(|link| {
                    let names = link.names();
                    link.addresses.iter().map(move |ip| format!("{ip}\t{names}\n"))
                });
                Some(hosts::Link { mark: mark(alias, &target), lines: lines.collect() })
            })
            .collect()
    };
    if let Err(error) = hosts::relink(&path, links) {
        tracing::warn!(container = container.id(), %error, "lines of links in a container's hosts file are old");
    }
}

/// Names of every container that others gave it: `/linking-container/alias`, by its id.
pub(crate) fn names(inner: &Inner) -> Vec<(String, String)> {
    if !inner.containers.has_links() {
        return Vec::new();
    }
    let mut names: Vec<(String, String)> = Vec::new();
    for container in inner.containers.all() {
        let record = container.record();
        names.extend(of(&record).map(|(target, alias)| (target.to_owned(), format!("/{}/{alias}", record.name))));
    }
    names
}

/// The containers with the targets of links before those that link to them.
pub(crate) fn in_order(containers: Vec<Arc<Container>>) -> Vec<Arc<Container>> {
    let mut waiting = containers;
    let mut order: Vec<Arc<Container>> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let blocked = |container: &Arc<Container>| {
            let record = container.record();
            // Records of old name their targets.
            let is = |other: &Container, target: &str| other.id() == target || other.record().name == target;
            of(&record).any(|(target, _)| waiting.iter().any(|other| is(other, target) && other.id() != record.id))
        };
        let (later, now): (Vec<_>, Vec<_>) = waiting.iter().cloned().partition(blocked);
        if now.is_empty() {
            // Links in a circle: no order helps.
            order.extend(later);
            break;
        }
        order.extend(now);
        waiting = later;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, links: &[&str]) -> Arc<Container> {
        let host_config = HostConfig {
            network_mode: BRIDGE.into(),
            links: Some(links.iter().map(|link| (*link).to_owned()).collect()),
            ..HostConfig::default()
        };
        Container::new(Record { id: id.into(), host_config, ..Record::default() })
    }

    #[test]
    fn links_are_read_as_given_and_as_shown() {
        assert_eq!(parse("web:www"), ("web", "www"));
        assert_eq!(parse("web"), ("web", "web"));
        assert_eq!(parse("/web:/app/www"), ("web", "www"));
    }

    #[test]
    fn an_alias_is_one_word() {
        assert!(check_alias("db-1.x_y").is_ok());
        for bad in ["", "a b", "a\n10.0.0.1 evil", "a=b", "a\0"] {
            assert!(check_alias(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn targets_are_started_first() {
        let all =
            vec![container("a", &["b:x", "d:y"]), container("b", &["c:x"]), container("c", &[]), container("d", &[])];
        let order: Vec<String> = in_order(all).iter().map(|container| container.id().to_owned()).collect();
        assert_eq!(order, ["c", "d", "b", "a"]);
        let circle = vec![container("a", &["b:x"]), container("b", &["a:x"])];
        assert_eq!(in_order(circle).len(), 2);
    }
}
