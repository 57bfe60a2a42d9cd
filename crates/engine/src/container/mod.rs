//! A container in memory: its published record, what lives with the running process, and the lock
//! that lets one operation at a time change its life.
//!
//! Readers take the published record and never wait. `lifecycle` is held across slow kernel work by
//! start, exit, removal, rename and update; nobody else waits for it. Called by the operations
//! below this module.

pub(crate) mod attach;
pub(crate) mod create;
pub(crate) mod exit;
pub(crate) mod health;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod mounts;
mod names;
pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod registry;
pub(crate) mod remove;
pub(crate) mod restart_policy;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod validate;
pub(crate) mod wait;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use docker_types::container::Health;
use launch::Streams;
pub(crate) use names::random_id;
use record::{Phase, Record};
use restart_policy::Backoff;
use tokio::sync::{oneshot, watch};

use crate::error::{Result, fail};
use crate::shim_link::ShimLink;

/// What waiters look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub running: bool,
    /// Counts exits since the engine started.
    pub exits: u64,
    pub exit_code: i32,
    pub error: String,
    pub removed: bool,
}

/// What only one operation at a time may touch.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// What is left of the last run being cleared away.
    pub cleanup: Option<tokio::task::JoinHandle<()>>,
    pub backoff: Backoff,
}

/// A client that attached before the start.
#[derive(Debug)]
pub(crate) struct PendingAttach {
    pub streams: Streams,
    pub connection: oneshot::Sender<OwnedFd>,
}

/// What lives and dies with the process.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub link: Option<Arc<ShimLink>>,
    pub pending: Vec<PendingAttach>,
    /// The start that a restart policy has planned.
    pub restart: Option<tokio::task::AbortHandle>,
    pub health: Option<Health>,
    pub health_task: Option<tokio::task::AbortHandle>,
    /// Listens to the shim.
    pub follow_task: Option<tokio::task::AbortHandle>,
    /// Ids of execs that have not been forgotten.
    pub execs: BTreeSet<String>,
    /// A removal is under way.
    pub removing: bool,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    record: ArcSwap<Record>,
    /// Serialises changes of `record`; held while a change is handed to the database too, so that
    /// the database sees them in order.
    pub(crate) writing: Mutex<()>,
    pub(crate) lifecycle: tokio::sync::Mutex<Lifecycle>,
    live: Mutex<Live>,
    pub(crate) outcome: watch::Sender<Outcome>,
    /// For log followers.
    pub(crate) running: watch::Sender<bool>,
}

impl Container {
    pub(crate) fn new(record: Record) -> Arc<Self> {
        let running = record.state.phase.is_live();
        let outcome = Outcome {
            running,
            exit_code: record.state.exit_code,
            error: record.state.error.clone(),
            ..Outcome::default()
        };
        Arc::new(Self {
            id: record.id.clone(),
            record: ArcSwap::from_pointee(record),
            writing: Mutex::new(()),
            lifecycle: tokio::sync::Mutex::default(),
            live: Mutex::default(),
            outcome: watch::Sender::new(outcome),
            running: watch::Sender::new(running),
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The record as last published.
    pub(crate) fn record(&self) -> Arc<Record> {
        self.record.load_full()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.record.load().state.phase
    }

    /// Change the record in memory; persist it with [`crate::engine::Inner::persist`].
    pub(crate) fn change(&self, change: impl FnOnce(&mut Record)) -> Arc<Record> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = Record::clone(&self.record.load());
        change(&mut record);
        let record = Arc::new(record);
        self.record.store(Arc::clone(&record));
        record
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to the shim of a running container.
    ///
    /// # Errors
    /// Conflict when it is not running.
    pub(crate) fn link(&self) -> Result<Arc<ShimLink>> {
        self.live().link.clone().ok_or_else(|| self.not_running())
    }

    pub(crate) fn not_running(&self) -> crate::Error {
        fail!(Conflict, "container {} is not running", self.id)
    }

    /// First process of a running container.
    pub(crate) fn pid(&self) -> Option<i32> {
        let record = self.record.load();
        (record.state.phase.is_live() && record.state.pid > 0).then_some(record.state.pid)
    }
}
