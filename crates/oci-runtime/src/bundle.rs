//! A bundle: a directory with `config.json` and, usually, the root file system. Read and validated as a whole before
//! anything of a container exists.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci::Spec;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use sys::Errno;

use crate::error::{Doing, Error, Result};

/// Largest document read, in bytes.
const MAX_DOCUMENT: u64 = 16 * 1024 * 1024;

/// A validated bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute, without links.
    pub(crate) dir: PathBuf,
    pub(crate) spec: Spec,
    /// Absolute, without links, a directory.
    pub(crate) rootfs: PathBuf,
    /// What the user should know and can live with.
    pub(crate) warnings: Vec<String>,
}

impl Bundle {
    /// Reads the bundle at `dir`; the process works in that directory afterwards, which relative paths of the
    /// configuration are relative to.
    ///
    /// # Errors
    /// [`Error::Config`] naming the place in the document.
    pub(crate) fn open(dir: Option<&str>) -> Result<Self> {
        let dir = enter(dir)?;
        let spec = Spec::parse(&read_config()?)?;
        let warnings = spec.validate()?;
        let root = spec.root.as_ref().map(|root| root.path.as_str()).unwrap_or_default();
        let rootfs = dir.join(root);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(rustix::fs::CWD, &rootfs, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map_err(
            |errno| {
                let why = match errno {
                    Errno::NOENT => "does not exist",
                    Errno::NOTDIR => "is not a directory",
                    Errno::LOOP => "is or goes through a symbolic link; name the directory itself",
                    _ => "cannot be opened",
                };
                Error::Other(format!("config.json: root.path: {:?} {why} ({errno})", rootfs.display()))
            },
        )?;
        Ok(Self { dir, spec, rootfs, warnings })
    }
}

/// Goes into the bundle's directory and gives its path.
pub(crate) fn enter(dir: Option<&str>) -> Result<PathBuf> {
    if let Some(dir) = dir.filter(|dir| !dir.is_empty()) {
        rustix::process::chdir(dir).doing(|| format!("enter the bundle {dir:?}"))?;
    }
    std::env::current_dir().doing(|| "find the bundle's directory".to_owned())
}

/// The bundle's own document: a file, so that reading it neither waits nor goes on without end.
fn read_config() -> Result<Vec<u8>> {
    let path = Path::new("config.json");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).doing(|| "read config.json".to_owned())?);
    if !file.metadata().doing(|| "look at config.json".to_owned())?.is_file() {
        return Err(Error::Other("config.json: is not a regular file; write the configuration into one".to_owned()));
    }
    read_all(file, path)
}

/// A whole document, no larger than the runtime reads.
pub(crate) fn read_document(path: &Path) -> Result<Vec<u8>> {
    read_all(File::open(path).doing(|| format!("read {}", path.display()))?, path)
}

fn read_all(file: File, path: &Path) -> Result<Vec<u8>> {
    let what = || format!("read {}", path.display());
    let mut text =
        Vec::with_capacity(usize::try_from(file.metadata().doing(what)?.len().min(MAX_DOCUMENT)).unwrap_or(0));
    file.take(MAX_DOCUMENT + 1).read_to_end(&mut text).doing(what)?;
    if text.len() as u64 > MAX_DOCUMENT {
        return Err(Error::Other(format!("{} is larger than {MAX_DOCUMENT} bytes", path.display())));
    }
    Ok(text)
}
