//! What is wrong with a profile whatever the container, found without compiling. Called by
//! [`crate::compile`] first, and by whoever wants to refuse a document early and by position.
//!
//! Invariant: a profile that passes compiles for every context, unless its program is too large.

use crate::profile::{Action, FLAG_PREFIX, MAX_ENTRIES, MAX_ERRNO, MAX_TRACE_MESSAGE, Profile, Rule, entries};
use crate::{Error, known};

/// Checks `profile` as the OCI runtime specification ("Seccomp") and the loaders in use demand.
///
/// An `errnoRet` beside an action that has none is ignored, as runc does: profiles are often derived from
/// another by replacing the action alone.
///
/// # Errors
/// Every [`Error`] but those about the number of instructions; each names its position.
pub fn check(profile: &Profile) -> Result<(), Error> {
    if profile.is_off() {
        return Ok(());
    }
    let default = profile.default_action.ok_or(Error::NoDefaultAction)?;
    if default == Action::Notify {
        return Err(Error::NotifyByDefault);
    }
    errno(default, profile.default_errno_ret, || "defaultErrnoRet".to_owned())?;
    architectures(profile)?;
    profile.filter_flags()?;
    if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
        return Err(Error::MetadataWithoutListener);
    }
    let mut count = 0;
    for (n, rule) in profile.syscalls.iter().enumerate() {
        count += entries(rule);
        if count > MAX_ENTRIES {
            return Err(Error::TooLarge { what: "number of names and comparisons", count, limit: MAX_ENTRIES });
        }
        self::rule(profile, n, rule)?;
    }
    Ok(())
}

fn rule(profile: &Profile, n: usize, rule: &Rule) -> Result<(), Error> {
    let at = || format!("syscalls[{n}]");
    match (rule.names.is_empty(), &rule.name) {
        (true, None) => return Err(Error::NoNames { at: at() }),
        (false, Some(_)) => return Err(Error::NameAndNames { at: at() }),
        (true, Some(_)) | (false, None) => {}
    }
    let position =
        |m: usize| if rule.name.is_some() { format!("{}.name", at()) } else { format!("{}.names[{m}]", at()) };
    for (m, name) in rule.names.iter().chain(&rule.name).enumerate() {
        if name.is_empty() {
            return Err(Error::EmptyName { at: position(m) });
        }
        if rule.action == Action::Notify && name == "write" {
            return Err(Error::NotifyWrite { at: position(m) });
        }
    }
    if rule.action == Action::Notify && profile.listener_path.is_none() {
        return Err(Error::NoListener { at: format!("{}.action", at()) });
    }
    errno(rule.action, rule.errno_ret, || format!("{}.errnoRet", at()))?;
    match rule.args.iter().enumerate().find(|(_, arg)| arg.index > 5) {
        Some((m, arg)) => Err(Error::ArgumentIndex { at: format!("{}.args[{m}].index", at()), index: arg.index }),
        None => Ok(()),
    }
}

fn errno(action: Action, value: Option<u32>, at: impl Fn() -> String) -> Result<(), Error> {
    match (action, value) {
        (Action::Errno, Some(value)) if value > MAX_ERRNO => Err(Error::Errno { at: at(), value }),
        (Action::Trace, Some(value)) if value > MAX_TRACE_MESSAGE => Err(Error::TraceMessage { at: at(), value }),
        _ => Ok(()),
    }
}

fn architectures(profile: &Profile) -> Result<(), Error> {
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(Error::ArchitecturesAndArchMap);
    }
    let known = |name: &str, at: &dyn Fn() -> String| {
        if known::is_architecture(name) {
            return Ok(());
        }
        Err(Error::UnknownArchitecture { at: at(), name: cut(name) })
    };
    for (n, name) in profile.architectures.iter().enumerate() {
        known(name, &|| format!("architectures[{n}]"))?;
    }
    for (n, entry) in profile.arch_map.iter().enumerate() {
        known(&entry.architecture, &|| format!("archMap[{n}].architecture"))?;
        for (m, name) in entry.sub_architectures.iter().enumerate() {
            known(name, &|| format!("archMap[{n}].subArchitectures[{m}]"))?;
        }
    }
    Ok(())
}

/// What an error may quote of a text from outside.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

impl Profile {
    /// The flag word for seccomp(2), with [`FLAG_NEW_LISTENER`](crate::FLAG_NEW_LISTENER) if a rule notifies.
    ///
    /// Without `flags`, not even an empty list, it is `SECCOMP_FILTER_FLAG_SPEC_ALLOW`, as with runc and
    /// crun: mitigations the kernel would otherwise add for filtered processes cost more than they give.
    ///
    /// # Errors
    /// [`Error::UnknownFlag`] for a name seccomp(2) does not list, [`Error::FlagWithoutNotify`].
    pub fn filter_flags(&self) -> Result<u32, Error> {
        use crate::profile::{FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE_RECV};
        let notifies = self.notifies();
        let mut bits = if notifies { FLAG_NEW_LISTENER } else { 0 };
        let Some(flags) = &self.flags else { return Ok(bits | FLAG_SPEC_ALLOW) };
        for (n, flag) in flags.iter().enumerate() {
            let at = || format!("flags[{n}]");
            bits |= match flag.strip_prefix(FLAG_PREFIX) {
                // One filter is loaded before the only thread calls execve(2): nothing to synchronise.
                Some("TSYNC") => 0,
                Some("LOG") => FLAG_LOG,
                Some("SPEC_ALLOW") => FLAG_SPEC_ALLOW,
                Some("WAIT_KILLABLE_RECV") if notifies => FLAG_WAIT_KILLABLE_RECV,
                Some("WAIT_KILLABLE_RECV") => return Err(Error::FlagWithoutNotify { at: at() }),
                _ => return Err(Error::UnknownFlag { at: at(), name: cut(flag) }),
            };
        }
        Ok(bits)
    }
}
