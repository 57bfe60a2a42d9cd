//! Sizes of volumes as project quotas, where the file system of the data root enforces them: each volume
//! with a size is a project of its own, with a limit. Called by the volumes.
//!
//! Numbers of projects belong to the whole file system: to the administrator, to other engines with a data root on it, and to
//! us. So a number is taken only when nothing on the file system uses it, and what the disk says a directory's
//! project is counts only when the database names the number too.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use sys::Errno;
use sys::creds::{CAP_SYS_RESOURCE, Capabilities, capabilities, set_capabilities};

use super::Record;
use crate::error::{Error, Result, fail};

/// Projects of ours are from here on, far from those that people number by hand, up to the greatest a signed number holds.
const FIRST: u32 = 0x6400_0000;
const LAST: u32 = 0x7fff_ffff;

/// Numbers that are looked at before a volume is refused. Engines begin at random places, so a second one is rarely met.
const ATTEMPTS: u32 = 4096;

/// The file system's quotas.
#[derive(Debug)]
pub(super) struct Quota {
    /// The directory of all volumes.
    root: File,
    next: AtomicU32,
}

impl Quota {
    /// The quotas of the file system of `root`; none where it enforces no limits of projects.
    pub(super) fn of(root: &Path) -> Option<Self> {
        let root = File::open(root).ok()?;
        match sys::quota::enforces_projects(&root) {
            Ok(true) => Some(Self { root, next: AtomicU32::new(random_first()) }),
            Ok(false) | Err(_) => None,
        }
    }

    /// Make a directory a project that nobody has, and limit what will be in it to so many bytes. `known` are the projects of
    /// other volumes.
    ///
    /// # Errors
    /// When the file system refuses, or every number that was looked at is in use.
    pub(super) fn limit(&self, data: &Path, bytes: u64, known: &BTreeSet<u32>) -> Result<u32> {
        let failed = |e: Errno| Error::io(format!("cannot limit the size of {}", data.display()), e);
        let directory =
            File::open(data).map_err(|e| Error::io(format!("cannot open the directory {}", data.display()), e))?;
        let project = self.free(known)?.ok_or_else(|| {
            fail!(Exhausted, "cannot limit the size of {}: no project of the file system is free", data.display())
        })?;
        sys::quota::set_limit(&self.root, project, bytes).map_err(failed)?;
        sys::quota::set_project(&directory, project).map_err(|e| {
            self.lift(project);
            failed(e)
        })?;
        Ok(project)
    }

    /// A number that no volume has and nothing on the file system uses.
    fn free(&self, known: &BTreeSet<u32>) -> Result<Option<u32>> {
        for _ in 0..ATTEMPTS {
            let candidate = self.next.fetch_add(1, Ordering::Relaxed);
            let candidate = FIRST + candidate.wrapping_sub(FIRST) % (LAST - FIRST + 1);
            let used = sys::quota::is_used(&self.root, candidate)
                .map_err(|e| Error::io("cannot look at the projects of the file system", e))?;
            if !used && !known.contains(&candidate) {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// Learn from the disk which of its two projects a volume's content is: what replaced it may not have been written down.
    /// `others` are projects that other volumes' records name.
    pub(super) fn recall(&self, name: &str, data: &Path, record: &mut Record, others: &BTreeSet<u32>) {
        let found = match File::open(data).map_err(|_| Errno::IO).and_then(sys::quota::project) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(volume = name, %error, "cannot see which project the volume is; its size is believed");
                return;
            }
        };
        let (project, gone) = recalled(record, found);
        if project == 0 {
            tracing::warn!(volume = name, found, "the volume is no project of ours any more: nothing limits its size");
        }
        (record.project, record.next_project) = (project, 0);
        if let Some(gone) = gone.filter(|gone| !others.contains(gone)) {
            self.lift(gone);
        }
    }

    /// Forget a project: its files are gone or going. 0 is none.
    pub(super) fn lift(&self, project: u32) {
        if project == 0 {
            return;
        }
        if let Err(error) = sys::quota::set_limit(&self.root, project, 0) {
            tracing::warn!(project, %error, "the limit of a removed volume stays");
        }
    }
}

/// The project of a volume whose directory is `found` on disk, 0 for none of ours, and the one that its content does not have.
///
/// A directory can have got another number from an administrator, or lie on another file system than when the record was
/// written; limits of numbers that are not ours any more are not ours to lift.
fn recalled(record: &Record, found: u32) -> (u32, Option<u32>) {
    let (project, next) = (record.project, record.next_project);
    match found {
        0 => (0, None),
        found if found == next => (next, Some(project).filter(|old| *old != 0)),
        found if found == project => (project, Some(next).filter(|next| *next != 0)),
        _ => (0, None),
    }
}

/// Run `work` as a program of a container would: ext4 holds nobody to a limit who has `CAP_SYS_RESOURCE`, and an archive
/// would fill a volume past its size.
pub(crate) fn held<T>(work: impl FnOnce() -> T) -> T {
    struct Back(Capabilities);
    impl Drop for Back {
        // The thread goes back to its pool, also after a panic.
        fn drop(&mut self) {
            if let Err(error) = set_capabilities(self.0) {
                tracing::warn!(%error, "a thread stays without CAP_SYS_RESOURCE");
            }
        }
    }
    let less = |all: Capabilities| Capabilities { effective: all.effective & !CAP_SYS_RESOURCE, ..all };
    // Who cannot change its own capabilities is held to fewer limits, and to all others.
    let _back = capabilities().ok().filter(|all| set_capabilities(less(*all)).is_ok()).map(Back);
    work()
}

/// Where this engine begins to count.
fn random_first() -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers once the system is up");
    FIRST + u32::from_ne_bytes(bytes) % (LAST - FIRST + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_chooses_between_projects_of_the_record_and_names_no_other() {
        let of = |project, next_project, found| recalled(&Record { project, next_project, ..Record::default() }, found);
        assert_eq!(of(7, 0, 7), (7, None));
        assert_eq!(of(7, 8, 7), (7, Some(8)), "the exchange did not happen");
        assert_eq!(of(7, 8, 8), (8, Some(7)), "it did, and nobody wrote it down");
        assert_eq!(of(0, 8, 8), (8, None));
        assert_eq!(of(7, 8, FIRST + 9), (0, None), "somebody else's");
        assert_eq!(of(7, 0, 0), (0, None), "restored without its project");
    }

    #[test]
    fn capabilities_come_back_after_work_that_panics() {
        let before = capabilities().unwrap();
        let inside = held(|| capabilities().unwrap());
        assert_eq!(inside.effective & CAP_SYS_RESOURCE, 0);
        assert_eq!(inside.effective | before.effective & CAP_SYS_RESOURCE, before.effective);
        let panicked = std::panic::catch_unwind(|| held(|| panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(capabilities().unwrap(), before);
    }
}
