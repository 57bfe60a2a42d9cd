//! Which runtime is tested, and how thoroughly, by environment variables. Without a runtime the tests say in one
//! sentence that they were left out, so that a plain `cargo test` passes on a laptop.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the tests were given.
#[derive(Debug)]
pub struct Environment {
    /// The runtime under test: `DHOW_TEST_OCI`, a path or a name on `PATH`; without it `dhow-oci` in
    /// `DHOW_TEST_PROGRAMS`.
    pub runtime: PathBuf,
    /// Directory with `busybox.tar` (`DHOW_TEST_FIXTURES`); without it `/bin/busybox` makes the root file systems.
    pub fixtures: Option<PathBuf>,
    /// Whether the tests of minutes run too (`DHOW_TEST_LONG=1`).
    pub long: bool,
}

impl Environment {
    /// The environment, or None with a word on standard error.
    pub fn get() -> Option<&'static Self> {
        static ENVIRONMENT: OnceLock<Option<Environment>> = OnceLock::new();
        let found = ENVIRONMENT.get_or_init(|| {
            let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
            let given = path("DHOW_TEST_OCI").map(on_path);
            let runtime = given.or_else(|| path("DHOW_TEST_PROGRAMS").map(|programs| programs.join("dhow-oci")))?;
            assert!(runtime.is_file(), "the runtime under test, {}, is not there", runtime.display());
            if !rustix::process::geteuid().is_root() {
                return None;
            }
            Some(Self {
                runtime,
                fixtures: path("DHOW_TEST_FIXTURES"),
                long: std::env::var("DHOW_TEST_LONG").is_ok_and(|value| value == "1"),
            })
        });
        if found.is_none() {
            eprintln!("left out: tests of the OCI runtime need root and DHOW_TEST_OCI or DHOW_TEST_PROGRAMS");
        }
        found.as_ref()
    }

    /// `long` attempts in a long run, a tenth of them otherwise.
    #[must_use]
    pub fn attempts(&self, long: usize) -> usize {
        if self.long { long } else { long.div_ceil(10) }
    }

    /// Whether the runtime under test is ours: some sentences and some refusals are ours alone.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.runtime.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dhow"))
    }
}

/// A name without a slash is looked for on `PATH`.
fn on_path(program: PathBuf) -> PathBuf {
    if program.components().count() > 1 {
        return program;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir: PathBuf| dir.join(&program))
        .find(|candidate: &PathBuf| Path::is_file(candidate))
        .unwrap_or(program)
}
