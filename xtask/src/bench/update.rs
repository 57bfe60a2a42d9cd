//! An update that shares nine files of ten with what is here: how many bytes come.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::pull::Registry;
use super::sample::Sample;
use super::side::{Dhowd, Row, Side, row};
use crate::peers::Peers;
use crate::shell;

/// Makes every tenth file another one.
const CHANGE: &str = "find /usr /var /etc -xdev -type f | sort | awk 'NR % 10 == 0' | while read -r f; do \
                      echo changed >> \"$f\"; done";

/// Puts two versions of the large image, each in one layer, into the registry, in the form that says where its files are.
pub fn fill(registry: &Registry, docker: &Side, peers: &Peers) -> Result<()> {
    for (version, change) in [("1", "true"), ("2", CHANGE)] {
        if registry.has(&format!("update:{version}")) {
            continue;
        }
        let (large, plain) = (registry.name("big:1"), registry.name(&format!("plain:{version}")));
        docker.run(&["pull", "-q", &large])?;
        let _ = docker.run(&["rm", "-f", "dhow-bench-update"]);
        docker.run(&["run", "--network", "none", "--name", "dhow-bench-update", &large, "sh", "-c", change])?;
        let archive = tempfile::NamedTempFile::new_in(shell::target())?;
        let path = archive.path().display().to_string();
        docker.run(&["export", "-o", &path, "dhow-bench-update"])?;
        docker.run(&["rm", "dhow-bench-update"])?;
        docker.run(&["import", &path, &plain])?;
        docker.run(&["push", "-q", &plain])?;
        docker.run(&["rmi", "-f", &plain, &large])?;
        let (from, to) =
            (format!("docker://{plain}"), format!("docker://{}", registry.name(&format!("update:{version}"))));
        let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let format = ["--format", "oci", "--dest-compress-format", "zstd:chunked", "--dest-force-compress-format"];
        shell::run(&mut peers.command(&[&["skopeo", "copy"], &tls[..], &format[..], &[&from, &to]].concat()))?;
    }
    Ok(())
}

/// Pulls the second version where the first is; gives a row with the times and one with the bytes.
pub fn run(
    registry: &Registry,
    docker: &Side,
    start: &dyn Fn(&[&str]) -> Result<Dhowd>,
    rounds: usize,
) -> Result<[Row; 2]> {
    let counter = Counter::before(&registry.address)?;
    let [first, second] = ["update:1", "update:2"].map(|image| format!("{}/{image}", counter.address));
    let (mut peer, mut ours) = (Sample::default(), Sample::default());
    let (mut peer_bytes, mut our_bytes) = (0, 0);
    for _ in 0..rounds {
        let daemon = start(&[])?;
        for (side, sample, bytes) in [(docker, &mut peer, &mut peer_bytes), (&daemon.side, &mut ours, &mut our_bytes)] {
            side.run(&["pull", "-q", &first])?;
            shell::run(&mut shell::command("sync", [] as [&str; 0]))?;
            let before = counter.count();
            sample.measure(|| side.run(&["pull", "-q", &second]))?;
            *bytes = counter.count() - before;
        }
        docker.run(&["rmi", "-f", &first, &second])?;
    }
    let work = "pull of an update with 90 % of its files here";
    let share = 100.0 * our_bytes as f64 / peer_bytes.max(1) as f64;
    let bytes = Row {
        work: format!("bytes of it from the registry ({work})"),
        goal: "≤ 15 %".into(),
        peer: peer_bytes.to_string(),
        ours: our_bytes.to_string(),
        ratio: format!("{share:.1} % ({})", if share <= 15.0 { "met" } else { "not met" }),
    };
    eprintln!("  {}: dockerd {}, dhow {}, {}", bytes.work, bytes.peer, bytes.ours, bytes.ratio);
    Ok([row(work, 1.0, &peer, &ours), bytes])
}

/// Passes everything on and counts what clients are sent.
struct Counter {
    address: String,
    sent: Arc<AtomicU64>,
}

impl Counter {
    fn before(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, sent) = (listener.local_addr()?.to_string(), Arc::new(AtomicU64::new(0)));
        let (upstream, counted) = (upstream.to_owned(), Arc::clone(&sent));
        // Threads end with their connections, the first with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
                std::thread::spawn(move || pass(from, to, None));
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || pass(server, client, Some(&counted)));
            }
        });
        Ok(Self { address, sent })
    }

    fn count(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, counter: Option<&AtomicU64>) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        if let Some(counter) = counter {
            counter.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
