//! Rules of id mappings, those of user_namespaces(7): the kernel refuses a map as a whole and does not say why.

use super::text::fault;
use crate::{Fault, IdMapping};

/// Most entries (`UID_GID_MAP_MAX_EXTENTS` of linux/user_namespace.h).
const MAX_ENTRIES: usize = 340;

/// Checks one map.
pub(super) fn check(path: &str, maps: &[IdMapping]) -> Result<(), Fault> {
    if maps.len() > MAX_ENTRIES {
        let reason = format!("has {} entries, and the kernel takes {MAX_ENTRIES}; join ranges", maps.len());
        return fault(path, reason);
    }
    for (at, map) in maps.iter().enumerate() {
        if map.size == 0 {
            return fault(format_args!("{path}[{at}].size"), "is 0; write how many ids to map");
        }
        for (side, first) in [("containerID", map.container_id), ("hostID", map.host_id)] {
            // The last id of 32 bits stands for none.
            if first.checked_add(map.size).is_none() {
                let reason = format!("{first} and {} ids from there go beyond {}; lower size", map.size, u32::MAX - 1);
                return fault(format_args!("{path}[{at}].{side}"), reason);
            }
        }
        for (before, other) in maps[..at].iter().enumerate() {
            let meets = |a: u32, b: u32| a < b + other.size && b < a + map.size;
            let side = if meets(map.container_id, other.container_id) {
                "container"
            } else if meets(map.host_id, other.host_id) {
                "host"
            } else {
                continue;
            };
            let reason = format!("overlaps {path}[{before}] in the ids of the {side}; map each id once");
            return fault(format_args!("{path}[{at}]"), reason);
        }
    }
    Ok(())
}

/// Users without groups, or groups without users, leave half of the ids unmapped.
pub(super) fn both(uids: &str, uid_maps: &[IdMapping], gids: &str, gid_maps: &[IdMapping]) -> Result<(), Fault> {
    let (missing, given) = match (uid_maps.is_empty(), gid_maps.is_empty()) {
        (true, false) => (uids, gids),
        (false, true) => (gids, uids),
        _ => return Ok(()),
    };
    fault(missing, format!("is missing while there is {given}; give both"))
}
