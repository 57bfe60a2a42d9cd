//! Packages that the databases in a tree say are installed: those of dpkg and apk. rpm's are not read.
//!
//! The files are an image's and may say anything: bytes, lines and counts are bounded, and what is no record is passed over.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use sys::path::Root;

/// Bytes read of one database.
const DATABASE_MAX: u64 = 64 << 20;
/// Bytes kept of one value.
const VALUE_MAX: usize = 512;
/// Packages kept.
const PACKAGES_MAX: usize = 100_000;
/// Databases of single packages that are looked at, as images without a package manager have them.
const PARTS_MAX: usize = 10_000;
/// Where rpm has what it knows.
const RPM: [&str; 5] = [
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages",
    "var/lib/rpm/Packages.db",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages.db",
];

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    /// `deb` or `apk`.
    pub kind: &'static str,
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// As the package says it.
    pub license: String,
    pub supplier: String,
}

/// What is installed.
#[derive(Clone, Debug, Default)]
pub(super) struct Installed {
    pub packages: BTreeSet<Package>,
    /// `ID` and `VERSION_ID` of the distribution.
    pub distribution: (String, String),
    /// There is a database of rpm, which was not read.
    pub rpm: bool,
    /// There were more packages than are kept.
    pub cut: bool,
}

/// Names of values in a database.
struct Keys {
    kind: &'static str,
    name: &'static str,
    version: &'static str,
    architecture: &'static str,
    license: &'static str,
    supplier: &'static str,
    /// What must be said of a package that is there.
    state: &'static str,
}

const DEB: Keys = Keys {
    kind: "deb",
    name: "Package:",
    version: "Version:",
    architecture: "Architecture:",
    license: "\0",
    supplier: "Maintainer:",
    state: "Status:",
};

const APK: Keys =
    Keys { kind: "apk", name: "P:", version: "V:", architecture: "A:", license: "L:", supplier: "m:", state: "\0" };

/// Reads the databases of a tree.
pub(super) fn installed(root: &Root) -> Installed {
    let mut found = Installed { rpm: RPM.iter().any(|path| root.lstat(path).is_ok()), ..Installed::default() };
    read(root, Path::new("var/lib/dpkg/status"), &DEB, &mut found);
    if let Ok(dir) = root.open_dir("var/lib/dpkg/status.d") {
        for entry in dir.list().unwrap_or_default().into_iter().take(PARTS_MAX) {
            read(root, &Path::new("var/lib/dpkg/status.d").join(&entry.name), &DEB, &mut found);
        }
    }
    for path in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        read(root, Path::new(path), &APK, &mut found);
    }
    for path in ["etc/os-release", "usr/lib/os-release"] {
        let Some(reader) = open(root, Path::new(path)) else { continue };
        for line in lines(reader).take(1000) {
            let value = |key: &str| Some(line.strip_prefix(key)?.trim_matches(['"', '\'']).to_owned());
            if let Some(id) = value("ID=") {
                found.distribution.0 = id;
            } else if let Some(version) = value("VERSION_ID=") {
                found.distribution.1 = version;
            }
        }
        break;
    }
    found
}

fn open(root: &Root, path: &Path) -> Option<BufReader<std::io::Take<File>>> {
    let fd = root.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let regular = rustix::fs::fstat(&fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    regular.then(|| BufReader::new(File::from(fd).take(DATABASE_MAX)))
}

/// Lines without their ends, the last one followed by an empty one.
fn lines(mut reader: impl BufRead) -> impl Iterator<Item = String> {
    let mut done = false;
    let mut line = Vec::new();
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        line.clear();
        if !reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            done = true;
        }
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    })
}

fn read(root: &Root, path: &Path, keys: &Keys, found: &mut Installed) {
    let Some(reader) = open(root, path) else { return };
    let (mut package, mut there) = (Package { kind: keys.kind, ..Package::default() }, true);
    for line in lines(reader) {
        // A record ends with an empty line, or the file.
        if line.is_empty() {
            let whole = std::mem::replace(&mut package, Package { kind: keys.kind, ..Package::default() });
            if !whole.name.is_empty() && std::mem::replace(&mut there, true) {
                if found.packages.len() >= PACKAGES_MAX {
                    found.cut = true;
                    return;
                }
                found.packages.insert(whole);
            }
            continue;
        }
        let value = |key: &str| Some(line.strip_prefix(key)?.trim().chars().take(VALUE_MAX).collect::<String>());
        if let Some(state) = value(keys.state) {
            there = state.ends_with(" installed");
        }
        for (key, field) in [
            (keys.name, &mut package.name),
            (keys.version, &mut package.version),
            (keys.architecture, &mut package.architecture),
            (keys.license, &mut package.license),
            (keys.supplier, &mut package.supplier),
        ] {
            if let Some(value) = value(key) {
                *field = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_read_and_what_is_removed_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "var/lib/dpkg/status",
            "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n\n\
             Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: last\nStatus: install ok installed\nVersion: 3",
        );
        write("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\nArchitecture: all\n");
        write("lib/apk/db/installed", "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\n");
        write("etc/os-release", "NAME=x\nID=debian\nVERSION_ID=\"12\"\n");
        write("var/lib/rpm/rpmdb.sqlite", "");
        let found = installed(&Root::open(dir.path()).unwrap());
        let names: Vec<_> = found.packages.iter().map(|p| (p.kind, p.name.as_str(), p.version.as_str())).collect();
        assert_eq!(
            names,
            [
                ("apk", "musl", "1.2.5-r0"),
                ("deb", "base-files", "12"),
                ("deb", "last", "3"),
                ("deb", "libc6", "2.36-9")
            ]
        );
        assert_eq!(found.distribution, ("debian".to_owned(), "12".to_owned()));
        assert!(found.rpm && !found.cut);
    }
}
