//! What `cargo xtask test` prepared, by environment variables. Without it the tests say in one
//! sentence that they were left out, so that a plain `cargo test` passes on a laptop.

use std::path::PathBuf;
use std::sync::OnceLock;

#[derive(Debug)]
pub struct Environment {
    /// Directory with `dhow`, `dhowd` and `dhow-shim`.
    pub programs: PathBuf,
    /// Directory with `busybox.tar` and, beside peers, `debian.tar`.
    pub fixtures: PathBuf,
    /// Docker's own programs; a virtual machine has none.
    pub peers: Option<Peers>,
    /// Whether the tests of minutes run too.
    pub long: bool,
}

/// What our programs are compared with.
#[derive(Debug)]
pub struct Peers {
    /// `unix://…` of a real dockerd that holds `busybox:latest` and `debian:bookworm`.
    pub dockerd: String,
    /// The unmodified docker client.
    pub docker: PathBuf,
    /// Where the root with the real engines lies; in it `holder`, the process that has it as its root.
    pub home: PathBuf,
}

impl Peers {
    /// The unmodified Docker Compose, a plugin of the docker client.
    pub fn compose(&self) -> PathBuf {
        self.plugin("docker-compose")
    }

    /// The unmodified buildx, another one.
    pub fn buildx(&self) -> PathBuf {
        self.plugin("docker-buildx")
    }

    fn plugin(&self, name: &str) -> PathBuf {
        self.home.join("sid/usr/libexec/docker/cli-plugins").join(name)
    }
}

impl Environment {
    /// The prepared environment with peers, or None with a word on standard error.
    pub fn get() -> Option<&'static Self> {
        let found = Self::prepared().filter(|environment| environment.peers.is_some());
        if found.is_none() {
            eprintln!("left out: end-to-end tests run under `cargo xtask test`, which prepares what they need");
        }
        found
    }

    /// The prepared environment, with or without peers, or None with a word on standard error.
    pub fn alone() -> Option<&'static Self> {
        let found = Self::prepared();
        if found.is_none() {
            eprintln!("left out: run this under `cargo xtask test` or `cargo xtask vm-test`, which build the programs");
        }
        found
    }

    fn prepared() -> Option<&'static Self> {
        static ENVIRONMENT: OnceLock<Option<Environment>> = OnceLock::new();
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let peers = || {
            let dockerd = std::env::var("DHOW_TEST_DOCKERD").ok()?;
            Some(Peers { dockerd, docker: path("DHOW_TEST_DOCKER")?, home: path("DHOW_TEST_PEERS")? })
        };
        let prepared = || {
            Some(Self {
                programs: path("DHOW_TEST_PROGRAMS")?,
                fixtures: path("DHOW_TEST_FIXTURES")?,
                peers: peers(),
                long: std::env::var("DHOW_TEST_LONG").is_ok_and(|value| value == "1"),
            })
        };
        ENVIRONMENT.get_or_init(prepared).as_ref()
    }
}
