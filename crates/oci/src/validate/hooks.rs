//! Rules of hooks (runtime-spec, config.md "POSIX-platform Hooks").

use super::text::{absolute, fault, no_nuls};
use crate::{Fault, Hooks};

pub(super) fn check(hooks: &Hooks) -> Result<(), Fault> {
    for (point, programs) in hooks.all() {
        for (at, hook) in programs.iter().enumerate() {
            absolute(format_args!("hooks.{point}[{at}].path"), &hook.path)?;
            no_nuls(format_args!("hooks.{point}[{at}].args"), &hook.args)?;
            no_nuls(format_args!("hooks.{point}[{at}].env"), &hook.env)?;
            if let Some(timeout) = hook.timeout
                && timeout <= 0
            {
                let reason = format!("{timeout} is no time to run in; write seconds above 0 or take it out");
                return fault(format_args!("hooks.{point}[{at}].timeout"), reason);
            }
        }
    }
    Ok(())
}
