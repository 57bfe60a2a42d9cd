//! Containers.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use docker_types::container::{
    ContainerCreateBody, ContainerCreateResponse, ContainerInspect, ContainerPruneReport, ContainerStats,
    ContainerSummary, ContainerTop, ContainerUpdateBody, ContainerUpdateResponse,
};
use futures_util::Stream;
use launch::{Request, Response, Streams};
use tokio::sync::{mpsc, oneshot, watch};
use types::{Filters, Platform, Signal};

use crate::AnyStream;
use crate::container::attach::{AttachStream, Attached};
use crate::container::list::ListOptions;
use crate::container::record::Phase;
use crate::container::remove::RemoveOptions;
use crate::container::stop::StopOptions;
use crate::container::wait::{WaitCondition, WaitHandle};
use crate::container::{
    Container, PendingAttach, create, inspect, list, remove, start, stats, stop, top, update, wait,
};
use crate::engine::Engine;
use crate::error::{Error, Result, fail};
use crate::logs::{self, LogOptions};
use crate::plan::log::log_path;

/// What a client attaches to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Stay connected; without it only what was logged is sent.
    pub stream: bool,
    /// Send what was logged first.
    pub logs: bool,
    pub detach_keys: Option<String>,
}

/// A container's log on its way to a client.
pub struct Logs {
    /// A terminal: the bytes are raw. Without one they are stdcopy frames.
    pub tty: bool,
    pub stream: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
}

impl Engine {
    fn container(&self, reference: &str) -> Result<Arc<Container>> {
        self.inner.containers.get(reference)
    }

    /// Create a container without starting it.
    ///
    /// # Errors
    /// In Docker's words for everything that can be wrong with the request.
    pub async fn container_create(
        &self,
        name: Option<String>,
        platform: Option<Platform>,
        body: ContainerCreateBody,
    ) -> Result<ContainerCreateResponse> {
        create::create(&self.inner, name, platform, body).await
    }

    /// The containers that match, newest first.
    ///
    /// # Errors
    /// Invalid for a filter that makes no sense.
    pub async fn container_list(&self, options: ListOptions) -> Result<Vec<ContainerSummary>> {
        list::list(&self.inner, options).await
    }

    /// Everything about one container.
    ///
    /// # Errors
    /// Not found.
    pub async fn container_inspect(&self, reference: &str, size: bool) -> Result<ContainerInspect> {
        inspect::inspect(&self.inner, &self.container(reference)?, size).await
    }

    /// Start a container. Once begun the start is carried through, whatever happens to the caller.
    ///
    /// # Errors
    /// AlreadyDone when it runs; Docker's texts for what cannot be started.
    pub async fn container_start(&self, reference: &str, _detach_keys: Option<String>) -> Result<()> {
        let container = self.container(reference)?;
        let inner = Arc::clone(&self.inner);
        carry(async move { start::start(&inner, &container).await }).await
    }

    /// Ask a container to end, and make it.
    ///
    /// # Errors
    /// AlreadyDone when it does not run.
    pub async fn container_stop(&self, reference: &str, options: StopOptions) -> Result<()> {
        let container = self.container(reference)?;
        let inner = Arc::clone(&self.inner);
        carry(async move { stop::stop(&inner, &container, options, true).await }).await
    }

    /// Stop and start.
    ///
    /// # Errors
    /// As stop and start.
    pub async fn container_restart(&self, reference: &str, options: StopOptions) -> Result<()> {
        let container = self.container(reference)?;
        let inner = Arc::clone(&self.inner);
        carry(async move { stop::restart(&inner, &container, options).await }).await
    }

    /// Send a signal, SIGKILL by default.
    ///
    /// # Errors
    /// Invalid for an unknown signal; Conflict when the container does not run.
    pub async fn container_kill(&self, reference: &str, signal: Option<String>) -> Result<()> {
        let prefix = || format!("cannot kill container: {reference}");
        let signal = match signal.as_deref().filter(|s| !s.is_empty()) {
            Some(text) => text.parse::<Signal>().map_err(|e| fail!(Invalid, "{e}").context(prefix()))?,
            None => Signal::KILL,
        };
        let container = self.container(reference).map_err(|e| e.context(prefix()))?;
        stop::kill(&self.inner, &container, reference, signal).await
    }

    /// Freeze every process.
    ///
    /// # Errors
    /// Conflict when it is not running.
    pub async fn container_pause(&self, reference: &str) -> Result<()> {
        stop::pause(&self.inner, &self.container(reference)?).await
    }

    /// Let them go on.
    ///
    /// # Errors
    /// When it is not paused.
    pub async fn container_unpause(&self, reference: &str) -> Result<()> {
        stop::unpause(&self.inner, &self.container(reference)?).await
    }

    /// Give it another name.
    ///
    /// # Errors
    /// Invalid for a name that is not allowed; Conflict for one that is taken.
    pub async fn container_rename(&self, reference: &str, new: &str) -> Result<()> {
        update::rename(&self.inner, &self.container(reference)?, new).await
    }

    /// New size of its terminal, in characters.
    ///
    /// # Errors
    /// Conflict when it is not running.
    pub async fn container_resize(&self, reference: &str, rows: u16, cols: u16) -> Result<()> {
        let container = self.container(reference)?;
        let tty = container.record().config.tty;
        stop::resize(&container, "", tty, rows, cols).await
    }

    /// Wait for a container; subscribed when this returns.
    ///
    /// # Errors
    /// Not found.
    pub fn container_wait(&self, reference: &str, condition: WaitCondition) -> Result<WaitHandle> {
        Ok(wait::wait(&self.container(reference)?, condition))
    }

    /// Attach a client. Before the start the stream waits and misses nothing.
    ///
    /// # Errors
    /// Conflict when the container is paused or restarting.
    pub async fn container_attach(&self, reference: &str, options: AttachOptions) -> Result<Attached> {
        let container = self.container(reference)?;
        let record = container.record();
        match record.state.phase {
            Phase::Paused => {
                return Err(fail!(Conflict, "container {reference} is paused, unpause the container before attach"));
            }
            Phase::Restarting => {
                return Err(fail!(
                    Conflict,
                    "container {reference} is restarting, wait until the container is running"
                ));
            }
            Phase::Removing | Phase::Dead => return Err(fail!(Conflict, "container {reference} is being removed")),
            _ => {}
        }
        let tty = record.config.tty;
        // What was logged must be read before what comes, and none of it twice: read to the present
        // end, then connect.
        let prefix = options.logs.then(|| {
            let options = LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
            log_path(&record, &self.inner.container_dir(&record.id))
                .map(|path| logs::stream(path, options, !tty, watch::Sender::new(false).subscribe()))
        });
        let stream = if !options.stream {
            AttachStream::ended()
        } else {
            let streams = Streams {
                stdin: options.stdin && record.config.open_stdin,
                stdout: options.stdout,
                stderr: options.stderr,
            };
            self.connect(&container, streams).await?
        };
        self.inner.publish_container(&container, "attach", []);
        let stream = match prefix.flatten() {
            Some(prefix) => stream.with_prefix(prefix),
            None => stream,
        };
        Ok(Attached { tty, stream })
    }

    async fn connect(&self, container: &Arc<Container>, streams: Streams) -> Result<AttachStream> {
        let link = {
            let mut live = container.live();
            match &live.link {
                Some(link) => Arc::clone(link),
                None => {
                    // Connected by the start, before the first instruction.
                    let (connection, receiver) = oneshot::channel();
                    live.pending.retain(|p| !p.connection.is_closed());
                    live.pending.push(PendingAttach { streams, connection });
                    return Ok(AttachStream::waiting(receiver));
                }
            }
        };
        match link.request(Request::Attach { streams }, &[]).await {
            Ok(reply) => match (reply.response, reply.fds.into_iter().next()) {
                (Response::Attached, Some(fd)) => AttachStream::connected(fd),
                // It ended meanwhile: nothing more will come.
                _ => Ok(AttachStream::ended()),
            },
            Err(_) if !container.phase().is_live() => Ok(AttachStream::ended()),
            Err(error) => Err(error),
        }
    }

    /// Read the log.
    ///
    /// # Errors
    /// Unsupported for a log driver that keeps nothing.
    pub async fn container_logs(&self, reference: &str, options: LogOptions) -> Result<Logs> {
        let container = self.container(reference)?;
        if !options.stdout && !options.stderr {
            return Err(fail!(Invalid, "Bad parameters: you must choose at least one stream"));
        }
        let record = container.record();
        let tty = record.config.tty;
        let Some(path) = log_path(&record, &self.inner.container_dir(&record.id)) else {
            return Err(fail!(Unsupported, "configured logging driver does not support reading"));
        };
        let chunks = logs::stream(path, options, !tty, container.running.subscribe());
        Ok(Logs { tty, stream: Box::pin(receiver_stream(chunks)) })
    }

    /// Samples of what it uses.
    ///
    /// # Errors
    /// Not found.
    pub fn container_stats(
        &self,
        reference: &str,
        stream: bool,
        one_shot: bool,
    ) -> Result<AnyStream<Result<ContainerStats>>> {
        Ok(stats::stream(&self.inner, &self.container(reference)?, stream, one_shot))
    }

    /// Its processes, as `ps` with these arguments would print them.
    ///
    /// # Errors
    /// Conflict when it is not running; Invalid for arguments that are not understood.
    pub async fn container_top(&self, reference: &str, ps_args: &str) -> Result<ContainerTop> {
        let container = self.container(reference)?;
        if container.pid().is_none() {
            return Err(container.not_running());
        }
        let group = self.inner.cgroup(&container.record())?;
        let arguments = if ps_args.is_empty() { "-ef".to_owned() } else { ps_args.to_owned() };
        let table = self.inner.blocking("list processes", move || top::table(&group.pids()?, &arguments)).await?;
        Ok(ContainerTop { titles: table.titles, processes: table.rows })
    }

    /// Change limits and restart policy.
    ///
    /// # Errors
    /// Invalid for limits that make no sense.
    pub async fn container_update(
        &self,
        reference: &str,
        body: ContainerUpdateBody,
    ) -> Result<ContainerUpdateResponse> {
        update::update(&self.inner, &self.container(reference)?, body).await
    }

    /// Remove a container.
    ///
    /// # Errors
    /// Conflict while it runs, unless forced.
    pub async fn container_remove(&self, reference: &str, options: RemoveOptions) -> Result<()> {
        let container = self.container(reference)?;
        let inner = Arc::clone(&self.inner);
        carry(async move { remove::remove(&inner, &container, options).await }).await
    }

    /// Take a legacy link away from a container.
    ///
    /// # Errors
    /// Not found when it has none of that name.
    pub async fn container_unlink(&self, reference: &str, alias: &str) -> Result<()> {
        let missing = || Error::no_such_container(&format!("{reference}/{alias}"));
        let container = self.container(reference).map_err(|_| missing())?;
        let (inner, alias) = (Arc::clone(&self.inner), alias.to_owned());
        carry(async move { crate::network::unlink(&inner, &container, &alias).await }).await
    }

    /// Remove every stopped container that matches.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub async fn container_prune(&self, filters: Filters) -> Result<ContainerPruneReport> {
        remove::prune(&self.inner, &filters).await
    }
}

/// Run `work` to its end even if the caller stops waiting: an HTTP client may hang up at any time,
/// and half a start or removal would leave processes, mounts or rows behind.
pub(crate) async fn carry<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(|e| fail!(Internal, "the operation was interrupted: {e}"))?
}

fn receiver_stream<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send {
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
}
