//! The methods of [`crate::Engine`], by resource. Thin: they resolve names and hand over.

mod archive;
mod build;
mod containers;
mod exec;
mod images;
mod networks;
mod system;
mod volumes;

pub use archive::*;
pub use containers::{AttachOptions, Logs};
pub use exec::ExecStartOptions;
pub use images::*;
