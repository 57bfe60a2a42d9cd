//! What is remembered of an image beyond its names: when it was last used, and whether it is pinned.
//!
//! A use is a container created or started from it. Uses are written down at most once a minute for each
//! image, without waiting for the disk: a power cut may make an image look a little less used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use state::{Durability, Op};
use types::Digest;

use super::Images;
use crate::clock;
use crate::engine::Inner;
use crate::error::{Error, Result};

/// Nanoseconds between two writings of an image's last use.
const WRITTEN_EVERY: i64 = 60_000_000_000;

/// What is remembered of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Nanoseconds since the epoch; 0 for never.
    #[serde(default)]
    pub used_ns: i64,
    /// It is kept until it is unpinned, or removed by force.
    #[serde(default)]
    pub pinned: bool,
}

/// The marks of all images.
#[derive(Debug)]
pub(super) struct Marks {
    kept: Mutex<HashMap<Digest, Mark>>,
}

impl Marks {
    pub(super) fn read(rows: &[(String, String)]) -> Self {
        let parsed = rows.iter().filter_map(|(id, doc)| {
            let mark = id.parse().ok().zip(serde_json::from_str(doc).ok());
            if mark.is_none() {
                tracing::warn!(image = id, "what was remembered of an image cannot be read");
            }
            mark
        });
        Self { kept: Mutex::new(parsed.collect()) }
    }

    pub(super) fn of(&self, id: &Digest) -> Mark {
        self.lock().get(id).copied().unwrap_or_default()
    }

    pub(super) fn forget(&self, id: &Digest) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Mark>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn op(id: &Digest, mark: Mark) -> Result<Op> {
    let doc = serde_json::to_string(&mark).map_err(|e| Error::io("cannot encode what is remembered of an image", e))?;
    Ok(Op::PutImageMark { id: id.to_string(), doc })
}

impl Images {
    /// Note that a container was made of the image, or started.
    pub(crate) fn touch(&self, inner: &Inner, id: &str) {
        let Ok(id) = id.parse::<Digest>() else { return };
        let now = clock::now_ns();
        let mark = {
            let mut kept = self.marks.lock();
            let mark = kept.entry(id).or_default();
            let due = now - mark.used_ns >= WRITTEN_EVERY;
            mark.used_ns = now;
            due.then_some(*mark)
        };
        if let Some(op) = mark.and_then(|mark| op(&id, mark).ok()) {
            inner.state.commit_with(vec![op], Durability::Process, Box::new(|_| {}));
        }
    }

    /// Pin an image, or let go of it; gives its id.
    ///
    /// # Errors
    /// Not found.
    pub(crate) async fn pin(&self, inner: &Arc<Inner>, name: &str, pinned: bool) -> Result<String> {
        let _changing = self.changing.lock().await;
        let image = self.index().find(name)?.image;
        let mark = Mark { pinned, ..self.marks.of(&image.id()) };
        inner.commit(vec![op(&image.id(), mark)?], Durability::Synced).await?;
        self.marks.lock().insert(image.id(), mark);
        let id = image.id().to_string();
        self.publish(inner, if pinned { "pin" } else { "unpin" }, &id, name, Some(&image));
        Ok(id)
    }

    /// When an image was last used, pulled or named, nanoseconds since the epoch.
    pub(super) fn last_used(&self, id: &Digest) -> i64 {
        self.marks.of(id).used_ns.max(self.names_of(id).updated_ns)
    }
}
