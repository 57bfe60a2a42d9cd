//! Checkpoint and restore by CRIU, which is run as a program (criu(8)).
//!
//! What of a container CRIU must not take along is named to it: bind mounts and masks are found again on the host by
//! their places, a joined network namespace is handed over at the restore, and so are the pipes of standard streams.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use launch::CgroupHandle;
use oci::{NamespaceKind, Spec};
use rustix::fs::{Mode, OFlags};
use sys::clone::{Cloned, flags};
use sys::process::CArray;

use crate::error::{Doing, Error, Result};
use crate::store::Record;

/// What CRIU calls the network namespace that is not part of the checkpoint.
const EXTERNAL_NET: &str = "extRootNetNS";
/// Where a checkpoint keeps what the standard streams were.
const DESCRIPTORS: &str = "descriptors.json";

/// Where the images are and how they are made.
#[derive(Debug, Default)]
pub(crate) struct Images {
    pub(crate) dir: PathBuf,
    pub(crate) work: Option<PathBuf>,
    pub(crate) parent: Option<String>,
    /// Flags passed on as they are.
    pub(crate) flags: Vec<String>,
    /// `--manage-cgroups` of CRIU; the runtime makes the groups itself unless told otherwise.
    pub(crate) groups: String,
}

impl Images {
    fn common(&self, log: &str) -> Vec<String> {
        let mut args = vec![
            "--images-dir".to_owned(),
            self.dir.display().to_string(),
            "--log-file".to_owned(),
            log.to_owned(),
            "-v4".to_owned(),
            format!("--manage-cgroups={}", self.groups),
            "--external".to_owned(),
            "mnt[]".to_owned(),
        ];
        if let Some(work) = &self.work {
            args.extend(["--work-dir".to_owned(), work.display().to_string()]);
        }
        args.extend(self.flags.iter().cloned());
        args
    }

    /// Callers name directories that they expect the runtime to make.
    fn make_directories(&self) -> Result<()> {
        make_directory(&self.dir)?;
        self.work.as_deref().map_or(Ok(()), make_directory)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.work.as_ref().unwrap_or(&self.dir).join(name)
    }
}

fn make_directory(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).doing(|| format!("make the directory {}", dir.display()))
}

/// Saves the processes of a running container; with `pre` only their memory, while they run on.
///
/// # Errors
/// With the last error of CRIU's log.
pub(crate) fn dump(record: &Record, spec: &Spec, images: &Images, pre: bool, leave_running: bool) -> Result<()> {
    images.make_directories()?;
    let mut args = vec![if pre { "pre-dump" } else { "dump" }.to_owned(), "--tree".to_owned(), record.pid.to_string()];
    args.extend(images.common("dump.log"));
    if let Some(parent) = &images.parent {
        args.extend(["--prev-images-dir".to_owned(), parent.clone(), "--track-mem".to_owned()]);
    }
    if pre {
        args.push("--track-mem".to_owned());
    }
    // Engines pause a container first, and CRIU waits for ever for processes that it does not know to be frozen.
    if let Some(freezer) = record.group.freezer() {
        args.extend(["--freeze-cgroup".to_owned(), freezer.display().to_string()]);
    }
    if leave_running && !pre {
        args.push("--leave-running".to_owned());
    }
    for (place, name, _) in group_mounts(spec, &record.group.mounts()?) {
        args.extend(["--external".to_owned(), format!("mnt[{place}]:{name}")]);
    }
    if let Some(path) = joined_network(spec) {
        let stat = rustix::fs::stat(path).doing(|| format!("look at the network namespace {path}"))?;
        args.extend(["--external".to_owned(), format!("net[{}]:{EXTERNAL_NET}", stat.st_ino)]);
    }
    if !pre {
        let streams: Vec<String> = (0..3)
            .map(|number| {
                let link = std::fs::read_link(format!("/proc/{}/fd/{number}", record.pid));
                link.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
            })
            .collect();
        let text = serde_json::to_vec(&streams).map_err(|error| Error::Other(error.to_string()))?;
        std::fs::write(images.dir.join(DESCRIPTORS), text)
            .doing(|| "write down the standard streams of the container".to_owned())?;
    }
    let ended = Command::new("criu").args(&args).status();
    let ended = ended.map_err(|error| Error::Other(format!("cannot run criu: {error}; install it")))?;
    if ended.success() { Ok(()) } else { Err(failed("checkpoint", &images.log("dump.log"))) }
}

/// The v1 groups shown in the container: their places in it, what CRIU calls them, and the groups. Those of the
/// restored container are others.
fn group_mounts<'a>(spec: &Spec, groups: &'a [(String, String)]) -> Vec<(String, String, &'a str)> {
    let shown = spec.mounts.iter().filter(|mount| matches!(mount.kind.as_str(), "cgroup" | "cgroup2"));
    let at = |destination: &str| {
        let destination = destination.trim_end_matches('/').to_owned();
        let place = move |(dir, name): &'a (String, String)| {
            (format!("{destination}/{name}"), format!("group-{name}"), dir.as_str())
        };
        groups.iter().map(place).collect::<Vec<_>>()
    };
    shown.flat_map(|mount| at(&mount.destination)).collect()
}

fn joined_network(spec: &Spec) -> Option<&str> {
    spec.namespace(NamespaceKind::Network)?.path.as_deref()
}

/// The last error CRIU wrote down.
fn failed(what: &str, log: &Path) -> Error {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // The very last one only says that it failed.
    let mut errors = text.lines().rev().filter(|line| line.contains("Error "));
    let last = errors.next().unwrap_or("see its log");
    let line = if last.contains("FAILED") { errors.next().unwrap_or(last) } else { last };
    Error::Other(format!("criu could not {what} the container: {}; the whole log is {}", line.trim(), log.display()))
}

/// Brings the processes back: below `place`, an empty directory, in the groups of `handle`. Gives the number of the
/// first one, which is a child of ours.
///
/// # Errors
/// With the last error of CRIU's log.
pub(crate) fn restore(
    images: &Images,
    spec: &Spec,
    rootfs: &Path,
    place: &Path,
    handle: &CgroupHandle,
    fds: &[OwnedFd],
) -> Result<i32> {
    let pid_file = place.with_file_name("restored.pid");
    let _ = std::fs::remove_file(&pid_file);
    make_directory(place)?;
    if let Some(work) = &images.work {
        make_directory(work)?;
    }
    let mut args = vec!["criu".to_owned(), "restore".to_owned()];
    args.extend(images.common("restore.log"));
    args.extend(["--root".to_owned(), place.display().to_string()]);
    args.extend(["--pidfile".to_owned(), pid_file.display().to_string()]);
    for (_, name, dir) in group_mounts(spec, &handle.v1_mounts) {
        args.extend(["--external".to_owned(), format!("mnt[{name}]:{dir}")]);
    }
    // CRIU ends when the container runs, and the container is then a child of ours.
    args.extend(["--restore-detached".to_owned(), "--restore-sibling".to_owned()]);
    let streams = std::fs::read(images.dir.join(DESCRIPTORS)).unwrap_or_default();
    let streams: Vec<String> = serde_json::from_slice(&streams).unwrap_or_default();
    for (number, link) in streams.iter().enumerate().take(3).filter(|(_, link)| link.starts_with("pipe:")) {
        args.extend(["--inherit-fd".to_owned(), format!("fd[{number}]:{link}")]);
    }
    let mut network = None;
    if let Some(path) = joined_network(spec) {
        let fd = rustix::fs::open(path, OFlags::RDONLY, Mode::empty())
            .doing(|| format!("open the network namespace {path}"))?;
        args.extend(["--inherit-fd".to_owned(), format!("fd[{}]:{EXTERNAL_NET}", fd.as_raw_fd())]);
        network = Some(fd);
    }
    let program = search("criu")?;
    let bytes: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
    let args = CArray::new(bytes).doing(|| "pass arguments to criu".to_owned())?;
    let env: Vec<Vec<u8>> =
        std::env::vars_os().map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat()).collect();
    let env = CArray::new(env.iter().map(Vec::as_slice)).doing(|| "pass the environment to criu".to_owned())?;
    let group = handle.v2_dir.and_then(|index| fds.get(usize::from(index))).map(AsFd::as_fd);
    let criu = match sys::clone::clone3(flags::NEWNS, group).doing(|| "create a process for criu".to_owned())? {
        Cloned::Child => {
            let code = match prepare(rootfs, place, handle, fds) {
                Ok(()) => {
                    let _ = sys::process::execve(&program, &args, &env);
                    127
                }
                Err(_) => 126,
            };
            sys::process::exit_now(code)
        }
        Cloned::Parent { pid, .. } => pid,
    };
    drop(network);
    let code = sys::process::wait_for(criu).doing(|| "wait for criu".to_owned())?;
    let _ = std::fs::remove_dir(place);
    match code {
        0 => {}
        126 => return Err(Error::Other("cannot prepare the container's root and groups for criu".to_owned())),
        _ => return Err(failed("restore", &images.log("restore.log"))),
    }
    let text = std::fs::read_to_string(&pid_file).doing(|| "read which process criu has restored".to_owned())?;
    let _ = std::fs::remove_file(&pid_file);
    text.trim().parse().map_err(|_| Error::Other("criu did not say which process it has restored".to_owned()))
}

/// The child's part: the restored processes inherit its groups, and find their root where CRIU wants a mount.
fn prepare(rootfs: &Path, place: &Path, handle: &CgroupHandle, fds: &[OwnedFd]) -> std::result::Result<(), sys::Errno> {
    sys::process::reset_signals();
    for index in &handle.v1_tasks {
        let file = fds.get(usize::from(*index)).ok_or(sys::Errno::BADF)?;
        rustix::io::write(file, b"0")?;
    }
    sys::mount::make_all_private()?;
    let tree = sys::mount::clone_tree(rustix::fs::CWD, rootfs, true)?;
    let target = rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    sys::mount::attach(tree.as_fd(), target.as_fd())
}

fn search(name: &str) -> Result<std::ffi::CString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    let found = found.ok_or_else(|| Error::Other(format!("{name} is not on PATH; install it")))?;
    std::ffi::CString::new(found.as_os_str().as_bytes()).map_err(|_| Error::Other("PATH has a NUL".to_owned()))
}
