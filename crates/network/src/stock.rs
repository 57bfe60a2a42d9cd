//! The stock of prepared namespaces and the thread behind it, which also sweeps up what released containers leave.
//!
//! The invariant: a namespace is handed out once. The stock adapts to demand: running dry raises its level, a quiet spell
//! lowers it. Released veth pairs normally end with their namespace; the thread looks after a grace time and
//! deletes those that did not, all of a batch in one RCU grace period, off every caller's path.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink::route::{LinkChange, RouteRequests, RouteSocket};

use crate::sandbox::Sandbox;
use crate::{Error, Result};

/// How long a released namespace is given to end by itself before its veth pair is deleted.
const GRACE: Duration = Duration::from_millis(500);
/// How long nothing must be taken before the stock shrinks to its lowest level.
const QUIET: Duration = Duration::from_secs(30);
/// How long after a namespace was taken another is prepared, so that preparing does not contend with the start it was taken
/// for. An empty stock does not wait.
const LAG: Duration = Duration::from_millis(5);
/// How long to wait after one could not be prepared.
const RETRY: Duration = Duration::from_secs(1);

/// A stock of namespaces, kept up by a thread of its own.
#[derive(Debug)]
pub(crate) struct Stock {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    lowest: usize,
    highest: usize,
}

#[derive(Debug)]
struct State {
    idle: Vec<Sandbox>,
    level: usize,
    last_taken: Instant,
    retry_at: Option<Instant>,
    /// Host ends of released veth pairs and when to look after them.
    released: Vec<(Instant, String)>,
    /// Links to delete without waiting.
    condemned: Vec<String>,
    stopping: bool,
    /// Whether the thread is there to do anything.
    running: bool,
}

impl Stock {
    /// Starts the thread in the calling thread's network namespace. `lowest` namespaces are kept ready at quiet times, up to
    /// `highest` under load; both may be 0.
    pub(crate) fn start(lowest: usize, highest: usize) -> Result<Self> {
        let mut socket = RouteSocket::open()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                idle: Vec::new(),
                level: lowest,
                last_taken: Instant::now(),
                retry_at: None,
                released: Vec::new(),
                condemned: Vec::new(),
                stopping: false,
                running: true,
            }),
            wake: Condvar::new(),
            lowest,
            highest: highest.max(lowest),
        });
        let group = crate::random::bytes::<4>().map(u32::from_ne_bytes)? | 0x8000_0000;
        let thread = std::thread::Builder::new()
            .name("netns-stock".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run(&mut socket, group)
            })
            .map_err(Error::io("start the thread that prepares network namespaces"))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Takes a prepared namespace, if there is one, and has another made.
    pub(crate) fn take(&self) -> Option<Sandbox> {
        let mut state = self.shared.lock();
        state.last_taken = Instant::now();
        let slot = state.idle.pop();
        if slot.is_none() {
            state.level = (state.level * 2).clamp(self.shared.lowest, self.shared.highest);
        }
        self.shared.wake.notify_one();
        slot
    }

    /// Has the host's end of a released veth pair looked after. Returns at once.
    pub(crate) fn sweep(&self, veth: String) {
        self.shared.lock().released.push((Instant::now() + GRACE, veth));
        self.shared.wake.notify_one();
    }

    /// Has a link deleted in the background, now; false when nobody is there to do it.
    pub(crate) fn delete(&self, link: String) -> bool {
        let mut state = self.shared.lock();
        if !state.running || state.stopping {
            return false;
        }
        state.condemned.push(link);
        self.shared.wake.notify_one();
        true
    }

    /// How many are ready.
    pub(crate) fn idle(&self) -> usize {
        self.shared.lock().idle.len()
    }

    /// Ends the thread and the idle namespaces. Released veth pairs are deleted without grace.
    pub(crate) fn stop(&self) {
        let idle = {
            let mut state = self.shared.lock();
            state.stopping = true;
            std::mem::take(&mut state.idle)
        };
        drop(idle);
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in there has been reported by the panic hook; nothing is left to be done about it.
            let _ = thread.join();
        }
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread does next.
enum Step {
    Prepare,
    Shrink(Vec<Sandbox>),
    Delete(Vec<String>),
    Stop(Vec<String>),
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is consistent between statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, socket: &mut RouteSocket, group: u32) {
        loop {
            match self.next_step() {
                Step::Prepare => match Sandbox::prepare(socket) {
                    Ok(slot) => {
                        let mut state = self.lock();
                        if !state.stopping {
                            state.idle.push(slot);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot prepare a network namespace ahead; will try again");
                        self.lock().retry_at = Some(Instant::now() + RETRY);
                    }
                },
                Step::Shrink(surplus) => drop(surplus),
                Step::Delete(veths) => delete_leftovers(socket, &veths, group),
                Step::Stop(veths) => {
                    delete_leftovers(socket, &veths, group);
                    self.lock().running = false;
                    return;
                }
            }
        }
    }

    fn next_step(&self) -> Step {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.stopping {
                let State { released, condemned, .. } = &mut *state;
                return Step::Stop(released.drain(..).map(|(_, veth)| veth).chain(condemned.drain(..)).collect());
            }
            if !state.condemned.is_empty() {
                return Step::Delete(std::mem::take(&mut state.condemned));
            }
            if state.level > self.lowest && now.duration_since(state.last_taken) >= QUIET {
                state.level = self.lowest;
                let keep = state.idle.len().min(self.lowest);
                return Step::Shrink(state.idle.split_off(keep));
            }
            if state.retry_at.is_some_and(|at| at <= now) {
                state.retry_at = None;
            }
            let mut prepare_at = None;
            if state.idle.len() < state.level && state.retry_at.is_none() {
                let at = state.last_taken + LAG;
                if state.idle.is_empty() || at <= now {
                    return Step::Prepare;
                }
                prepare_at = Some(at);
            }
            // Whatever was released meanwhile goes along when the first is due.
            if state.released.first().is_some_and(|(due, _)| *due <= now) {
                return Step::Delete(state.released.drain(..).map(|(_, veth)| veth).collect());
            }
            let quiet_at = (state.level > self.lowest).then(|| state.last_taken + QUIET);
            let due = state.released.first().map(|(due, _)| *due);
            let next = [quiet_at, due, state.retry_at, prepare_at].into_iter().flatten().min();
            state = match next {
                Some(at) => {
                    let wait = at.saturating_duration_since(now);
                    self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Deletes those of the links that still exist, together.
fn delete_leftovers(socket: &mut RouteSocket, veths: &[String], group: u32) {
    let marked: Vec<&String> = veths
        .iter()
        .filter(|veth| {
            let mut requests = RouteRequests::new();
            requests.change_link_by_name(veth, &LinkChange { group: Some(group), ..LinkChange::default() });
            socket.apply(requests).is_ok()
        })
        .collect();
    if marked.is_empty() {
        return;
    }
    let mut requests = RouteRequests::new();
    requests.delete_group(group);
    match socket.apply(requests) {
        Err(error) if !error.is_absent() => {
            tracing::warn!(%error, ?marked, "cannot delete the network links of released containers");
        }
        _ => tracing::debug!(?marked, "deleted network links whose namespace outlived its container"),
    }
}
