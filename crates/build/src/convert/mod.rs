//! An evaluated Dockerfile as LLB and as the configuration of the image that comes out: what BuildKit's frontend does.
//!
//! Pure and synchronous: images were resolved and variables expanded before, and nothing here looks at a file, a clock or a
//! registry. The same input gives the same operations with the same digests. Operations, names and histories are counted
//! against one bound, so that no Dockerfile makes more of them than memory can hold. For the solver's frontend.

mod error;
mod files;
mod git;
mod graph;
mod image;
mod mounts;
mod name;
mod options;
mod path;
mod run;
mod source;
mod stage;

use std::collections::BTreeMap;

use buildkit::wire::llb;
use store::model::Image;

pub use error::{ConvertError, Problem};
pub use options::{ContextSource, LocalSource, NoCache, Options, OtherSource};
pub use source::{definition as context_definition, repository as context_repository};

/// What is known of the image a stage begins with.
#[derive(Clone, Debug, Default)]
pub struct KnownBase {
    /// Its name in full, with its digest when that was resolved: `docker.io/library/alpine:3@sha256:…`.
    pub reference: String,
    /// Its configuration.
    pub image: Image,
}

/// What is converted.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The stages with their names resolved. Build arguments and platforms are those of its options.
    pub plan: &'a dockerfile::Plan<'a>,
    /// Their instructions, expanded.
    pub evaluation: &'a dockerfile::Evaluation,
    /// The text, for locations.
    pub source: &'a dockerfile::Source,
    /// What stages begin with, by the stage's number: images, and contexts that are images.
    pub bases: &'a BTreeMap<usize, KnownBase>,
    /// What files are taken from with `--from`, by the image's full name with its tag. Those that are not here are resolved
    /// by the solver.
    pub images: &'a BTreeMap<String, KnownBase>,
    /// What the build is told.
    pub options: &'a Options,
}

/// The outcome.
#[derive(Clone, Debug)]
pub struct Converted {
    /// Marshalled operations, inputs first; the last one has no operation and one input, which is the result. No operations
    /// at all when the result is empty.
    pub definition: llb::Definition,
    /// Configuration and history. Layers are not known yet, nor are times unless the options have one.
    pub image: Image,
    /// Whether a stage that is needed was told not to use what the cache has.
    pub ignore_cache: bool,
}

/// Converts what the target of a plan needs.
///
/// # Errors
/// A context or stage that is not there, an address or a mount that cannot be, or a definition that is too large.
pub fn convert(input: &Input<'_>) -> Result<Converted, ConvertError> {
    stage::Converter::new(input)?.run()
}
