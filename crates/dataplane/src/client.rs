//! The daemon's end: blocking, one request at a time.
//!
//! A client that met an error is of no further use but for another try: the caller connects again (or starts the process
//! again) and sends the whole state.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use sys::Errno;
use sys::socket::FdSocket;
use sys::spawn::Program;

use crate::wire::{
    Change, FDS_PER_MESSAGE, Failure, MAX_INLINE, Packed, Request, Response, State, Status, Synced, WIRE_VERSION,
    WireError, pack, unpack,
};

/// Longest wait for an answer: the process answers within milliseconds, a transaction of ten thousand rules within one
/// second.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a process that somebody else has just started may take to listen.
const STARTING: Duration = Duration::from_secs(5);

/// Why the process did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It answered that it could not; nothing was changed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// It is of another version: ask it to leave ([`Client::dismiss`]) and start ours.
    #[error(
        "the network process speaks version {theirs} and this daemon version {WIRE_VERSION}: \
         install dhowd and dhow-net of one release"
    )]
    Version { theirs: u32 },
    /// It has gone. Connect or start it again.
    #[error("the network process has ended")]
    Gone,
    #[error("the network process did not answer for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the network process gave an answer to another question")]
    Confused,
    #[error("conversation with the network process: {0}")]
    Wire(#[from] WireError),
    #[error("cannot start the network process: {0}")]
    Start(std::io::Error),
}

/// Whether the table belongs to the process, so that nobody else can change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Owner {
    /// Where the kernel can keep an owned table beyond the end of its owner (Linux 6.9), else not.
    #[default]
    Auto,
    Off,
}

/// A client and the process it started.
#[derive(Debug)]
pub struct Spawned {
    pub client: Client,
    /// To be waited for when it ends. None: another had been started meanwhile, and the client is that one's.
    pub child: Option<Child>,
}

/// A connection to the process.
#[derive(Debug)]
pub struct Client {
    socket: Mutex<FdSocket>,
    pid: i32,
}

impl Client {
    /// Connects to the process that listens at `path`; `None` when there is none.
    ///
    /// # Errors
    /// [`ClientError::Version`] when it is of another version, else what connect(2) says.
    pub fn connect(path: &Path) -> Result<Option<Self>, ClientError> {
        match dial(path)? {
            Some(socket) => Self::greet(socket).map(Some),
            None => Ok(None),
        }
    }

    /// Starts the process, unless one listens at `socket` already, and connects to it. `log` becomes its standard error.
    ///
    /// Of several that are started at a time one stays: it holds a lock on `socket` with `.lock` appended as long as it
    /// lives, and the others leave at once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn spawn_and_connect(
        program: &Program,
        socket: &Path,
        table: &str,
        owner: Owner,
        log: OwnedFd,
    ) -> Result<Spawned, ClientError> {
        let owner = match owner {
            Owner::Auto => "--owner=auto",
            Owner::Off => "--owner=off",
        };
        let args = ["--socket".as_ref(), socket.as_os_str(), "--table".as_ref(), table.as_ref(), owner.as_ref()];
        let deadline = Instant::now() + STARTING;
        loop {
            if let Some(client) = Self::connect(socket)? {
                return Ok(Spawned { client, child: None });
            }
            let (ours, theirs) = FdSocket::pair().map_err(WireError::from)?;
            let log = log.try_clone().map_err(ClientError::Start)?;
            let mut child = program.start_logged(&args, theirs.into(), log).map_err(ClientError::Start)?;
            match Self::greet(ours) {
                Ok(client) => return Ok(Spawned { client, child: Some(child) }),
                Err(ClientError::Gone) => {}
                Err(error) => return Err(error),
            }
            // It could not begin, or found the lock taken: by one that begins just now, or one that is about to be gone.
            let ended = child.wait().map_err(ClientError::Start)?;
            if ended.code() != Some(EXIT_TAKEN) || Instant::now() > deadline {
                return Err(ClientError::Start(std::io::Error::other(format!("it ended at once: {ended}"))));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks the process at `path` to end, whatever its version; its table stays unless `remove`. Returns when it has
    /// gone, or at once when there is none.
    ///
    /// # Errors
    /// [`ClientError::Silent`] when it does not.
    pub fn dismiss(path: &Path, remove: bool) -> Result<(), ClientError> {
        let Some(socket) = dial(path)? else { return Ok(()) };
        set_patience(&socket)?;
        send(&socket, &Request::Quit { remove }, &[])?;
        wait_for_end(&socket)
    }

    fn greet(socket: FdSocket) -> Result<Self, ClientError> {
        set_patience(&socket)?;
        send(&socket, &Request::Hello { version: WIRE_VERSION }, &[])?;
        match receive(&socket)? {
            Response::Welcome { version: WIRE_VERSION, pid } => Ok(Self { socket: Mutex::new(socket), pid }),
            Response::Welcome { version, .. } => Err(ClientError::Version { theirs: version }),
            _ => Err(ClientError::Confused),
        }
    }

    /// The number of the process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Makes the process and the kernel hold exactly `state`.
    ///
    /// # Errors
    /// [`ClientError`]; after one nothing is known about what is held.
    pub fn sync(&self, state: State) -> Result<Synced, ClientError> {
        match self.ask(&Request::Sync { state }, &[])? {
            Response::Synced(synced) => Ok(synced),
            _ => Err(ClientError::Confused),
        }
    }

    /// Applies changes in order, all or none. `fds` are the descriptors of all of them, in the same order; the process
    /// gets copies.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn batch(&self, changes: Vec<Change>, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        match self.ask(&Request::Batch(changes), fds)? {
            Response::Done => Ok(()),
            _ => Err(ClientError::Confused),
        }
    }

    /// What the process has done.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn status(&self) -> Result<Status, ClientError> {
        match self.ask(&Request::Status, &[])? {
            Response::Status(status) => Ok(status),
            _ => Err(ClientError::Confused),
        }
    }

    /// Ends the process, and with `remove` its table. Returns when it has gone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn quit(&self, remove: bool) -> Result<(), ClientError> {
        match self.ask(&Request::Quit { remove }, &[])? {
            Response::Done => wait_for_end(&self.socket.lock().unwrap_or_else(PoisonError::into_inner)),
            _ => Err(ClientError::Confused),
        }
    }

    fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Response, ClientError> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fds = fds;
        while fds.len() > FDS_PER_MESSAGE {
            let (now, later) = fds.split_at(FDS_PER_MESSAGE);
            send(&socket, &Request::Stage, now)?;
            expect_done(receive(&socket)?)?;
            fds = later;
        }
        send(&socket, request, fds)?;
        match receive(&socket)? {
            Response::Failed(failure) => Err(failure.into()),
            response => Ok(response),
        }
    }
}

/// The exit status of a process that found another one serving.
pub const EXIT_TAKEN: i32 = 75;

fn dial(path: &Path) -> Result<Option<FdSocket>, ClientError> {
    match FdSocket::connect(path) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(WireError::from(errno).into()),
    }
}

/// Bounds every wait for the process.
fn set_patience(socket: &FdSocket) -> Result<(), ClientError> {
    for which in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(socket, which, Some(PATIENCE)).map_err(WireError::from)?;
    }
    Ok(())
}

fn expect_done(response: Response) -> Result<(), ClientError> {
    match response {
        Response::Done => Ok(()),
        Response::Failed(failure) => Err(failure.into()),
        _ => Err(ClientError::Confused),
    }
}

fn send(socket: &FdSocket, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
    let Packed { bytes, sealed } = pack(request)?;
    let all: Vec<BorrowedFd<'_>> = sealed.iter().map(AsFd::as_fd).chain(fds.iter().copied()).collect();
    socket.send(&bytes, &all).map_err(gone)
}

fn receive(socket: &FdSocket) -> Result<Response, ClientError> {
    let mut buffer = vec![0u8; MAX_INLINE];
    let mut received = socket.recv(&mut buffer).map_err(gone)?;
    if received.len == 0 {
        return Err(ClientError::Gone);
    }
    Ok(unpack(&buffer[..received.len], &mut received.fds)?)
}

fn gone(errno: Errno) -> ClientError {
    match errno {
        Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => ClientError::Gone,
        Errno::AGAIN => ClientError::Silent,
        other => WireError::from(other).into(),
    }
}

/// Reads until the other end has closed, as the process does by ending.
fn wait_for_end(socket: &FdSocket) -> Result<(), ClientError> {
    loop {
        match receive(socket) {
            Ok(_) | Err(ClientError::Wire(WireError::Malformed(_))) => {}
            Err(ClientError::Gone) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
