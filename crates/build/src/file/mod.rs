//! What a step of a build does with files: copies from one tree to another, makes directories, files and links, removes,
//! and says by a digest what a copy would take.
//!
//! Both trees are hostile, and so is what is asked for: every path is resolved below a [`sys::path::Root`], every walk
//! goes by open directories and single names, and none of it depends on the depth of a tree. A copy and the digest of it
//! share one walk, so that they cannot disagree about what is selected.

mod chmod;
mod copy;
mod destination;
mod digest;
mod error;
mod glob;
mod make;
mod owner;
mod patterns;
mod source;
mod unpack;
mod walk;

pub use chmod::ModeChange;
pub use copy::{Copy, copy};
pub use digest::{ContentDigests, digest, digest_listed};
pub use error::FileError;
pub use make::{Mkdir, Mkfile, Rm, Symlink, mkdir, mkfile, rm, symlink};
pub use owner::owner;
pub use source::Selection;
pub use unpack::looks_like_archive;
