//! Rules of the filter of system calls: those of the `seccomp` crate with their place in the document, and those of
//! the runtime that loads it. That the program is not too large shows when it is compiled.

use seccomp::{Action, Error, Profile};

use super::text::{absolute, fault, no_nul};
use crate::Fault;

pub(super) fn check(profile: &Profile) -> Result<(), Fault> {
    if profile.default_action.is_none() {
        let reason = "is missing; write what happens to calls without a rule, or take linux.seccomp out";
        return fault("linux.seccomp.defaultAction", reason);
    }
    seccomp::check(profile).map_err(|error| place(&error))?;
    for (at, rule) in profile.syscalls.iter().enumerate() {
        // The process sends its listener with this very call.
        if rule.action == Action::Notify && rule.names.iter().chain(&rule.name).any(|name| name == "sendmsg") {
            let reason = "SCMP_ACT_NOTIFY cannot be used for sendmsg, since handing over the listener would wait for the listener; leave it out";
            return fault(format_args!("linux.seccomp.syscalls[{at}].action"), reason);
        }
    }
    if let Some(path) = &profile.listener_path {
        absolute("linux.seccomp.listenerPath", path)?;
    }
    no_nul("linux.seccomp.listenerMetadata", profile.listener_metadata.as_deref().unwrap_or_default())
}

/// The error as a fault: where its text names the place again, that is taken off.
fn place(error: &Error) -> Fault {
    let text = error.to_string();
    let text = text.strip_prefix("seccomp profile").map_or(text.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    let Some(at) = error.at() else { return Fault::new("linux.seccomp", text) };
    let reason = text.strip_prefix(at).map_or(text, |rest| rest.trim_start_matches([':', ' ']));
    Fault::new(format_args!("linux.seccomp.{at}"), reason)
}
