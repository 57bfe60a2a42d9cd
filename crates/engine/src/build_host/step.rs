//! A process of a build: confined as containers are, known to nobody but the build. It has no record in the database: an
//! engine that died ends it at the next start, by its control group and directory, which no container has.

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use build::host::{Ended, MountSource, Mounted, Network, Output, Run};
use bytes::Bytes;
use docker_types::StrSlice;
use docker_types::container::{ContainerConfig, HostConfig, LogConfig, Ulimit};
use docker_types::network::EndpointSettings;
use launch::{Event, ExitRecord, Mount, MountKind, Request, Response, Streams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::clock;
use crate::container::record::Record;
use crate::container::start::{self, Ready};
use crate::container::{exit, random_id, validate};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::plan::{Assembled, mount_sources};
use crate::shim_link::ShimLink;

/// `MOUNT_ATTR_*` (linux/mount.h).
mod attr {
    pub const RDONLY: u64 = 1;
    pub const NOSUID: u64 = 2;
    pub const NODEV: u64 = 4;
}

/// Largest frame of output, as the shim writes them.
const MAX_FRAME: usize = 1 << 20;

/// Run a process to its end.
///
/// # Errors
/// In the words of a container's start; Cancelled when nobody wants it any more.
pub(super) async fn run(inner: &Arc<Inner>, run: Run) -> Result<Ended> {
    let _counted = Counted::new(inner);
    // Asked after it counts: an engine that closes meanwhile waits for it.
    if inner.is_closing() {
        return Err(fail!(Unavailable, "the engine is shutting down"));
    }
    let record = Arc::new(record(inner, &run)?);
    let Run { rootfs, mounts, input, output, cancel, hold, .. } = run;
    let dir = inner.container_dir(&record.id);
    let sources = mount_sources::open(inner, &record).await?;
    let prepared = {
        let (worker, record, dir) = (Arc::clone(inner), Arc::clone(&record), dir.clone());
        let prepare = move || {
            std::fs::DirBuilder::new()
                .mode(0o710)
                .create(&dir)
                .map_err(|e| Error::io(format!("cannot make {}", dir.display()), e))?;
            let mut ready = start::prepare(&worker, &record, sources, Some(rootfs))?;
            ready.assembled = with_mounts(ready.assembled, mounts);
            Ok(ready)
        };
        inner.blocking("prepare a step", prepare).await
    };
    let ended = match prepared {
        Ok(ready) => launched(inner, &record, ready, input, &output, &cancel).await,
        Err(error) => Err(error),
    };
    let removed = inner.blocking("remove a step's directory", move || {
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "the directory of a step stays until the next start");
        }
        Ok(())
    });
    removed.await?;
    // What the process worked on may go now.
    drop(hold);
    ended
}

/// A step that an engine waits for when it is closed.
struct Counted(Arc<Inner>);

impl Counted {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.steps.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(inner))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.steps.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn launched(
    inner: &Arc<Inner>,
    record: &Arc<Record>,
    ready: Ready,
    input: Option<mpsc::Receiver<Bytes>>,
    output: &mpsc::Sender<Output>,
    cancel: &tokio_util::sync::CancellationToken,
) -> Result<Ended> {
    let Ready { socket, child, assembled, network, cgroup, warnings } = ready;
    for warning in &warnings {
        tracing::warn!(step = record.id, "{warning}");
    }
    start::reap(child);
    let group = inner.cgroup(record)?;
    let ended = async {
        let (link, mut events) = ShimLink::start(socket)?;
        let streams = Streams { stdin: input.is_some(), stdout: true, stderr: true };
        let reply = link.request(Request::Attach { streams }, &[]).await?;
        let (Response::Attached, Some(fd)) = (reply.response, reply.fds.into_iter().next()) else {
            return Err(fail!(Internal, "the step's shim does not give its output"));
        };
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true).map_err(|e| Error::io("cannot read a step's output", e))?;
        let stream = UnixStream::from_std(stream).map_err(|e| Error::io("cannot read a step's output", e))?;
        start::execute(&link, &record.id, assembled).await.map_err(|failure| failure.error)?;
        let exited = async {
            while let Some(event) = events.recv().await {
                if let Event::Exited(exit) = event {
                    return exit;
                }
            }
            let path = inner.run_dir(record).join("exit");
            let unseen = ExitRecord { code: 137, finished_at_ns: clock::now_ns(), oom_killed: false };
            exit::read_exit(&path).unwrap_or(unseen)
        };
        let killed = async {
            cancel.cancelled().await;
            let kill = inner.blocking("end a step", move || Ok(group.kill()?)).await;
            if let Err(error) = kill {
                tracing::warn!(step = record.id, %error, "the processes of a step may live on");
            }
            std::future::pending::<()>().await
        };
        let (reading, writing) = stream.into_split();
        // Ends with the process, which may leave before it has read everything.
        let mut feeding = tokio::task::JoinSet::new();
        if let Some(input) = input {
            feeding.spawn(feed(writing, input));
        }
        let both = async { tokio::join!(exited, tell(reading, output)) };
        let exit = tokio::select! {
            (exit, ()) = both => exit,
            () = killed => return Err(fail!(Cancelled, "context canceled")),
        };
        if cancel.is_cancelled() {
            return Err(fail!(Cancelled, "context canceled"));
        }
        Ok(Ended { code: exit.code, out_of_memory: exit.oom_killed })
    };
    let ended = ended.await;
    let (worker, record) = (Arc::clone(inner), Arc::clone(record));
    let released = inner.blocking("release a step", move || {
        start::release(&worker, &record, network.as_ref(), &cgroup);
        Ok(())
    });
    released.await?;
    ended
}

/// Hands the process what it reads.
async fn feed(mut stream: OwnedWriteHalf, mut input: mpsc::Receiver<Bytes>) {
    while let Some(data) = input.recv().await {
        if stream.write_all(&data).await.is_err() {
            return;
        }
    }
    // Dropping it says that nothing follows.
}

/// Hands on what the process writes, until it and all who have its output are done.
async fn tell(mut stream: OwnedReadHalf, output: &mpsc::Sender<Output>) {
    let mut header = [0u8; 8];
    while stream.read_exact(&mut header).await.is_ok() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > MAX_FRAME {
            return;
        }
        let mut data = vec![0; length];
        if stream.read_exact(&mut data).await.is_err() {
            return;
        }
        // Whoever listened may have gone; the process is not held up by that.
        let _ = output.send(Output { stream: header[0], data: Bytes::from(data) }).await;
    }
}

/// The step as a container's record would say it.
fn record(inner: &Inner, run: &Run) -> Result<Record> {
    let id = random_id();
    let mut config = ContainerConfig {
        hostname: if run.hostname.is_empty() { "buildkitsandbox".to_owned() } else { run.hostname.clone() },
        user: run.user.clone(),
        env: Some(run.env.clone()),
        cmd: Some(StrSlice(run.args.clone())),
        working_dir: run.cwd.clone(),
        open_stdin: run.input.is_some(),
        stdin_once: run.input.is_some(),
        ..ContainerConfig::default()
    };
    let mode = match run.network {
        Network::Default => "default",
        Network::None => "none",
        Network::Host => "host",
    };
    let ulimit = |(name, soft, hard): &(String, i64, i64)| Ulimit { name: name.clone(), soft: *soft, hard: *hard };
    let mut host = HostConfig {
        network_mode: mode.to_owned(),
        extra_hosts: Some(run.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        privileged: run.insecure,
        ulimits: Some(run.ulimits.iter().map(ulimit).collect()),
        cgroup_parent: run.cgroup_parent.clone(),
        log_config: LogConfig { kind: "none".to_owned(), ..LogConfig::default() },
        ..HostConfig::default()
    };
    validate::host_config(&host, &config, &inner.facts)?;
    validate::fill_defaults(&mut host, &mut config, &id, &inner.facts, &inner.config);
    let mut endpoints = std::collections::BTreeMap::new();
    if run.network == Network::Default {
        endpoints.insert(host.network_mode.clone(), EndpointSettings::default());
    }
    let mut record = Record {
        name: format!("build-{}", &id[..12]),
        id,
        created_ns: clock::now_ns(),
        config,
        host_config: host,
        endpoints,
        ..Record::default()
    };
    record.state.run = random_id()[..8].to_owned();
    Ok(record)
}

/// The plan with the step's own mounts at its end.
fn with_mounts(assembled: Assembled, mounts: Vec<Mounted>) -> Assembled {
    let Assembled { mut plan, mut fds } = assembled;
    for Mounted { target, source, read_only } in mounts {
        let mut mount = match source {
            MountSource::Tree { fd, file } => {
                fds.push(fd);
                // At most a few hundred travel at all; the sender checks.
                let index = launch::FdIndex::try_from(fds.len() - 1).unwrap_or(launch::FdIndex::MAX);
                Mount { file, ..Mount::new(MountKind::Detached(index), target) }
            }
            MountSource::Tmpfs(size) => {
                let mut options = vec![("mode".to_owned(), Some("1777".to_owned()))];
                options.extend(size.map(|size| ("size".to_owned(), Some(size.to_string()))));
                let kind = MountKind::Fs { fstype: "tmpfs".to_owned(), source: "tmpfs".to_owned(), options };
                Mount { attrs: attr::NOSUID | attr::NODEV, ..Mount::new(kind, target) }
            }
        };
        if read_only {
            mount.attrs |= attr::RDONLY;
        }
        plan.mounts.push(mount);
    }
    Assembled { plan, fds }
}
