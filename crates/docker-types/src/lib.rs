//! The Docker Engine API's JSON, exactly as Docker's daemon writes it and as leniently as it reads.
//!
//! Pure data: no I/O. The daemon side serialises these for API 1.55 and lets [`Versioned`] derive
//! what an older version shows; the client side reads the same types. The rules of Go's encoder
//! are kept: a nil slice or map is `null` (here `None`), fields marked "omit when empty" vanish,
//! `null` in a request means "leave the default", unknown fields are ignored.

mod go;

pub mod auth;
pub mod build;
pub mod container;
pub mod event;
pub mod exec;
pub mod filter;
pub mod image;
pub mod message;
pub mod network;
pub mod oci;
pub mod system;
pub mod time;
pub mod version;
pub mod volume;

pub use filter::{filters_to_json, parse_filters};
pub use go::{Empty, IsEmpty, StrSlice};
pub use version::{ApiVersion, Versioned};

/// A Go `map[string]string`.
pub type StringMap = std::collections::BTreeMap<String, String>;

go::go_struct! {
    /// Body of every error answer.
    pub struct ErrorResponse {
        "message" message: String,
    }
}

go::go_struct! {
    /// Answer that carries an id only (exec create, commit).
    pub struct IdResponse {
        "Id" id: String,
    }
}
