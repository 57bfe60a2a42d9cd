//! A file as the protocol describes it.

use std::collections::HashMap;

use buildkit::wire::stat::Stat as Described;
use rustix::fs::{FileType, Stat};

use crate::walk::Found;
use crate::{Error, Result, go};

/// What tells without reading it that a file was not touched: no program changes a file and keeps its time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    place: (u64, u64),
    mode: u32,
    links: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// That of a file.
    #[must_use]
    pub fn of(stat: &Stat) -> Self {
        let nanoseconds = |ns: u64| i64::try_from(ns).unwrap_or(0);
        Self {
            place: (stat.st_dev, stat.st_ino),
            mode: stat.st_mode,
            links: stat.st_nlink,
            size: stat.st_size,
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        }
    }
}

/// Files with several names seen so far, by device and number: the first name has the content, the others are links to it.
#[derive(Debug, Default)]
pub struct Links(HashMap<(u64, u64), String>);

impl Links {
    /// Describes a file. Owners are left to the builder, for which a context is root's.
    ///
    /// # Errors
    /// Its link or attributes cannot be read.
    pub fn describe(&mut self, found: &Found<'_>) -> Result<Described> {
        let stat = found.stat;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut described = Described {
            path: found.path.to_owned(),
            mode: mode_of(stat.st_mode),
            size: if kind == FileType::Directory { 0 } else { stat.st_size },
            mod_time: stat
                .st_mtime
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            ..Described::default()
        };
        let fail = || Error::io(found.path);
        match kind {
            FileType::Symlink => {
                let target = found.dir.readlink(found.name).map_err(fail())?;
                described.linkname =
                    target.into_string().map_err(|_| Error::Name(format!("the target of {}", found.path)))?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                described.devmajor = i64::from(rustix::fs::major(stat.st_rdev));
                described.devminor = i64::from(rustix::fs::minor(stat.st_rdev));
            }
            _ => {}
        }
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let place = (stat.st_dev, stat.st_ino);
            match self.0.get(&place) {
                Some(first) if kind == FileType::RegularFile => {
                    described.linkname.clone_from(first);
                    described.size = 0;
                    return Ok(described);
                }
                Some(_) => {}
                None => drop(self.0.insert(place, found.path.to_owned())),
            }
        }
        if kind != FileType::Symlink {
            for (key, value) in found.dir.xattrs(found.name).map_err(fail())? {
                if let Ok(key) = key.into_string() {
                    described.xattrs.insert(key, value);
                }
            }
        }
        Ok(described)
    }
}

/// Type and permissions as Go has them.
#[must_use]
pub fn mode_of(raw: u32) -> u32 {
    let kind = match FileType::from_raw_mode(raw) {
        FileType::Directory => go::DIRECTORY,
        FileType::Symlink => go::SYMLINK,
        FileType::Fifo => go::PIPE,
        FileType::Socket => go::SOCKET,
        FileType::BlockDevice => go::DEVICE,
        FileType::CharacterDevice => go::DEVICE | go::CHARACTER,
        _ => 0,
    };
    let bits = [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)];
    let special = bits.iter().filter(|(bit, _)| raw & bit != 0).fold(0, |all, (_, flag)| all | flag);
    kind | special | (raw & 0o777)
}
