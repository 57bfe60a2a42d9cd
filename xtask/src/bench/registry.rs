//! `cargo xtask bench registry`: blobs from and to our registry beside Debian's, by sixteen clients at once.
//!
//! The clients are threads here that speak HTTP by themselves and throw away what they get: what is measured is
//! the servers, on the same machine as the clients and with the same share of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::pull::Registry;
use super::sample::Sample;
use super::side::{self, Row};
use crate::binaries::{self, Profile};
use crate::shell;

const CLIENTS: usize = 16;
/// Bytes that all clients together move in one round.
const MOVED: usize = 1600 << 20;
/// The same for uploads, each of which the disk has to keep.
const STORED: usize = 400 << 20;

/// One connection that is kept.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(256 * 1024, stream) })
    }

    /// Sends a request; gives the status and the location. The body of the answer is thrown away.
    fn ask(&mut self, method: &str, target: &str, pieces: &[&[u8]]) -> Result<(u16, String)> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        pieces.iter().try_for_each(|piece| stream.write_all(piece))?;
        let (mut status, mut location, mut left) = (0, String::new(), 0_u64);
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "{method} {target}: the connection was closed");
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if status == 0 {
                status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
            }
            if let Some((name, value)) = text.split_once(": ") {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => left = value.parse()?,
                    "location" => location = value.to_owned(),
                    _ => {}
                }
            }
        }
        while left > 0 {
            let here = self.stream.fill_buf()?.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            ensure!(here > 0, "{method} {target}: the answer was cut off");
            self.stream.consume(here);
            left -= here as u64;
        }
        Ok((status, location))
    }

    fn put(&mut self, pieces: &[&[u8]], digest: &str) -> Result<()> {
        let (status, location) = self.ask("POST", "/v2/bench/blobs/uploads/", &[])?;
        ensure!(status == 202, "an upload began with {status}");
        let target = match location.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
            None => location,
        };
        let separator = if target.contains('?') { '&' } else { '?' };
        let (status, _) = self.ask("PUT", &format!("{target}{separator}digest={digest}"), pieces)?;
        ensure!(status == 201, "an upload ended with {status}");
        Ok(())
    }
}

fn digest(pieces: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Our registry over a directory.
struct Ours {
    child: Child,
    address: String,
}

impl Ours {
    fn start(programs: &Path, root: &Path) -> Result<Self> {
        let mut command = Command::new(programs.join("dhowd"));
        command.args(["registry", "serve", "--addr", "127.0.0.1:0", "--log-level", "warn", "--root"]).arg(root);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start dhowd")?;
        let mut line = String::new();
        let out = child.stdout.take().context("its output is a pipe")?;
        BufReader::new(out).read_line(&mut line)?;
        let address = line.trim().rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self { child, address })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(programs: Option<&Path>, rounds: usize) -> Result<()> {
    shell::require_packages(&[("docker-registry", "docker-registry")])?;
    let programs = match programs {
        Some(programs) => programs.to_owned(),
        None => binaries::build(Profile::Release)?,
    };
    let mut base = vec![0; 100 << 20];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut base)?;
    let scratch = tempfile::tempdir_in(shell::target())?;
    let theirs = Registry::start(&scratch.path().join("theirs"))?;
    let ours = Ours::start(&programs, &scratch.path().join("ours"))?;
    let mut rows: Vec<Row> = Vec::new();
    let mut serial = 0_u64;
    for mebibytes in [1, 10, 100] {
        let bytes = mebibytes << 20;
        let blob = &base[..bytes];
        let name = digest(&[blob]);
        for address in [&theirs.address, &ours.address] {
            Connection::open(address)?.put(&[blob], &name)?;
        }
        let target = format!("/v2/bench/blobs/{name}");
        let (mut peer, mut own) = (Sample::default(), Sample::default());
        // The first round warms both.
        for round in 0..=rounds {
            for (address, sample) in [(&theirs.address, &mut peer), (&ours.address, &mut own)] {
                let work = || get(address, &target, (MOVED / bytes / CLIENTS).max(1));
                if round == 0 { work()? } else { sample.measure(work)? }
            }
        }
        rows.push(side::row_beside(
            "docker-registry",
            &format!("GET of {mebibytes} MiB blobs, {CLIENTS} clients"),
            2.0,
            &peer,
            &own,
        ));
        let (mut peer, mut own) = (Sample::default(), Sample::default());
        for _ in 0..rounds {
            for (address, sample) in [(&theirs.address, &mut peer), (&ours.address, &mut own)] {
                // Each blob differs from every other in its beginning.
                let count = (STORED / bytes).max(CLIENTS);
                let marks: Vec<[u8; 16]> = (0..count as u64).map(|at| u128::from(serial + at).to_le_bytes()).collect();
                serial += count as u64;
                let named = digests(&marks, blob);
                shell::run(&mut shell::command("sync", [] as [&str; 0]))?;
                sample.measure(|| put(address, blob, &named))?;
            }
        }
        rows.push(side::row_beside(
            "docker-registry",
            &format!("PUT of {mebibytes} MiB blobs, {CLIENTS} clients"),
            2.0,
            &peer,
            &own,
        ));
    }
    side::table("docker-registry", &rows);
    Ok(())
}

/// Every client fetches a blob `times` times over one connection.
fn get(address: &str, target: &str, times: usize) -> Result<()> {
    at_once(CLIENTS, |_| {
        let mut connection = Connection::open(address)?;
        for _ in 0..times {
            let (status, _) = connection.ask("GET", target, &[])?;
            ensure!(status == 200, "a blob came with {status}");
        }
        Ok(())
    })
}

/// The clients upload all blobs, each its share.
fn put(address: &str, blob: &[u8], named: &[([u8; 16], String)]) -> Result<()> {
    at_once(CLIENTS, |client| {
        let mut connection = Connection::open(address)?;
        let mut own = named.iter().skip(client).step_by(CLIENTS);
        own.try_for_each(|(mark, name)| connection.put(&[mark, &blob[16..]], name))
    })
}

fn digests(marks: &[[u8; 16]], blob: &[u8]) -> Vec<([u8; 16], String)> {
    marks.iter().map(|mark| (*mark, digest(&[mark, &blob[16..]]))).collect()
}

fn at_once(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|at| {
                scope.spawn({
                    let work = &work;
                    move || work(at)
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("a client panicked")),
        })
    })
}
