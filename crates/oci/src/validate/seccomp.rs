//! Rules of the filter of system calls: those of the crate `seccomp`, and what is only asked of a container's
//! configuration.

use seccomp::{Action, Profile};

use super::text::{absolute, fault, no_nul};
use crate::Fault;

pub(super) fn check(profile: &Profile) -> Result<(), Fault> {
    if profile.default_action.is_none() {
        let reason = "is missing; write what happens to calls without a rule, or take linux.seccomp out";
        return fault("linux.seccomp.defaultAction", reason);
    }
    seccomp::check(profile).map_err(|error| {
        let place = error.at().map_or_else(|| "linux.seccomp".to_owned(), |at| format!("linux.seccomp.{at}"));
        let text = error.to_string();
        Fault::new(place, text.strip_prefix("seccomp profile: ").unwrap_or(&text))
    })?;
    for (at, rule) in profile.syscalls.iter().enumerate() {
        // The process hands its listener over with this very call.
        let sends = |name: &std::borrow::Cow<'_, str>| name.as_ref() == "sendmsg";
        if rule.action == Action::Notify && rule.args.is_empty() && rule.names.iter().chain(&rule.name).any(sends) {
            let reason = "SCMP_ACT_NOTIFY would stop the container while it hands over its listener; leave sendmsg out";
            return fault(format_args!("linux.seccomp.syscalls[{at}].action"), reason);
        }
    }
    no_nul("linux.seccomp.listenerMetadata", profile.listener_metadata.as_deref().unwrap_or_default())?;
    match profile.listener_path.as_deref().unwrap_or_default() {
        "" => Ok(()),
        path => absolute("linux.seccomp.listenerPath", path),
    }
}
