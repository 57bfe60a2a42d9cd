//! `linux.intelRdt`: a container's share of the last-level cache and of memory bandwidth, through the host's resctrl
//! file system (Documentation/filesystems/resctrl.rst).
//!
//! A class of service (closID) that was there before is joined and left alone; one made for the container goes with
//! it, and so does its monitoring group.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use oci::IntelRdt;

use crate::error::{Doing, Error, Result};

/// Where the file system is mounted on every distribution.
const MOUNT: &str = "/sys/fs/resctrl";

/// Puts the process into its class. Gives the directories made for the container, the innermost last.
///
/// # Errors
/// On a host without resctrl, and what the kernel says about the schemata.
pub(crate) fn join(rdt: &IntelRdt, id: &str, pid: i32) -> Result<Vec<PathBuf>> {
    let root = Path::new(MOUNT);
    if !root.join("schemata").exists() {
        return Err(Error::Other(format!(
            "config.json: linux.intelRdt: the host has no resctrl at {MOUNT}; mount it, or take the section out"
        )));
    }
    join_below(root, rdt, id, pid)
}

fn join_below(root: &Path, rdt: &IntelRdt, id: &str, pid: i32) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    let joined = fill(root, rdt, id, pid, &mut made);
    if joined.is_err() {
        remove(&made);
    }
    joined.map(|()| made)
}

fn fill(root: &Path, rdt: &IntelRdt, id: &str, pid: i32, made: &mut Vec<PathBuf>) -> Result<()> {
    let class = match rdt.clos_id.as_str() {
        "" => root.join(id),
        // The default class is the file system's own root.
        "/" => root.to_owned(),
        name => root.join(name),
    };
    let lines: Vec<&str> = [rdt.l3_cache_schema.as_str(), rdt.mem_bw_schema.as_str()]
        .into_iter()
        .chain(rdt.schemata.iter().map(String::as_str))
        .flat_map(str::lines)
        .filter(|line| !line.trim().is_empty())
        .collect();
    if class != root {
        match fs::create_dir(&class) {
            Ok(()) => made.push(class.clone()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && !rdt.clos_id.is_empty() => {}
            Err(error) => return Err(error).doing(|| format!("make the class of service {}", class.display())),
        }
    }
    if !lines.is_empty() {
        write(&class, "schemata", &format!("{}\n", lines.join("\n")))?;
    }
    write(&class, "tasks", &pid.to_string())?;
    if rdt.enable_monitoring || rdt.enable_cmt || rdt.enable_mbm {
        let group = class.join("mon_groups").join(id);
        fs::create_dir(&group).doing(|| format!("make the monitoring group {}", group.display()))?;
        made.push(group.clone());
        write(&group, "tasks", &pid.to_string())?;
    }
    Ok(())
}

fn write(dir: &Path, name: &str, value: &str) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, value).doing(|| format!("write {value:?} to {}", path.display()))
}

/// Removes what [`join`] made. What is gone, or has got other users meanwhile, is left.
pub(crate) fn remove(made: &[PathBuf]) {
    for dir in made.iter().rev() {
        let _ = fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_was_there_is_joined_and_one_made_is_removed() {
        // The kernel puts the files into a new directory; here only those of an old one are there.
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        fs::create_dir_all(old.join("mon_groups/ctr")).unwrap();
        let rdt = IntelRdt { clos_id: "old".to_owned(), schemata: vec!["L3:0=f".to_owned()], ..IntelRdt::default() };
        assert!(join_below(dir.path(), &rdt, "ctr", 7).unwrap().is_empty());
        assert_eq!(fs::read_to_string(old.join("schemata")).unwrap(), "L3:0=f\n");
        assert_eq!(fs::read_to_string(old.join("tasks")).unwrap(), "7");
        let rdt = IntelRdt { enable_monitoring: true, ..rdt };
        assert!(join_below(dir.path(), &rdt, "ctr", 7).is_err(), "a monitoring group of this name is there");
        let made = vec![dir.path().join("new")];
        fs::create_dir(&made[0]).unwrap();
        remove(&made);
        assert!(!made[0].exists() && old.exists());
    }
}
