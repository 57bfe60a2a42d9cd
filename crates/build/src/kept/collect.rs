//! Collection by itself: a while after builds, and while they run when the disk is filling up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::prune::free;
use super::{Collect, Policy, prune};
use crate::solve::Shared;

/// How long after a build it begins: often another build follows.
const AFTER: Duration = Duration::from_secs(2);
/// Time between the end of one and the beginning of the next.
const REST: Duration = Duration::from_secs(10);
/// Time between two looks at the disk while builds run.
const LOOK: Duration = Duration::from_secs(5);

/// Collects in the background. At most one collection is on its way.
#[derive(Debug)]
pub(crate) struct Collector {
    shared: Weak<Shared>,
    policies: Vec<Policy>,
    planned: AtomicBool,
    /// Another one, after the one that is on its way.
    again: AtomicBool,
    watching: AtomicBool,
}

impl Collector {
    pub(crate) fn new(shared: &Arc<Shared>, collect: &Collect) -> Arc<Self> {
        let disk = free(shared.host.work()).map_or(0, |(total, _)| total);
        Arc::new(Self {
            shared: Arc::downgrade(shared),
            policies: collect.policies(disk),
            planned: AtomicBool::new(false),
            again: AtomicBool::new(false),
            watching: AtomicBool::new(false),
        })
    }

    /// By what it collects.
    pub(crate) fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Something may have come that is too much.
    pub(crate) fn later(self: &Arc<Self>) {
        self.again.store(true, Ordering::Release);
        if self.planned.swap(true, Ordering::AcqRel) {
            return;
        }
        let collector = Arc::clone(self);
        tokio::spawn(async move {
            while collector.again.swap(false, Ordering::AcqRel) {
                tokio::time::sleep(AFTER).await;
                collector.run().await;
                tokio::time::sleep(REST).await;
            }
            collector.planned.store(false, Ordering::Release);
            // Somebody may have asked between the two.
            if collector.again.load(Ordering::Acquire) {
                collector.later();
            }
        });
    }

    /// Looks at the disk for as long as `busy` says.
    pub(crate) fn watch(self: &Arc<Self>, busy: impl Fn() -> bool + Send + 'static) {
        let wanted = self.policies.iter().map(|policy| policy.limits.min_free).filter(|bytes| *bytes > 0).min();
        let Some(wanted) = wanted else { return };
        if self.watching.swap(true, Ordering::AcqRel) {
            return;
        }
        let collector = Arc::clone(self);
        tokio::spawn(async move {
            while busy() {
                let Some(shared) = collector.shared.upgrade() else { return };
                if free(shared.host.work()).is_some_and(|(_, free)| free < wanted) {
                    collector.later();
                }
                drop(shared);
                tokio::time::sleep(LOOK).await;
            }
            collector.watching.store(false, Ordering::Release);
        });
    }

    async fn run(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        shared.records.settle(&*shared.host).await;
        for policy in &self.policies {
            match prune(&shared, policy).await {
                Ok(gone) if gone.is_empty() => {}
                Ok(gone) => {
                    let bytes: u64 = gone.iter().map(|usage| usage.size).sum();
                    tracing::info!(results = gone.len(), bytes, "the build cache was collected");
                }
                Err(error) => tracing::warn!(%error, "the build cache could not be collected"),
            }
        }
    }
}
