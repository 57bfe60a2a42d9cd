//! Index of a layer's tar as an EROFS image: the metadata here, the data where it is.
//!
//! While an uncompressed layer streams in, a [`Tree`] collects what unpacking it would make; at the end it
//! writes a small image that holds directories, inodes, links and attributes, and names the tar as its
//! device 1. `mount -t erofs -o device=LAYER.tar INDEX DIR` then shows the layer without a byte of data
//! having been copied. File-backed mounts need Linux 6.12.
//!
//! The invariant: what is mounted equals, path by path, what the store's unpacking makes of the same
//! archive; where that cannot be, the archive is refused with [`Error::Unsupported`], and unpacking it is
//! the way. The same archive gives the same bytes. No I/O but the [`std::io::Write`] that is handed in, and
//! memory in proportion to the metadata, within bounds of [`Options`]. The store is the caller.
//!
//! Format: `fs/erofs/erofs_fs.h` and `Documentation/filesystems/erofs.rst` of Linux.
//!
//! One thing is seen through: a page of a mapped file shows, past the end of the file and up to the next
//! multiple of 512 bytes, the padding the archive has there, which is zeros by the tar format but need not be.

mod acl;
mod add;
mod chunks;
mod error;
mod format;
mod image;
mod names;
mod node;
mod resolve;
mod tree;
mod xattr;

pub use error::{Error, Refusal, Result};
pub use tree::{Options, Summary, Tree};
