//! Messages as BuildKit and its clients have them, a module for each of its files. Names of fields are its own in Rust's
//! spelling; numbers and types are what buildx 0.29 declares, which a test holds them to.

#![allow(missing_docs, reason = "names and meanings are BuildKit's")]

/// For messages that carry secrets, or what a user has in files: their text shows nothing of it, wherever it ends up.
macro_rules! hidden {
    ($($message:ident),+) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        }
    )+};
}

pub mod auth;
pub mod caps;
pub mod content;
pub mod control;
pub mod errdefs;
pub mod filesync;
pub mod gateway;
pub mod health;
pub mod llb;
pub mod packet;
pub mod policy;
pub mod secrets;
pub mod sshforward;
pub mod stack;
pub mod stat;
pub mod status;
pub mod upload;
pub mod worker;
