//! Conformance with the OCI runtime specification (1.2.1 and 1.3.0): a file a subject, one program so that it links
//! once. SPECIFICATION.md names for each section the test that proves it. The runtime under test is the real program,
//! and so are the containers; where a document or an exit code is read by callers, runc's is laid beside ours.

#![allow(clippy::print_stderr, reason = "tests talk to whoever runs them")]

mod annotations;
mod at_once;
mod capabilities;
mod cgroups;
mod checkpoint;
mod clocks;
mod control;
mod descriptors;
mod devices;
mod documents;
mod exec;
mod hooks;
mod idmap;
mod kill;
mod lifecycle;
mod masks;
mod mounts;
mod namespaces;
mod net_devices;
mod no_pivot;
mod place;
mod process;
mod program;
mod propagation;
mod rlimits;
mod rootless;
mod scheduling;
mod seccomp;
mod state;
mod sysctl;
mod terminal;
mod twin;
mod user;
mod user_namespaces;

use oci_tests::Output;

/// The refusal must say what is wrong: every one of the words.
#[track_caller]
fn refused_for(output: Output, words: &[&str]) {
    let output = output.refused();
    for word in words {
        assert!(output.stderr.contains(word), "the refusal does not name {word:?}: {output}");
    }
}
