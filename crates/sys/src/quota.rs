//! Project quotas of ext4 and XFS: a directory's files belong to a project, and a project has a limit.
//!
//! The quota files themselves are the administrator's: a file system has them when it was made and mounted
//! with `prjquota`. Called by `engine` for the sizes of volumes.

use std::os::fd::{AsFd, AsRawFd};

use crate::Errno;
use crate::raw::check;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR` of linux/fs.h.
const FSGETXATTR: libc::Ioctl = 0x801c_581f;
const FSSETXATTR: libc::Ioctl = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`: what is made in the directory belongs to its project.
const PROJINHERIT: u32 = 0x200;

/// `PRJQUOTA` and the commands of linux/dqblk_xfs.h, which ext4 knows too.
const PRJQUOTA: u32 = 2;
const XQM: u32 = (b'X' as u32) << 8;
const Q_XGETQUOTA: u32 = XQM + 3;
const Q_XSETQLIM: u32 = XQM + 4;
const Q_XGETQSTAT: u32 = XQM + 5;

/// `FS_QUOTA_PDQ_ENFD`: limits of projects are enforced.
const PDQ_ENFD: u16 = 1 << 5;
/// `FS_DQ_BSOFT | FS_DQ_BHARD`.
const BLOCK_LIMITS: u16 = 1 << 2 | 1 << 3;
/// Bytes of the unit limits are counted in.
const BASIC_BLOCK: u64 = 512;

/// `struct fs_disk_quota` of linux/dqblk_xfs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fieldmask: u16,
    id: u32,
    blk_hardlimit: u64,
    blk_softlimit: u64,
    ino_hardlimit: u64,
    ino_softlimit: u64,
    bcount: u64,
    icount: u64,
    itimer: i32,
    btimer: i32,
    iwarns: u16,
    bwarns: u16,
    timers_hi: [i8; 4],
    rtb_hardlimit: u64,
    rtb_softlimit: u64,
    rtbcount: u64,
    rtbtimer: i32,
    rtbwarns: u16,
    padding3: i16,
    padding4: [u8; 8],
}

/// `struct fs_quota_stat` of linux/dqblk_xfs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct QuotaStat {
    version: i8,
    flags: u16,
    pad: i8,
    user: [u64; 3],
    group: [u64; 3],
    incoredqs: u32,
    timelimits: [i32; 3],
    warnlimits: [u16; 2],
}

const _: () = assert!(size_of::<FsXattr>() == 28 && size_of::<DiskQuota>() == 112 && size_of::<QuotaStat>() == 80);

/// Whether the file system of `fd` enforces limits of projects.
///
/// # Errors
/// What quotactl_fd(2) says; `ENOSYS`, `ESRCH`, `EOPNOTSUPP` and the like where there are no quotas.
pub fn enforces_projects(fd: impl AsFd) -> Result<bool, Errno> {
    let mut stat = QuotaStat { version: 1, ..QuotaStat::default() };
    // SAFETY: Q_XGETQSTAT writes a fs_quota_stat, which `stat` is.
    unsafe { quotactl(fd, Q_XGETQSTAT, 0, (&raw mut stat).cast()) }?;
    Ok(stat.flags & PDQ_ENFD != 0)
}

/// The project of an open directory; 0 is none.
///
/// # Errors
/// What ioctl(2) says; `ENOTTY` or `EOPNOTSUPP` on a file system without projects.
pub fn project(fd: impl AsFd) -> Result<u32, Errno> {
    Ok(attributes(fd)?.projid)
}

/// Makes an open, empty directory and all that will be made in it belong to a project.
///
/// # Errors
/// As [`project`].
pub fn set_project(fd: impl AsFd, id: u32) -> Result<(), Errno> {
    let fd = fd.as_fd();
    let mut attributes = attributes(fd)?;
    attributes.projid = id;
    attributes.xflags |= PROJINHERIT;
    // SAFETY: FSSETXATTR reads a struct fsxattr, which `attributes` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FSSETXATTR, &raw mut attributes) }.into()).map(drop)
}

/// Limits the bytes of a project on the file system of `fd`; 0 lifts the limit.
///
/// # Errors
/// What quotactl_fd(2) says.
pub fn set_limit(fd: impl AsFd, id: u32, bytes: u64) -> Result<(), Errno> {
    let blocks = bytes.div_ceil(BASIC_BLOCK);
    let mut quota = DiskQuota {
        version: 1,
        // `FS_PROJ_QUOTA`.
        flags: 2,
        fieldmask: BLOCK_LIMITS,
        id,
        blk_hardlimit: blocks,
        blk_softlimit: blocks,
        ..DiskQuota::default()
    };
    // SAFETY: Q_XSETQLIM reads a fs_disk_quota, which `quota` is.
    unsafe { quotactl(fd, Q_XSETQLIM, id, (&raw mut quota).cast()) }
}

/// The limit of a project in bytes, 0 for none, and the bytes it has.
///
/// # Errors
/// What quotactl_fd(2) says; `ENOENT` for a project nobody has used.
pub fn usage(fd: impl AsFd, id: u32) -> Result<(u64, u64), Errno> {
    let quota = of_project(fd, id)?;
    let bytes = |blocks: u64| blocks.saturating_mul(BASIC_BLOCK);
    Ok((bytes(quota.blk_hardlimit), bytes(quota.bcount)))
}

/// Whether a project has files or limits, of whatever kind.
///
/// # Errors
/// What quotactl_fd(2) says.
pub fn is_used(fd: impl AsFd, id: u32) -> Result<bool, Errno> {
    match of_project(fd, id) {
        Err(Errno::NOENT) => Ok(false),
        other => other.map(|quota| {
            let limits = [quota.blk_hardlimit, quota.blk_softlimit, quota.ino_hardlimit, quota.ino_softlimit];
            // An empty directory may have no blocks.
            let more = [quota.bcount, quota.icount, quota.rtb_hardlimit, quota.rtb_softlimit, quota.rtbcount];
            limits.iter().chain(&more).any(|number| *number != 0)
        }),
    }
}

fn of_project(fd: impl AsFd, id: u32) -> Result<DiskQuota, Errno> {
    let mut quota = DiskQuota::default();
    // SAFETY: Q_XGETQUOTA writes a fs_disk_quota, which `quota` is.
    unsafe { quotactl(fd, Q_XGETQUOTA, id, (&raw mut quota).cast()) }?;
    Ok(quota)
}

fn attributes(fd: impl AsFd) -> Result<FsXattr, Errno> {
    let mut attributes = FsXattr::default();
    // SAFETY: FSGETXATTR writes a struct fsxattr, which `attributes` is.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), FSGETXATTR, &raw mut attributes) }.into())?;
    Ok(attributes)
}

/// quotactl_fd(2) for projects.
///
/// # Safety
/// `data` must point to what the command reads or writes.
unsafe fn quotactl(fd: impl AsFd, command: u32, id: u32, data: *mut libc::c_void) -> Result<(), Errno> {
    let command = command << 8 | PRJQUOTA;
    // SAFETY: the descriptor is borrowed for the call, and the caller vouches for `data`.
    check(unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_fd().as_raw_fd(), command, id, data) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_quotas_says_so() {
        let dir = std::fs::File::open("/proc").unwrap();
        assert!(enforces_projects(&dir).is_err());
        assert!(project(&dir).is_err());
        assert!(set_project(&dir, 7).is_err());
        assert!(set_limit(&dir, 7, 4096).is_err() && usage(&dir, 7).is_err() && is_used(&dir, 7).is_err());
    }
}
