//! The lists on disk: `manifests/LIST/IMAGE` below the client's configuration, one JSON document for each image, in
//! the form Docker's client reads and writes.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use docker_types::oci::Descriptor;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use types::Reference;

use super::registry;
use crate::{Error, Result, format::json};

/// Largest document read, in bytes: a manifest of 4 MiB in its two forms, and what describes it.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// One image of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "Ref")]
    name: Option<String>,
    #[serde(rename = "Descriptor")]
    pub(super) descriptor: Descriptor,
    /// The manifest in base64.
    #[serde(rename = "Raw", default, deserialize_with = "or_default")]
    pub(super) raw: String,
    /// The manifest, when it is one of Docker's.
    #[serde(rename = "SchemaV2Manifest", default, skip_serializing_if = "Option::is_none")]
    docker: Option<Box<RawValue>>,
    /// The manifest, when it is one of OCI's.
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none")]
    oci: Option<Box<RawValue>>,
}

/// Go writes `null` for no bytes.
fn or_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Entry {
    pub(super) fn new(name: String, descriptor: Descriptor, raw: String) -> Result<Self> {
        let mut entry = Self { name: Some(name), descriptor, raw, docker: None, oci: None };
        let text = String::from_utf8_lossy(&entry.document()?).into_owned();
        let shown = RawValue::from_string(json::compact(&text)).map_err(client::Error::from)?;
        match entry.descriptor.media_type.as_str() {
            registry::OCI_MANIFEST => entry.oci = Some(shown),
            _ => entry.docker = Some(shown),
        }
        Ok(entry)
    }

    /// The name it was taken by.
    pub(super) fn reference(&self) -> Result<Reference> {
        let name = self.name.as_deref().unwrap_or_default();
        Reference::parse(name).map_err(|error| Error::new(format!("a manifest of the list is named {name:?}: {error}")))
    }

    /// The manifest itself.
    pub(super) fn document(&self) -> Result<Vec<u8>> {
        STANDARD.decode(&self.raw).map_err(|error| Error::new(format!("a manifest of the list is no base64: {error}")))
    }
}

/// All lists of a client configuration.
pub(super) struct Lists {
    root: PathBuf,
}

/// A reference as the name of a file. It has no other separator than these, and begins with a domain.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

impl Lists {
    pub(super) fn new(config: &Path) -> Self {
        Self { root: config.join("manifests") }
    }

    fn list(&self, list: &Reference) -> PathBuf {
        self.root.join(file_name(list))
    }

    /// Every image of a list, by the names of their files; `None` when there is no such list.
    pub(super) fn all(&self, list: &Reference) -> Result<Option<Vec<Entry>>> {
        let dir = self.list(list);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("cannot read", &dir)(error)),
        };
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.map_err(Error::file("cannot read", &dir))?;
        paths.sort();
        paths.iter().filter_map(|path| read(path).transpose()).collect::<Result<_>>().map(Some)
    }

    /// One image of a list.
    pub(super) fn get(&self, list: &Reference, image: &Reference) -> Result<Option<Entry>> {
        read(&self.list(list).join(file_name(image)))
    }

    pub(super) fn save(&self, list: &Reference, image: &Reference, entry: &Entry) -> Result<()> {
        let dir = self.list(list);
        fs::create_dir_all(&dir).map_err(Error::file("cannot create", &dir))?;
        let text = serde_json::to_vec(entry).map_err(client::Error::from)?;
        // Beside the lists: what lies in one is taken for an image.
        let staged = self.root.join(format!(".manifest.{}", std::process::id()));
        let path = dir.join(file_name(image));
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&staged)?;
            file.write_all(&text)?;
            fs::rename(&staged, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&staged);
            Error::file("cannot write", &path)(error)
        })
    }

    /// Removes a list; `false` when there is none.
    pub(super) fn remove(&self, list: &Reference) -> Result<bool> {
        let dir = self.list(list);
        match fs::remove_dir_all(&dir) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::file("cannot remove", &dir)(error)),
        }
    }
}

fn read(path: &Path) -> Result<Option<Entry>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("cannot read", path)(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut text).map_err(Error::file("cannot read", path))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        Error::new(format!("{} is no manifest of a list: {error}", path.display()))
            .hint("Remove the list with manifest rm, and create it again.")
    })
}
