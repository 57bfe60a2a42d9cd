//! Rules of the process (runtime-spec, config.md "Process").

use super::text::{absolute, fault, no_nul, no_nuls, one_line};
use super::{Warnings, scheduling};
use crate::fault::shown;
use crate::{Fault, Process};

/// The id that stands for "leave it" in setresuid(2) and chown(2).
const NO_ID: u32 = u32::MAX;
/// Most supplementary groups (`NGROUPS_MAX` of linux/limits.h).
const MAX_GROUPS: usize = 65_536;

pub(super) fn check(process: &Process, warnings: &mut Warnings) -> Result<(), Fault> {
    match process.args.first() {
        None => return fault("process.args", "is empty; name the program to run"),
        Some(program) if program.is_empty() => {
            return fault("process.args[0]", "is empty; name the program to run");
        }
        Some(_) => no_nuls("process.args", &process.args)?,
    }
    absolute("process.cwd", &process.cwd)?;
    environment(&process.env, warnings)?;
    user(process)?;
    // "Runtimes MUST ignore consoleSize if terminal is false or unset."
    if let (true, Some(size)) = (process.terminal, process.console_size) {
        for (name, value) in [("height", size.height), ("width", size.width)] {
            if value > u64::from(u16::MAX) {
                let reason = format!("{value} is too large; a terminal has at most {} rows and columns", u16::MAX);
                return fault(format_args!("process.consoleSize.{name}"), reason);
            }
        }
    }
    capabilities(process, warnings)?;
    limits(process)?;
    one_line("process.apparmorProfile", &process.apparmor_profile)?;
    one_line("process.selinuxLabel", &process.selinux_label)?;
    if let Some(score) = process.oom_score_adj
        && !(-1000..=1000).contains(&score)
    {
        return fault("process.oomScoreAdj", format!("{score} is out of range; write -1000 to 1000"));
    }
    if let Some(scheduler) = &process.scheduler {
        scheduling::check(scheduler)?;
    }
    if let Some(priority) = &process.io_priority {
        scheduling::io(priority)?;
    }
    Ok(())
}

fn environment(env: &[String], warnings: &mut Warnings) -> Result<(), Fault> {
    for (at, item) in env.iter().enumerate() {
        no_nul(format_args!("process.env[{at}]"), item)?;
        // A name alone or no name at all is passed on, as by every runtime; few programs will find it.
        if item.find('=').is_none_or(|end| end == 0) {
            warnings.push(
                format_args!("process.env[{at}]"),
                format!("{} is not of the form NAME=value and is passed on as it is", shown(item)),
            );
        }
    }
    Ok(())
}

fn user(process: &Process) -> Result<(), Fault> {
    let user = &process.user;
    let id = |path: std::fmt::Arguments<'_>, id: u32| match id {
        NO_ID => fault(path, format!("{id} is not an id but stands for none; write another")),
        _ => Ok(()),
    };
    id(format_args!("process.user.uid"), user.uid)?;
    id(format_args!("process.user.gid"), user.gid)?;
    let groups = user.additional_gids.len();
    if groups > MAX_GROUPS {
        let reason = format!("has {groups} groups, and the kernel takes {MAX_GROUPS}; take some out");
        return fault("process.user.additionalGids", reason);
    }
    for (at, group) in user.additional_gids.iter().enumerate() {
        id(format_args!("process.user.additionalGids[{at}]"), *group)?;
    }
    if let Some(mask) = user.umask
        && mask > 0o777
    {
        let reason = format!("{mask} is more than the permission bits; write 0 to 511, the decimal form of 0777");
        return fault("process.user.umask", reason);
    }
    Ok(())
}

/// "Any value which cannot be mapped to a relevant kernel interface, or cannot be granted otherwise, MUST be logged as
/// a warning by the runtime."
fn capabilities(process: &Process, warnings: &mut Warnings) -> Result<(), Fault> {
    let Some(names) = &process.capabilities else { return Ok(()) };
    for (set, at, name) in names.unknown() {
        warnings.push(
            format_args!("process.capabilities.{set}[{at}]"),
            format!("{} is unknown and passed over; names are written as CAP_CHOWN", shown(name)),
        );
    }
    let sets = names.bits();
    let listed = |bits: u64| {
        let names =
            crate::CAPABILITIES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(", ")
    };
    let beyond = sets.effective & !sets.permitted;
    if beyond != 0 {
        // The kernel takes no such sets (capset(2)).
        let reason = format!("{} is not permitted; add it to process.capabilities.permitted", listed(beyond));
        return fault("process.capabilities.effective", reason);
    }
    // What is not inheritable is made so when it is set: configurations that `runc spec` wrote name no inheritable ones.
    let lacking = sets.ambient & !sets.permitted;
    if lacking != 0 {
        warnings.push(
            "process.capabilities.ambient",
            format!(
                "{} is not permitted and so passed over; add it to process.capabilities.permitted",
                listed(lacking)
            ),
        );
    }
    Ok(())
}

fn limits(process: &Process) -> Result<(), Fault> {
    let mut seen = 0u32;
    for (at, limit) in process.rlimits.iter().enumerate() {
        let bit = 1 << limit.kind.number();
        if seen & bit != 0 {
            let reason = format!("{} is limited twice; keep one of the entries", limit.kind.name());
            return fault(format_args!("process.rlimits[{at}].type"), reason);
        }
        seen |= bit;
        if limit.soft > limit.hard {
            let reason = format!("{} is above the hard limit {}; lower it or raise that", limit.soft, limit.hard);
            return fault(format_args!("process.rlimits[{at}].soft"), reason);
        }
    }
    Ok(())
}
