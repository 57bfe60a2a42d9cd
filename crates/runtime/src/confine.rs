//! Limits, credentials and confinement of a process on its way to execve, and the execve itself.
//!
//! Order is everything here: the bounding set shrinks while `CAP_SETPCAP` is held, seccomp is loaded
//! while `CAP_SYS_ADMIN` is (unless no_new_privs makes that unnecessary, then last), the user changes
//! before the final capability sets.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use launch::{FailureStage, Process, Rlimit};
use rustix::fs::{Mode, OFlags};
use sys::Errno;
use sys::creds::Capabilities;
use sys::process::CArray;

use crate::child::c_array;
use crate::failure::{At, Failure};
use crate::report::Reporter;

/// Sets every limit; a refused engine default stays at the host's value.
pub(crate) fn set_limits(limits: &[Rlimit]) -> Result<(), Failure> {
    for limit in limits {
        match sys::process::set_rlimit(limit.resource, limit.soft, limit.hard) {
            Err(errno) if !limit.optional => {
                return Err(errno).at(FailureStage::Rlimit, || {
                    format!("set resource limit {} to {}:{}", limit.resource, limit.soft, limit.hard)
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Scheduling, placement and execution domain, where they are asked for.
pub(crate) fn set_scheduling(process: &Process) -> Result<(), Failure> {
    let stage = FailureStage::Scheduling;
    if let Some(scheduler) = &process.scheduler {
        let attr = sys::sched::SchedAttr {
            policy: scheduler.policy,
            flags: scheduler.flags,
            nice: scheduler.nice,
            priority: scheduler.priority,
            runtime: scheduler.runtime,
            deadline: scheduler.deadline,
            period: scheduler.period,
            ..Default::default()
        };
        sys::sched::set_scheduler(attr).at(stage, || format!("set the scheduling policy {}", scheduler.policy))?;
    }
    if let Some(value) = process.io_priority {
        sys::sched::set_io_priority(value).at(stage, || format!("set the I/O priority {value:#x}"))?;
    }
    if let Some(policy) = &process.memory_policy {
        sys::sched::set_memory_policy(policy.mode, &policy.nodes)
            .at(stage, || format!("set the memory policy {:#x}", policy.mode))?;
    }
    if let Some(cpus) = &process.final_cpus {
        sys::sched::set_affinity(cpus).at(stage, || "run on the CPUs of the final affinity".to_owned())?;
    }
    if let Some(domain) = process.personality {
        sys::sched::set_personality(domain).at(stage, || format!("set the execution domain {domain:#x}"))?;
    }
    Ok(())
}

/// Gives pipes and terminal to the user, who could otherwise not open `/dev/stdout` again.
pub(crate) fn own_standard_streams(uid: u32) {
    if uid == 0 {
        return;
    }
    let owner = Some(rustix::fs::Uid::from_raw(uid));
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        // The null device is the host's, of everybody.
        if stat.st_rdev != rustix::fs::makedev(1, 3) {
            let _ = rustix::fs::fchown(fd, owner, None);
        }
    }
}

/// Closes every descriptor but the `passed` first ones after the standard streams, the status socket and `keep`. Before
/// anything of the image is resolved for good: the directories of the host among them are no way out then, neither for
/// the working directory nor for the program, nor do hooks in the container inherit what the caller had open.
pub(crate) fn close_descriptors(passed: u32, keep: &[BorrowedFd<'_>], reporter: &Reporter) -> Result<(), Failure> {
    reporter.close_others(passed, keep).at(FailureStage::Exec, || "close descriptors".to_owned())
}

/// Becomes the user, in the working directory, with the capabilities and the filter of the plan.
pub(crate) fn drop_privileges(process: &Process, reporter: &Reporter) -> Result<(), Failure> {
    rustix::process::umask(Mode::from_raw_mode(process.umask & 0o777));
    if process.no_new_privileges {
        sys::creds::set_no_new_privileges().at(FailureStage::Credentials, || "forbid new privileges".to_owned())?;
    } else {
        load_seccomp(process, reporter)?;
    }

    let stage = FailureStage::Capability;
    let held = sys::creds::capabilities().at(stage, || "read the capabilities".to_owned())?;
    let missing = process.permitted & !held.permitted;
    if missing != 0 {
        reporter.warn(&format!("the host withholds the capabilities 0x{missing:x}; going on without"));
    }
    sys::creds::limit_bounding_set(process.bounding).at(stage, || "shrink the bounding set".to_owned())?;
    sys::creds::set_keep_capabilities(true).at(stage, || "keep capabilities over setuid".to_owned())?;
    // The directory may be closed to the user but open to root, or the other way round on a network mount.
    let entered = enter_cwd(&process.cwd);
    sys::creds::set_user(process.uid, process.gid, &process.groups)
        .at(FailureStage::Credentials, || format!("become user {}:{}", process.uid, process.gid))?;
    // A change of user sets this anew, from a setting of the host (`fs.suid_dumpable`).
    sys::creds::set_dumpable(false).at(FailureStage::Credentials, || "stay hidden".to_owned())?;
    sys::creds::set_keep_capabilities(false).at(stage, || "stop keeping capabilities".to_owned())?;
    let permitted = process.permitted & held.permitted;
    let ambient = process.ambient & permitted;
    // Ambient capabilities must be inheritable too.
    let inheritable = process.inheritable & held.permitted | ambient;
    let sets = Capabilities { permitted, effective: process.effective & permitted, inheritable };
    sys::creds::set_capabilities(sets).at(stage, || "set the capabilities".to_owned())?;
    sys::creds::set_ambient(ambient).at(stage, || "set the ambient capabilities".to_owned())?;
    match entered {
        Err(Errno::ACCESS | Errno::PERM) => enter_cwd(&process.cwd),
        other => other,
    }
    .map_err(|errno| {
        let text = format!("chdir to cwd ({:?}) set in config.json failed: {errno}", process.cwd);
        Failure::new(FailureStage::Cwd, errno, text)
    })?;
    if process.no_new_privileges {
        load_seccomp(process, reporter)?;
    }
    Ok(())
}

fn load_seccomp(process: &Process, reporter: &Reporter) -> Result<(), Failure> {
    let Some(program) = &process.seccomp else { return Ok(()) };
    let listener = sys::seccomp::load(program, process.seccomp_flags)
        .at(FailureStage::Seccomp, || "load the system call filter".to_owned())?;
    match listener {
        Some(listener) => reporter
            .listener(listener.as_fd())
            .at(FailureStage::Seccomp, || "hand over the listener of the system call filter".to_owned()),
        None => Ok(()),
    }
}

/// Changes into the directory and makes sure that it lies in the container: through a descriptor
/// left open by mistake a path could lead out, and then the kernel cannot name it from our root.
fn enter_cwd(cwd: &str) -> Result<(), Errno> {
    rustix::process::chdir(if cwd.is_empty() { "/" } else { cwd })?;
    if rustix::process::getcwd(Vec::new())?.as_bytes().starts_with(b"/") { Ok(()) } else { Err(Errno::NOENT) }
}

/// What is to be executed, prepared before anything is taken away.
pub(crate) struct Target {
    name: Vec<u8>,
    /// In order of preference.
    candidates: Vec<CString>,
    args: CArray,
    env: CArray,
}

impl Target {
    pub(crate) fn new(process: &Process) -> Result<Self, Failure> {
        let stage = FailureStage::Exec;
        let Some(name) = process.args.first().filter(|name| !name.is_empty()) else {
            return Err(Failure::new(stage, Errno::NOENT, "no command specified"));
        };
        let invalid = || "pass arguments or environment with a NUL byte".to_owned();
        let args = c_array(&process.args).at(stage, invalid)?;
        // An item without `=` would make the C library read past it into its neighbours' meaning.
        let items = process.env.iter().map(Vec::as_slice).filter(|item| item[1.min(item.len())..].contains(&b'='));
        let env = CArray::new(items).at(stage, invalid)?;
        let candidates = candidates(name, &process.env).into_iter().map(CString::new).collect::<Result<_, _>>();
        let candidates = candidates.map_err(|_| Errno::INVAL).at(stage, invalid)?;
        Ok(Self { name: name.clone(), candidates, args, env })
    }

    /// Fails as [`Target::execute`] would where that can be told beforehand: nothing there to execute, or nothing
    /// the user may. What the kernel makes of the content is not known yet.
    pub(crate) fn look_up(&self, process: &Process) -> Result<(), Failure> {
        let name = String::from_utf8_lossy(&self.name).into_owned();
        // A relative path is relative to the working directory.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let cwd = if process.cwd.is_empty() { "/" } else { process.cwd.as_str() };
        let Ok(cwd) = rustix::fs::open(cwd, flags, Mode::empty()) else { return Ok(()) };
        let mut denied = None;
        for path in &self.candidates {
            match rustix::fs::statat(&cwd, path.as_c_str(), rustix::fs::AtFlags::empty()) {
                Ok(stat) if may_execute(&stat, process) => return Ok(()),
                Ok(_) => denied = Some(path),
                Err(_) => {}
            }
        }
        match (denied, self.candidates.as_slice()) {
            (Some(path), [_]) => Err(Self::refused(&name, path, Errno::ACCESS)),
            (None, [path]) => Err(Self::refused(&name, path, Errno::NOENT)),
            (denied, _) => Err(Self::found_none(&name, denied.is_some())),
        }
    }

    /// Executes the first candidate that can be. Returns only with the reason why none could.
    pub(crate) fn execute(self, reporter: &Reporter) -> Failure {
        reporter.ready();
        let name = String::from_utf8_lossy(&self.name).into_owned();
        let mut denied = false;
        for path in &self.candidates {
            match sys::process::execve(path, &self.args, &self.env) {
                // Not there, or a part of PATH that is no directory: the next one.
                Errno::NOENT | Errno::NOTDIR if self.candidates.len() > 1 => {
                    // There, but its interpreter is not: that is the answer, not "not found".
                    if is_file(path) {
                        let text = format!("exec {}: {}", path.to_string_lossy(), text(Errno::NOENT));
                        return Failure::new(FailureStage::Exec, Errno::NOENT, text);
                    }
                }
                Errno::ACCESS if self.candidates.len() > 1 => denied = true,
                errno => return Self::refused(&name, path, errno),
            }
        }
        Self::found_none(&name, denied)
    }

    fn found_none(name: &str, denied: bool) -> Failure {
        let errno = if denied { Errno::ACCESS } else { Errno::NOENT };
        let why = if denied { "permission denied" } else { "executable file not found in $PATH" };
        Failure::new(FailureStage::Exec, errno, format!("exec: {name:?}: {why}"))
    }

    fn refused(name: &str, path: &CString, errno: Errno) -> Failure {
        let path_text = path.to_string_lossy();
        let detail = match errno {
            // It is there: what is missing is its interpreter.
            Errno::NOENT if is_file(path) => format!("exec {path_text}: {}", text(errno)),
            Errno::NOENT if !name.contains('/') => format!("exec: {name:?}: executable file not found in $PATH"),
            Errno::NOENT | Errno::NOTDIR => format!("exec: {name:?}: stat {path_text}: {}", text(errno)),
            Errno::ACCESS if is_dir(path) => format!("exec: {name:?}: is a directory"),
            Errno::ACCESS | Errno::PERM => format!("exec: {name:?}: {}", text(errno)),
            errno => format!("exec {path_text}: {}", text(errno)),
        };
        Failure::new(FailureStage::Exec, errno, detail)
    }
}

/// The words Docker's clients know these by.
fn text(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or directory".to_owned(),
        Errno::NOTDIR => "not a directory".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::PERM => "operation not permitted".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        Errno::TOOBIG => "argument list too long".to_owned(),
        errno => errno.to_string(),
    }
}

/// Whether the mode bits let the process execute the file. Root needs one bit, whoever's (capabilities(7)).
fn may_execute(stat: &rustix::fs::Stat, process: &Process) -> bool {
    const CAP_DAC_OVERRIDE: u64 = 1 << 1;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return false;
    }
    let mode = stat.st_mode & 0o111;
    if process.effective & CAP_DAC_OVERRIDE != 0 {
        return mode != 0;
    }
    let bit = if stat.st_uid == process.uid {
        0o100
    } else if stat.st_gid == process.gid || process.groups.contains(&stat.st_gid) {
        0o010
    } else {
        0o001
    };
    // Access control lists can say otherwise than the group's bit; the kernel has the last word.
    mode & bit != 0 || mode & 0o010 != 0
}

fn file_type(path: &CString) -> Option<rustix::fs::FileType> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path.as_c_str(), flags, Mode::empty()).ok()?;
    Some(rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd).ok()?.st_mode))
}

fn is_file(path: &CString) -> bool {
    file_type(path).is_some_and(rustix::fs::FileType::is_file)
}

fn is_dir(path: &CString) -> bool {
    file_type(path).is_some_and(rustix::fs::FileType::is_dir)
}

/// A name with a slash is itself the path; another is looked for in each directory of `PATH`.
fn candidates(name: &[u8], env: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    let path = env.iter().rev().find_map(|item| item.strip_prefix(b"PATH=")).unwrap_or_default();
    path.split(|byte| *byte == b':')
        // The empty entry means the working directory to a shell; here it would run whatever the image put there.
        .filter(|dir| !dir.is_empty())
        .map(|dir| [dir, b"/", name].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_in_path_and_paths_are_not() {
        let env = vec![b"A=1".to_vec(), b"PATH=/bin::/usr/bin".to_vec()];
        assert_eq!(candidates(b"sh", &env), [b"/bin/sh".to_vec(), b"/usr/bin/sh".to_vec()]);
        assert_eq!(candidates(b"./sh", &env), [b"./sh".to_vec()]);
        assert!(candidates(b"sh", &[]).is_empty());
    }
}
