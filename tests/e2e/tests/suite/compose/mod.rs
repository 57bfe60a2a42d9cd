//! The unmodified Docker Compose: the application of `examples/three-tier`, and small projects for what Compose needs of
//! an engine. By default tests run on our daemon, and on the real dockerd too where agreement is the question.
//! `DHOW_TEST_COMPOSE=dockerd` runs them all on the real one alone, which tells a fault of a test from one of ours;
//! `DHOW_TEST_COMPOSE=both` on each.

mod agree;
mod application;
mod commands;
mod recorder;
mod small;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::{Client, Daemon, Project};

/// The engine that a project is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Dhowd,
    Dockerd,
}

/// What a test runs on.
fn engines() -> Vec<Engine> {
    match asked().as_deref() {
        Some("dockerd") => vec![Engine::Dockerd],
        Some("both") => vec![Engine::Dockerd, Engine::Dhowd],
        _ => vec![Engine::Dhowd],
    }
}

/// What answers are compared of, the example to follow first. The real dockerd must agree with itself.
fn pair() -> [Engine; 2] {
    let second = if asked().as_deref() == Some("dockerd") { Engine::Dockerd } else { Engine::Dhowd };
    [Engine::Dockerd, second]
}

fn asked() -> Option<String> {
    std::env::var("DHOW_TEST_COMPOSE").ok()
}

impl Engine {
    fn client(self, daemon: &Daemon) -> Client {
        match self {
            Self::Dhowd => daemon.docker(),
            Self::Dockerd => daemon.twin(),
        }
    }

    fn project(self, daemon: &Daemon, name: &str, file: &Path) -> Project {
        let peers = daemon.environment.peers.as_ref().expect("a daemon beside peers");
        Project::new(peers, self.client(daemon), name, file)
    }

    /// The example, published at the address. Its images are there: the real dockerd has built them.
    fn three_tier(self, daemon: &Daemon, name: &str, address: &str) -> Project {
        let images = daemon.environment.fixtures.join("three-tier.tar");
        if self == Self::Dhowd {
            daemon.docker().run(&["load", "--quiet", "--input", images.to_str().expect("a UTF-8 path")]);
        }
        self.project(daemon, name, &example(daemon)).with("PUBLISH", address)
    }

    /// A project of the text of a compose file, in a directory of its own in the daemon's.
    fn small(self, daemon: &Daemon, name: &str, text: &str) -> Project {
        let directory = daemon.dir.path().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("compose.yaml");
        std::fs::write(&file, text).expect("a compose file");
        if self == Self::Dhowd {
            daemon.busybox();
        }
        self.project(daemon, name, &file)
    }
}

/// The example's compose file, below the directory for temporary files, which the real dockerd sees too.
fn example(daemon: &Daemon) -> PathBuf {
    let place = daemon.dir.path().join("three-tier");
    if !place.exists() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/three-tier");
        let status = Command::new("cp").arg("-R").arg(source).arg(&place).status().expect("cp runs");
        assert!(status.success(), "the example cannot be copied");
    }
    place.join("compose.yaml")
}

/// A name that cannot meet another test's: tests at work at the same time share the real dockerd.
fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("dhow-e2e-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// An address on loopback where nobody listens now.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address").to_string()
}
