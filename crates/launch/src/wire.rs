//! Control messages over SEQPACKET: one postcard value per datagram, descriptors as SCM_RIGHTS.
//!
//! The daemon spawns the shim with the first connection as its standard input and sends
//! [`Request::Launch`]. Later daemons connect to `run_dir/shim.sock`; every connection may send
//! requests and gets every [`Event`]. A response carries the sequence number of its request.

use serde::{Deserialize, Serialize};

use crate::plan::{ExecPlan, LaunchPlan};

/// Bumped when a message changes; a daemon refuses a shim of another major version with a clear text.
pub const WIRE_VERSION: u32 = 2;

/// Largest datagram either side sends; plans travel in a memfd instead.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// From daemon to shim.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct RequestFrame {
    pub seq: u64,
    pub request: Request,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Request {
    /// First message of a new shim. Descriptor 0 is a memfd with the encoded [`LaunchPlan`]; the
    /// plan's own descriptors follow, so plan index i is message descriptor i + 1.
    /// Answer: [`Response::Started`] or [`Response::Failed`].
    Launch { version: u32 },
    /// Who and how are you? Answer: [`Response::State`].
    State,
    /// Run another process. Descriptor 0 is a memfd with the encoded [`ExecPlan`], its own follow.
    /// When `attach` is set, the answer carries one stream descriptor as [`Request::Attach`] does, connected
    /// before the process starts so that no byte is lost. Answer: [`Response::ExecStarted`] or [`Response::Failed`].
    Exec { attach: Option<Streams> },
    /// Connect a client to the container's streams. The answer [`Response::Attached`] carries one
    /// end of a stream socket pair: what the process writes comes out (framed as Docker's stdcopy
    /// unless there is a terminal), what is written goes to its standard input, a shut down write
    /// side is the client's end of input. May precede [`Request::Launch`], so that nothing is missed.
    Attach { streams: Streams },
    /// Send a signal to the container's first process (`exec_id` empty) or to an exec.
    Signal { exec_id: String, signal: i32 },
    /// New terminal size.
    Resize { exec_id: String, rows: u16, cols: u16 },
    /// Re-open the log file by its path, after somebody moved it.
    ReopenLog,
    /// The exit is recorded elsewhere: empty the record and leave. Refused while the process runs.
    Forget,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// From shim to daemon: answers and events share the connection.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum ReplyFrame {
    Response { seq: u64, response: Response },
    Event(Event),
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Response {
    /// The user's program was executed: `pid` in the shim's own pid namespace. `warnings` are texts
    /// for the user about engine defaults the host withheld.
    Started {
        pid: i32,
        started_at_ns: i64,
        warnings: Vec<String>,
    },
    ExecStarted {
        pid: i32,
    },
    Attached,
    Done,
    State(Snapshot),
    /// Nothing runs; what failed, where, and the errno.
    Failed {
        stage: FailureStage,
        errno: i32,
        detail: String,
    },
}

/// Where a launch or an exec failed. `Exec` with ENOENT is exit code 127 at the client, with
/// EACCES, EPERM or ENOEXEC 126, everything else 125.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum FailureStage {
    Protocol,
    Io,
    Clone,
    Cgroup,
    Namespace,
    Hostname,
    RootFs,
    Mount,
    Device,
    MaskedPath,
    Pivot,
    Sysctl,
    Console,
    Rlimit,
    Capability,
    Credentials,
    Seccomp,
    Cwd,
    Exec,
    NotRunning,
    NoSuchExec,
    Log,
    Hook,
    Scheduling,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Snapshot {
    pub version: u32,
    pub container_id: String,
    pub shim_pid: i32,
    /// Pid of the container's first process; 0 before the launch.
    pub pid: i32,
    pub started_at_ns: i64,
    pub exit: Option<ExitRecord>,
    /// Execs that still run: id and pid.
    pub execs: Vec<(String, i32)>,
    /// Log bytes or lines given up because the disk refused them.
    pub log_dropped_lines: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Event {
    /// The container's first process ended and all its output is in the log.
    Exited(ExitRecord),
    ExecExited {
        exec_id: String,
        code: i32,
    },
}

/// How a container ended. Also the content of the file `exit` in the run directory.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct ExitRecord {
    /// Exit status, or 128 + signal.
    pub code: i32,
    /// Nanoseconds since the Unix epoch.
    pub finished_at_ns: i64,
    pub oom_killed: bool,
}

/// A message or plan that cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[error("malformed {what} between daemon and shim: {source}")]
pub struct WireError {
    what: &'static str,
    source: postcard::Error,
}

macro_rules! codec {
    ($($ty:ty, $what:literal;)*) => {$(
        impl $ty {
            /// The wire form.
            ///
            /// # Errors
            /// When a length does not fit; in practice never.
            pub fn encode(&self) -> Result<Vec<u8>, WireError> {
                postcard::to_allocvec(self).map_err(|source| WireError { what: $what, source })
            }

            /// Back from the wire.
            ///
            /// # Errors
            /// [`WireError`] on truncated or foreign bytes.
            pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
                postcard::from_bytes(bytes).map_err(|source| WireError { what: $what, source })
            }
        }
    )*};
}

codec! {
    RequestFrame, "request";
    ReplyFrame, "reply";
    LaunchPlan, "launch plan";
    ExecPlan, "exec plan";
    ExitRecord, "exit record";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_and_truncation_is_an_error() {
        let frame = RequestFrame {
            seq: 7,
            request: Request::Attach { streams: Streams { stdout: true, ..Streams::default() } },
        };
        let bytes = frame.encode().unwrap();
        assert_eq!(RequestFrame::decode(&bytes).unwrap(), frame);
        for cut in 0..bytes.len() {
            assert!(RequestFrame::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
