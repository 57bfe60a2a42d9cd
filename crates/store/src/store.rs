//! The data directory of the image store and who may remove what from it.
//!
//! One engine owns it, by a lock on `content/lock`. Left-overs of an engine that died are removed when it
//! is opened.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags};
use sys::path::{Dir, Root};
use types::{DiffId, Digest};

use crate::content::{Blobs, Format, Ingest, Layers, Partials, Recipes};
use crate::error::{Error, Result};

/// The image store of one data directory.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    root: Root,
    blobs: Blobs,
    layers: Layers,
    ingest: Arc<Dir>,
    partials: Partials,
    pins: Pins,
    /// Held for as long as the store is open.
    _lock: File,
}

/// What a collection freed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Blobs removed.
    pub blobs: Vec<Digest>,
    /// Layers removed.
    pub layers: Vec<DiffId>,
    /// Bytes of both.
    pub bytes: u64,
}

impl Store {
    /// Opens the store in the data directory `path`, making it when it is new. Layers are kept in the best
    /// way the kernel can.
    ///
    /// # Errors
    /// [`Error::InUse`] when another engine has it open, [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Arc<Self>> {
        Self::open_with(path, Format::Automatic)
    }

    /// Opens the store and says how new layers are to be kept. Those that are there stay as they are.
    ///
    /// # Errors
    /// As [`Store::open`]; [`Error::Mount`] when the kernel cannot do what `format` insists on.
    pub fn open_with(path: impl AsRef<Path>, format: Format) -> Result<Arc<Self>> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        Self::open_in(path, format, boot.map_err(Error::io("cannot find out which boot this is"))?.trim())
    }

    /// Opens the store in a boot, which is any line of text that is another one once what was not synced may
    /// be lost.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn open_in(path: impl AsRef<Path>, format: Format, boot: &str) -> Result<Arc<Self>> {
        let path = path.as_ref();
        let fail = || Error::io(format!("cannot open the data directory {}", path.display()));
        std::fs::create_dir_all(path).map_err(fail())?;
        let root = Root::open(path).map_err(fail())?;
        let private = Mode::RWXU;
        root.create_dir_all("content", private).map_err(fail())?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
        let lock = root.open_at("content/lock", flags, Mode::RUSR | Mode::WUSR).map_err(fail())?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse(path.to_owned())),
            Err(e) => return Err(fail()(e.into())),
        }
        let blobs = root.create_dir_all("content/blobs/sha256", private).map_err(fail())?;
        let ingest = Arc::new(root.create_dir_all("content/ingest", private).map_err(fail())?);
        for entry in ingest.list().map_err(fail())? {
            ingest.remove_tree(&entry.name).map_err(fail())?;
        }
        let partials = Partials::open(&root)?;
        root.create_dir_all("containers", private).map_err(fail())?;
        crate::overlay::sweep(&root, path).map_err(fail())?;
        let layers = Layers::open(&root, path, format, boot, &path.join(crate::overlay::SCRATCH))?;
        let blobs = Blobs { dir: blobs, recipes: Recipes::open(&root, layers.dir())? };
        Ok(Arc::new(Self {
            path: path.to_owned(),
            root,
            blobs,
            layers,
            ingest,
            partials,
            pins: Pins::default(),
            _lock: File::from(lock),
        }))
    }

    /// The data directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The blobs.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// The layers.
    #[must_use]
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Begins taking in an image.
    #[must_use]
    pub fn ingest(self: &Arc<Self>) -> Ingest {
        Ingest::new(Arc::clone(self))
    }

    /// Removes every blob and layer that is in neither set and not being brought in.
    ///
    /// # Errors
    /// [`Error::Io`]; what was removed before stays removed.
    pub fn remove_unreferenced(&self, blobs: &HashSet<Digest>, layers: &HashSet<DiffId>) -> Result<Removed> {
        // A layer that stays must not lose what it would be made of again.
        for (layer, blob) in self.layers.unsettled() {
            if layers.contains(&layer) && !blobs.contains(&blob) {
                self.layers.settle(&layer)?;
            }
        }
        let mut removed = Removed::default();
        for digest in self.blobs.list()? {
            if blobs.contains(&digest) {
                continue;
            }
            if let Some(size) = self.pins.unless_pinned(&digest, || self.blobs.remove(&digest))? {
                removed.bytes += size;
                removed.blobs.push(digest);
            }
        }
        // What a blob is made of stays as long as the blob does, which one that is here is not.
        let made_of = |blob: &Digest| self.blobs.recipes.get(blob).ok().map(|recipe| recipe.layer);
        let made = blobs.iter().filter(|blob| !matches!(self.blobs.kept(blob), Ok(Some(_))));
        let needed: HashSet<DiffId> = made.filter_map(made_of).collect();
        let mut retired = Vec::new();
        for diff_id in self.layers.list()? {
            if layers.contains(&diff_id) || needed.contains(&diff_id) {
                continue;
            }
            let size = self.layers.size(&diff_id).unwrap_or(0);
            if let Some(name) = self.pins.unless_pinned(&diff_id.0, || self.layers.retire(&diff_id))? {
                removed.bytes += size;
                removed.layers.push(diff_id);
                retired.push(name);
            }
        }
        retired.iter().try_for_each(|name| self.layers.sweep(name))?;
        Ok(removed)
    }

    /// Writes layers to disk that are not yet. Images are safe without; it saves making layers again after a
    /// power cut.
    ///
    /// # Errors
    /// [`Error::Io`]; the other layers are written all the same.
    pub fn settle(&self) -> Result<()> {
        let unsettled = self.layers.unsettled();
        unsettled.iter().map(|(layer, _)| self.layers.settle(layer)).fold(Ok(()), Result::and)
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn ingest_dir(&self) -> &Arc<Dir> {
        &self.ingest
    }

    /// Removes what broken pulls have left of blobs, except what is being gone on with; gives its bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_partials(&self) -> Result<u64> {
        self.partials.sweep(std::time::Duration::ZERO)
    }

    pub(crate) fn partials(&self) -> &Partials {
        &self.partials
    }

    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
    }
}

/// Digests of blobs and layers that images on their way in rely on.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    counts: Mutex<HashMap<Digest, usize>>,
}

impl Pins {
    pub(crate) fn add(&self, digest: Digest) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(digest).or_default() += 1;
    }

    pub(crate) fn release(&self, digest: &Digest) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                counts.remove(digest);
            }
        }
    }

    /// Runs `remove` while no pin can be added, unless there is one.
    fn unless_pinned<T>(&self, digest: &Digest, remove: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.contains_key(digest) { Ok(None) } else { remove().map(Some) }
    }
}
