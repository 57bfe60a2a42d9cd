//! The engine with our own programs alone: no docker client, no dockerd to compare with. These run on
//! any host and in the virtual machines, whose pure cgroup v2 and other kernels they are about.

#![allow(clippy::print_stderr, reason = "tests talk to whoever runs them")]

mod crash;
mod groups;
mod lifecycle;
mod limits;
mod network;
mod quota;
mod sandbox;
mod shares;

use std::time::{Duration, Instant};

use e2e::{Client, Daemon, Options};

/// A daemon that holds `busybox:latest`, and our client on it.
fn engine(network: bool) -> Option<(Daemon, Client)> {
    let daemon = Daemon::start_with(Options { network, alone: true, ..Options::default() })?;
    daemon.busybox();
    let client = daemon.dhow();
    Some((daemon, client))
}

/// Wait until the condition holds; fail the test with the given words after the time.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
