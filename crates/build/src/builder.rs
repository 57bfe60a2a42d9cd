//! The builder of an engine: builds under way by their names, and what they share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buildkit::server::Methods;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use types::{DiffId, Digest, Kind};

use crate::error::{Error, Result};
use crate::history::{History, HistoryLimits};
use crate::host::Host;
use crate::job::Job;
use crate::kept::{self, Collect, Collector, Policy, Usage};
use crate::progress::Progress;
use crate::service;
use crate::session::{Greeting, Pool, Sessions};
use crate::solve::{Build, Caches, FetchedTrees, Memory, Records, Shared};

/// How long questions about a build wait for it to begin, and for how long its story is told after its end.
const AROUND: Duration = Duration::from_secs(5);

/// What the builder is told at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What of the cache goes by itself.
    pub collect: Collect,
    /// How many builds are remembered, and for how long.
    pub history: HistoryLimits,
}

/// The builder.
#[derive(Debug)]
pub struct Builder {
    shared: Arc<Shared>,
    collector: Arc<Collector>,
    history: Arc<History>,
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    /// What builds tell, also for a while after their ends.
    stories: Mutex<HashMap<String, Arc<Progress>>>,
    begun: watch::Sender<u64>,
}

impl Builder {
    /// Opens the builder. Work that an earlier engine left is removed. `results` are what [`Host::keep`] was given, `builds`
    /// what [`Host::remember`] was.
    ///
    /// # Errors
    /// That of the file system.
    pub fn open(
        host: Arc<dyn Host>,
        results: &BTreeMap<String, String>,
        builds: &BTreeMap<String, String>,
        settings: &Settings,
    ) -> Result<Arc<Self>> {
        let top = host.work().to_owned();
        let (work, repositories) = (top.join("work"), top.join("git"));
        prepare(&top)?;
        for left in [&work, &repositories] {
            if left.exists() {
                crate::tree::remove(left).map_err(|e| Error::io("cannot remove what an earlier build left", e))?;
            }
            prepare(left)?;
        }
        prepare(host.secrets())?;
        clear(host.secrets()).map_err(|e| Error::io("cannot remove secrets of an earlier build", e))?;
        let shared = Shared {
            sessions: Sessions::default(),
            pool: Pool::new(&work)?,
            records: Records::read(results),
            memory: Memory::default(),
            caches: Caches::open(&top.join("cache"))?,
            fetched: FetchedTrees::default(),
            repositories,
            compressed: Arc::default(),
            work,
            host,
        };
        let shared = Arc::new(shared);
        Ok(Arc::new(Self {
            collector: Collector::new(&shared, &settings.collect),
            history: Arc::new(History::open(&top.join("history"), builds, settings.history)?),
            shared,
            jobs: Mutex::default(),
            stories: Mutex::default(),
            begun: watch::Sender::new(0),
        }))
    }

    /// What builds share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Answers a client of BuildKit's protocol until it leaves.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn serve<I>(self: &Arc<Self>, io: I) -> Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let methods: Arc<Methods> = Arc::new(service::methods(self));
        buildkit::server::serve(io, methods).await.map_err(|e| Error::io("the client's connection broke", e))
    }

    /// Keeps a client's session until it leaves.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn serve_session<I>(&self, io: I, greeting: Greeting) -> Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.shared.sessions.serve(io, greeting).await
    }

    /// Begins a build.
    ///
    /// # Errors
    /// There is one of this name; its directory cannot be made.
    pub fn begin(self: &Arc<Self>, name: &str, session: Option<String>, entitlements: Vec<String>) -> Result<Arc<Job>> {
        let progress = Arc::new(Progress::default());
        let build = Build::new(Arc::clone(&self.shared), Arc::clone(&progress), session, entitlements)?;
        let job = Arc::new(Job::new(name, build, progress));
        {
            let mut stories = self.stories.lock().unwrap_or_else(PoisonError::into_inner);
            if name.is_empty() || stories.contains_key(name) {
                return Err(Error::new(Kind::Conflict, format!("there is a build {name:?} already")));
            }
            stories.insert(name.to_owned(), Arc::clone(&job.progress));
            self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::clone(&job));
        }
        self.begun.send_modify(|count| *count += 1);
        let builder = Arc::downgrade(self);
        self.collector.watch(move || {
            builder.upgrade().is_some_and(|it| !it.jobs.lock().unwrap_or_else(PoisonError::into_inner).is_empty())
        });
        Ok(job)
    }

    /// Ends a build; its story is told for a while.
    pub fn end(self: &Arc<Self>, name: &str) {
        // With the job goes what it protects from collection, and its directory.
        let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(job) = job else { return };
        job.build.cancel.cancel();
        job.build.clear();
        job.progress.end();
        self.collector.later();
        let (builder, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(AROUND).await;
            builder.stories.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
    }

    /// Gives all builds up: nothing of them goes on without the engine.
    pub fn close(self: &Arc<Self>) {
        let names: Vec<String> = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        names.iter().for_each(|name| self.end(name));
    }

    /// A build by its name; it may be about to begin.
    ///
    /// # Errors
    /// Not found when it does not, or has ended.
    pub async fn job(&self, name: &str) -> Result<Arc<Job>> {
        // One that has ended does not begin again: nobody is to wait for that.
        let over = || {
            let stories = self.stories.lock().unwrap_or_else(PoisonError::into_inner);
            stories.contains_key(name) && !self.jobs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
        };
        self.wait(name, &self.jobs, over).await
    }

    /// What a build tells; it may be about to begin, and may just have ended.
    ///
    /// # Errors
    /// Not found when it does not begin, or has ended a while ago.
    pub async fn story(&self, name: &str) -> Result<Arc<Progress>> {
        self.wait(name, &self.stories, || false).await
    }

    async fn wait<T>(
        &self,
        name: &str,
        map: &Mutex<HashMap<String, Arc<T>>>,
        over: impl Fn() -> bool,
    ) -> Result<Arc<T>> {
        let mut begun = self.begun.subscribe();
        let wait = async {
            loop {
                begun.borrow_and_update();
                let found = map.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
                if found.is_some() || over() {
                    return found;
                }
                if begun.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let found = tokio::time::timeout(AROUND, wait).await.ok().flatten();
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("no such job {name}")))
    }

    /// User and password that a client has for a registry.
    ///
    /// # Errors
    /// The client has left.
    pub async fn credentials(&self, session: &str, registry: &str) -> Result<Option<(String, String)>> {
        // What clients keep the credentials of Docker's registry under.
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        self.shared.sessions.get(session).await?.credentials(host).await
    }

    /// Blobs and layers that results need: the collector leaves them.
    #[must_use]
    pub fn referenced(&self) -> (HashSet<Digest>, HashSet<DiffId>) {
        self.shared.records.referenced()
    }

    /// What is kept of builds, and how much of the disk it takes up.
    ///
    /// # Errors
    /// Reading it was interrupted.
    pub async fn usage(&self) -> Result<Vec<Usage>> {
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || kept::list(&shared).0);
        read.await.map_err(|e| Error::io("reading what is kept", e))
    }

    /// Lets go of what was fetched, and of repositories unless somebody fetches now.
    async fn forget_fetched(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let remove = move || {
            shared.fetched.clear(|| {
                crate::tree::remove(&shared.repositories).map_err(|e| Error::io("cannot remove repositories", e))?;
                prepare(&shared.repositories)
            })
        };
        tokio::task::spawn_blocking(remove).await.map_err(|e| Error::io("removing was interrupted", e))?
    }

    /// Removes what a policy says, but not what a build that runs has. Gives what is gone, with the bytes that came free.
    ///
    /// # Errors
    /// Filters that make no sense; those of the database or the disk.
    pub async fn prune(&self, policy: &Policy) -> Result<Vec<Usage>> {
        if policy.is_everything() {
            self.forget_fetched().await?;
        }
        kept::prune(&self.shared, policy).await
    }

    /// Builds that were.
    pub(crate) fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// By which policies the cache is collected.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        self.collector.policies()
    }
}

/// Removes all that is in a directory, what is mounted there being taken off first.
fn clear(path: &Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        // Mostly nothing is, and then there is nothing to take off.
        let _ = std::ffi::CString::new(path.as_os_str().as_bytes()).map(|path| sys::mount::unmount_detached(&path));
        crate::tree::remove(&path)?;
    }
    Ok(())
}

fn prepare(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io(format_args!("cannot make {}", path.display()), e))
}
