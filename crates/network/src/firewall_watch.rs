//! A thread that hears of firewall changes by others and has our rules put right.
//!
//! `nft flush ruleset`, a firewall service that restarts, or a daemon that brings up a dropping forward chain would
//! cut containers off, or open what must stay closed. The kernel tells of each such change; our own are told apart by
//! the socket they came through. Bursts are waited out shortly, so that a flush of thousands of rules costs one restore.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink::nftables::{Change, NftMonitor, NftSocket, Object};

use crate::ruleset::Ruleset;
use crate::{Error, Result};

/// How long a burst of changes is waited out.
const SETTLE: Duration = Duration::from_millis(20);
/// The same at most, when somebody keeps changing our rules as fast as we put them right.
const SETTLE_MAX: Duration = Duration::from_millis(640);
/// A repair this long ago belongs to another matter.
const CALM: Duration = Duration::from_secs(5);

/// What has to be put right, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Repair {
    /// Our place in front of chains of others.
    ForeignChains,
    /// All rules.
    Everything,
}

/// The watching thread of one bridge.
#[derive(Debug)]
pub(crate) struct FirewallWatch {
    running: Mutex<Option<(UnixStream, JoinHandle<()>)>>,
}

impl FirewallWatch {
    /// Starts watching in the calling thread's network namespace. `repair` works through `nft`, whose
    /// changes are not taken for others'.
    pub(crate) fn start(
        ruleset: &Ruleset,
        nft: &Arc<Mutex<NftSocket>>,
        repair: impl Fn(Repair) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let mut monitor = NftMonitor::open()?;
        let own = nft.lock().unwrap_or_else(PoisonError::into_inner).port_id();
        let (stop, stopped) = UnixStream::pair().map_err(Error::io("make a socket pair"))?;
        let (table, bridge) = (ruleset.table.clone(), ruleset.bridge.clone());
        let run = move || {
            let mut settle = SETTLE;
            let mut last = None::<Instant>;
            loop {
                let mut wanted = None;
                let waited = monitor.wait(stopped.as_fd(), |change| {
                    wanted = wanted.max(consequence(&change, &table, own));
                });
                match waited {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(%error, bridge, "cannot watch the firewall; flushed rules stay flushed");
                        return;
                    }
                }
                let Some(wanted) = wanted else { continue };
                settle = match last {
                    Some(last) if last.elapsed() < CALM => (settle * 2).min(SETTLE_MAX),
                    _ => SETTLE,
                };
                std::thread::sleep(settle);
                if let Err(error) = repair(wanted) {
                    tracing::warn!(%error, bridge, "cannot put firewall rules in force again");
                }
                last = Some(Instant::now());
            }
        };
        let thread = std::thread::Builder::new()
            .name("firewall-watch".into())
            .spawn(run)
            .map_err(Error::io("start the thread that watches the firewall"))?;
        Ok(Self { running: Mutex::new(Some((stop, thread))) })
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = running {
            // Closing our end wakes it.
            drop(stop);
            // A panic in there has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for FirewallWatch {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a change calls for.
fn consequence(change: &Change, table: &str, own: u32) -> Option<Repair> {
    match change {
        Change::Lost => Some(Repair::Everything),
        Change::Made { by, .. } if *by == own => None,
        Change::Made { table: changed, .. } if changed == table => Some(Repair::Everything),
        // Our place in a foreign chain may be gone, or a dropping chain may be new.
        Change::Made { object: Object::Chain, removed: false, .. }
        | Change::Made { object: Object::Rule, removed: true, .. } => Some(Repair::ForeignChains),
        Change::Made { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(table: &str, object: Object, removed: bool, by: u32) -> Option<Repair> {
        consequence(&Change::Made { table: table.into(), object, removed, by }, "ours", 7)
    }

    #[test]
    fn own_changes_and_other_bridges_call_for_nothing() {
        assert_eq!(change("ours", Object::Table, true, 7), None);
        assert_eq!(change("ours", Object::Element, true, 8), Some(Repair::Everything));
        // Two bridges that repaired everything at each other's changes would never come to rest.
        for removed in [false, true] {
            assert_eq!(change("theirs", Object::Element, removed, 8), None);
            assert_eq!(change("theirs", Object::Table, removed, 8), None);
        }
        assert_eq!(change("theirs", Object::Chain, false, 8), Some(Repair::ForeignChains));
        assert_eq!(consequence(&Change::Lost, "ours", 7), Some(Repair::Everything));
    }
}
