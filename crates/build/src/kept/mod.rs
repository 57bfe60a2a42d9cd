//! What is kept of builds on the disk: results of steps, the directories of their caches, files that clients sent. What of it
//! takes up how much, and what goes when there is too much of it.

mod collect;
mod filter;
mod policy;
mod prune;
mod size;

use std::collections::HashMap;

use types::DiffId;

pub(crate) use collect::Collector;
pub(crate) use filter::Filters;
pub use policy::{Collect, Limits, Policy};
pub(crate) use prune::prune;
pub(crate) use size::of_tree;

use crate::solve::Shared;

/// Types of what is kept, in BuildKit's words.
pub mod kind {
    /// What a step made.
    pub const REGULAR: &str = "regular";
    /// Files that a client sent.
    pub const LOCAL: &str = "source.local";
    /// A directory that steps keep.
    pub const CACHE: &str = "exec.cachemount";
    /// Of no use to people.
    pub const INTERNAL: &str = "internal";
    /// A front end's.
    pub const FRONTEND: &str = "frontend";
}

/// One thing that is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// What it is called.
    pub id: String,
    /// One of [`kind`], or another of BuildKit's.
    pub kind: String,
    /// What it is, for people.
    pub description: String,
    /// What it was made of, where that is kept too.
    pub parents: Vec<String>,
    /// Bytes on the disk; those of layers with the oldest of those that have them.
    pub size: u64,
    /// In nanoseconds since 1970.
    pub created_ns: i64,
    /// In nanoseconds since 1970.
    pub used_ns: i64,
    /// How often.
    pub uses: u64,
    /// An image has all of it.
    pub shared: bool,
    /// A build that runs has it.
    pub in_use: bool,
    /// It changes when it is used.
    pub mutable: bool,
    /// Its layers, lowest first, for each output.
    pub(crate) layers: Vec<Vec<DiffId>>,
}

/// Everything, with the sizes of the layers in it. Blocking.
pub(crate) fn list(shared: &Shared) -> (Vec<Usage>, HashMap<DiffId, u64>) {
    let (mut all, sizes) = shared.records.usage(shared.host.store(), &shared.host.layers_of_images());
    all.extend(shared.caches.usage());
    all.extend(shared.pool.usage());
    (all, sizes)
}
