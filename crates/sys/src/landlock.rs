//! Restriction of what the calling process may do to files, for ever and for all it becomes (landlock(7)).
//!
//! Only changes are restricted here; reading stays what the permissions of files say. Called by `dataplane`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Errno;
use crate::raw::check;

/// Writing to existing files, emptying them included.
pub const WRITE: u64 = 1 << 1 | TRUNCATE;
/// Removing files.
pub const REMOVE: u64 = 1 << 5;

const EXECUTE: u64 = 1;
const TRUNCATE: u64 = 1 << 14;
/// Every right but `READ_FILE` and `READ_DIR` of the first version.
const CHANGES: u64 = EXECUTE | 0x1ff2;
/// `LANDLOCK_ACCESS_FS_REFER`.
const REFER: u64 = 1 << 13;

const VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// Takes from the calling thread every right to change or execute files but those of `allowed`: below each directory the
/// rights given with it. The descriptors have to stay open where the file system does not keep its directories in memory.
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP` where the kernel has no Landlock, `EPERM` without no_new_privs, else what the three system
/// calls say; nothing is restricted then.
pub fn allow_changes_only(allowed: &[(BorrowedFd<'_>, u64)]) -> Result<(), Errno> {
    // SAFETY: asking for the version passes no pointer.
    let version = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<RulesetAttr>(), 0usize, VERSION)
    })?;
    let mut handled = CHANGES;
    if version >= 2 {
        handled |= REFER;
    }
    if version >= 3 {
        handled |= TRUNCATE;
    }
    let attr = RulesetAttr { handled_access_fs: handled };
    // SAFETY: `attr` is the first version's structure, of the size given, and outlives the call.
    let ruleset = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size_of::<RulesetAttr>(), 0u32)
    })?;
    let ruleset = i32::try_from(ruleset).map_err(|_| Errno::BADF)?;
    // SAFETY: on success the kernel returns a new descriptor that nobody else owns (close-on-exec is set).
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    for (directory, rights) in allowed {
        let attr = PathBeneathAttr { allowed_access: rights & handled, parent_fd: directory.as_fd().as_raw_fd() };
        // SAFETY: `attr` is the structure of this kind of rule and outlives the call.
        check(unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const attr, 0u32)
        })?;
    }
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_allowed_can_be_changed() {
        let dir = std::env::temp_dir().join(format!("landlock-{}", std::process::id()));
        let (open, closed) = (dir.join("open"), dir.join("closed"));
        for dir in [&open, &closed] {
            std::fs::create_dir_all(dir).unwrap();
            std::fs::write(dir.join("file"), "before").unwrap();
        }
        let result = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let handle = std::fs::File::open(&open).unwrap();
                    crate::creds::set_no_new_privileges().unwrap();
                    allow_changes_only(&[(handle.as_fd(), WRITE)])?;
                    std::fs::write(open.join("file"), "after").unwrap();
                    assert!(std::fs::write(open.join("new"), "").is_err());
                    assert!(std::fs::remove_file(open.join("file")).is_err());
                    assert!(std::fs::write(closed.join("file"), "after").is_err());
                    assert_eq!(std::fs::read_to_string(closed.join("file")).unwrap(), "before");
                    Ok(())
                })
                .join()
                .unwrap()
        });
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(matches!(result, Ok(()) | Err(Errno::NOSYS | Errno::OPNOTSUPP)), "{result:?}");
    }
}
