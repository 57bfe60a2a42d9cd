//! What a request holds while it links to content, with or without a bucket.
//!
//! Over a directory that is the gate, from the first look to the last link. With a bucket it is the content itself, by
//! name, since the network is waited for meanwhile, and the gate only where the mirror is touched. Either way the
//! invariant is the gate's: what was found or linked while a collection runs stays.

use std::io;

use types::Digest;

use super::Storage;
use super::bucket::holds::Held;
use super::gate::{Entered, Gate};

/// See the file's paragraph.
#[derive(Debug)]
pub(super) struct Linking<'a>(Kind<'a>);

#[derive(Debug)]
enum Kind<'a> {
    Directory(Entered<'a>),
    Bucket(&'a Gate, Held),
}

impl Storage {
    /// For one who changes and relies on these. Blocks.
    pub(super) fn linking(&self, changed: &[Digest], relied_on: &[Digest]) -> io::Result<Linking<'_>> {
        Ok(match &self.bucket {
            None => Linking(Kind::Directory(self.gate.enter())),
            Some(bucket) => self.linking_held(Some(bucket.hold(changed, relied_on)?)),
        })
    }

    /// For one who holds what is needed already, where there is a bucket.
    pub(super) fn linking_held(&self, held: Option<Held>) -> Linking<'_> {
        match held {
            None => Linking(Kind::Directory(self.gate.enter())),
            Some(held) => Linking(Kind::Bucket(&self.gate, held)),
        }
    }
}

impl Linking<'_> {
    /// Keeps a running collection from removing this content or links to it. With a bucket all that is held is kept so.
    pub(super) fn rely_on(&self, digest: &Digest) {
        if let Kind::Directory(entered) = &self.0 {
            entered.rely_on(digest);
        }
    }

    /// Runs what looks at the directory or changes it.
    pub(super) fn local<T>(&self, work: impl FnOnce() -> T) -> T {
        let Kind::Bucket(gate, held) = &self.0 else { return work() };
        let entered = gate.enter();
        held.changed.iter().chain(&held.relied_on).for_each(|digest| entered.rely_on(digest));
        work()
    }
}
