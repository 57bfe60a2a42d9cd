//! Our bridges in a zone of firewalld, where that guards the host.
//!
//! firewalld refuses what is forwarded between zones unless it is told otherwise, and no accepting rule of ours overrules
//! that: containers would reach nothing. So it is told, as by Docker: a zone whose links may send, and a policy that lets
//! packets in. What containers may not do is dropped by our own rules all the same. firewalld keeps all of it for good, so that
//! it has it at each start and reload whether or not an engine runs; what an engine takes over or finds gone it puts again. See
//! firewalld.dbus(5).
//!
//! One thread per engine keeps the connection. On a host without a bus or without firewalld nothing waits for it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use dbus::{BUS, Bus, Call, Error, Message, Value};
use rustix::event::{EventfdFlags, PollFd, PollFlags};

/// Zone of all our bridges.
const ZONE: &str = "dhow";
/// What lets packets from anywhere into it.
const POLICY: &str = "dhow-forwarding";

const NAME: &str = "org.fedoraproject.FirewallD1";
const PATH: &str = "/org/fedoraproject/FirewallD1";
const CONFIG_PATH: &str = "/org/fedoraproject/FirewallD1/config";
const CONFIG: &str = "org.fedoraproject.FirewallD1.config";
const CONFIG_ZONE: &str = "org.fedoraproject.FirewallD1.config.zone";
const ZONES: &str = "org.fedoraproject.FirewallD1.zone";
const POLICIES: &str = "org.fedoraproject.FirewallD1.policy";

const OWNER_CHANGED: &str = "NameOwnerChanged";
const RELOAD_ENDED: &str = "Reloaded";
/// Somebody took or gave up firewalld's name; firewalld has reloaded.
const STARTED: &str = "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.fedoraproject.FirewallD1'";
const RELOADED: &str = "type='signal',interface='org.fedoraproject.FirewallD1',member='Reloaded'";

/// How long firewalld may take for an answer: it is slow to start and to reload.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a network waits for its place: after that it goes on without.
const WAIT: Duration = Duration::from_secs(15);
/// How often a bus is looked for that was not there.
const RETRY: Duration = Duration::from_secs(60);

enum Ask {
    Add(String),
    Remove(Vec<String>),
    End,
}

/// The zone, and the thread that keeps our bridges in it.
#[derive(Debug)]
pub(crate) struct Zone {
    asks: Sender<(Ask, Option<Sender<()>>)>,
    wake: OwnedFd,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Zone {
    /// Takes `bridges` into the zone and keeps them there. With no bus at `address` it is looked for now and then.
    pub(crate) fn start(address: String, bridges: BTreeSet<String>) -> std::io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (asks, inbox) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let keeper =
            Keeper { address, bridges, wake: wake.try_clone()?, bus: None, owner: None, reloaded: false, inbox };
        let thread = std::thread::Builder::new().name("firewalld".into()).spawn(move || keeper.run(&ready))?;
        let _ = started.recv_timeout(WAIT);
        Ok(Self { asks, wake, thread: Some(thread) })
    }

    /// A bridge was made: it is in the zone when this returns, or a log says why not.
    pub(crate) fn add(&self, bridge: &str) {
        self.ask(Ask::Add(bridge.to_owned()));
    }

    /// Bridges are no longer ours.
    pub(crate) fn remove(&self, bridges: Vec<String>) {
        self.ask(Ask::Remove(bridges));
    }

    fn ask(&self, ask: Ask) {
        let (done, answer) = mpsc::channel();
        if self.asks.send((ask, Some(done))).is_ok() && rustix::io::write(&self.wake, &1u64.to_ne_bytes()).is_ok() {
            let _ = answer.recv_timeout(WAIT);
        }
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        let _ = self.asks.send((Ask::End, None));
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    address: String,
    bridges: BTreeSet<String>,
    wake: OwnedFd,
    bus: Option<Bus>,
    /// Who firewalld is on the bus, since it was last talked to.
    owner: Option<String>,
    /// This firewalld was had reload already: if that gave no zone, doing so at each of its reloads would not end.
    reloaded: bool,
    inbox: Receiver<(Ask, Option<Sender<()>>)>,
}

impl Keeper {
    fn run(mut self, ready: &Sender<()>) {
        self.connect();
        let _ = ready.send(());
        loop {
            self.wait();
            while let Ok((ask, done)) = self.inbox.try_recv() {
                match ask {
                    Ask::End => return,
                    Ask::Add(bridge) => {
                        self.bridges.insert(bridge.clone());
                        self.reach(|bus| put(bus, &bridge));
                    }
                    Ask::Remove(bridges) => {
                        self.bridges.retain(|bridge| !bridges.contains(bridge));
                        self.reach(|bus| each(&bridges, |bridge| take_out(bus, bridge)));
                    }
                }
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
            if self.bus.is_none() {
                self.connect();
            }
            let came = match &mut self.bus {
                Some(bus) => bus.pending(),
                None => continue,
            };
            match came {
                // Any of the two signals: it is there, or has lost what we told it.
                Ok(signals) => {
                    let another = signals.iter().any(|signal| is_of(signal, Some(BUS), OWNER_CHANGED));
                    let owner = self.owner.as_deref();
                    if another || owner.is_some() && signals.iter().any(|signal| is_of(signal, owner, RELOAD_ENDED)) {
                        self.reloaded &= !another;
                        self.put_all();
                    }
                }
                Err(_) => self.bus = None,
            }
        }
    }

    /// Until somebody asks or the bus has something to say.
    fn wait(&mut self) {
        let mut events = vec![PollFd::new(&self.wake, PollFlags::IN)];
        let timeout = match &self.bus {
            Some(bus) => {
                events.push(PollFd::from_borrowed_fd(bus.as_fd(), PollFlags::IN));
                None
            }
            None => Some(RETRY),
        };
        let timeout = timeout.and_then(|time| rustix::time::Timespec::try_from(time).ok());
        let _ = rustix::event::poll(&mut events, timeout.as_ref());
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
    }

    fn connect(&mut self) {
        let Ok(mut bus) = Bus::connect(&self.address, Some(STARTED)) else { return };
        bus.subscribe(RELOADED);
        self.bus = Some(bus);
        self.put_all();
    }

    fn put_all(&mut self) {
        let bridges: Vec<String> = self.bridges.iter().cloned().collect();
        let mut reloaded = self.reloaded;
        self.reach(|bus| {
            if ensure(bus)? && !reloaded {
                // Before it reloads, so that it does so once.
                each(&bridges, |bridge| keep(bus, bridge).map(drop))?;
                reloaded = true;
                call(bus, PATH, NAME, "reload", &[])?;
            }
            each(&bridges, |bridge| put(bus, bridge))
        });
        self.reloaded = reloaded;
    }

    /// Does something with firewalld, where it runs.
    fn reach(&mut self, work: impl FnOnce(&mut Bus) -> Result<(), Error>) {
        let Some(bus) = &mut self.bus else { return };
        let owner = bus.owner(NAME, Instant::now() + PATIENCE);
        let done = match owner {
            Ok(owner) => {
                self.owner = owner;
                if self.owner.is_none() {
                    return;
                }
                work(bus)
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {}
            Err(error @ Error::Refused { .. }) => refused(&error),
            Err(error) => {
                tracing::warn!(%error, "cannot talk to firewalld; containers of new networks may reach nothing");
                self.bus = None;
            }
        }
    }
}

/// Whether it says this and is from there: anybody can send anything to anybody.
fn is_of(signal: &Message, sender: Option<&str>, member: &str) -> bool {
    signal.sender.as_deref() == sender && signal.member.as_deref() == Some(member)
}

fn refused(error: &Error) {
    tracing::warn!(%error, "firewalld refuses a place to networks; their containers may reach nothing");
}

/// One that is refused keeps no other from its place.
fn each(bridges: &[String], mut work: impl FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
    for bridge in bridges {
        match work(bridge) {
            Err(error @ Error::Refused { .. }) => refused(&error),
            other => other?,
        }
    }
    Ok(())
}

fn call(bus: &mut Bus, path: &str, interface: &str, member: &str, body: &[Value]) -> Result<Vec<Value>, Error> {
    let call = Call { destination: Some(NAME), path, interface, member, body, no_reply: false };
    bus.call(&call, Instant::now() + PATIENCE)
}

/// Makes zone and policy for good where they are missing; whether they are still to take effect.
fn ensure(bus: &mut Bus) -> Result<bool, Error> {
    let text = |text: &str| Value::Str(text.to_owned());
    let settings = |own: Vec<Value>| {
        let mut all = vec![
            Value::entry("short", text(ZONE)),
            Value::entry("description", text("Container networks of dhow")),
            Value::entry("target", text("ACCEPT")),
        ];
        all.extend(own);
        Value::Array("{sv}".to_owned(), all)
    };
    let has = |answer: Vec<Value>, name: &str| match answer.as_slice() {
        [Value::Array(_, names)] => names.iter().any(|one| one.text() == Some(name)),
        _ => false,
    };
    let in_force = has(call(bus, PATH, ZONES, "getZones", &[])?, ZONE)
        && has(call(bus, PATH, POLICIES, "getPolicies", &[])?, POLICY);
    if in_force {
        return Ok(false);
    }
    if !has(call(bus, CONFIG_PATH, CONFIG, "getZoneNames", &[])?, ZONE) {
        call(bus, CONFIG_PATH, CONFIG, "addZone2", &[text(ZONE), settings(Vec::new())])?;
    }
    if !has(call(bus, CONFIG_PATH, CONFIG, "getPolicyNames", &[])?, POLICY) {
        let zones = vec![
            Value::entry("ingress_zones", Value::strings(["ANY"])),
            Value::entry("egress_zones", Value::strings([ZONE])),
        ];
        call(bus, CONFIG_PATH, CONFIG, "addPolicy", &[text(POLICY), settings(zones)])?;
    }
    Ok(true)
}

/// Takes a bridge into the zone, for good and at once, unless an administrator has put it into another.
fn put(bus: &mut Bus, bridge: &str) -> Result<(), Error> {
    let body = [Value::Str(ZONE.to_owned()), Value::Str(bridge.to_owned())];
    if keep(bus, bridge)? && zone_of(bus, PATH, ZONES, bridge)?.is_empty() {
        call(bus, PATH, ZONES, "addInterface", &body)?;
    }
    Ok(())
}

/// Has firewalld take the bridge into the zone whenever it starts or reloads; whether it will.
fn keep(bus: &mut Bus, bridge: &str) -> Result<bool, Error> {
    for zone in [zone_of(bus, CONFIG_PATH, CONFIG, bridge)?, zone_of(bus, PATH, ZONES, bridge)?] {
        if !zone.is_empty() && zone != ZONE {
            tracing::warn!(
                bridge,
                zone,
                "firewalld has the bridge in another zone, which is left so; what its containers may reach is up to that"
            );
            return Ok(false);
        }
    }
    if zone_of(bus, CONFIG_PATH, CONFIG, bridge)?.is_empty() {
        of_the_zone(bus, "addInterface", bridge)?;
    }
    Ok(true)
}

fn take_out(bus: &mut Bus, bridge: &str) -> Result<(), Error> {
    if zone_of(bus, CONFIG_PATH, CONFIG, bridge)? == ZONE {
        of_the_zone(bus, "removeInterface", bridge)?;
    }
    if zone_of(bus, PATH, ZONES, bridge)? == ZONE {
        let body = [Value::Str(ZONE.to_owned()), Value::Str(bridge.to_owned())];
        match call(bus, PATH, ZONES, "removeInterface", &body) {
            // firewalld 1.3 fails at the last link of a zone. It forgets the name at its next reload, and no link has it.
            Err(error @ Error::Refused { .. }) => tracing::debug!(%error, bridge, "firewalld keeps a link for now"),
            other => drop(other?),
        }
    }
    Ok(())
}

/// The zone that a link is in: of those in force, or of those kept for good.
fn zone_of(bus: &mut Bus, path: &str, interface: &str, bridge: &str) -> Result<String, Error> {
    let answer = call(bus, path, interface, "getZoneOfInterface", &[Value::Str(bridge.to_owned())])?;
    Ok(answer.first().and_then(Value::text).unwrap_or_default().to_owned())
}

/// Changes what is kept of our zone.
fn of_the_zone(bus: &mut Bus, member: &str, bridge: &str) -> Result<(), Error> {
    let answer = call(bus, CONFIG_PATH, CONFIG, "getZoneByName", &[Value::Str(ZONE.to_owned())])?;
    let path = answer.first().and_then(Value::text).ok_or(Error::Malformed)?;
    call(bus, path, CONFIG_ZONE, member, &[Value::Str(bridge.to_owned())]).map(drop)
}
