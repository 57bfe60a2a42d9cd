//! Rules of the filter of system calls by their place; what is left is found when the filter is compiled.

use seccomp::{Action, Arch, MAX_ERRNO, Profile};

use super::text::{absolute, fault, no_nul};
use crate::Fault;
use crate::fault::shown;

pub(super) fn check(profile: &Profile) -> Result<(), Fault> {
    let Some(default) = profile.default_action else {
        let reason = "is missing; write what happens to calls without a rule, or take linux.seccomp out";
        return fault("linux.seccomp.defaultAction", reason);
    };
    if default == Action::Notify {
        let reason = "SCMP_ACT_NOTIFY would stop the container before its listener is known; name the calls in rules";
        return fault("linux.seccomp.defaultAction", reason);
    }
    errno("linux.seccomp.defaultErrnoRet", profile.default_errno_ret)?;
    for (at, name) in profile.architectures.iter().enumerate() {
        if Arch::from_scmp(name).is_err() {
            let reason = format!("{} is not known; write it as SCMP_ARCH_X86_64", shown(name));
            return fault(format_args!("linux.seccomp.architectures[{at}]"), reason);
        }
    }
    for (at, flag) in profile.flags.iter().enumerate() {
        let alone = Profile { flags: vec![flag.clone()], ..Profile::default() };
        if alone.filter_flags().is_err() {
            let reason = format!("{} is not known; write it as SECCOMP_FILTER_FLAG_LOG", shown(flag));
            return fault(format_args!("linux.seccomp.flags[{at}]"), reason);
        }
    }
    for (at, rule) in profile.syscalls.iter().enumerate() {
        if rule.names.is_empty() && rule.name.is_none() {
            let reason = "is empty; name at least one system call";
            return fault(format_args!("linux.seccomp.syscalls[{at}].names"), reason);
        }
        // The process sends its listener with this very call.
        let writes = |name: &std::borrow::Cow<'_, str>| matches!(name.as_ref(), "write" | "sendmsg");
        if rule.action == Action::Notify && rule.args.is_empty() && rule.names.iter().chain(&rule.name).any(writes) {
            let reason = "SCMP_ACT_NOTIFY would stop the container while it hands over its listener; leave write and sendmsg out";
            return fault(format_args!("linux.seccomp.syscalls[{at}].action"), reason);
        }
        errno(format_args!("linux.seccomp.syscalls[{at}].errnoRet"), rule.errno_ret)?;
        for (nth, arg) in rule.args.iter().enumerate() {
            if arg.index > 5 {
                let reason = format!("{} is beyond the six arguments of a call; write 0 to 5", arg.index);
                return fault(format_args!("linux.seccomp.syscalls[{at}].args[{nth}].index"), reason);
            }
        }
    }
    listener(profile)
}

fn errno(path: impl std::fmt::Display, value: Option<u32>) -> Result<(), Fault> {
    match value {
        Some(value) if value > MAX_ERRNO => {
            fault(path, format!("{value} is not an error number; write 0 to {MAX_ERRNO}"))
        }
        _ => Ok(()),
    }
}

fn listener(profile: &Profile) -> Result<(), Fault> {
    const PATH: &str = "linux.seccomp.listenerPath";
    no_nul("linux.seccomp.listenerMetadata", &profile.listener_metadata)?;
    match profile.listener_path.as_str() {
        "" if profile.notifies() => {
            fault(PATH, "is missing while an action is SCMP_ACT_NOTIFY; name the socket of whoever answers")
        }
        "" if !profile.listener_metadata.is_empty() => {
            fault(PATH, "is missing while there is listenerMetadata; name the socket or take the metadata out")
        }
        "" => Ok(()),
        path => absolute(PATH, path),
    }
}
