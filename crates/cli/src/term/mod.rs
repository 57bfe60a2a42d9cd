//! The terminal side: raw mode, window size, detach keys, signals, and the copying between a hijacked connection and
//! our own standard streams.

pub(crate) mod attach;
pub(crate) mod detach;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod raw;
pub(crate) mod signals;
