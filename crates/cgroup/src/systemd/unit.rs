//! Names of units: from an OCI `cgroupsPath` to a scope in a slice, and where its control group is
//! (systemd.unit(5), systemd.slice(5)).
//!
//! Invariant: a name made here has the characters and the length that systemd takes.

use super::error::Error;
use crate::{Cgroup, Hierarchy};

/// Longest name of a unit (`UNIT_NAME_MAX`, less its end).
const MAX_NAME: usize = 255;

/// The unit of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The slice it is in: `system.slice`.
    pub slice: String,
    /// Its name: `docker-1234.scope`.
    pub name: String,
    /// What the container is called, for the unit's description.
    pub container: String,
    /// It belongs to the user's manager.
    pub user: bool,
}

impl Unit {
    /// The unit for `cgroups_path`, which is `slice:prefix:name`, as `system.slice:docker:1234`; an empty slice is
    /// `system.slice`, or `user.slice` of the user's manager. An empty path is a scope named after the
    /// container. A name that ends with `.slice` is that slice, without the prefix.
    ///
    /// # Errors
    /// [`Error::Name`]
    pub fn parse(cgroups_path: &str, container: &str, user: bool) -> Result<Unit, Error> {
        let fields: Vec<&str> = cgroups_path.split(':').collect();
        let (slice, prefix, name) = match fields.as_slice() {
            [""] => ("", "dhow", container),
            [slice, prefix, name] => (*slice, *prefix, *name),
            _ => {
                let reason = "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups";
                return Err(refuse(cgroups_path, reason));
            }
        };
        let slice = match (slice, user) {
            ("", false) => "system.slice",
            ("", true) => "user.slice",
            (slice, _) => slice,
        };
        expand_slice(slice)?;
        let name = if name.ends_with(".slice") {
            expand_slice(name)?;
            name.to_owned()
        } else if prefix.is_empty() {
            format!("{name}.scope")
        } else {
            format!("{prefix}-{name}.scope")
        };
        if name.len() > MAX_NAME {
            return Err(refuse(&name, "a unit's name has at most 255 characters"));
        }
        if name.starts_with(".scope") || !name.bytes().all(is_name) {
            return Err(refuse(&name, "a unit's name has letters, digits and the characters : - _ . \\ @ only"));
        }
        Ok(Unit { slice: slice.to_owned(), name, container: container.to_owned(), user })
    }

    /// Whether the unit is a slice, which holds other units and no processes.
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// The unit's control group. `manager` is the control group of the manager that owns the unit, from
    /// [`Systemd::control_group`](super::Systemd::control_group); it is empty or `/` for the system's.
    ///
    /// # Errors
    /// [`Error::Cgroup`]
    pub fn group(&self, hierarchy: &Hierarchy, manager: &str) -> Result<Cgroup, Error> {
        let own = if self.is_slice() {
            expand_slice(&self.name)?
        } else {
            format!("{}/{}", expand_slice(&self.slice)?, self.name)
        };
        Ok(Cgroup::at(hierarchy, &format!("/{manager}/{own}"))?)
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)
}

fn refuse(text: &str, reason: &'static str) -> Error {
    Error::Name { text: text.chars().take(300).collect(), reason }
}

/// Path of a slice below the root: dashes are steps, so that `test-a-b.slice` is
/// `/test.slice/test-a.slice/test-a-b.slice`, and `-.slice` the root, which is the empty path.
///
/// # Errors
/// [`Error::Name`] for another ending, a slash, and empty steps.
pub fn expand_slice(slice: &str) -> Result<String, Error> {
    let bad = || refuse(slice, "a slice is a name with dashes between its steps, and .slice at the end");
    let name = slice.strip_suffix(".slice").ok_or_else(bad)?;
    if name == "-" {
        return Ok(String::new());
    }
    if slice.len() > MAX_NAME || !name.bytes().all(is_name) || name.split('-').any(str::is_empty) {
        return Err(bad());
    }
    let mut path = String::new();
    for end in name.match_indices('-').map(|(at, _)| at).chain([name.len()]) {
        path.push('/');
        path.push_str(&name[..end]);
        path.push_str(".slice");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_paths() {
        assert_eq!(expand_slice("test-a-b.slice").unwrap(), "/test.slice/test-a.slice/test-a-b.slice");
        assert_eq!(expand_slice("system.slice").unwrap(), "/system.slice");
        assert_eq!(expand_slice("-.slice").unwrap(), "");
        for bad in ["", ".slice", "a", "a/b.slice", "-a.slice", "a--b.slice", "a-.slice", "a b.slice", "../x.slice"] {
            assert!(expand_slice(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_of_the_specification_are_units() {
        let unit = |path: &str, user| Unit::parse(path, "ctr", user).map(|u| format!("{} in {}", u.name, u.slice));
        assert_eq!(unit("machine.slice:libpod:12ab", false).unwrap(), "libpod-12ab.scope in machine.slice");
        assert_eq!(unit(":docker:12ab", false).unwrap(), "docker-12ab.scope in system.slice");
        assert_eq!(unit(":docker:12ab", true).unwrap(), "docker-12ab.scope in user.slice");
        assert_eq!(unit("", false).unwrap(), "dhow-ctr.scope in system.slice");
        assert_eq!(unit("a.slice:p:kubepods.slice", false).unwrap(), "kubepods.slice in a.slice");
        for bad in ["/system.slice/x", "a:b", "a:b:c:d", "a:b:c", "x.slice:p:a/b", "x.slice:p:a b", "x.slice::"] {
            assert!(unit(bad, false).is_err(), "{bad:?}");
        }
        assert!(unit(&format!("x.slice:p:{}", "a".repeat(250)), false).is_err());
    }

    #[test]
    fn groups_of_units() {
        let h = Hierarchy::parse("26 25 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/\n").unwrap();
        let unit = Unit::parse("user-pods.slice:d:1", "1", true).unwrap();
        let group = unit.group(&h, "/user.slice/user-1000.slice/user@1000.service").unwrap();
        assert_eq!(group.path(), "/user.slice/user-1000.slice/user@1000.service/user.slice/user-pods.slice/d-1.scope");
        assert_eq!(Unit::parse("-.slice:d:1", "1", false).unwrap().group(&h, "/").unwrap().path(), "/d-1.scope");
        let slice = Unit::parse(":d:a-b.slice", "1", false).unwrap();
        assert_eq!(slice.group(&h, "").unwrap().path(), "/a.slice/a-b.slice");
    }
}
