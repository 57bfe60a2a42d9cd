//! Directory trees and archives of them: applying, archiving, comparing, measuring.
//!
//! Every function works below a [`sys::path::Root`], so nothing in a tree can lead out of it.

mod apply;
mod archive;
mod changes;
mod compare;
mod copy;
mod data;
mod descent;
mod duplicate;
mod packages;
mod usage;

pub use apply::{Applied, ApplyOptions, apply};
pub use archive::{TreeArchive, diff_tar, export, export_whole};
pub use changes::{Change, ChangeKind, changes};
pub use compare::{Difference, compare};
pub use copy::{ExtractOptions, PathStat, archive_path, copy_tree, extract, stat_path};
pub use data::{Attributes, Data, kept, settle, settle_name, times};
pub use descent::Descent;
pub use duplicate::{Duplicated, duplicate};
pub use packages::{Packages, packages};
pub use usage::{Usage, usage};

use rustix::fs::Stat;

/// Prefixes of the attributes overlayfs keeps its own state in.
pub(crate) const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// Attribute that makes a directory opaque in overlayfs.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// Longest path of a member, as the reader's limit: `PATH_MAX` of Linux, with its NUL.
pub(crate) const PATH_MAX: usize = 4096;

/// Whether a node is an overlayfs whiteout.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice && stat.st_rdev == 0
}
