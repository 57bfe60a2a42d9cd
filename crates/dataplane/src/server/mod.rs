//! The network process: one thread, one epoll loop, and everything it watches.
//!
//! Nothing here waits for a daemon, a container, a client of a published port or a name server. Exactly one process serves
//! a socket file: it holds a lock on the file's name with `.lock` appended for as long as it lives, and only the holder
//! binds the file, so two that are started at a time cannot both serve, and one that was killed leaves no lock behind.
//! Should directory and lock be removed under it and another process bind the name, the older one has lost every way to be
//! reached, and ends.

mod confine;
mod control;
mod filter;
mod host_servers;
mod log;
mod poller;
mod ports;
mod relay;
mod requests;
mod resolver;
mod sessions;
mod stream;
mod upstream;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use firewall::{Firewall, PortLink};
use rustix::fs::{FlockOperation, Mode, OFlags, inotify};
use sys::Errno;
use sys::socket::{FdListener, FdSocket};
use types::EndpointId;

use crate::client::{EXIT_TAKEN, Owner};
use control::Control;
use poller::{Interest, Kind, Poller, Ready, Time, Token};
use ports::Ports;
use resolver::Resolvers;

/// How often the socket file is looked at once it has gone.
const WATCH: Time = 5000;
/// Daemons connected at a time.
const MAX_CONTROLS: usize = 16;
/// When a firewall that cannot be listened to is asked again.
const LISTEN_AGAIN: Time = 1000;

/// What the program is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The control socket.
    pub socket: PathBuf,
    /// The nf_tables table of the engine.
    pub table: String,
    pub owner: Owner,
    /// The host's list of name servers.
    pub resolv_conf: PathBuf,
}

/// Why a process could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("another process serves {0}")]
    Taken(PathBuf),
    #[error("cannot {action}: {errno}")]
    System { action: String, errno: Errno },
    #[error("cannot use the firewall: {0}")]
    Firewall(#[from] firewall::Error),
}

impl StartError {
    /// The exit status that says so.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Taken(_) => EXIT_TAKEN.unsigned_abs().try_into().unwrap_or(u8::MAX),
            _ => 125,
        }
    }
}

fn doing<T>(action: impl Into<String>) -> impl FnOnce(Errno) -> Result<T, StartError> {
    |errno| Err(StartError::System { action: action.into(), errno })
}

/// Serves as a process of its own until it is told to quit. Standard input is the connection of the daemon that starts us,
/// if it is a socket; standard error is the log.
///
/// # Errors
/// [`StartError`]; once it serves there is none.
pub fn run(mut options: Options) -> Result<(), StartError> {
    let first = confine::detach().or_else(doing("leave the surroundings of the starter"))?;
    if let Ok(absolute) = std::path::absolute(&options.socket) {
        options.socket = absolute;
    }
    log::to_stderr();
    let mut server = Server::new(&options, first)?;
    let directory = options.socket.parent().unwrap_or(Path::new("/"));
    let _kept = match confine::give_up(directory) {
        Ok(kept) => kept,
        Err(errno) => {
            tracing::warn!(%errno, "cannot give up all privileges");
            None
        }
    };
    server.serve().or_else(doing("wait for events"))
}

/// The socket file and the right to it.
struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file that is ours.
    identity: (u64, u64),
    watch: Option<OwnedFd>,
    /// When to look whether somebody else has made one where ours was.
    look_at: Option<Time>,
    _lock: OwnedFd,
}

/// Everything the process is.
pub(crate) struct Server {
    poller: Poller,
    listener: FdListener,
    file: SocketFile,
    controls: HashMap<u64, Control>,
    uid: u32,
    table: String,
    /// None only after it was closed at the end.
    firewall: Option<Firewall>,
    /// When to listen to the firewall again after that failed.
    listen_at: Option<Time>,
    /// A daemon has said what is wanted. Before that the rules of an earlier process stay as they are.
    synced: bool,
    links: HashMap<EndpointId, PortLink>,
    resolvers: Resolvers,
    ports: Ports,
    messages: Vec<u8>,
    ended: bool,
}

impl Server {
    fn new(options: &Options, first: Option<FdSocket>) -> Result<Self, StartError> {
        let poller = Poller::new().or_else(doing("make an epoll instance"))?;
        let lock = lock(&options.socket)?;
        // Before the socket, so that whoever connects finds a process that can do what it is asked.
        let firewall = match options.owner {
            Owner::Auto => Firewall::open(&options.table)?,
            Owner::Off => Firewall::open_unowned(&options.table)?,
        };
        for (index, descriptor) in firewall.descriptors().into_iter().enumerate() {
            poller
                .add(descriptor, Token::new(Kind::Rules, index as u64), Interest::READ)
                .or_else(doing("watch the firewall"))?;
        }
        let socket = options.socket.display();
        let listener = FdListener::bind(&options.socket).or_else(doing(format!("listen on {socket}")))?;
        poller
            .add(listener.as_fd(), Token::new(Kind::Listener, 0), Interest::READ)
            .or_else(doing(format!("watch {socket}")))?;
        let identity = identity(&options.socket).ok_or(Errno::NOENT).or_else(doing(format!("look at {socket}")))?;
        let watch = watch(&options.socket).ok();
        if let Some(watch) = &watch {
            let _ = poller.add(watch.as_fd(), Token::new(Kind::SocketFile, 0), Interest::READ);
        }
        let mut server = Self {
            listener,
            file: SocketFile { path: options.socket.clone(), identity, watch, look_at: None, _lock: lock },
            controls: HashMap::new(),
            uid: rustix::process::geteuid().as_raw(),
            table: options.table.clone(),
            firewall: Some(firewall),
            listen_at: None,
            synced: false,
            links: HashMap::new(),
            resolvers: Resolvers::new(options.resolv_conf.clone()),
            ports: Ports::default(),
            messages: vec![0; crate::wire::MAX_INLINE],
            ended: false,
            poller,
        };
        if let Some(first) = first {
            server.admit(first);
        }
        Ok(server)
    }

    fn serve(&mut self) -> Result<(), Errno> {
        let mut ready = Vec::new();
        while !self.ended {
            self.poller.wait(self.deadline(), &mut ready)?;
            let now = poller::now();
            for ready in &ready {
                self.dispatch(*ready, now);
            }
            self.on_time(poller::now());
        }
        if identity(&self.file.path) == Some(self.file.identity) {
            let _ = rustix::fs::unlink(&self.file.path);
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Time> {
        let repair = self.firewall.as_ref().and_then(Firewall::deadline).map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            poller::now() + u64::try_from(left.as_millis()).unwrap_or(u64::MAX / 2) + 1
        });
        let own = [repair, self.listen_at, self.file.look_at, self.resolvers.next_due(), self.ports.next_due()];
        own.into_iter().flatten().min()
    }

    fn on_time(&mut self, now: Time) {
        self.resolvers.on_time(&self.poller, now);
        self.ports.on_time(&self.poller, now);
        let due = self.firewall.as_ref().and_then(Firewall::deadline).is_some_and(|at| at <= Instant::now());
        if due || self.listen_at.is_some_and(|at| at <= now) {
            self.hear_firewall(now);
        }
        if self.file.look_at.is_some_and(|at| at <= now) {
            self.look_at_file(now);
        }
    }

    fn dispatch(&mut self, ready: Ready, now: Time) {
        let number = ready.token.number;
        match ready.token.kind {
            Kind::Listener => self.accept(),
            Kind::SocketFile => {
                if let Some(watch) = &self.file.watch {
                    let mut events = [0u8; 4096];
                    while rustix::io::read(watch, &mut events).is_ok_and(|count| count > 0) {}
                }
                self.look_at_file(now);
            }
            Kind::Control => self.converse(number),
            Kind::Rules => self.hear_firewall(now),
            Kind::ResolverDatagram => self.resolvers.on_datagrams(&self.poller, now, number),
            Kind::ResolverListener => self.resolvers.on_listener(&self.poller, now, number),
            Kind::ResolverStream => self.resolvers.on_stream(&self.poller, now, number, ready.read, ready.write),
            Kind::Upstream => self.resolvers.on_upstream(&self.poller, now, number, ready.write),
            Kind::PortListener => self.ports.on_listener(&self.poller, now, number),
            Kind::PortDatagram => self.ports.sessions.on_port(&self.poller, now, number),
            Kind::RelayClient | Kind::RelayTarget => self.ports.on_relay(&self.poller, ready),
            Kind::Session => self.ports.sessions.on_session(now, number),
        }
    }

    fn hear_firewall(&mut self, now: Time) {
        let Some(firewall) = &mut self.firewall else { return };
        let was_deaf = self.listen_at.take().is_some();
        let heard = firewall.handle_events();
        if let Err(error) = &heard {
            tracing::error!(%error, "cannot hear what others change in the firewall");
            self.listen_at = Some(now + LISTEN_AGAIN);
        }
        // A monitor that stays readable with an error is not to keep us busy.
        for (index, descriptor) in firewall.descriptors().into_iter().enumerate() {
            match &heard {
                Ok(()) if was_deaf => {
                    let token = Token::new(Kind::Rules, index as u64);
                    let _ = self.poller.add(descriptor, token, Interest::READ);
                }
                Ok(()) => {}
                Err(_) => self.poller.remove(descriptor),
            }
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) = self.listener.accept() {
            // The directory is closed to others already; this holds even if somebody opens it up.
            if socket.peer_uid() == Ok(self.uid) {
                self.admit(socket);
            }
        }
    }

    fn admit(&mut self, socket: FdSocket) {
        if self.controls.len() >= MAX_CONTROLS {
            return;
        }
        let number = self.poller.fresh();
        if let Ok(control) = Control::new(&self.poller, number, socket) {
            self.controls.insert(number, control);
        }
    }

    /// Reads requests of a daemon and answers them.
    fn converse(&mut self, number: u64) {
        // A daemon has one request on its way; another round finds that there is no more.
        for _ in 0..8 {
            let Some(control) = self.controls.get_mut(&number) else { return };
            let received = match control.receive(&mut self.messages) {
                Ok(Some(received)) => received,
                Ok(None) => return,
                Err(_) => {
                    self.controls.remove(&number);
                    return;
                }
            };
            let response = self.handle(number, received);
            let sent = self.controls.get(&number).is_some_and(|control| control.send(&response));
            if !sent {
                self.controls.remove(&number);
                return;
            }
        }
    }

    /// Whether somebody else has made a file where ours was.
    fn look_at_file(&mut self, now: Time) {
        self.file.look_at = match identity(&self.file.path) {
            Some(identity) if identity == self.file.identity => None,
            Some(_) => {
                tracing::warn!("another process has taken over the control socket");
                self.ended = true;
                None
            }
            // Nobody yet.
            None => Some(now + WATCH),
        };
    }
}

/// Takes the right to bind `socket`.
fn lock(socket: &Path) -> Result<OwnedFd, StartError> {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let name = Path::new(&name);
    let file =
        rustix::fs::open(name, flags, Mode::from_raw_mode(0o600)).or_else(doing(format!("open {}", name.display())))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(StartError::Taken(socket.to_owned())),
        Err(errno) => doing(format!("lock {}", name.display()))(errno),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::lstat(path).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Tells of the end of a file's name.
fn watch(path: &Path) -> Result<OwnedFd, Errno> {
    let descriptor = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    // A link less is a change of attributes (inotify(7)).
    let events = inotify::WatchFlags::ATTRIB | inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::MOVE_SELF;
    inotify::add_watch(&descriptor, path.as_os_str().as_bytes(), events)?;
    Ok(descriptor)
}
