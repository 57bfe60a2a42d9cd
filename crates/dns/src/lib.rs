//! Names for containers: what a container's resolver answers, without any I/O.
//!
//! [`query`] reads what a client asks, [`zone`] knows who is called what on which network, [`answer`] writes what is known
//! here. The rest goes to an upstream: [`forward`] holds the questions that are on their way and says what to send and
//! when, [`reply`] reads what came back, [`cache`] keeps it as long as it says. [`resolv`] reads the host's list of name
//! servers. Every byte from a container or an upstream is hostile until read by one of these; none of them panics,
//! loops or grows without bound. Called by `dataplane`.

pub mod answer;
pub mod cache;
pub mod forward;
pub mod name;
pub mod query;
pub mod reply;
pub mod resolv;
pub mod zone;

pub use cache::Cache;
pub use forward::{Action, Forwarder, Outcome};
pub use name::Name;
pub use query::{Edns, Query, Unanswerable};
pub use reply::Reply;
pub use zone::{Found, Host, Link, Zones};

/// Record types that are treated here (RFC 1035, RFC 3596, RFC 5936, RFC 6891).
pub mod rtype {
    pub const A: u16 = 1;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// Response codes (RFC 1035, RFC 6891).
pub mod rcode {
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const BADVERS: u16 = 16;
}

/// Bits of a header's second 16 (RFC 1035 4.1.1, RFC 4035 3.2).
pub mod flag {
    pub const RESPONSE: u16 = 1 << 15;
    pub const OPCODE: u16 = 0xf << 11;
    pub const AUTHORITATIVE: u16 = 1 << 10;
    pub const TRUNCATED: u16 = 1 << 9;
    pub const RECURSION_DESIRED: u16 = 1 << 8;
    pub const RECURSION_AVAILABLE: u16 = 1 << 7;
    pub const AUTHENTIC: u16 = 1 << 5;
    pub const CHECKING_DISABLED: u16 = 1 << 4;
}

/// Bytes of a message's header.
pub const HEADER: usize = 12;
/// Class IN.
pub const CLASS_IN: u16 = 1;
