//! Messages over SEQPACKET: one postcard value per datagram each way, descriptors as SCM_RIGHTS.
//!
//! Everything is idempotent: a `Put` replaces what has the same key, a `Remove` of what is not there does nothing. A
//! [`Request::Batch`] is all or nothing. A value that is longer than [`MAX_INLINE`] travels in a sealed memory file
//! that is the first descriptor of an empty message. [`Request::Hello`] and [`Request::Quit`] keep their place in the
//! enum and their fields for ever, so that every daemon can ask a process of every version to leave.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use firewall::{Forwarding, NetRules, PortLink, PortRule};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sys::Errno;
use types::{ContainerId, EndpointId, NetworkId};

/// Bumped when a message changes.
pub const WIRE_VERSION: u32 = 3;

/// Largest datagram either side sends, in bytes.
pub const MAX_INLINE: usize = 64 * 1024;

/// Largest value in a memory file, in bytes: ten thousand containers need a twentieth of it.
pub const MAX_SEALED: u64 = 64 * 1024 * 1024;

/// Most descriptors [`Request::Stage`] collects for one message.
pub const MAX_STAGED: usize = 64 * 1024;

/// Descriptors of one datagram: below the kernel's limit, with room for a memory file.
pub const FDS_PER_MESSAGE: usize = 250;

/// From daemon to process. Each is answered by exactly one [`Response`].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Request {
    /// First message. Answer: [`Response::Welcome`], whatever the version.
    Hello { version: u32 },
    /// End. With `remove` the table goes first, else it and what the kernel does by it stay. Answer: [`Response::Done`].
    Quit { remove: bool },
    /// Everything that is wanted; what is not in it goes. A new process takes no [`Request::Batch`] before it. Answer:
    /// [`Response::Synced`].
    Sync { state: State },
    /// Changes in this order, all or nothing. The descriptors of all changes follow each other in the same order.
    /// Answer: [`Response::Done`].
    Batch(Vec<Change>),
    /// Answer: [`Response::Status`].
    Status,
    /// Descriptors of the next [`Request::Batch`] that do not fit into its own message. Answer: [`Response::Done`].
    Stage,
}

/// One change of the wanted state.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Change {
    /// A network's rules and its bridge, which is put back when somebody deletes it.
    PutNet(NetRules),
    RemoveNet {
        bridge: String,
    },
    /// What was switched on of the kernel's forwarding between links. In force before it is switched on.
    SetForwarding(Forwarding),
    /// All published ports of an endpoint, replacing those it had. `sockets` says for each port whether its reserving
    /// socket comes along as a descriptor: bound, not listening, and without `SO_REUSEADDR`, with which others could bind
    /// the port too. Without one the socket that is held for an equal rule is kept.
    Publish {
        endpoint: EndpointId,
        ports: Vec<PortRule>,
        sockets: Vec<bool>,
    },
    /// The endpoint's ports go, with their listeners, connections and sessions.
    Unpublish {
        endpoint: EndpointId,
    },
    /// A container's resolver. With `has_sockets` two descriptors come along: the UDP socket and the listening TCP one.
    PutSandbox(Sandbox),
    RemoveSandbox {
        id: ContainerId,
    },
    /// A container's place on a network: names, addresses, and its port of the bridge.
    PutPlace(Place),
    RemovePlace {
        endpoint: EndpointId,
    },
}

/// What a container's resolver answers from beyond the places of its networks.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Sandbox {
    pub id: ContainerId,
    pub upstreams: Upstreams,
    /// Names of this container's own for others, asked before all others (`--link`).
    pub links: Vec<Link>,
    /// The container's resolv.conf sets `ndots` above 0: names of a single label are then not forwarded but found to have
    /// no address, so that its C library asks again with a search domain.
    pub ndots_set: bool,
    /// The two sockets come along. Without them those held already are kept.
    pub has_sockets: bool,
}

/// A container's own name for another name on a network, whoever has that when it is asked for.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Link {
    pub alias: String,
    pub network: NetworkId,
    pub name: String,
}

/// Name servers for what no container is called.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, Hash)]
pub enum Upstreams {
    /// Those of the host's `/etc/resolv.conf`, as it is when asked.
    Host,
    /// These, in this order, from the host's network. None: nothing is forwarded.
    List(Vec<IpAddr>),
}

/// An endpoint as others find it by name.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Place {
    pub endpoint: EndpointId,
    pub network: NetworkId,
    pub network_name: String,
    /// The network has no way out. A container with no other network forwards nothing.
    pub internal: bool,
    pub sandbox: ContainerId,
    /// The first is what PTR queries answer. None: nobody finds it by name, as on the default bridge.
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub link: Option<PortLink>,
}

/// Everything that is wanted. The order of a container's places is the order it joined their networks in.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct State {
    pub nets: Vec<NetRules>,
    pub sandboxes: Vec<Sandbox>,
    pub places: Vec<Place>,
    pub ports: Vec<(EndpointId, Vec<PortRule>)>,
    pub forwarding: Forwarding,
}

/// From process to daemon.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Response {
    Welcome { version: u32, pid: i32 },
    Done,
    Synced(Synced),
    Failed(Failure),
    Status(Status),
}

/// What the process has not got and the daemon must send: sockets of resolvers ([`Change::PutSandbox`] with them) and
/// of published ports ([`Change::Publish`] with them). The kernel's rules are complete nevertheless.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Synced {
    pub need_sockets: Vec<ContainerId>,
    pub need_ports: Vec<EndpointId>,
}

/// Why a request changed nothing.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    pub what: String,
    pub kind: FailureKind,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum FailureKind {
    /// The message cannot be read, or its descriptors do not fit it.
    Protocol,
    /// The kernel refused rules, or has no nf_tables.
    Firewall,
    /// Another refusal of the system.
    System,
    /// A port of this protocol cannot be forwarded in this way.
    Unsupported,
}

/// What the process has done since it began.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Status {
    pub version: u32,
    pub pid: i32,
    pub table: String,
    /// The table is owned by the process (`NFT_TABLE_F_OWNER`): no other can change it.
    pub owned: bool,
    /// The table stays when the process ends (`NFT_TABLE_F_PERSIST`).
    pub persistent: bool,
    /// Times that rules, bridges or ports of bridges were put back after somebody else had changed them.
    pub restored: u64,
    pub sandboxes: Vec<SandboxStatus>,
    pub forwarder: ForwarderStatus,
    pub cache_entries: u64,
    pub cache_bytes: u64,
}

/// Counts of one container's resolver.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct SandboxStatus {
    pub id: ContainerId,
    /// The process holds its sockets.
    pub served: bool,
    /// Everything that asked something.
    pub queries: u64,
    /// Answered from names of containers.
    pub local: u64,
    /// Answered from what an upstream said before.
    pub cached: u64,
    /// Answered by an upstream.
    pub forwarded: u64,
    /// Answered with an error: malformed, refused, or no upstream answered.
    pub failed: u64,
    /// Not answered: no query at all, or the client did not take the answer.
    pub dropped: u64,
    /// Connections of TCP that are open.
    pub connections: u64,
}

/// Counts of the forwarder of published ports.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ForwarderStatus {
    /// Ports that are forwarded by the process rather than the kernel.
    pub ports: u64,
    /// Sockets that only reserve their port.
    pub reserved: u64,
    pub connections: u64,
    pub sessions: u64,
    /// Connections and sessions since the process began.
    pub accepted: u64,
    /// Connections and sessions refused at a limit, or because the container did not answer.
    pub refused: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// A message that cannot be encoded, sent, or read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("malformed message: {0}")]
    Malformed(#[from] postcard::Error),
    #[error("{0}")]
    System(#[from] Errno),
}

/// A message ready to be sent: the datagram, and the memory file that holds what did not fit into it.
#[derive(Debug)]
pub struct Packed {
    pub bytes: Vec<u8>,
    pub sealed: Option<OwnedFd>,
}

/// The wire form of a value.
///
/// # Errors
/// When no memory file can be made for a long one.
pub fn pack<T: Serialize>(value: &T) -> Result<Packed, WireError> {
    let bytes = postcard::to_allocvec(value)?;
    if bytes.len() < MAX_INLINE {
        return Ok(Packed { bytes, sealed: None });
    }
    let sealed = sys::memfd::sealed("dataplane", &bytes)?;
    // An empty datagram would be the end of the connection: one byte that no value begins with.
    Ok(Packed { bytes: vec![SEALED], sealed: Some(sealed) })
}

/// Stands for a value in a memory file: larger than the number of any variant.
const SEALED: u8 = 0x7f;

/// Back from the wire. A memory file is taken out of `fds`.
///
/// # Errors
/// [`WireError`] on truncated, overlong or foreign bytes.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8], fds: &mut Vec<OwnedFd>) -> Result<T, WireError> {
    if bytes != [SEALED] {
        return Ok(exact(bytes)?);
    }
    if fds.is_empty() {
        return Err(Errno::BADF.into());
    }
    let sealed = fds.remove(0);
    let content = sys::memfd::read_sealed(sealed.as_fd(), MAX_SEALED)?;
    Ok(exact(&content)?)
}

/// The value and nothing behind it.
fn exact<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, postcard::Error> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}

impl Change {
    /// Descriptors that come along with it.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Publish { sockets, .. } => sockets.iter().filter(|sent| **sent).count(),
            Self::PutSandbox(sandbox) if sandbox.has_sockets => 2,
            _ => 0,
        }
    }
}
