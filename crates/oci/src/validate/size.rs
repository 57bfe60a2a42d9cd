//! How much of each thing a document may have. The bounds are far above what anybody needs and keep what is made
//! from a document in proportion. Checked as soon as it is read.

use crate::parse::CONFIG;
use crate::{Fault, Spec};

/// Most mounts: the kernel's own default for a namespace (`fs.mount-max`).
const MAX_MOUNTS: usize = 100_000;
/// Most device nodes, device rules, paths of one list, network devices and time offsets.
const MAX_ITEMS: usize = 100_000;
/// Most programs at one point.
const MAX_HOOKS: usize = 1000;

/// Checks the lengths of lists.
pub(crate) fn limits(spec: &Spec) -> Result<(), Fault> {
    let bound = |path: &str, count: usize, most: usize| {
        if count <= most {
            return Ok(());
        }
        let reason = format!("has {count} entries, and at most {most} are taken; take some out");
        Err(Fault { document: CONFIG, path: path.to_owned(), reason })
    };
    bound("mounts", spec.mounts.len(), MAX_MOUNTS)?;
    for (point, hooks) in spec.hooks.all() {
        bound(&format!("hooks.{point}"), hooks.len(), MAX_HOOKS)?;
    }
    let Some(linux) = &spec.linux else { return Ok(()) };
    bound("linux.devices", linux.devices.len(), MAX_ITEMS)?;
    bound("linux.maskedPaths", linux.masked_paths.len(), MAX_ITEMS)?;
    bound("linux.readonlyPaths", linux.readonly_paths.len(), MAX_ITEMS)?;
    bound("linux.netDevices", linux.net_devices.len(), MAX_ITEMS)?;
    bound("linux.sysctl", linux.sysctl.len(), MAX_ITEMS)?;
    if let Some(resources) = &linux.resources {
        bound("linux.resources.devices", resources.devices.len(), MAX_ITEMS)?;
        bound("linux.resources.unified", resources.unified.len(), MAX_ITEMS)?;
    }
    Ok(())
}
