//! Whole images: finding the one for a platform, loading and saving archives, importing and committing.

mod commit;
mod compress;
mod docker_archive;
mod import;
mod load;
mod resolve;
mod save;

pub use commit::{Commit, commit, commit_layer};
pub use compress::{Compression, compress};
pub use import::{Import, import, write};
pub use load::{Loaded, load};
pub use resolve::{Read, Resolved, resolve, walk};
pub use save::{Content, Form, Saved, blobs, savable, save};
