//! What daemons ask for. A request is checked as a whole first, then the firewall takes it in one transaction or refuses
//! it, and only then does anything change here: from there on nothing can fail but for want of memory.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use dns::Host;
use firewall::PortRule;
use sys::Errno;
use types::{ContainerId, EndpointId};

use super::Server;
use super::control::Received;
use super::ports::Publication;
use super::resolver::Resolvers;
use crate::wire::{
    Change, Failure, FailureKind, Place, Request, Response, Sandbox, State, Status, Synced, WIRE_VERSION, unpack,
};

/// Longest name of a link, in bytes.
const MAX_BRIDGE: usize = 15;

/// A change that has been checked.
enum Step {
    Publish(Publication),
    Unpublish(EndpointId),
    PutSandbox(Sandbox, Option<[OwnedFd; 2]>),
    RemoveSandbox(ContainerId),
    PutPlace(Place),
    RemovePlace(EndpointId),
}

fn protocol(what: impl Into<String>) -> Failure {
    Failure { what: what.into(), kind: FailureKind::Protocol }
}

fn system(what: &str, errno: Errno) -> Failure {
    Failure { what: format!("cannot {what}: {errno}"), kind: FailureKind::System }
}

fn refused(error: &firewall::Error) -> Failure {
    Failure { what: error.to_string(), kind: FailureKind::Firewall }
}

fn host(place: &Place) -> Host {
    Host {
        endpoint: place.endpoint,
        network: place.network,
        network_name: place.network_name.clone(),
        internal: place.internal,
        sandbox: place.sandbox,
        names: place.names.clone(),
        addresses: place.addresses.clone(),
    }
}

impl Server {
    pub(super) fn handle(&mut self, number: u64, received: Received) -> Response {
        let Received { bytes, mut fds } = received;
        let request = match unpack(&bytes, &mut fds) {
            Ok(request) => request,
            Err(error) => return Response::Failed(protocol(error.to_string())),
        };
        // What was staged is for the request that follows, whatever it is.
        let mut all = match self.controls.get_mut(&number) {
            Some(control) if !matches!(request, Request::Stage) => control.take_staged(),
            _ => Vec::new(),
        };
        let result = match request {
            Request::Hello { .. } => {
                let pid = rustix::process::getpid().as_raw_nonzero().get();
                Ok(Response::Welcome { version: WIRE_VERSION, pid })
            }
            Request::Quit { remove } => self.quit(remove),
            Request::Sync { state } => self.sync(state).map(Response::Synced),
            Request::Batch(changes) => {
                all.append(&mut fds);
                self.batch(changes, all).map(|()| Response::Done)
            }
            Request::Status => Ok(Response::Status(self.status())),
            Request::Stage => {
                let staged = self.controls.get_mut(&number).is_some_and(|control| control.stage(fds));
                if staged { Ok(Response::Done) } else { Err(protocol("too many descriptors for one batch")) }
            }
        };
        result.unwrap_or_else(Response::Failed)
    }

    fn quit(&mut self, remove: bool) -> Result<Response, Failure> {
        self.ended = true;
        match self.firewall.take().map(|firewall| firewall.close(remove)) {
            Some(Err(error)) => Err(refused(&error)),
            _ => Ok(Response::Done),
        }
    }

    fn batch(&mut self, changes: Vec<Change>, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        if !self.synced {
            return Err(protocol("a new process has to be told the whole state before changes of it"));
        }
        let (steps, rules) = self.check(changes, fds)?;
        if !rules.is_empty()
            && let Some(firewall) = &mut self.firewall
        {
            firewall.batch(&rules).map_err(|error| refused(&error))?;
        }
        steps.into_iter().try_for_each(|step| self.take(step))
    }

    /// What a batch means for this process and for the firewall.
    fn check(&self, changes: Vec<Change>, fds: Vec<OwnedFd>) -> Result<(Vec<Step>, Vec<firewall::Change>), Failure> {
        if changes.iter().map(Change::descriptors).sum::<usize>() != fds.len() {
            return Err(protocol(format!("{} descriptors do not fit the changes they came with", fds.len())));
        }
        let mut fds = fds.into_iter();
        let (mut steps, mut rules) = (Vec::with_capacity(changes.len()), Vec::with_capacity(changes.len()));
        // What earlier changes of the same batch leave.
        let mut ports: HashMap<EndpointId, Vec<PortRule>> = HashMap::new();
        let mut links: HashMap<EndpointId, Option<String>> = HashMap::new();
        let link_of = |links: &HashMap<EndpointId, Option<String>>, endpoint: EndpointId| match links.get(&endpoint) {
            Some(link) => link.clone(),
            None => self.links.get(&endpoint).map(|link| link.veth.clone()),
        };
        for change in changes {
            match change {
                Change::PutNet(net) => {
                    if net.bridge.is_empty() || net.bridge.len() > MAX_BRIDGE {
                        return Err(protocol(format!("`{}` is no name of a bridge", net.bridge)));
                    }
                    rules.push(firewall::Change::PutNet(net));
                }
                Change::RemoveNet { bridge } => rules.push(firewall::Change::RemoveNet { bridge }),
                Change::SetForwarding(forwarding) => rules.push(firewall::Change::SetForwarding(forwarding)),
                Change::Publish { endpoint, ports: wanted, sockets } => {
                    if wanted.len() != sockets.len() {
                        return Err(protocol("a port without a word about its socket"));
                    }
                    let with_sockets = wanted
                        .into_iter()
                        .zip(sockets)
                        .map(|(rule, sent)| (rule, if sent { fds.next() } else { None }))
                        .collect();
                    let publication = Publication { endpoint, ports: with_sockets };
                    publication.check()?;
                    let new: Vec<PortRule> = publication.rules().cloned().collect();
                    let old = ports.insert(endpoint, new.clone()).unwrap_or_else(|| self.ports.rules(endpoint));
                    let gone: Vec<PortRule> = old.into_iter().filter(|rule| !new.contains(rule)).collect();
                    if !gone.is_empty() {
                        rules.push(firewall::Change::Unpublish(gone));
                    }
                    if !new.is_empty() {
                        rules.push(firewall::Change::Publish(new));
                    }
                    steps.push(Step::Publish(publication));
                }
                Change::Unpublish { endpoint } => {
                    let old = ports.insert(endpoint, Vec::new()).unwrap_or_else(|| self.ports.rules(endpoint));
                    if !old.is_empty() {
                        rules.push(firewall::Change::Unpublish(old));
                    }
                    steps.push(Step::Unpublish(endpoint));
                }
                Change::PutSandbox(sandbox) => {
                    let sockets = match sandbox.has_sockets.then(|| (fds.next(), fds.next())) {
                        Some((Some(datagrams), Some(listener))) => {
                            Resolvers::check_sockets(&datagrams, &listener)
                                .map_err(|errno| protocol(format!("the sockets of a resolver: {errno}")))?;
                            Some([datagrams, listener])
                        }
                        _ => None,
                    };
                    steps.push(Step::PutSandbox(sandbox, sockets));
                }
                Change::RemoveSandbox { id } => steps.push(Step::RemoveSandbox(id)),
                Change::PutPlace(place) => {
                    let old = link_of(&links, place.endpoint);
                    let new = place.link.as_ref().map(|link| link.veth.clone());
                    if let Some(veth) = old.filter(|old| new.as_ref() != Some(old)) {
                        rules.push(firewall::Change::RemoveLink { veth });
                    }
                    if let Some(link) = &place.link {
                        rules.push(firewall::Change::PutLink(link.clone()));
                    }
                    links.insert(place.endpoint, new);
                    steps.push(Step::PutPlace(place));
                }
                Change::RemovePlace { endpoint } => {
                    if let Some(veth) = link_of(&links, endpoint) {
                        rules.push(firewall::Change::RemoveLink { veth });
                    }
                    links.insert(endpoint, None);
                    steps.push(Step::RemovePlace(endpoint));
                }
            }
        }
        Ok((steps, rules))
    }

    fn take(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Publish(publication) => {
                self.ports.put(&self.poller, publication).map_err(|errno| system("serve a published port", errno))?;
            }
            Step::Unpublish(endpoint) => self.ports.remove(endpoint),
            Step::PutSandbox(sandbox, sockets) => self
                .resolvers
                .put(&self.poller, &sandbox, sockets)
                .map_err(|errno| system("watch the sockets of a resolver", errno))?,
            Step::RemoveSandbox(id) => self.resolvers.remove(id),
            Step::PutPlace(place) => {
                self.resolvers.zones.put_host(&host(&place));
                match place.link {
                    Some(link) => drop(self.links.insert(place.endpoint, link)),
                    None => drop(self.links.remove(&place.endpoint)),
                }
            }
            Step::RemovePlace(endpoint) => {
                self.resolvers.zones.remove_host(endpoint);
                self.links.remove(&endpoint);
            }
        }
        Ok(())
    }

    fn sync(&mut self, state: State) -> Result<Synced, Failure> {
        let State { nets, sandboxes, places, ports, forwarding } = state;
        if let Some(firewall) = &mut self.firewall {
            let links = places.iter().filter_map(|place| place.link.clone()).collect();
            let rules = ports.iter().flat_map(|(_, rules)| rules).cloned().collect();
            firewall.sync_router(nets, links, rules, forwarding).map_err(|error| refused(&error))?;
        }
        self.synced = true;
        let mut synced = Synced::default();

        let wanted: HashSet<ContainerId> = sandboxes.iter().map(|sandbox| sandbox.id).collect();
        for id in self.resolvers.ids() {
            if !wanted.contains(&id) {
                self.resolvers.remove(id);
            }
        }
        for sandbox in &sandboxes {
            self.resolvers
                .put(&self.poller, sandbox, None)
                .map_err(|errno| system("watch the sockets of a resolver", errno))?;
            if !self.resolvers.is_served(sandbox.id) {
                synced.need_sockets.push(sandbox.id);
            }
        }

        // All anew, since their order is that of the state. Nobody asks meanwhile.
        let known: Vec<EndpointId> = self.resolvers.zones.hosts().collect();
        for endpoint in known {
            self.resolvers.zones.remove_host(endpoint);
        }
        self.links.clear();
        for place in places {
            self.take(Step::PutPlace(place))?;
        }

        let wanted: HashSet<EndpointId> = ports.iter().map(|(endpoint, _)| *endpoint).collect();
        for endpoint in self.ports.endpoints() {
            if !wanted.contains(&endpoint) {
                self.ports.remove(endpoint);
            }
        }
        for (endpoint, rules) in ports {
            let publication = Publication { endpoint, ports: rules.into_iter().map(|rule| (rule, None)).collect() };
            self.ports.put(&self.poller, publication).map_err(|errno| system("serve a published port", errno))?;
            if !self.ports.is_complete(endpoint) {
                synced.need_ports.push(endpoint);
            }
        }
        Ok(synced)
    }

    fn status(&self) -> Status {
        let (cache_entries, cache_bytes) = self.resolvers.cache_size();
        let firewall = self.firewall.as_ref();
        // The two come together or not at all.
        let owned = firewall.is_some_and(firewall::Firewall::is_owner);
        Status {
            version: WIRE_VERSION,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            table: self.table.clone(),
            owned,
            persistent: owned,
            restored: firewall.map_or(0, |firewall| firewall.stats().repairs),
            sandboxes: self.resolvers.status(),
            forwarder: self.ports.status(),
            cache_entries,
            cache_bytes,
        }
    }
}
