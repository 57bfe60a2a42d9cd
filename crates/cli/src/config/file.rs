//! `config.json`: read leniently, changed by key and written through a temporary file, so that a crash leaves either
//! the old or the new one and foreign keys survive.

use std::{
    env, fs, io,
    io::Write,
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

impl ConfigFile {
    /// Reads `config.json` of `--config`, `DOCKER_CONFIG` or `~/.docker`; an absent one is empty.
    pub(crate) fn load(dir: Option<&str>) -> Result<Self> {
        let dir = match dir.map(str::to_owned).or_else(|| non_empty("DOCKER_CONFIG")) {
            Some(dir) => PathBuf::from(dir),
            None => env::home_dir().unwrap_or_else(|| PathBuf::from("/")).join(".docker"),
        };
        let path = dir.join("config.json");
        let root = match fs::metadata(&path) {
            Ok(meta) if meta.len() > MAX_SIZE => return Err(Error::new(format!("{} is too large", path.display()))),
            Ok(_) => {
                let text = fs::read(&path).map_err(Error::file("cannot read", &path))?;
                serde_json::from_slice(&text)
                    .map_err(|error| Error::new(format!("loading config file: {}: {error}", path.display())))?
            }
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
