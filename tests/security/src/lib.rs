//! Attacks for the proofs in `tests/proofs`: programs from `attacks/`, built by the host's gcc into whatever place a
//! test wants them, and the one that races.

#![allow(clippy::print_stderr, reason = "tests talk to whoever runs them")]

mod attack;
mod race;

pub use attack::{Attack, Bits};
pub use race::Swapper;
