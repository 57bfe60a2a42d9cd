//! A proof for each class of vulnerability that runtimes have had: the attack is made for real, and what it is after
//! must be unharmed. One program, so that it links once; a file a class. Which guard each test guards is written in
//! `docs/adr`.

#![allow(clippy::print_stderr, reason = "tests talk to whoever runs them")]

mod a01_program;
mod a02_descriptors;

use std::fs;
use std::path::Path;

use oci_tests::Output;

/// Errors that refuse a write, as the kernel numbers them: EPERM, EACCES, ETXTBSY, EROFS.
const REFUSALS: [i32; 4] = [1, 13, 26, 30];

/// A file that the container wrote, or nothing.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A start may be refused while its paths are in motion, but then in a sentence.
#[track_caller]
fn started_or_refused(output: &Output) -> bool {
    output.success() || output.clone().refused().code.is_none()
}
