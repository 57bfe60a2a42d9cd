//! The one thread that owns the connection. Commits are applied in the order they were submitted,
//! each in a transaction of its own, so that a refusal never takes a neighbour down.
//! Called by [`crate::State`].

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::JoinHandle;

use rusqlite::{Connection, ErrorCode};

use crate::{Contents, Durability, Error, Op};

/// Called once, from the writer thread, with the outcome of a commit.
pub type Callback = Box<dyn FnOnce(Result<(), Error>) + Send>;

enum Job {
    Commit { ops: Vec<Op>, durability: Durability, done: Callback },
    Load(std::sync::mpsc::SyncSender<Result<Contents, Error>>),
}

#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(connection: Connection) -> Result<Self, Error> {
        let (tx, rx) = channel();
        let thread = std::thread::Builder::new()
            .name("state-writer".into())
            .stack_size(512 * 1024)
            .spawn(move || run(connection, &rx))
            .map_err(Error::Thread)?;
        Ok(Self { jobs: Some(tx), thread: Some(thread) })
    }

    pub(crate) fn submit(&self, ops: Vec<Op>, durability: Durability, done: Callback) {
        let job = Job::Commit { ops, durability, done };
        match self.jobs.as_ref().map(|jobs| jobs.send(job)) {
            Some(Ok(())) => {}
            Some(Err(refused)) => {
                if let Job::Commit { done, .. } = refused.0 {
                    done(Err(Error::Closed));
                }
            }
            // `jobs` is taken only while dropping, when nobody can call us.
            None => {}
        }
    }

    pub(crate) fn load(&self) -> Result<Contents, Error> {
        let (tx, rx) = sync_channel(1);
        if let Some(jobs) = &self.jobs {
            jobs.send(Job::Load(tx)).map_err(|_| Error::Closed)?;
        }
        rx.recv().unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was already reported as `Closed` to whoever waited.
            let _ = thread.join();
        }
    }
}

fn run(mut connection: Connection, jobs: &Receiver<Job>) {
    let mut full = false;
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Commit { ops, durability, done } => {
                let wanted = durability == Durability::Synced;
                let mut result = Ok(());
                if wanted != full {
                    let mode = if wanted { "FULL" } else { "NORMAL" };
                    result = connection
                        .pragma_update(None, "synchronous", mode)
                        .map_err(|source| Error::Database { what: "set the durability of", source });
                    full = wanted == result.is_ok();
                }
                done(result.and_then(|()| apply(&mut connection, &ops)));
            }
            Job::Load(reply) => {
                let _ = reply.send(load(&connection).map_err(|source| Error::Database { what: "read", source }));
            }
        }
    }
}

fn apply(connection: &mut Connection, ops: &[Op]) -> Result<(), Error> {
    let mut attempt = || -> Result<(), rusqlite::Error> {
        let tx = connection.transaction()?;
        for op in ops {
            one(&tx, op)?;
        }
        tx.commit()
    };
    attempt().map_err(|source| match source.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => Error::Conflict { what: "container name" },
        Some(ErrorCode::DiskFull) => Error::Full,
        _ => Error::Database { what: "write", source },
    })
}

fn one(tx: &rusqlite::Transaction<'_>, op: &Op) -> Result<(), rusqlite::Error> {
    match op {
        // An upsert on the id alone: a clash on the name must fail instead of replacing the other row.
        Op::PutContainer { id, name, doc } => tx
            .prepare_cached(
                "INSERT INTO containers(id, name, doc) VALUES(?1, ?2, ?3)
                 ON CONFLICT(id) DO UPDATE SET name = ?2, doc = ?3",
            )?
            .execute((id, name, doc))?,
        Op::DeleteContainer { id } => tx.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id])?,
        Op::PutImage { name, doc } => {
            tx.prepare_cached("INSERT OR REPLACE INTO images(name, doc) VALUES(?1, ?2)")?.execute((name, doc))?
        }
        Op::DeleteImage { name } => tx.prepare_cached("DELETE FROM images WHERE name = ?1")?.execute([name])?,
        Op::PutImageVersions { name, doc } => tx
            .prepare_cached("INSERT OR REPLACE INTO image_versions(name, doc) VALUES(?1, ?2)")?
            .execute((name, doc))?,
        Op::DeleteImageVersions { name } => {
            tx.prepare_cached("DELETE FROM image_versions WHERE name = ?1")?.execute([name])?
        }
        Op::PutImageMark { id, doc } => {
            tx.prepare_cached("INSERT OR REPLACE INTO image_marks(id, doc) VALUES(?1, ?2)")?.execute((id, doc))?
        }
        Op::DeleteImageMark { id } => tx.prepare_cached("DELETE FROM image_marks WHERE id = ?1")?.execute([id])?,
        Op::PutVolume { name, doc } => {
            tx.prepare_cached("INSERT OR REPLACE INTO volumes(name, doc) VALUES(?1, ?2)")?.execute((name, doc))?
        }
        Op::DeleteVolume { name } => tx.prepare_cached("DELETE FROM volumes WHERE name = ?1")?.execute([name])?,
        Op::PutNetwork { id, doc } => {
            tx.prepare_cached("INSERT OR REPLACE INTO networks(id, doc) VALUES(?1, ?2)")?.execute((id, doc))?
        }
        Op::DeleteNetwork { id } => tx.prepare_cached("DELETE FROM networks WHERE id = ?1")?.execute([id])?,
        Op::PutBuildResult { key, doc } => {
            tx.prepare_cached("INSERT OR REPLACE INTO build_results(key, doc) VALUES(?1, ?2)")?.execute((key, doc))?
        }
        Op::DeleteBuildResult { key } => {
            tx.prepare_cached("DELETE FROM build_results WHERE key = ?1")?.execute([key])?
        }
        Op::PutBuild { name, doc } => {
            tx.prepare_cached("INSERT OR REPLACE INTO builds(name, doc) VALUES(?1, ?2)")?.execute((name, doc))?
        }
        Op::DeleteBuild { name } => tx.prepare_cached("DELETE FROM builds WHERE name = ?1")?.execute([name])?,
        Op::PutMeta { key, value } => {
            tx.prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)")?.execute((key, value))?
        }
    };
    Ok(())
}

fn load(connection: &Connection) -> Result<Contents, rusqlite::Error> {
    let pairs = |sql: &str| -> Result<Vec<(String, String)>, rusqlite::Error> {
        connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let containers = connection
        .prepare("SELECT id, name, doc FROM containers ORDER BY id")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    Ok(Contents {
        containers,
        images: pairs("SELECT name, doc FROM images ORDER BY name")?,
        image_versions: pairs("SELECT name, doc FROM image_versions ORDER BY name")?,
        image_marks: pairs("SELECT id, doc FROM image_marks ORDER BY id")?,
        volumes: pairs("SELECT name, doc FROM volumes ORDER BY name")?,
        networks: pairs("SELECT id, doc FROM networks ORDER BY id")?,
        build_results: pairs("SELECT key, doc FROM build_results ORDER BY key")?,
        builds: pairs("SELECT name, doc FROM builds ORDER BY name")?,
        meta: pairs("SELECT key, value FROM meta ORDER BY key")?,
    })
}
