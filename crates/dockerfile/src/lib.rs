//! The language of Dockerfiles: from the bytes of a file to instructions, stages, and what a build of them has to do.
//!
//! Pure: no file, clock or network. [`Source`] is the text, [`Dockerfile::parse`] reads it, [`Plan`] resolves its stages for
//! a target and a platform and says which images it needs, and [`Evaluation`] takes what is known of those and gives each
//! stage's instructions with every variable expanded. [`check`] has the findings on the way, [`outline`] what a build can be
//! told, [`ignore`] which files of a context do not belong to it.
//!
//! A Dockerfile is hostile until it is read: bounds are in [`limits`], everything is linear in the text within them, and no
//! input makes it panic. Forms, words and odd cases are those of BuildKit's frontend (Dockerfile reference, syntax 1.26);
//! `docs/dockerfile.md` lists where it differs. For whoever builds or checks Dockerfiles.

pub mod check;
mod directive;
mod error;
mod evaluate;
mod expand;
mod file;
mod heredoc;
pub mod ignore;
mod instruction;
mod json;
mod lex;
pub mod limits;
pub mod outline;
mod plan;
mod report;
mod scope;
mod source;
mod suggest;
#[cfg(test)]
mod testing;
mod word;
mod write;

pub use directive::{Directive, Directives, syntax};
pub use error::{Error, Expansion, Problem, Suggestion};
pub use evaluate::{Base, EvaluatedStage, Evaluation, Step};
pub use file::{Dockerfile, Failure, Stage};
pub use heredoc::Heredoc;
pub use instruction::{
    Add, AddSource, Arg, Command, Copy, Device, FileSource, Files, From, HealthCheck, Instruction, Mode, Mount,
    MountKind, MountSpec, Network, Pair, Pairs, Run, Script, Security, Sharing, Statement,
};
pub use plan::{BaseImage, Options, Origin, Plan, PlannedStage};
pub use report::excerpt;
pub use scope::PREDEFINED_ARGS;
pub use source::{Lines, Position, Source, Span};
pub use word::Word;
