//! The policy and the keys it names, from their files.
//!
//! What others than the owner may write decides nothing: such a file is an error, as is one that is too long or no file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use trust::{Files, POLICY_MAX, Policy};

use crate::error::{Result, fail};

/// Longest key or certificate file.
const KEY_MAX: u64 = 1 << 20;
/// Files of one trust store.
const STORE_MAX: usize = 1024;
/// What certificates are called in a trust store; other files are passed over.
const CERTIFICATES: [&str; 4] = ["pem", "crt", "cer", "der"];

/// Where the policy is.
#[derive(Clone, Debug)]
pub(in crate::image) struct Source {
    pub path: PathBuf,
    /// The user named it, so that it must be there.
    pub named: bool,
}

impl Source {
    /// Reads the policy; none when there is no file and none was asked for. Blocking.
    ///
    /// # Errors
    /// Forbidden, with file, place and reason: whatever it governs is refused while it cannot be read.
    pub(in crate::image) fn read(&self) -> Result<Option<Policy>> {
        let file = self.path.display();
        let hint = "correct the file: it is read anew each time";
        let bytes = match read(&self.path, POLICY_MAX) {
            Ok(bytes) => bytes,
            Err(ReadError::Absent) if !self.named => return Ok(None),
            Err(error) => {
                let why = error.words();
                return Err(fail!(Forbidden, "the trust policy {file} cannot be used: {why}").with_hint(hint));
            }
        };
        Policy::parse(&bytes, &file.to_string()).map(Some).map_err(|e| fail!(Forbidden, "{e}").with_hint(hint))
    }
}

/// The files of this host.
pub(super) struct Disk;

impl Files for Disk {
    fn file(&self, path: &Path) -> std::result::Result<Vec<u8>, String> {
        read(path, KEY_MAX).map_err(ReadError::words)
    }

    fn directory(&self, path: &Path) -> std::result::Result<Vec<(String, Vec<u8>)>, String> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|e| e.to_string())? {
            let path = entry.map_err(|e| e.to_string())?.path();
            let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            if CERTIFICATES.contains(&kind) {
                names.push(path);
            }
            if names.len() > STORE_MAX {
                return Err(format!("it has more than {STORE_MAX} files"));
            }
        }
        names.sort();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = |path: PathBuf| match read(&path, KEY_MAX) {
            Ok(bytes) => Ok((name(&path), bytes)),
            Err(error) => Err(format!("{}: {}", name(&path), error.words())),
        };
        names.into_iter().map(read).collect()
    }
}

enum ReadError {
    Absent,
    Other(String),
}

impl ReadError {
    fn words(self) -> String {
        match self {
            Self::Absent => "there is no such file".to_owned(),
            Self::Other(why) => why,
        }
    }
}

fn read(path: &Path, limit: u64) -> std::result::Result<Vec<u8>, ReadError> {
    let other = |why: String| ReadError::Other(why);
    // A FIFO would wait for its writer.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match File::options().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(ReadError::Absent),
        Err(error) => return Err(other(error.to_string())),
    };
    let found = file.metadata().map_err(|e| other(e.to_string()))?;
    if !found.is_file() {
        return Err(other("it is no regular file".to_owned()));
    }
    if found.mode() & 0o002 != 0 {
        return Err(other("everybody may write it: chmod o-w".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| other(e.to_string()))?;
    match bytes.len() as u64 > limit {
        true => Err(other(format!("it is larger than {limit} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_cannot_be_read_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.json");
        let source = |named| Source { path: path.clone(), named };
        assert!(source(false).read().unwrap().is_none());
        assert!(source(true).read().unwrap_err().to_string().contains("no such file"));
        std::fs::write(&path, r#"{"version":1,"default":{"action":"accept"}}"#).unwrap();
        assert!(source(false).read().unwrap().is_some());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(source(false).read().unwrap_err().to_string().contains("everybody may write it"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&path, "{").unwrap();
        let error = source(false).read().unwrap_err();
        assert_eq!(error.kind(), types::Kind::Forbidden);
        assert!(error.to_string().contains("trust.json cannot be used: EOF"), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(source(false).read().unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn a_store_has_its_certificates_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.crt", "a.pem", "notes.txt"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let names: Vec<String> = Disk.directory(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.pem", "b.crt"]);
        assert!(Disk.directory(&dir.path().join("none")).is_err());
    }
}
