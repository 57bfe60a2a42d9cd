//! What the runtime remembers between commands: one directory a container below `--root`, with its record
//! (`state.json`), the compiled filter for later processes (`seccomp`), and, until it is started, the socket
//! whose other end waits in the container (`start.sock`).
//!
//! Invariants: the directory exists before anything of the container does and goes last, and its record names what
//! has to be taken away again. So a command killed at any moment leaves something that `delete` removes. Who makes or
//! removes a container holds its directory's lock, so that no command takes away what another is making, be it under the
//! same id a second time.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci::Hook;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use sys::Errno;

use crate::error::{Doing, Error, Result};
use crate::groups::GroupRecord;

/// Longest id, so that it is one name of a file.
const MAX_ID: usize = 250;

/// How long a command may take to make or remove a container while another waits for that.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// The directory of all containers.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// One container's directory.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: String,
    dir: PathBuf,
    /// The directory, locked (flock(2)).
    lock: Option<OwnedFd>,
}

/// What is remembered of a container. What an older version of this program did not write has its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) oci_version: String,
    /// 0 until the first process exists.
    pub(crate) pid: i32,
    /// When it began, in clock ticks since the boot (`/proc/PID/stat`, field 22): together with the number it names
    /// one process for ever.
    pub(crate) start_time: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339.
    pub(crate) created: String,
    pub(crate) owner: u32,
    pub(crate) group: GroupRecord,
    /// The container has a user namespace of its own, or a joined one.
    pub(crate) user_namespace: bool,
    pub(crate) time_namespace: bool,
    /// Its processes die with the first one.
    pub(crate) own_pid_namespace: bool,
    pub(crate) shared_keyring: bool,
    pub(crate) seccomp_flags: u32,
    /// Where to send listeners of the filter, and what to say with them.
    pub(crate) listener: Option<(PathBuf, String)>,
    /// What every process of the container has, further ones too.
    pub(crate) personality: Option<u32>,
    pub(crate) memory_policy: Option<launch::MemoryPolicy>,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
    /// Directories of the resctrl file system made for the container, the innermost last.
    pub(crate) resctrl: Vec<PathBuf>,
}

impl Store {
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Whether a container could be made under the id.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Usage`] for an id that is none.
    pub(crate) fn check_free(&self, id: &str) -> Result<()> {
        check_id(id)?;
        if self.root.join(id).symlink_metadata().is_ok() { Err(Error::Exists) } else { Ok(()) }
    }

    /// Makes the directory of a new container and locks it; nothing may be there under its id.
    ///
    /// # Errors
    /// [`Error::Exists`], and what mkdir(2) says; [`Error::NoSuchContainer`] when it was removed at once.
    pub(crate) fn create(&self, id: &str) -> Result<Place> {
        check_id(id)?;
        let dir = self.root.join(id);
        let mut builder = std::fs::DirBuilder::new();
        // The processes of a user namespace pass through on their way to the socket they were handed.
        builder.mode(0o711);
        match builder.create(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&self.root)
                    .doing(|| format!("make the directory {} for the state of containers", self.root.display()))?;
                builder.create(&dir)
            }
            other => other,
        }
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists,
            _ => Error::Other(format!("cannot make the container's directory {}: {error}", dir.display())),
        })?;
        let mut place = Place { id: id.to_owned(), dir, lock: None };
        place.lock()?;
        Ok(place)
    }

    /// The directory of a container that exists.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub(crate) fn open(&self, id: &str) -> Result<Place> {
        check_id(id)?;
        let dir = self.root.join(id);
        if dir.is_dir() { Ok(Place { id: id.to_owned(), dir, lock: None }) } else { Err(Error::NoSuchContainer) }
    }

    /// Every container, by id.
    ///
    /// # Errors
    /// When the directory cannot be read; one that is not there holds none.
    pub(crate) fn all(&self) -> Result<Vec<Place>> {
        let what = || format!("list the containers in {}", self.root.display());
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.doing(what)?,
        };
        let mut places = Vec::new();
        for entry in entries {
            let entry = entry.doing(what)?;
            let name = entry.file_name();
            if let Some(id) = name.to_str().filter(|id| check_id(id).is_ok())
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
            {
                places.push(Place { id: id.to_owned(), dir: entry.path(), lock: None });
            }
        }
        places.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(places)
    }
}

impl Place {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps other commands from making and removing the container, waiting for one that does. Until the process ends or
    /// [`Place::unlock`].
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`] when it was removed meanwhile, [`Error::State`] when the other command takes longer
    /// than ten seconds.
    pub(crate) fn lock(&mut self) -> Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        let what = || format!("lock the container's directory {}", self.dir.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(&self.dir, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(Error::NoSuchContainer),
            other => other.doing(what)?,
        };
        let end = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(PAUSE),
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::State(format!(
                        "another command has been making or removing container {} for {} s; wait for it or end it",
                        self.id,
                        PATIENCE.as_secs()
                    )));
                }
                Err(errno) => return Err(errno).doing(what),
            }
        }
        // The name may be gone by now, or another container's.
        let locked = rustix::fs::fstat(&dir).doing(what)?;
        match rustix::fs::lstat(&self.dir) {
            Ok(named) if (named.st_dev, named.st_ino) == (locked.st_dev, locked.st_ino) => {}
            Ok(_) | Err(Errno::NOENT) => return Err(Error::NoSuchContainer),
            Err(errno) => return Err(errno).doing(what),
        }
        self.lock = Some(dir);
        Ok(())
    }

    /// Lets other commands at the container. Processes that have inherited the descriptor hold nothing any more.
    pub(crate) fn unlock(&mut self) {
        if let Some(dir) = self.lock.take() {
            let _ = rustix::fs::flock(&dir, FlockOperation::Unlock);
        }
    }

    /// The socket at whose other end a created container waits to be started.
    pub(crate) fn gate(&self) -> PathBuf {
        self.dir.join("start.sock")
    }

    /// Remembers; whoever reads at the same time finds the old record or the new one.
    ///
    /// # Errors
    /// What open(2), write(2) or rename(2) says.
    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        let what = || format!("write the record of container {}", self.id);
        let text = serde_json::to_vec(record).map_err(|error| Error::Other(format!("cannot {}: {error}", what())))?;
        let (new, path) = (self.dir.join("state.json.new"), self.dir.join("state.json"));
        let mut file =
            std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new).doing(what)?;
        file.write_all(&text).doing(what)?;
        std::fs::rename(&new, &path).doing(what)
    }

    /// The record, or that of a container of which there is nothing yet or nothing left but its directory: the command
    /// that made or removed it was ended there. `delete` removes it.
    ///
    /// # Errors
    /// What reading it says.
    pub(crate) fn load_or_begun(&self) -> Result<Record> {
        match self.load() {
            Err(Error::NoSuchContainer) if self.dir.is_dir() => {
                Ok(Record { id: self.id.clone(), oci_version: oci::VERSION.to_owned(), ..Record::default() })
            }
            other => other,
        }
    }

    /// The record.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`] when there is none: the command that made the directory did not come that far.
    pub(crate) fn load(&self) -> Result<Record> {
        serde_json::from_slice(&self.read()?).map_err(|error| {
            Error::Other(format!(
                "the record {} cannot be read, which names the container's processes and groups: {error}; mend it, or give it up with delete --force",
                self.dir.join("state.json").display()
            ))
        })
    }

    /// What can be read of a record that cannot be read as a whole, item by item.
    pub(crate) fn salvage(&self) -> Option<Record> {
        let items: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&self.read().ok()?).ok()?;
        let good = items.into_iter().filter(|(key, value)| {
            let alone = serde_json::Map::from_iter([(key.clone(), value.clone())]);
            serde_json::from_value::<Record>(alone.into()).is_ok()
        });
        serde_json::from_value(good.collect::<serde_json::Map<_, _>>().into()).ok()
    }

    fn read(&self) -> Result<Vec<u8>> {
        let path = self.dir.join("state.json");
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NoSuchContainer),
            other => other.doing(|| format!("read {}", path.display())),
        }
    }

    /// Keeps the compiled filter for later processes.
    ///
    /// # Errors
    /// What open(2) or write(2) says.
    pub(crate) fn save_filter(&self, program: &[u8]) -> Result<()> {
        std::fs::write(self.dir.join("seccomp"), program).doing(|| "keep the system call filter".to_owned())
    }

    /// The filter kept, or none.
    ///
    /// # Errors
    /// What open(2) or read(2) says.
    pub(crate) fn load_filter(&self) -> Result<Option<Vec<u8>>> {
        match std::fs::read(self.dir.join("seccomp")) {
            Ok(program) => Ok(Some(program)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| "read the container's system call filter".to_owned()),
        }
    }

    /// Claims the right to start the container, which one command gets; gives the socket's new place.
    ///
    /// # Errors
    /// [`Error::State`] when it has been claimed.
    pub(crate) fn claim_gate(&self) -> Result<PathBuf> {
        let claimed = self.dir.join("starting.sock");
        match rustix::fs::rename(self.gate(), &claimed) {
            Ok(()) => Ok(claimed),
            Err(Errno::NOENT) => Err(Error::State("cannot start a container that has already been started".to_owned())),
            Err(errno) => Err(errno).doing(|| "claim the start of the container".to_owned()),
        }
    }

    /// Forgets the container.
    ///
    /// # Errors
    /// What unlink(2) or rmdir(2) says.
    pub(crate) fn remove(&self) -> Result<()> {
        // The names that are usually there, without listing the directory. The record goes last: as long as anything is
        // left it says what.
        for name in ["start.sock", "starting.sock", "seccomp", "state.json"] {
            let _ = std::fs::remove_file(self.dir.join(name));
        }
        if std::fs::remove_dir(&self.dir).is_ok() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("remove the container's directory {}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}

fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
    if id.is_empty() || id.len() > MAX_ID || id == "." || id == ".." || !id.bytes().all(plain) {
        return Err(Error::Usage(format!(
            "invalid container ID {:?}: 1 to {MAX_ID} letters, digits, '_', '+', '-' and '.'",
            id.chars().take(80).collect::<String>()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_one_directory() {
        for id in ["a", "web-1", "x.y_z+1", "..a"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "ä", "a\0", &"x".repeat(251)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_record_comes_back_and_a_gate_is_claimed_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("deep/root"));
        let mut place = store.create("one").unwrap();
        place.unlock();
        assert!(matches!(store.create("one"), Err(Error::Exists)));
        assert!(matches!(place.load(), Err(Error::NoSuchContainer)));
        place.save(&Record { id: "one".to_owned(), pid: 7, ..Record::default() }).unwrap();
        assert_eq!(store.open("one").unwrap().load().unwrap().pid, 7);
        std::fs::write(place.gate(), "").unwrap();
        place.claim_gate().unwrap();
        assert!(matches!(place.claim_gate(), Err(Error::State(_))));
        place.remove().unwrap();
        assert!(store.all().unwrap().is_empty());
        assert!(matches!(store.open("one"), Err(Error::NoSuchContainer)));
    }
}
