//! Where the files of a build come from: directories, standard input, addresses that the builder fetches.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{Error, Result, flags::Parsed};

/// Bytes by which an archive is told from a Dockerfile.
const MAGIC: usize = 512;
/// Largest Dockerfile from standard input, in bytes; the builder's limit.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// What the files of a build are.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// Directories by the names that the builder asks for them under.
    pub(super) directories: BTreeMap<String, PathBuf>,
    /// What the front end is told.
    pub(super) attrs: HashMap<String, String>,
    /// What was read of standard input already, where the rest of it is an archive to be sent.
    pub(super) archive: Option<Vec<u8>>,
    /// Directories that are removed at the end.
    temporary: Vec<tempfile::TempDir>,
}

impl Context {
    /// Finds out what the command line means.
    pub(super) fn read(parsed: &Parsed) -> Result<Self> {
        let mut context = Self::default();
        let (place, file) = (parsed.first(), parsed.text("file"));
        if file.starts_with("http://") || file.starts_with("https://") {
            return Err(Error::new("a Dockerfile at an address is not supported: fetch it and name the file"));
        }
        if place == "-" {
            if file == "-" {
                return Err(Error::new("invalid argument: can't use stdin for both build context and dockerfile"));
            }
            context.standard_input(file)?;
        } else if is_git(place) || place.starts_with("http://") || place.starts_with("https://") {
            context.attrs.insert("context".to_owned(), place.to_owned());
            if file == "-" {
                let text = read_dockerfile(Vec::new())?;
                context.dockerfile(&text)?;
                context.attrs.insert("dockerfilekey".to_owned(), "dockerfile".to_owned());
            } else if !file.is_empty() {
                context.attrs.insert("filename".to_owned(), file.to_owned());
            }
        } else {
            context.directory(place, file)?;
        }
        for text in parsed.list("build-context") {
            context.named(text)?;
        }
        Ok(context)
    }

    fn directory(&mut self, place: &str, file: &str) -> Result<()> {
        let path = Path::new(place);
        let found = std::fs::metadata(path);
        match &found {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(Error::new(format!(
                    "unable to prepare context: path {place:?} is a file; name a directory, and the Dockerfile with -f"
                )));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(format!("unable to prepare context: path {place:?} not found")));
            }
            Err(error) => {
                return Err(Error::new(format!(
                    "unable to prepare context: {place}: {}",
                    crate::error::os_text(error)
                )));
            }
        }
        self.directories.insert("context".to_owned(), path.to_owned());
        match file {
            "" => {
                self.directories.insert("dockerfile".to_owned(), path.to_owned());
            }
            "-" => {
                let text = read_dockerfile(Vec::new())?;
                self.dockerfile(&text)?;
            }
            file => {
                let file = Path::new(file);
                let name =
                    file.file_name().ok_or_else(|| Error::new(format!("{}: no name of a file", file.display())))?;
                let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                if !parent.is_dir() {
                    return Err(Error::new(format!(
                        "failed to read dockerfile: open {}: no such file or directory",
                        file.display()
                    )));
                }
                self.directories.insert("dockerfile".to_owned(), parent.to_owned());
                self.attrs.insert("filename".to_owned(), name.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }

    /// An archive is the context; anything else a Dockerfile without one.
    fn standard_input(&mut self, file: &str) -> Result<()> {
        let mut begin = Vec::new();
        std::io::stdin().lock().take(MAGIC as u64).read_to_end(&mut begin)?;
        if is_archive(&begin) {
            self.archive = Some(begin);
            if !file.is_empty() {
                self.attrs.insert("filename".to_owned(), file.to_owned());
            }
            return Ok(());
        }
        if !file.is_empty() {
            return Err(Error::new("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"));
        }
        let text = read_dockerfile(begin)?;
        self.dockerfile(&text)?;
        let empty = self.temporary()?;
        self.directories.insert("context".to_owned(), empty);
        Ok(())
    }

    /// A Dockerfile in a directory of its own.
    fn dockerfile(&mut self, text: &[u8]) -> Result<()> {
        let dir = self.temporary()?;
        let path = dir.join("Dockerfile");
        std::fs::write(&path, text).map_err(Error::file("cannot write", &path))?;
        self.directories.insert("dockerfile".to_owned(), dir);
        Ok(())
    }

    fn temporary(&mut self) -> Result<PathBuf> {
        let dir = tempfile::Builder::new().prefix("dhow-build-").tempdir()?;
        let path = dir.path().to_owned();
        self.temporary.push(dir);
        Ok(path)
    }

    fn named(&mut self, text: &str) -> Result<()> {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .ok_or_else(|| Error::invalid(format!("invalid context value: {text}, expected key=value")))?;
        let remote =
            ["docker-image://", "http://", "https://"].iter().any(|scheme| value.starts_with(scheme)) || is_git(value);
        if value.starts_with("oci-layout://") {
            return Err(Error::new(format!(
                "--build-context {name}: directories in OCI's layout are not supported: load it (dhow load) and name it with docker-image://"
            )));
        }
        if value.starts_with("target:") {
            return Err(Error::new(format!(
                "--build-context {name}: {value} names a target of a bake file, of which there is none"
            )));
        }
        let key = format!("context:{name}");
        if remote {
            self.attrs.insert(key, value.to_owned());
            return Ok(());
        }
        if !Path::new(value).is_dir() {
            return Err(Error::new(format!("failed to get build context {name}: {value} is no directory")));
        }
        // The two names that every build has are not to be taken.
        let local = if matches!(name, "context" | "dockerfile") { format!("_{name}") } else { name.to_owned() };
        self.directories.insert(local.clone(), PathBuf::from(value));
        self.attrs.insert(key, format!("local:{local}"));
        Ok(())
    }

    /// The same for builds of the same directories.
    pub(super) fn key(&self) -> String {
        use std::hash::{DefaultHasher, Hash, Hasher};
        use std::os::unix::fs::MetadataExt;
        let mut hasher = DefaultHasher::new();
        for (name, path) in &self.directories {
            let place = std::fs::metadata(path).map(|found| (found.dev(), found.ino())).unwrap_or_default();
            (name, std::path::absolute(path).unwrap_or_else(|_| path.clone()), place).hash(&mut hasher);
        }
        rustix::system::uname().nodename().hash(&mut hasher);
        format!("dhow:{:016x}", hasher.finish())
    }
}

fn read_dockerfile(mut begin: Vec<u8>) -> Result<Vec<u8>> {
    std::io::stdin().lock().take(MAX_DOCKERFILE + 1).read_to_end(&mut begin)?;
    if begin.len() as u64 > MAX_DOCKERFILE {
        return Err(Error::new(format!("the Dockerfile is larger than {MAX_DOCKERFILE} bytes")));
    }
    Ok(begin)
}

fn is_archive(begin: &[u8]) -> bool {
    let magics: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"];
    magics.iter().any(|magic| begin.starts_with(magic)) || begin.get(257..262) == Some(b"ustar")
}

/// Addresses of repositories, as Docker tells them from others.
pub(super) fn is_git(place: &str) -> bool {
    let prefixed = ["git://", "git@", "github.com/", "ssh://"].iter().any(|prefix| place.starts_with(prefix));
    let (address, _) = place.split_once('#').unwrap_or((place, ""));
    prefixed || ((address.starts_with("http://") || address.starts_with("https://")) && address.ends_with(".git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_contexts() {
        for git in ["git@h:a/b.git", "git://h/x", "https://h/a.git#main:dir", "github.com/a/b", "ssh://git@h/x"] {
            assert!(is_git(git), "{git}");
        }
        for other in ["https://h/a.tar.gz", ".", "a.git", "https://h/a.git/x"] {
            assert!(!is_git(other), "{other}");
        }
        assert!(is_archive(b"\x1f\x8b\x08\x00") && !is_archive(b"FROM busybox\n"));
        let mut tar = vec![0; 512];
        tar.splice(257..262, *b"ustar");
        assert!(is_archive(&tar));
    }
}
