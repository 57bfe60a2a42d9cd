//! What clients say of a cache: `type=local,dest=DIR,mode=max`.

use buildkit::wire::control::CacheOptionsEntry;
use types::{Kind, Reference};

use super::pack::Compression;
use super::remote::Remote;
use crate::error::{Error, Result};
use crate::solve::Build;

/// Where to, and what.
#[derive(Debug)]
pub(super) struct Export {
    pub remote: Remote,
    /// Results of all steps, not of those alone that the image is made of.
    pub all: bool,
    pub compression: Compression,
    /// As an image's manifest; as an index otherwise.
    pub manifest: bool,
    /// A failure is told, and the build goes on.
    pub ignore_error: bool,
    pub mounts: Mounts,
    /// For people.
    pub shown: String,
}

/// Which directories of cache mounts go along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mounts {
    #[default]
    None,
    All,
    /// By their ids.
    Some(Vec<String>),
}

impl Mounts {
    pub(super) fn has(&self, id: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(ids) => ids.iter().any(|known| known == id),
        }
    }
}

fn unsupported(text: String) -> Error {
    Error::new(Kind::Unsupported, text)
}

fn invalid(text: String) -> Error {
    Error::new(Kind::Invalid, text)
}

fn kind_refused(kind: &str) -> Error {
    match kind {
        "gha" | "s3" | "azblob" => {
            unsupported(format!("build caches of type {kind} are not supported: use registry or local"))
        }
        "inline" => invalid(
            "a build cache of type inline comes from its image: name that as type=registry,ref=IMAGE".to_owned(),
        ),
        other => invalid(format!("unknown build cache type \"{other}\": there are registry, local and inline")),
    }
}

impl Export {
    pub(super) async fn read(build: &Build, entry: &CacheOptionsEntry) -> Result<Self> {
        let mut remote = None;
        let mut shown = String::new();
        let (mut all, mut manifest, mut ignore_error) = (false, true, false);
        let (mut compression, mut level, mut mounts) = ("gzip", None, Mounts::None);
        let mut attrs: Vec<_> = entry.attrs.iter().collect();
        attrs.sort();
        for (key, value) in attrs {
            let what = format!("{key}={value} of the build cache");
            let flag = || match value.as_str() {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(invalid(format!("{what}: it is true or false"))),
            };
            match (entry.r#type.as_str(), key.as_str()) {
                ("local", "dest") => {
                    remote = Some(Remote::local(build, value).await?);
                    "client directory".clone_into(&mut shown);
                }
                // The client writes the tag into the directory's index.
                ("local", "tag") => {}
                ("registry", "ref") => {
                    remote = Some(Remote::registry(build, value)?);
                    shown = value.clone();
                }
                (_, "mode") => match value.as_str() {
                    "min" => all = false,
                    "max" => all = true,
                    _ => return Err(invalid(format!("{what}: it is min or max"))),
                },
                (_, "compression") => compression = value,
                (_, "compression-level") => {
                    level = Some(value.parse().map_err(|_| invalid(format!("{what}: it is a number")))?);
                }
                (_, "image-manifest") => manifest = flag()?,
                (_, "ignore-error") => ignore_error = flag()?,
                (_, "oci-mediatypes") if flag()? => {}
                (_, "force-compression") if !flag()? => {}
                (_, "oci-mediatypes" | "force-compression") => {
                    return Err(unsupported(format!("{what} is not supported")));
                }
                (_, "cache-mounts") => {
                    mounts = match value.as_str() {
                        "true" | "1" => Mounts::All,
                        "false" | "0" | "" => Mounts::None,
                        ids => Mounts::Some(ids.split([';', ' ']).map(str::to_owned).collect()),
                    }
                }
                ("local" | "registry", _) => return Err(unsupported(format!("the option {what} is not supported"))),
                (kind, _) => return Err(kind_refused(kind)),
            }
        }
        let needed = if entry.r#type == "local" { "dest" } else { "ref" };
        let remote = match (entry.r#type.as_str(), remote) {
            (_, Some(remote)) => remote,
            ("local" | "registry", None) => return Err(invalid(format!("a build cache needs {needed}"))),
            (kind, None) => return Err(kind_refused(kind)),
        };
        let compression = Compression::read(compression, level)?;
        Ok(Self { remote, all, compression, manifest, ignore_error, mounts, shown })
    }
}

/// Whether a cache that is written into the image is asked for in a way that is known.
pub(super) fn inline(entry: &CacheOptionsEntry) -> Result<()> {
    match entry.attrs.iter().find(|(key, value)| !matches!((key.as_str(), value.as_str()), ("mode", "min"))) {
        None => Ok(()),
        Some((key, value)) => {
            Err(unsupported(format!("the option {key}={value} of a build cache of type inline is not supported")))
        }
    }
}

/// Where from; and the digest of the manifest, which clients look up in their directories.
pub(super) async fn import(build: &Build, entry: &CacheOptionsEntry) -> Result<(Remote, String)> {
    let attr = |key: &str| entry.attrs.get(key).filter(|value| !value.is_empty());
    let known: &[&str] = match entry.r#type.as_str() {
        "local" => &["src", "digest", "tag"],
        "registry" => &["ref"],
        kind => return Err(kind_refused(kind)),
    };
    if let Some(option) = entry.attrs.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(unsupported(format!("the option {option} of build caches to import is not supported")));
    }
    let missing = |what: &str| invalid(format!("a build cache of type {} needs {what}", entry.r#type));
    if entry.r#type == "local" {
        let source = attr("src").ok_or_else(|| missing("src"))?;
        let digest =
            attr("digest").ok_or_else(|| missing("a manifest: there is no index in the directory, or not the tag"))?;
        return Ok((Remote::local(build, source).await?, digest.clone()));
    }
    let reference = attr("ref").ok_or_else(|| missing("ref"))?;
    Ok((Remote::registry(build, reference)?, String::new()))
}

pub(super) fn reference(text: &str) -> Result<Reference> {
    Reference::parse(text)
        .map(Reference::with_default_tag)
        .map_err(|e| invalid(format!("invalid name of a build cache \"{text}\": {e}")))
}
