//! Results that go to other builders and come from them (`--cache-to`, `--cache-from`): in a directory of the client's, in
//! a registry, or in the image itself.
//!
//! What is written has BuildKit's form, so that registries and tools take it for a cache; but keys are digests of what a step
//! does, which each builder computes its own way. So what stands for the results here is beside that, and only builders of
//! this kind find them again.

mod config;
mod export;
mod fetching;
mod import;
mod inline;
mod options;
mod pack;
mod remote;

pub(crate) use export::{check, export};
pub(crate) use fetching::Fetching;
pub(crate) use import::Imports;
pub(crate) use inline::inline;
pub(crate) use remote::Remote;
