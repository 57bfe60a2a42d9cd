//! `dhowd`, the engine's daemon: reads its settings, opens the engine, serves the API, and stops.
//!
//! Stopping never touches containers: their shims keep running and the next daemon adopts them.

mod builder;
mod flags;
mod notify;
mod pidfile;
mod registry;
mod settings;
mod storage;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use api::listen::{Host, ListenError, Listener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use settings::Settings;

/// Threads that run the services; the work that blocks has a pool of its own.
const WORKERS: usize = 2;
/// Most threads of that pool.
const BLOCKING_THREADS: usize = 64;
/// Stack of every thread; address space until touched.
const STACK: usize = 2 << 20;

type LevelHandle = reload::Handle<LevelFilter, tracing_subscriber::Registry>;

fn main() -> ExitCode {
    // A program of its own in the same file: none of the daemon's flags are dockerd's `registry`.
    if std::env::args_os().nth(1).is_some_and(|word| word == "registry") {
        return registry::main(std::env::args_os().skip(1));
    }
    let matches = match flags::command().try_get_matches() {
        Ok(matches) => matches,
        Err(e) => e.exit(),
    };
    if matches.get_many::<String>("version").and_then(|mut v| v.next_back()).is_some_and(|v| v != "false") {
        let text = format!(
            "dhowd version {}, build {}\n",
            env!("CARGO_PKG_VERSION"),
            option_env!("DHOW_GIT_COMMIT").unwrap_or("unknown")
        );
        return exit_code(std::io::stdout().write_all(text.as_bytes()).is_ok());
    }
    let settings = match settings::read(&matches) {
        Ok(settings) => settings,
        Err(text) => return fail(&text),
    };
    if settings.validate {
        return exit_code(std::io::stdout().write_all(b"configuration OK\n").is_ok());
    }
    let level = start_log(&settings.log_level, settings.colours);
    match run(settings, level) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("failed to start daemon: {e:#}")),
    }
}

fn exit_code(ok: bool) -> ExitCode {
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fail(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}

fn level_of(text: &str) -> LevelFilter {
    text.parse().unwrap_or(LevelFilter::INFO)
}

fn start_log(log_level: &str, colours: bool) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(level_of(log_level));
    let colours = colours && std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false);
    // Every frame of every build would drown what the daemon itself has to say.
    let own = FilterFn::new(|event| *event.level() <= Level::INFO || !event.target().starts_with("h2"));
    tracing_subscriber::registry().with(filter).with(lines.with_filter(own)).init();
    handle
}

fn run(settings: Settings, level: LevelHandle) -> anyhow::Result<()> {
    // Process-wide, hence before the first thread.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    raise_descriptor_limit();
    // Whatever was passed to the daemon is not for the processes it starts.
    if let Err(e) = sys::fd::close_on_exec_from(3) {
        tracing::warn!("cannot mark inherited descriptors close-on-exec: {e}");
    }
    for notice in &settings.notices {
        tracing::info!("{notice}");
    }
    make_directory(&settings.engine.data_root, 0o710)?;
    make_directory(&settings.engine.exec_root, 0o711)?;
    let pidfile = pidfile::PidFile::write(&settings.pidfile)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK)
        .thread_name("dhowd-worker")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(settings, level));
    // Streams of clients that do not let go must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    pidfile.remove();
    result
}

async fn serve(settings: Settings, level: LevelHandle) -> anyhow::Result<()> {
    // Handlers first: a signal that arrives while the engine opens must not kill it half-way.
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;

    let hosts = settings.hosts.iter().map(|h| Host::parse(h)).collect::<Result<Vec<_>, _>>()?;
    let names = own_name().into_iter().chain(hosts.iter().filter_map(|h| h.name().map(str::to_owned)));
    let handler = {
        let names = api::HostNames::new(names);
        let engine = engine::Engine::open(settings.engine.clone()).await.map_err(|e| match e.hint() {
            Some(hint) => anyhow::anyhow!("{e}; {hint}"),
            None => anyhow::anyhow!("{e}"),
        })?;
        Arc::new(api::Api::new(engine, names))
    };
    let mut listeners = Vec::new();
    for host in &hosts {
        if let Err(e) = listen(host, &settings.group, &mut listeners).await {
            listeners.iter().for_each(Listener::remove_file);
            handler.engine().close().await;
            return Err(e.into());
        }
    }
    for listener in &listeners {
        tracing::info!("API listen on {}", listener.describe());
    }
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(api::serve(Arc::clone(&handler), listeners, stopped));
    notify::notify("READY=1");
    tracing::info!("Daemon has completed initialization");

    let signalled = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hangup.recv() => reload_file(&settings, &level),
        }
    };
    tracing::info!("stopping on {signalled}; containers keep running");
    notify::notify("STOPPING=1");
    let _ = stop.send(true);
    let _ = serving.await;
    handler.engine().close().await;
    Ok(())
}

async fn listen(host: &Host, group: &str, listeners: &mut Vec<Listener>) -> Result<(), ListenError> {
    let passed = if *host == Host::Inherited { passed_descriptors() } else { 0..0 };
    if passed.is_empty() {
        listeners.push(api::listen::bind(host, group).await?);
    }
    for fd in passed.filter_map(sys::fd::take_inherited) {
        listeners.push(api::listen::inherited(fd)?);
    }
    Ok(())
}

/// The descriptors a service manager passed to this very process, sd_listen_fds(3).
fn passed_descriptors() -> std::ops::Range<i32> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<i32>().ok());
    let ours = number("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id());
    3..3 + number("LISTEN_FDS").filter(|n| ours && (1..=32).contains(n)).unwrap_or(0)
}

/// SIGHUP: the log level follows the file; everything else needs a restart, which costs no
/// container anything.
fn reload_file(settings: &Settings, level: &LevelHandle) {
    let file = match settings::read_file(&settings.config_file, false) {
        Ok(file) => file,
        Err(e) => return tracing::error!("configuration not reloaded: {e}"),
    };
    let debug = file.get("debug").and_then(serde_json::Value::as_bool).unwrap_or(false);
    let wanted = match file.get("log-level").and_then(serde_json::Value::as_str) {
        Some(text) => text,
        None if debug => "debug",
        None => &settings.log_level,
    };
    if let Err(e) = level.modify(|filter| *filter = level_of(wanted)) {
        tracing::error!("the log level could not be changed: {e}");
    }
    let others: Vec<&str> = file.keys().map(String::as_str).filter(|k| !matches!(*k, "debug" | "log-level")).collect();
    tracing::info!("reloaded configuration: log level {wanted}");
    if !others.is_empty() {
        tracing::info!("changes of these take effect when the daemon is restarted: {}", others.join(", "));
    }
}

fn own_name() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|n| n.trim().to_owned())
}

/// Descriptors are what a daemon of many containers runs out of first.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!("cannot raise the limit of open files from {:?}: {e}", limit.current);
    }
}

/// Creates a directory of the daemon and refuses one that others could have filled.
fn make_directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e).with_context(|| format!("cannot create {}", path.display())),
    }
    let found = std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    let me = rustix::process::geteuid().as_raw();
    anyhow::ensure!(found.is_dir(), "{} is not a directory", path.display());
    anyhow::ensure!(
        found.uid() == me && found.mode() & 0o002 == 0,
        "{} belongs to uid {} with mode {:o}: the daemon's directory must be its own and not writable by others; chown it, or choose another one",
        path.display(),
        found.uid(),
        found.mode() & 0o7777
    );
    if found.mode() & 0o020 != 0 {
        // Made under a generous umask; nothing of a group's is in it.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot change the mode of {}", path.display()))?;
    }
    Ok(())
}
