//! The protocol of BuildKit: its messages, the services a daemon offers by it, and those a client's session offers.

pub mod server;
pub mod session;
pub mod wire;
