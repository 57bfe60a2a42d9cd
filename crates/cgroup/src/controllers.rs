//! Controllers of a v2 hierarchy: a group has the files of a controller when every group above it names that
//! controller in `cgroup.subtree_control` (Documentation/admin-guide/cgroup-v2.rst "Enabling and Disabling").
//! Called when a group is made, and when a limit finds its file missing.

use std::path::Path;

use crate::error::libc_errno::{EBUSY, ENOENT};
use crate::group::Spot;
use crate::{Error, file};

/// Lets the group at `spot` have every controller that the hierarchy offers. The usual case, that it has them
/// already, costs two files to read. What cannot be had is no error here but where a limit needs it, except that
/// `strict` refuses a path on which processes keep a group from handing anything down.
pub(crate) fn enable_path(spot: &Spot, strict: bool) -> Result<(), Error> {
    let ancestry = spot.ancestry();
    let [root, between @ .., _] = ancestry.as_slice() else { return Ok(()) };
    let offered = file::read_value(&root.join("cgroup.controllers"))?;
    let has = match file::read_value(&spot.dir.join("cgroup.controllers")) {
        Ok(has) => has,
        // Only a tree that is no kernel's has none.
        Err(e) if e.errno() == Some(ENOENT) => String::new(),
        Err(e) => return Err(e),
    };
    if names(&offered).all(|c| names(&has).any(|h| h == c)) {
        return Ok(());
    }
    for above in std::iter::once(root).chain(between) {
        match enable(above) {
            Err(e) if strict || e.errno() != Some(EBUSY) => return Err(e),
            _ => {}
        }
    }
    // Below a group whose processes share its controllers a group takes processes only as a part of that one
    // ("Threads" in cgroup-v2.rst). Such a part has CPU time and process numbers, and no memory of its own.
    let kind = spot.dir.join("cgroup.type");
    if file::read_value(&kind).is_ok_and(|kind| kind == "domain invalid") {
        file::write(&spot.dir, "cgroup.type", "threaded")?;
    }
    Ok(())
}

/// Whether the group at `spot` has `controller`; if the hierarchy offers it, it is enabled down the path first. For
/// a limit that finds its file missing: on hybrid hosts nobody enables v2's controllers before they are needed.
pub(crate) fn need(spot: &Spot, controller: &str) -> bool {
    if has(&spot.dir, controller) {
        return true;
    }
    let ancestry = spot.ancestry();
    let [above @ .., _] = ancestry.as_slice() else { return false };
    if !above.first().is_some_and(|root| has(root, controller)) {
        return false;
    }
    for dir in above {
        let enabled = file::read_value(&dir.join("cgroup.subtree_control")).unwrap_or_default();
        if !names(&enabled).any(|c| c == controller)
            && file::write(dir, "cgroup.subtree_control", &format!("+{controller}")).is_err()
        {
            return false;
        }
    }
    has(&spot.dir, controller)
}

/// Whether the group at `dir` has `controller`.
pub(crate) fn has(dir: &Path, controller: &str) -> bool {
    file::read_value(&dir.join("cgroup.controllers")).is_ok_and(|text| names(&text).any(|c| c == controller))
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// Makes the groups below `above` have every controller that it has itself.
fn enable(above: &Path) -> Result<(), Error> {
    let available = file::read_value(&above.join("cgroup.controllers"))?;
    let enabled = file::read_value(&above.join("cgroup.subtree_control"))?;
    let missing: Vec<&str> = names(&available).filter(|c| !names(&enabled).any(|e| e == *c)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = missing.iter().map(|c| format!("+{c}")).collect();
    if file::write(above, "cgroup.subtree_control", &all.join(" ")).is_ok() {
        return Ok(());
    }
    // All or nothing failed; one controller that cannot be had (cpu with real-time tasks) must not cost the others.
    // Processes in the group keep it from handing down anything that matters, and that is worth an error. What
    // the user may not change (a group of systemd's that was not delegated) shows when a limit lacks its file.
    for one in &all {
        let hint = "; processes in this group keep it from having groups with limits: move them to a group of their own, or choose another parent";
        match file::write_hint(above, "cgroup.subtree_control", one, hint) {
            Err(e) if e.errno() == Some(EBUSY) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
