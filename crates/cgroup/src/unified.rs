//! Files of the v2 group by name (`linux.resources.unified` of the OCI runtime specification).
//!
//! Invariant: a key names a file of a controller the group has, in the group's own directory; a key that
//! would move processes, freeze, kill or hand out controllers is refused before anything is written.

use crate::error::libc_errno::{EACCES, ENOENT, EPERM};
use crate::group::Cgroup;
use crate::{Error, controllers, file};

/// The files of the core that limit something. The others act on processes or on the shape of the tree.
const CORE: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

fn invalid(key: &str, reason: &'static str) -> Error {
    Error::Invalid {
        control: "a unified resource",
        value: format!("\"{}\"", key.chars().take(80).collect::<String>()),
        reason,
    }
}

/// Refuses keys that name no limit.
pub(crate) fn check(group: &Cgroup, resources: &[(String, String)]) -> Result<(), Error> {
    if resources.is_empty() {
        return Ok(());
    }
    if group.v2.is_none() {
        return Err(Error::Unsupported {
            control: "unified resources",
            reason: "they are files of cgroup v2, and this host has v1 only".to_owned(),
        });
    }
    for (key, _) in resources {
        if key.contains('/') {
            return Err(invalid(key, "it must be a file name (no slashes)"));
        }
        if key.len() > 255 || key.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(invalid(key, "it is no name of a control file"));
        }
        match key.split_once('.') {
            Some(("", _)) | Some((_, "")) | None => {
                return Err(invalid(key, "it must be in the form CONTROLLER.PARAMETER"));
            }
            Some(("cgroup", _)) if !CORE.contains(&key.as_str()) => {
                return Err(invalid(
                    key,
                    "of the core's files cgroup.max.depth, cgroup.max.descendants and cgroup.pressure can be set",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Writes each file, line by line as the kernel takes them. Everything has been checked.
pub(crate) fn apply(group: &Cgroup, resources: &[(String, String)]) -> Result<(), Error> {
    let Some(spot) = group.v2.as_ref().filter(|_| !resources.is_empty()) else { return Ok(()) };
    for (key, value) in resources {
        let controller = key.split_once('.').map_or(key.as_str(), |(c, _)| c);
        let mut enabled = false;
        loop {
            let written =
                value.trim_end_matches('\n').split('\n').try_for_each(|line| file::write(&spot.dir, key, line));
            match written {
                Ok(()) => break,
                // No such file: perhaps its controller is not switched on yet. Permission: a group that systemd has
                // not handed to the user lacks controllers as well.
                Err(e) if matches!(e.errno(), Some(ENOENT | EPERM | EACCES)) && controller != "cgroup" => {
                    if controllers::has(&spot.dir, controller) {
                        return Err(e);
                    }
                    if enabled || !controllers::need(spot, controller) {
                        return Err(Error::Unsupported {
                            control: "unified resources",
                            reason: format!(
                                "\"{key}\" can't be set: controller \"{controller}\" not available on cgroup v2 in {}",
                                spot.dir.display()
                            ),
                        });
                    }
                    enabled = true;
                }
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}
