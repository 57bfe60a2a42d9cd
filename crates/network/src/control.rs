//! The daemon's hold on `dhow-net`: what it is wanted to do, and somebody to do it.
//!
//! The invariant: [`Control`] remembers everything that is wanted, so that a process that died is replaced by one that does
//! the same, within the time it takes to start it. A change that could not be carried out is not remembered.
//! Owned by `Fabric`.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dataplane::{Change, Client, ClientError, FailureKind, Owner, Place, Sandbox, Spawned, State, Status, Synced};
use firewall::{Forwarding, NetRules, PortRule};
use rustix::event::{PollFd, PollFlags, poll};
use sys::spawn::Program;
use types::{ContainerId, EndpointId};

use crate::resolver::{Process, ResolverSockets};
use crate::{Error, Result, port_table};

/// How long to wait before the process is started again after it could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// Where `dhow-net` is and what it is called with.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The program.
    pub program: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    /// Where its messages go.
    pub log: PathBuf,
    /// Name of its nf_tables table.
    pub table: String,
}

/// The connection, and what goes through it.
#[derive(Debug)]
pub(crate) struct Control {
    config: ProcessConfig,
    inner: Mutex<Inner>,
    /// For the watching thread.
    own: Weak<Self>,
    /// Dropping it ends the watching thread.
    _alive: UnixStream,
}

#[derive(Debug)]
struct Inner {
    client: Option<Client>,
    /// Opened when it is needed first.
    program: Option<Program>,
    wanted: Wanted,
    /// Process in each container's network namespace, to open its sockets again.
    processes: HashMap<ContainerId, Process>,
    closing: bool,
    /// What the watching thread hears our end by, until there is something to watch.
    unwatched: Option<UnixStream>,
}

/// What `dhow-net` is to do, by the keys its messages have.
#[derive(Debug, Default, Clone)]
struct Wanted {
    nets: BTreeMap<String, NetRules>,
    sandboxes: HashMap<ContainerId, Sandbox>,
    /// In the order of joining, which is the order of names.
    places: Vec<Place>,
    ports: HashMap<EndpointId, Vec<PortRule>>,
    forwarding: Forwarding,
}

impl Control {
    /// Connects to the process there is, or starts one, and has it do what these changes say and nothing else.
    /// `processes` are those of running containers.
    pub(crate) fn open(
        config: ProcessConfig,
        changes: Vec<Change>,
        processes: HashMap<ContainerId, Process>,
    ) -> Result<Arc<Self>> {
        let mut wanted = Wanted::default();
        changes.into_iter().for_each(|change| wanted.apply(change));
        let (alive, ended) = UnixStream::pair().map_err(Error::io("make a socket pair"))?;
        let inner = Inner { client: None, program: None, wanted, processes, closing: false, unwatched: Some(ended) };
        let control = Arc::new_cyclic(|own| Self { config, inner: Mutex::new(inner), own: own.clone(), _alive: alive });
        // An engine without networks needs nobody; one that is there from before is told so.
        let idle = control.lock().wanted.is_empty() && !control.config.socket.exists();
        if !idle {
            control.revive(&mut control.lock())?;
        }
        Ok(control)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is wanted is changed in one step after it was carried out, so a panic elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out changes, all or none. `fds` are the descriptors of all of them in order.
    pub(crate) fn change(&self, changes: Vec<Change>, fds: &[BorrowedFd<'_>]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut inner = self.lock();
        let mut carried = Err(Error::Process(ClientError::Gone.to_string()));
        for attempt in 0..2 {
            if inner.client.is_none()
                && let Err(error) = self.revive(&mut inner)
            {
                carried = Err(error);
                break;
            }
            let Some(client) = &inner.client else { continue };
            match client.batch(changes.clone(), fds) {
                Ok(()) => {
                    carried = Ok(());
                    break;
                }
                Err(ClientError::Failed(failure)) => {
                    if failure.kind == FailureKind::System {
                        // Part of it may be in force: the next change begins with all that is wanted.
                        inner.client = None;
                    }
                    carried = Err(Error::Process(failure.to_string()));
                    break;
                }
                Err(error) => {
                    inner.client = None;
                    if attempt == 0 {
                        tracing::warn!(%error, "the network process is started again");
                    }
                    carried = Err(Error::Process(error.to_string()));
                }
            }
        }
        let done = carried.is_ok();
        for change in changes {
            // What is over is over, whether it could be told or not: nobody asks for it again.
            if done || is_removal(&change) {
                inner.wanted.apply(change);
            }
        }
        carried
    }

    /// Remembers the process of a container that has just begun.
    pub(crate) fn set_process(&self, container: ContainerId, process: Process) {
        self.lock().processes.insert(container, process);
    }

    /// A container has ended.
    pub(crate) fn forget_process(&self, container: ContainerId) {
        self.lock().processes.remove(&container);
    }

    /// What the process has done.
    pub(crate) fn status(&self) -> Result<Status> {
        match &self.lock().client {
            Some(client) => client.status().map_err(|error| Error::Process(error.to_string())),
            None => Err(Error::Process(ClientError::Gone.to_string())),
        }
    }

    /// Ends the process and removes its table. Nothing can be changed any more.
    pub(crate) fn quit(&self) -> Result<()> {
        let client = {
            let mut inner = self.lock();
            inner.closing = true;
            inner.client.take()
        };
        match client {
            Some(client) => client.quit(true).map_err(|error| Error::Process(error.to_string())),
            None => Ok(()),
        }
    }

    /// Nothing is started any more; the process goes on.
    pub(crate) fn detach(&self) {
        let mut inner = self.lock();
        inner.closing = true;
        inner.client = None;
    }

    /// Finds or starts a process and gives it everything.
    fn revive(&self, inner: &mut Inner) -> Result<()> {
        if inner.closing {
            return Err(Error::Process("the engine is shutting down".into()));
        }
        let failed = |error: ClientError| Error::Process(error.to_string());
        let program = match inner.program.take() {
            Some(program) => program,
            None => Program::open(&self.config.program).map_err(|errno| Error::Io {
                action: format!(
                    "find the program {} that serves networks; install it beside dhowd",
                    self.config.program.display()
                ),
                source: errno.into(),
            })?,
        };
        let program = inner.program.insert(program);
        let Spawned { client, child } = match self.connect(program) {
            Err(ClientError::Version { theirs }) => {
                tracing::info!(theirs, "a network process of another version makes way");
                // Its rules stay in force until the new one has taken the table over.
                Client::dismiss(&self.config.socket, false).map_err(failed)?;
                self.connect(program).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        if let Some(child) = child {
            reap(child);
        }
        let Synced { need_sockets, need_ports } = client.sync(inner.wanted.state()).map_err(failed)?;
        inner.give_sockets(&client, &need_sockets);
        inner.give_ports(&client, &need_ports);
        inner.client = Some(client);
        if let Some(ended) = inner.unwatched.take() {
            let watched = self.own.clone();
            std::thread::Builder::new()
                .name("net-watch".into())
                .spawn(move || watch(&watched, &ended))
                .map_err(Error::io("start the thread that watches the network process"))?;
        }
        Ok(())
    }

    fn connect(&self, program: &Program) -> std::result::Result<Spawned, ClientError> {
        let log = File::options().append(true).create(true).mode(0o640).open(&self.config.log);
        let log: OwnedFd = log.map_err(ClientError::Start)?.into();
        Client::spawn_and_connect(program, &self.config.socket, &self.config.table, Owner::Auto, log)
    }
}

impl Inner {
    /// Opens the resolvers of running containers again.
    fn give_sockets(&self, client: &Client, containers: &[ContainerId]) {
        for id in containers {
            let Some(sandbox) = self.wanted.sandboxes.get(id) else { continue };
            let Some(process) = self.processes.get(id) else { continue };
            let given = ResolverSockets::open_in_process(*process).and_then(|sockets| {
                let change = Change::PutSandbox(Sandbox { has_sockets: true, ..sandbox.clone() });
                let fds = [sockets.udp.as_fd(), sockets.tcp.as_fd()];
                client.batch(vec![change], &fds).map_err(|error| Error::Process(error.to_string()))
            });
            if let Err(error) = given {
                tracing::warn!(container = %id, %error, "a container's names are not served");
            }
        }
    }

    /// Reserves published ports again, where nobody has taken them meanwhile.
    fn give_ports(&self, client: &Client, endpoints: &[EndpointId]) {
        for endpoint in endpoints {
            let Some(ports) = self.wanted.ports.get(endpoint) else { continue };
            let sockets: Vec<Option<OwnedFd>> = ports.iter().map(port_table::bind_again).collect();
            let sent = sockets.iter().map(Option::is_some).collect();
            let fds: Vec<BorrowedFd<'_>> = sockets.iter().flatten().map(AsFd::as_fd).collect();
            let change = Change::Publish { endpoint: *endpoint, ports: ports.clone(), sockets: sent };
            if let Err(error) = client.batch(vec![change], &fds) {
                tracing::warn!(%endpoint, %error, "published ports are not reserved");
            }
        }
    }
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.nets.is_empty() && self.sandboxes.is_empty() && self.places.is_empty() && self.ports.is_empty()
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::PutNet(net) => {
                self.nets.insert(net.bridge.clone(), net);
            }
            Change::RemoveNet { bridge } => {
                self.nets.remove(&bridge);
            }
            Change::SetForwarding(forwarding) => self.forwarding = forwarding,
            Change::Publish { endpoint, ports, .. } => {
                self.ports.insert(endpoint, ports);
            }
            Change::Unpublish { endpoint } => {
                self.ports.remove(&endpoint);
            }
            Change::PutSandbox(sandbox) => {
                self.sandboxes.insert(sandbox.id, Sandbox { has_sockets: false, ..sandbox });
            }
            Change::RemoveSandbox { id } => {
                self.sandboxes.remove(&id);
            }
            Change::PutPlace(place) => match self.places.iter_mut().find(|known| known.endpoint == place.endpoint) {
                Some(known) => *known = place,
                None => self.places.push(place),
            },
            Change::RemovePlace { endpoint } => self.places.retain(|place| place.endpoint != endpoint),
        }
    }

    fn state(&self) -> State {
        State {
            nets: self.nets.values().cloned().collect(),
            sandboxes: self.sandboxes.values().cloned().collect(),
            places: self.places.clone(),
            ports: self.ports.iter().map(|(endpoint, ports)| (*endpoint, ports.clone())).collect(),
            forwarding: self.forwarding,
        }
    }
}

fn is_removal(change: &Change) -> bool {
    match change {
        Change::RemoveNet { .. }
        | Change::Unpublish { .. }
        | Change::RemoveSandbox { .. }
        | Change::RemovePlace { .. } => true,
        Change::PutNet(_)
        | Change::SetForwarding(_)
        | Change::Publish { .. }
        | Change::PutSandbox(_)
        | Change::PutPlace(_) => false,
    }
}

/// Waits for a process in the background, so that it leaves no zombie.
fn reap(mut child: Child) {
    let waiting = std::thread::Builder::new().name("net-wait".into()).stack_size(64 * 1024).spawn(move || {
        let ended = child.wait();
        tracing::debug!(?ended, "the network process has ended");
    });
    if let Err(error) = waiting {
        tracing::warn!(%error, "the network process will not be waited for");
    }
}

/// Starts the process again when it dies, for as long as there is a [`Control`].
fn watch(control: &Weak<Control>, ended: &UnixStream) {
    loop {
        let Some(strong) = control.upgrade() else { return };
        let pid = {
            let inner = strong.lock();
            if inner.closing {
                return;
            }
            inner.client.as_ref().map(Client::pid)
        };
        let Some(pid) = pid else {
            let revived = strong.revive(&mut strong.lock());
            if let Err(error) = revived {
                tracing::error!(%error, "the network process cannot be started; names and new containers fail");
                drop(strong);
                std::thread::sleep(AGAIN);
            }
            continue;
        };
        drop(strong);
        if !wait_for_end(pid, ended) {
            return;
        }
        let Some(strong) = control.upgrade() else { return };
        let mut inner = strong.lock();
        if !inner.closing && inner.client.as_ref().is_some_and(|client| client.pid() == pid) {
            tracing::warn!(pid, "the network process has ended; another one takes its place");
            inner.client = None;
        }
    }
}

/// Waits until the process has ended (true) or [`Control`] has (false).
fn wait_for_end(pid: i32, ended: &UnixStream) -> bool {
    let Ok(process) = sys::process::pidfd_open(pid) else {
        // It has ended already.
        return true;
    };
    loop {
        let mut polled = [PollFd::new(&process, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) if !polled[1].revents().is_empty() => return false,
            Ok(_) => return true,
        }
    }
}
