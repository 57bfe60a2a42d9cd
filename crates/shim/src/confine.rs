//! What a shim gives up once its container runs: the file system but for the log's directory, every new privilege,
//! and all system calls it has no use for.
//!
//! From here on it handles bytes of the container. Whoever takes it over by them can append to, make and rename files
//! in that one directory, and talk over descriptors that are open already; no program can be started, no file read,
//! no socket made. Execs are the zygote's, which is not reached by such bytes.
//! Called by the server when the container's program has been executed.

use sys::Errno;

use crate::filter;

/// `SECCOMP_FILTER_FLAG_LOG`: what is refused shows in the audit log.
const LOG_REFUSALS: u32 = 1 << 1;
/// SIGBUS and SIGSEGV.
const FAULTS: [i32; 2] = [7, 11];

/// Makes `dir` the root directory. Paths are relative to it afterwards; nothing outside can be named, as no directory
/// is kept open and the filter knows no other start than the working directory.
///
/// # Errors
/// What chdir(2) or chroot(2) says; the working directory may have changed.
pub(crate) fn enter(dir: &str) -> Result<(), Errno> {
    rustix::process::chdir(dir)?;
    rustix::process::chroot(".")
}

/// Takes every further privilege and all calls but those of the filter.
///
/// # Errors
/// What prctl(2) or seccomp(2) says; `ENOSYS` on an architecture without a filter.
pub(crate) fn filter_calls() -> Result<(), Errno> {
    // The start-up code of the language wants to explain a stack overflow and could not return from that.
    sys::process::default_signals(&FAULTS);
    sys::creds::set_no_new_privileges()?;
    let program = filter::program(cfg!(debug_assertions)).ok_or(Errno::NOSYS)?;
    sys::seccomp::load(&program, LOG_REFUSALS).map(drop)
}
