//! End-to-end tests: real clients against a real daemon and real containers. One program, so that
//! it links once; a file per subject.

#![allow(clippy::print_stderr, reason = "tests talk to whoever runs them")]

mod archives;
mod bad_input;
mod build;
mod build_attack;
mod build_cache;
mod build_check;
mod build_classic;
mod build_client;
mod build_direct;
mod build_examples;
mod build_exchange;
mod build_failed;
mod build_front_end;
mod build_history;
mod build_llb;
mod build_output;
mod build_sources;
mod compose;
mod copy;
mod crash;
mod daemon_start;
mod disk;
mod docker_py;
mod images;
mod leaks;
mod lifecycle;
mod links;
mod manifests;
mod neighbour;
mod network;
mod networks;
mod oci_containerd;
mod oci_docker;
mod oci_docker_options;
mod oci_podman;
mod options;
mod platforms;
mod policies;
mod power;
mod registry;
mod registry_serve;
mod room;
mod rows;
mod streams;
mod terminal;
mod trust;
mod twin;
mod update;
mod versions;
mod volumes;

use std::time::{Duration, Instant};

/// Wait until the condition holds; fail the test with the given words after the time.
#[track_caller]
fn eventually(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(seconds), "{what} did not happen within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
