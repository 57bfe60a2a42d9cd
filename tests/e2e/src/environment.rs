//! What `cargo xtask test` prepared, by environment variables. Without it the tests say in one
//! sentence that they were left out, so that a plain `cargo test` passes on a laptop.

use std::path::PathBuf;
use std::sync::OnceLock;

#[derive(Debug)]
pub struct Environment {
    /// Directory with `dhow`, `dhowd` and `dhow-shim`.
    pub programs: PathBuf,
    /// Directory with `busybox.tar` and `debian.tar`.
    pub fixtures: PathBuf,
    /// `unix://…` of a real dockerd that holds `busybox:latest` and `debian:bookworm`.
    pub dockerd: String,
    /// The unmodified docker client.
    pub docker: PathBuf,
    /// Whether the tests of minutes run too.
    pub long: bool,
}

impl Environment {
    /// The prepared environment, or None with a word on standard error.
    pub fn get() -> Option<&'static Self> {
        static ENVIRONMENT: OnceLock<Option<Environment>> = OnceLock::new();
        let found = ENVIRONMENT.get_or_init(|| {
            let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
            Some(Self {
                programs: path("DHOW_TEST_PROGRAMS")?,
                fixtures: path("DHOW_TEST_FIXTURES")?,
                dockerd: std::env::var("DHOW_TEST_DOCKERD").ok()?,
                docker: path("DHOW_TEST_DOCKER")?,
                long: std::env::var("DHOW_TEST_LONG").is_ok_and(|value| value == "1"),
            })
        });
        if found.is_none() {
            eprintln!("left out: end-to-end tests run under `cargo xtask test`, which prepares what they need");
        }
        found.as_ref()
    }
}
