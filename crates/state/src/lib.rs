//! The engine's one database: containers, image names, volumes, networks and small facts, each a
//! typed document under its key.
//!
//! One SQLite file in WAL mode with one writer thread. A commit that returned is on its way through
//! the operating system and survives the death of the process; a [`Durability::Synced`] one survives
//! a power cut too. Nobody but this crate opens the file. Called by `engine` alone.

mod error;
mod schema;
mod writer;

use std::path::{Path, PathBuf};

pub use error::Error;
pub use writer::Callback;

/// How much a commit must survive before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// The death of the daemon (WAL, `synchronous=NORMAL`): no fsync on the way.
    #[default]
    Process,
    /// A power cut too (`synchronous=FULL`): for what a user cannot repeat, such as tags and volumes.
    Synced,
}

/// One change. Several in a commit are applied together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Insert or replace a container; its name is unique among containers.
    PutContainer {
        id: String,
        name: String,
        doc: String,
    },
    DeleteContainer {
        id: String,
    },
    /// Insert or replace an image name (a full reference or a digest).
    PutImage {
        name: String,
        doc: String,
    },
    DeleteImage {
        name: String,
    },
    /// Insert or replace the versions of an image name, kept whether or not the name is there.
    PutImageVersions {
        name: String,
        doc: String,
    },
    DeleteImageVersions {
        name: String,
    },
    /// Insert or replace what is remembered of an image, by its id.
    PutImageMark {
        id: String,
        doc: String,
    },
    DeleteImageMark {
        id: String,
    },
    PutVolume {
        name: String,
        doc: String,
    },
    DeleteVolume {
        name: String,
    },
    PutNetwork {
        id: String,
        doc: String,
    },
    DeleteNetwork {
        id: String,
    },
    /// Insert or replace a result of a build, by its key.
    PutBuildResult {
        key: String,
        doc: String,
    },
    DeleteBuildResult {
        key: String,
    },
    /// Insert or replace the record of a build, by its name.
    PutBuild {
        name: String,
        doc: String,
    },
    DeleteBuild {
        name: String,
    },
    /// A small fact about the installation, for example the engine's id.
    PutMeta {
        key: String,
        value: String,
    },
}

/// Everything stored, as read once when the engine starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Id, name, document.
    pub containers: Vec<(String, String, String)>,
    /// Name, document.
    pub images: Vec<(String, String)>,
    /// Name, document.
    pub image_versions: Vec<(String, String)>,
    /// Id, document.
    pub image_marks: Vec<(String, String)>,
    /// Name, document.
    pub volumes: Vec<(String, String)>,
    /// Id, document.
    pub networks: Vec<(String, String)>,
    /// Key, document.
    pub build_results: Vec<(String, String)>,
    /// Name, document.
    pub builds: Vec<(String, String)>,
    /// Key, value.
    pub meta: Vec<(String, String)>,
}

/// The open database. Cheap to share behind an `Arc`; dropping it finishes pending commits.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    writer: writer::Writer,
}

impl State {
    /// Open or create the file at `path`, check it and bring its schema up to date.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when SQLite finds damage, [`Error::TooNew`] when a newer engine wrote it,
    /// otherwise [`Error::Database`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let connection = schema::open(path)?;
        Ok(Self { path: path.to_owned(), writer: writer::Writer::start(connection)? })
    }

    /// Where the database lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Read every document.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Closed`] after the writer died.
    pub fn load_all(&self) -> Result<Contents, Error> {
        self.writer.load()
    }

    /// Apply `ops` in one transaction and wait for it.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a container name is taken, [`Error::Database`] when the disk refuses.
    pub fn commit(&self, ops: Vec<Op>, durability: Durability) -> Result<(), Error> {
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        self.commit_with(
            ops,
            durability,
            Box::new(move |result| {
                // The receiver outlives the call, so a failed send cannot happen while we wait.
                let _ = tx.send(result);
            }),
        );
        rx.recv().unwrap_or(Err(Error::Closed))
    }

    /// Queue `ops` and call `done` from the writer thread when they are committed or refused.
    /// The order of commits is the order of calls.
    pub fn commit_with(&self, ops: Vec<Op>, durability: Durability, done: Callback) {
        self.writer.submit(ops, durability, done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(id: &str, name: &str) -> Op {
        Op::PutContainer { id: id.into(), name: name.into(), doc: format!("{{\"id\":\"{id}\"}}") }
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dhow.db");
        {
            let state = State::open(&file).unwrap();
            state.commit(vec![put("a", "x"), put("b", "y")], Durability::Process).unwrap();
            state.commit(vec![Op::DeleteContainer { id: "a".into() }], Durability::Synced).unwrap();
            state
                .commit(
                    vec![
                        Op::PutImage { name: "i".into(), doc: "1".into() },
                        Op::PutVolume { name: "v".into(), doc: "2".into() },
                        Op::PutNetwork { id: "n".into(), doc: "3".into() },
                        Op::PutBuildResult { key: "r".into(), doc: "5".into() },
                        Op::PutBuildResult { key: "s".into(), doc: "6".into() },
                        Op::DeleteBuildResult { key: "s".into() },
                        Op::PutBuild { name: "b".into(), doc: "7".into() },
                        Op::PutBuild { name: "c".into(), doc: "8".into() },
                        Op::DeleteBuild { name: "c".into() },
                        Op::PutMeta { key: "k".into(), value: "4".into() },
                    ],
                    Durability::Process,
                )
                .unwrap();
        }
        let all = State::open(&file).unwrap().load_all().unwrap();
        assert_eq!(all.containers, [("b".into(), "y".into(), "{\"id\":\"b\"}".into())]);
        assert_eq!(all.images, [("i".into(), "1".into())]);
        assert_eq!(all.volumes, [("v".into(), "2".into())]);
        assert_eq!(all.networks, [("n".into(), "3".into())]);
        assert_eq!(all.build_results, [("r".into(), "5".into())]);
        assert_eq!(all.builds, [("b".into(), "7".into())]);
        assert_eq!(all.meta, [("k".into(), "4".into())]);
    }

    #[test]
    fn a_name_taken_refuses_the_whole_commit() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("dhow.db")).unwrap();
        state.commit(vec![put("a", "x")], Durability::Process).unwrap();
        let err = state.commit(vec![put("c", "z"), put("b", "x")], Durability::Process).unwrap_err();
        assert!(matches!(err, Error::Conflict { .. }), "{err}");
        assert_eq!(state.load_all().unwrap().containers.len(), 1);
        // The same container may change its name, and an exchanged name is free again.
        state.commit(vec![put("a", "w"), put("b", "x")], Durability::Process).unwrap();
    }

    #[test]
    fn a_killed_process_leaves_its_commits() {
        // What kill -9 leaves behind is the file and its WAL without a checkpoint: copy both while open.
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("a.db")).unwrap();
        state.commit(vec![put("a", "x")], Durability::Process).unwrap();
        std::fs::copy(dir.path().join("a.db"), dir.path().join("b.db")).unwrap();
        std::fs::copy(dir.path().join("a.db-wal"), dir.path().join("b.db-wal")).unwrap();
        let copy = State::open(&dir.path().join("b.db")).unwrap();
        assert_eq!(copy.load_all().unwrap().containers.len(), 1);
    }

    #[test]
    fn a_damaged_file_is_named_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dhow.db");
        std::fs::write(&file, vec![0x5a; 8192]).unwrap();
        let err = State::open(&file).unwrap_err();
        assert!(matches!(err, Error::Corrupt { .. }), "{err}");
        assert!(err.to_string().contains("dhow.db"), "{err}");
        assert_eq!(std::fs::read(&file).unwrap(), vec![0x5a; 8192]);
    }

    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dhow.db");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let state = State::open(&file).unwrap();
        state.commit(vec![put("a", "x")], Durability::Process).unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        }
    }

    #[test]
    fn a_file_of_a_newer_engine_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dhow.db");
        drop(State::open(&file).unwrap());
        let raw = rusqlite::Connection::open(&file).unwrap();
        raw.pragma_update(None, "user_version", 999).unwrap();
        drop(raw);
        assert!(matches!(State::open(&file).unwrap_err(), Error::TooNew { found: 999, .. }));
    }
}
