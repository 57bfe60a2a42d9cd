//! Packages a tree says are installed: the databases of dpkg and apk.
//!
//! The files are an image's and may say anything: bytes and lines are bounded, and what is no record is
//! passed over. The databases of rpm are not read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use rustix::fs::{FileType, Mode, OFlags};
use sys::path::Root;

/// Bytes read of one database.
const DATABASE_MAX: u64 = 64 << 20;
/// Packages kept.
const PACKAGES_MAX: usize = 100_000;
/// Databases of single packages that are looked at, as images without a package manager have them.
const PARTS_MAX: usize = 10_000;

/// Version by name.
pub type Packages = BTreeMap<String, String>;

/// The packages of a root file system; none when it has no database that is known.
#[must_use]
pub fn packages(root: &Root) -> Packages {
    let mut out = Packages::new();
    read(root, "var/lib/dpkg/status", ("Package: ", "Version: "), &mut out);
    if let Ok(dir) = root.open_dir("var/lib/dpkg/status.d") {
        for entry in dir.list().unwrap_or_default().into_iter().take(PARTS_MAX) {
            let path = std::path::Path::new("var/lib/dpkg/status.d").join(&entry.name);
            read(root, path, ("Package: ", "Version: "), &mut out);
        }
    }
    read(root, "lib/apk/db/installed", ("P:", "V:"), &mut out);
    out
}

fn read(root: &Root, path: impl AsRef<std::path::Path>, (name_key, version_key): (&str, &str), out: &mut Packages) {
    let Ok(fd) = root.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) else { return };
    let regular = rustix::fs::fstat(&fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    if !regular {
        return;
    }
    let mut reader = BufReader::new(File::from(fd).take(DATABASE_MAX));
    let (mut line, mut name, mut version) = (Vec::new(), String::new(), String::new());
    loop {
        line.clear();
        let end = reader.read_until(b'\n', &mut line).is_ok_and(|read| read == 0) || line.is_empty();
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        // A record ends with an empty line, or the file.
        if text.is_empty() {
            if !name.is_empty() && out.len() < PACKAGES_MAX {
                out.insert(std::mem::take(&mut name), std::mem::take(&mut version));
            }
            name.clear();
            version.clear();
        } else if let Some(found) = text.strip_prefix(name_key) {
            name = found.chars().take(256).collect();
        } else if let Some(found) = text.strip_prefix(version_key) {
            version = found.chars().take(256).collect();
        }
        if end {
            return;
        }
    }
}
