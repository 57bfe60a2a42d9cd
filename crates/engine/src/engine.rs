//! The engine as a whole: opening and closing it, and what every part of it shares.
//!
//! [`Inner`] owns the database, the registries and the handles to the kernel; parts reach each other
//! only through it. Nothing here holds a lock while it waits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use cgroup::{Cgroup, Hierarchy, Support};
use state::{Durability, Op, State};
use sys::spawn::Program;
use tokio::sync::oneshot;
use types::Kind;

use crate::config::EngineConfig;
use crate::container::record::Record;
use crate::container::registry::Registry;
use crate::container::validate::HostFacts;
use crate::container::{Container, recover};
use crate::error::{Error, Result, fail};
use crate::events::Bus;
use crate::exec::Execs;
use crate::idmap::Idmaps;
use crate::image::Images;
use crate::lock::DataRootLock;
use crate::network::Networks;
use crate::plan::{Filters, capabilities};
use crate::reserve::Reserve;
use crate::volume::Volumes;

/// How long an engine that is closed waits for the steps of builds to end.
const BUILDS_END: Duration = Duration::from_secs(5);

/// The engine. Clones share one.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

/// What the parts share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub config: EngineConfig,
    /// A UUID-shaped id of this installation.
    pub engine_id: String,
    pub state: Arc<State>,
    pub events: Bus,
    pub containers: Registry,
    pub execs: Execs,
    pub images: Images,
    pub volumes: Volumes,
    pub idmaps: Idmaps,
    pub networks: Networks,
    pub cgroups: Hierarchy,
    pub support: Support,
    pub facts: HostFacts,
    /// Capabilities we can hand on.
    pub caps_held: u64,
    pub filters: Filters,
    pub shim: Program,
    pub boot_id: String,
    pub reserve: Reserve,
    /// Set once, right after the engine is made.
    builder: OnceLock<Arc<build::Builder>>,
    /// Processes of builds that run.
    pub steps: AtomicUsize,
    closing: AtomicBool,
    _lock: DataRootLock,
}

impl Engine {
    /// Take the data root, read the database, find the containers that outlived the last daemon and
    /// apply restart policies to the others.
    ///
    /// # Errors
    /// Conflict when another engine uses the data root, Internal when the host lacks what is needed.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || Inner::open(config));
        let Opened { inner, records, results, builds } =
            opened.await.map_err(|e| Error::io("opening the engine was interrupted", e))??;
        let engine = Self { inner: Arc::new(inner) };
        // Before anything is collected: the builder says what its results need.
        let builder = crate::build_host::open(&engine.inner, &results, &builds)?;
        let _ = engine.inner.builder.set(builder);
        // Before containers start on them.
        Images::restore(&engine.inner).await;
        recover::recover(&engine.inner, records).await;
        // Only now is it known which layers containers hold.
        let sweeping = Arc::clone(&engine.inner);
        tokio::spawn(async move { sweeping.images.sweep(&sweeping).await });
        tokio::spawn(crate::image::keep_settled(Arc::downgrade(&engine.inner)));
        if let Some(quiet) = engine.inner.config.compact {
            tokio::spawn(crate::image::keep_compact(Arc::downgrade(&engine.inner), quiet));
        }
        tokio::spawn(crate::image::watch_the_disk(Arc::downgrade(&engine.inner)));
        Ok(engine)
    }

    /// Stop planned restarts and health checks, let go of the shims, and flush. Containers keep
    /// running; nothing can be asked of them through this engine any more.
    pub async fn close(&self) {
        self.inner.closing.store(true, Ordering::Release);
        self.end_builds().await;
        for container in self.inner.containers.all() {
            // An operation in progress is carried to its end first.
            let _lifecycle = container.lifecycle.lock().await;
            let mut live = container.live();
            for task in [live.restart.take(), live.health_task.take(), live.follow_task.take()].into_iter().flatten() {
                task.abort();
            }
            live.link = None;
        }
        // The kernel would write them too, but the next engine could not know.
        Images::settle(&self.inner).await;
        // With nobody left to serve, the host gets back what the networks took: links, rules, forwarding.
        if !self.inner.containers.all().iter().any(|container| container.phase().is_live()) {
            let inner = Arc::clone(&self.inner);
            let gone = self.inner.blocking("take the networks down", move || {
                cgroup::remove_empty_parent(&inner.cgroups, &inner.config.cgroup_parent);
                Ok(inner.networks.fabric().teardown()?)
            });
            if let Err(error) = gone.await {
                tracing::warn!(%error, "something of the networks stays on the host");
            }
        } else {
            self.inner.networks.fabric().detach();
        }
        // An empty commit returns when everything before it is written.
        if let Err(error) = self.inner.commit(Vec::new(), Durability::Synced).await {
            tracing::warn!(%error, "the state database could not be flushed");
        }
    }

    /// Builds end with the engine: nobody else reads their output or takes what they give. What does not end in time is
    /// ended at the next start.
    async fn end_builds(&self) {
        if let Some(builder) = self.inner.builder() {
            builder.close();
        }
        let begin = std::time::Instant::now();
        while self.inner.steps.load(Ordering::Acquire) > 0 && begin.elapsed() < BUILDS_END {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stop every container, all at once, and kill those that do not end within `timeout`.
    pub async fn shutdown_containers(&self, timeout: Duration) {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let stops = self.inner.containers.all().into_iter().filter(|c| c.phase().is_live()).map(|container| {
            let inner = Arc::clone(&self.inner);
            async move {
                let options = crate::StopOptions { signal: None, timeout: Some(seconds) };
                if let Err(error) = crate::container::stop::stop(&inner, &container, options, false).await {
                    tracing::warn!(container = container.id(), %error, "a container did not stop");
                }
            }
        });
        futures_util::future::join_all(stops).await;
    }
}

/// An engine whose parts do not know it yet, with what the database has for them.
struct Opened {
    inner: Inner,
    records: Vec<Record>,
    /// Results of builds: key, document.
    results: Vec<(String, String)>,
    /// Records of builds: name, document.
    builds: Vec<(String, String)>,
}

impl Inner {
    fn open(config: EngineConfig) -> Result<Opened> {
        make_dir(&config.data_root, 0o711)?;
        make_dir(&config.exec_root, 0o711)?;
        make_dir(&config.data_root.join("containers"), 0o710)?;
        make_dir(&config.exec_root.join("c"), 0o700)?;
        let lock = DataRootLock::acquire(&config.data_root)?;
        let state = Arc::new(State::open(&config.data_root.join("dhow.db"))?);
        let contents = state.load_all()?;
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .map_err(|e| Error::io("cannot read the boot id", e))?;

        let mut records = Vec::new();
        for (id, name, doc) in &contents.containers {
            match serde_json::from_str::<Record>(doc) {
                Ok(record) => records.push(record),
                // One unreadable row must not take the others down; it stays in the database.
                Err(error) => tracing::error!(container = id, name, %error, "the record cannot be read"),
            }
        }
        let shim = Program::open(&config.shim).map_err(|e| {
            Error::io(
                format!(
                    "cannot find the program {} that runs containers; install it beside dhowd",
                    config.shim.display()
                ),
                e,
            )
        })?;
        let cgroups = Hierarchy::detect()?;
        let support = cgroups.support();
        let (networks, mut ops) = Networks::open(&config, &contents, &records, &boot_id)?;
        let engine_id = match contents.meta.iter().find(|(key, _)| key == "engine_id") {
            Some((_, id)) => id.clone(),
            None => {
                let id = new_engine_id();
                ops.push(Op::PutMeta { key: "engine_id".into(), value: id.clone() });
                id
            }
        };
        if !ops.is_empty() {
            state.commit(ops, Durability::Process)?;
        }
        let facts = HostFacts::read(cgroups.version() == "2", networks.bridged());
        let inner = Self {
            engine_id,
            events: Bus::new(),
            containers: Registry::default(),
            execs: Execs::default(),
            images: Images::open(&config, Arc::clone(&state), &contents)?,
            volumes: Volumes::open(&config, Arc::clone(&state), &contents)?,
            idmaps: Idmaps::default(),
            networks,
            support,
            facts,
            caps_held: capabilities::held(),
            filters: Filters::new(),
            shim,
            boot_id,
            reserve: Reserve::open(config.data_root.join("reserve")),
            builder: OnceLock::new(),
            steps: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            _lock: lock,
            cgroups,
            state,
            config,
        };
        Ok(Opened { inner, records, results: contents.build_results, builds: contents.builds })
    }

    /// The builder; none while the engine opens.
    pub(crate) fn builder(&self) -> Option<&Arc<build::Builder>> {
        self.builder.get()
    }

    /// The engine is being closed: nothing new is started.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Directory of what must survive: upper layer, log, files of `/etc`.
    pub(crate) fn container_dir(&self, id: &str) -> PathBuf {
        self.config.data_root.join("containers").join(id)
    }

    /// Directory on tmpfs of the shim's socket and exit record.
    /// Each run has its own: a shim that still serves a slow client of an earlier run keeps out of the way.
    pub(crate) fn run_dir(&self, record: &Record) -> PathBuf {
        // Short, as people prefer; 24 digits never clash among the containers of a host.
        let id = &record.id[..24.min(record.id.len())];
        self.config.exec_root.join("c").join(format!("{id}-{}", record.state.run))
    }

    /// The container's control group, whether it exists or not.
    pub(crate) fn cgroup(&self, record: &Record) -> Result<Cgroup> {
        Ok(Cgroup::open(&self.cgroups, self.cgroup_parent(record), &record.id)?)
    }

    pub(crate) fn cgroup_parent<'a>(&'a self, record: &'a Record) -> &'a str {
        match record.host_config.cgroup_parent.as_str() {
            "" => &self.config.cgroup_parent,
            own => own,
        }
    }

    /// Run blocking kernel work off the runtime's own threads.
    pub(crate) async fn blocking<T, F>(&self, doing: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        tokio::task::spawn_blocking(work).await.map_err(|e| fail!(Internal, "the engine failed to {doing}: {e}"))?
    }

    /// Commit and wait.
    pub(crate) async fn commit(&self, ops: Vec<Op>, durability: Durability) -> Result<()> {
        let (tx, rx) = oneshot::channel();
        self.state.commit_with(
            ops,
            durability,
            Box::new(move |result| {
                // Nobody waits any more: the commit stands all the same.
                let _ = tx.send(result);
            }),
        );
        Ok(rx.await.unwrap_or(Err(state::Error::Closed))?)
    }

    /// Write a container's record as it is now.
    pub(crate) async fn persist(&self, container: &Container, durability: Durability) -> Result<()> {
        let (tx, rx) = oneshot::channel();
        {
            let _writing = container.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let record = container.record();
            let doc =
                serde_json::to_string(&*record).map_err(|e| Error::io("cannot encode a container's record", e))?;
            let op = Op::PutContainer { id: record.id.clone(), name: record.name.clone(), doc };
            self.state.commit_with(
                vec![op],
                durability,
                Box::new(move |result| {
                    // As in `commit`.
                    let _ = tx.send(result);
                }),
            );
        }
        Ok(rx.await.unwrap_or(Err(state::Error::Closed))?)
    }

    /// As [`Inner::commit`], for what must get through on a full disk: removals, which make room.
    pub(crate) async fn commit_removal(&self, ops: Vec<Op>) -> Result<()> {
        match self.commit(ops.clone(), Durability::Process).await {
            Err(error) if error.kind() == Kind::Exhausted && self.reserve.free() => {
                self.commit(ops, Durability::Process).await
            }
            other => other,
        }
    }

    /// As [`Inner::persist`], for changes that have already happened: a refusal is logged, since
    /// there is nobody to refuse it to.
    pub(crate) async fn persist_fact(&self, container: &Container) {
        let mut written = self.persist(container, Durability::Process).await;
        if written.as_ref().is_err_and(|e| e.kind() == Kind::Exhausted) && self.reserve.free() {
            written = self.persist(container, Durability::Process).await;
        }
        if let Err(error) = written {
            tracing::error!(container = container.id(), %error, "a change of state could not be written");
        }
    }

    /// Tell listeners about a container.
    pub(crate) fn publish_container<const N: usize>(
        &self,
        container: &Container,
        action: &str,
        more: [(&str, String); N],
    ) {
        let mut attributes = container.record().event_attributes();
        attributes.extend(more.into_iter().map(|(key, value)| (key.to_owned(), value)));
        self.events.publish("container", action, container.id(), attributes);
    }

    /// Tell listeners about a container joining or leaving a network.
    pub(crate) fn publish_network(&self, container: &Container, action: &str, network: &str) {
        let Some(known) = self.networks.named(network) else { return };
        let attributes = BTreeMap::from([
            ("container".to_owned(), container.id().to_owned()),
            ("name".to_owned(), network.to_owned()),
            ("type".to_owned(), known.driver_name().to_owned()),
        ]);
        self.events.publish("network", action, &known.id.to_string(), attributes);
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|e| Error::io(format!("cannot make the directory {}", path.display()), e))
}

fn new_engine_id() -> String {
    let id = crate::container::random_id();
    format!("{}-{}-4{}-8{}-{}", &id[..8], &id[8..12], &id[13..16], &id[17..20], &id[20..32])
}
