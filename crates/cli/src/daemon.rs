//! Starting the engine on demand: when nobody chose an address and the default socket does not answer, `dhowd` is
//! started detached and waited for. Two clients may race; the daemon's own lock decides and both find its socket.

use std::{
    env, fs,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use client::Client;

use crate::{Error, Result};

/// Longest time the engine may take until its socket answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time a socket may take to appear after the engine started here has ended.
const GRACE: Duration = Duration::from_secs(2);

/// Directory of sockets and run-time files: `/run/dhow` for root, below `XDG_RUNTIME_DIR` for others.
pub(crate) fn exec_root() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/dhow");
    }
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir).join("dhow"),
        _ => PathBuf::from(format!("/run/user/{}/dhow", rustix::process::geteuid().as_raw())),
    }
}

/// Socket used when nobody chose an address.
pub(crate) fn socket_path() -> PathBuf {
    exec_root().join("dhow.sock")
}

/// Makes sure something answers at the default socket.
pub(crate) fn ensure_running(client: &Client) -> Result<()> {
    match client.connect() {
        Ok(()) => return Ok(()),
        Err(error) if !matches!(error, client::Error::Connect { .. }) => return Err(error.into()),
        Err(_) => {}
    }
    let program = find_daemon().ok_or_else(|| {
        Error::new(format!("Cannot connect to the Docker daemon at {}. Is the docker daemon running?", client.host()))
            .hint("No dhowd was found beside dhow or on PATH to start one; install it or name a daemon with -H.")
    })?;
    let mut daemon = start(&program)?;
    let mut ended = None;
    let log = exec_root().join("dhowd.log");
    let begin = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        std::thread::sleep(pause);
        if client.connect().is_ok() {
            return Ok(());
        }
        // One that ended at once may have found another one starting, whose socket is then soon there.
        if ended.is_none() && daemon.try_wait()?.is_some() {
            ended = Some(Instant::now());
        }
        if begin.elapsed() > PATIENCE || ended.is_some_and(|at| at.elapsed() > GRACE) {
            return Err(Error::new(format!("dhowd was started and its socket {} does not answer", client.host()))
                .hint(format!("See {} for the reason.{}", log.display(), last_line(&log))));
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn last_line(log: &Path) -> String {
    fs::read_to_string(log)
        .ok()
        .and_then(|text| text.lines().next_back().map(|line| format!(" It ends with: {line}")))
        .unwrap_or_default()
}

/// The program `dhowd` beside this one, else on PATH.
pub(crate) fn find_daemon() -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|own| own.parent().map(|dir| dir.join("dhowd")));
    let on_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).collect::<Vec<_>>())
        .map(|dir| dir.join("dhowd"));
    beside.into_iter().chain(on_path).find(|path| path.is_file())
}

fn start(program: &Path) -> Result<Child> {
    let root = exec_root();
    fs::create_dir_all(&root).map_err(Error::file("cannot create", &root))?;
    let log_path = root.join("dhowd.log");
    let log =
        OpenOptions::new().create(true).append(true).open(&log_path).map_err(Error::file("cannot open", &log_path))?;
    let null = File::open("/dev/null").map_err(Error::file("cannot open", Path::new("/dev/null")))?;
    let errors = log.try_clone()?;
    // A session of its own: the terminal's signals and hang-up must not reach it. `setsid` execs, so the child's
    // only relation to this process is a parent that soon ends.
    Command::new("setsid")
        .arg(program)
        .arg("-H")
        .arg(format!("unix://{}", socket_path().display()))
        .stdin(Stdio::from(null))
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(errors))
        .current_dir("/")
        .spawn()
        .map_err(Error::file("cannot start", program))
}
