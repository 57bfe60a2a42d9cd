//! `config.json`: read leniently, changed by key and written through a temporary file, so that a crash leaves either
//! the old or the new one and foreign keys survive.

use std::{
    env, fs, io,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{Error, Result, session::non_empty};

/// Largest configuration read, in bytes.
const MAX_SIZE: u64 = 4 * 1024 * 1024;

/// The configuration and where it lives.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFile {
    dir: PathBuf,
    root: Map<String, Value>,
}

/// A regular file's bytes: a pipe would be waited for, and a device read without end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let refuse = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(refuse("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(refuse("it is too large"));
    }
    Ok(text)
}

impl ConfigFile {
    /// Reads `config.json` of `--config`, `DOCKER_CONFIG` or `~/.docker`; an absent one is empty.
    pub(crate) fn load(dir: Option<&str>) -> Result<Self> {
        let dir = match dir.map(str::to_owned).or_else(|| non_empty("DOCKER_CONFIG")) {
            Some(dir) => PathBuf::from(dir),
            None => env::home_dir().unwrap_or_else(|| PathBuf::from("/")).join(".docker"),
        };
        let path = dir.join("config.json");
        let root = match read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| Error::new(format!("loading config file: {}: {error}", path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(Error::file("cannot read", &path)(error)),
        };
        Ok(Self { dir, root })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.root.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    pub(crate) fn object(&self, key: &str) -> Option<&Map<String, Value>> {
        self.root.get(key)?.as_object()
    }

    pub(crate) fn current_context(&self) -> Option<&str> {
        self.text("currentContext")
    }

    /// `HttpHeaders`; names and values that would break a header are left out.
    pub(crate) fn http_headers(&self) -> Vec<(String, String)> {
        let clean = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        self.object("HttpHeaders")
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name, value.as_str()?)))
            .filter(|(name, value)| {
                clean(name) && clean(value) && !name.contains([':', ' ']) && !name.eq_ignore_ascii_case("user-agent")
            })
            .map(|(name, value)| (name.clone(), value.to_owned()))
            .collect()
    }

    /// The configuration as a document that can be changed before [`ConfigFile::save`].
    pub(crate) fn root_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.root
    }

    /// Writes the configuration, readable by its owner only.
    pub(crate) fn save(&self) -> Result<()> {
        fs::create_dir_all(&self.dir).map_err(Error::file("cannot create", &self.dir))?;
        // A link is written through: dotfile collections keep the real file elsewhere.
        let path = self.dir.join("config.json");
        #[allow(clippy::disallowed_methods)]
        let path = fs::canonicalize(&path).unwrap_or(path);
        let staged = path.with_file_name(format!(".config.json.{}", std::process::id()));
        let mut text = Vec::new();
        let mut writer =
            serde_json::Serializer::with_formatter(&mut text, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
        serde::Serialize::serialize(&self.root, &mut writer).map_err(|error| Error::new(error.to_string()))?;
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&staged, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&staged);
            Error::file("cannot write", &path)(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn load(dir: &Path) -> Result<ConfigFile> {
        ConfigFile::load(Some(dir.to_str().unwrap()))
    }

    #[test]
    fn what_is_no_file_of_a_sane_size_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let refused = |reason: &str| {
            let error = load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            fs::remove_file(&path).unwrap();
        };
        let kind = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind.0, kind.1, 0).unwrap();
        refused("no regular file");
        symlink("/dev/zero", &path).unwrap();
        refused("no regular file");
        fs::File::create(&path).unwrap().set_len(MAX_SIZE + 1).unwrap();
        refused("too large");
        fs::write(&path, "[".repeat(100_000)).unwrap();
        refused("loading config file");
    }

    #[test]
    fn a_file_that_all_may_read_is_closed_when_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, real) = (dir.path().join("config.json"), dir.path().join("real.json"));
        fs::write(&real, "{\"a\":\"b\"}").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o666)).unwrap();
        symlink("real.json", &path).unwrap();
        let config = load(dir.path()).unwrap();
        assert_eq!(config.text("a"), Some("b"));
        config.save().unwrap();
        assert!(path.symlink_metadata().unwrap().is_symlink());
        assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
