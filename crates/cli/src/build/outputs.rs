//! What becomes of the result: `--output` and its shorthands, as exporters of the daemon and places on our side.

use std::collections::HashMap;
use std::path::PathBuf;

use buildkit::wire::control::Exporter;

use super::csv;
use crate::{Error, Result, flags::Parsed, term::output};

/// Where the daemon sends a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Files, into a directory.
    Directory(PathBuf),
    /// Bytes, into a file.
    File(PathBuf),
    /// Bytes, to standard output.
    Stdout,
}

/// What is asked of the daemon, and where the results go.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs {
    pub(super) exporters: Vec<Exporter>,
    /// By the number of the exporter.
    pub(super) targets: HashMap<usize, Target>,
}

impl Outputs {
    /// Reads the flags.
    pub(super) fn read(parsed: &Parsed) -> Result<Self> {
        let mut wanted = Vec::new();
        for text in parsed.list("output") {
            wanted.push(one(text)?);
        }
        if parsed.on("push") {
            match wanted.iter_mut().find(|(kind, _)| matches!(kind.as_str(), "image" | "registry")) {
                Some((_, attrs)) => drop(attrs.insert("push".to_owned(), "true".to_owned())),
                None => wanted.push(("registry".to_owned(), HashMap::new())),
            }
        }
        if parsed.on("load") && !wanted.iter().any(|(kind, attrs)| kind == "docker" && !attrs.contains_key("dest")) {
            wanted.push(("docker".to_owned(), HashMap::new()));
        }
        if wanted.is_empty() {
            wanted.push(("docker".to_owned(), HashMap::new()));
        }
        let mut outputs = Self::default();
        for (kind, attrs) in wanted {
            outputs.add(kind, attrs, parsed)?;
        }
        if outputs.targets.values().filter(|target| **target == Target::Stdout).count() > 1 {
            return Err(Error::new("only one output can go to standard output"));
        }
        Ok(outputs)
    }

    fn add(&mut self, kind: String, mut attrs: HashMap<String, String>, parsed: &Parsed) -> Result<()> {
        let destination = attrs.remove("dest");
        let kind = match kind.as_str() {
            // The result is needed, and nothing becomes of it.
            "cacheonly" => return Ok(()),
            "registry" => {
                attrs.insert("push".to_owned(), "true".to_owned());
                "moby"
            }
            // The daemon's own images.
            "image" => "moby",
            "docker" if destination.is_none() => "moby",
            kind @ ("local" | "tar" | "oci" | "docker") => kind,
            other => {
                return Err(Error::invalid(format!(
                    "--output: type {other:?} is not known; there are local, tar, oci, docker, image, registry and cacheonly"
                )));
            }
        };
        if kind == "oci" && attrs.get("tar").is_some_and(|tar| matches!(tar.as_str(), "false" | "0")) {
            return Err(Error::new(
                "--output: a directory in OCI's layout (tar=false) is not supported; unpack the archive",
            ));
        }
        let target = match (kind, destination) {
            ("moby", None) => None,
            ("moby", Some(_)) => return Err(Error::invalid("--output: an image of the daemon has no dest")),
            ("local", Some(dest)) if dest != "-" => Some(Target::Directory(dest.into())),
            ("local", _) => return Err(Error::invalid("--output: dest is required for type local")),
            (_, Some(dest)) if dest != "-" => {
                if std::path::Path::new(&dest).is_dir() {
                    return Err(Error::new(format!("--output: {dest} is a directory; dest of type {kind} is a file")));
                }
                Some(Target::File(dest.into()))
            }
            _ if output::stdout_is_terminal() => {
                return Err(Error::new("dest file is required for this output; refusing to write to the terminal"));
            }
            _ => Some(Target::Stdout),
        };
        let tags: Vec<&str> = parsed.list("tag").collect();
        if matches!(kind, "moby" | "oci" | "docker") {
            if !tags.is_empty() {
                attrs.insert("name".to_owned(), tags.join(","));
            }
            for text in parsed.list("annotation") {
                let (key, value) = annotation(text)?;
                attrs.insert(key, value);
            }
        }
        if attrs.get("push").is_some_and(|push| push == "true") && !attrs.contains_key("name") {
            return Err(Error::new("tag is needed when pushing to registry: give one with -t"));
        }
        if let Some(target) = target {
            self.targets.insert(self.exporters.len(), target);
        }
        self.exporters.push(Exporter { r#type: kind.to_owned(), attrs });
        Ok(())
    }
}

/// One value of `--output`; a path alone is a directory, or an archive on standard output.
fn one(text: &str) -> Result<(String, HashMap<String, String>)> {
    let dest = |dest: &str| HashMap::from([("dest".to_owned(), dest.to_owned())]);
    if text == "-" {
        return Ok(("tar".to_owned(), dest("-")));
    }
    if !text.contains('=') {
        return Ok(("local".to_owned(), dest(text)));
    }
    let mut attrs: HashMap<String, String> = csv::pairs(text, "output")?.into_iter().collect();
    let kind = attrs.remove("type").ok_or_else(|| Error::invalid(format!("--output {text}: type is required")))?;
    Ok((kind, attrs))
}

/// `[type[platform]:]key=value` as an option of exporters.
fn annotation(text: &str) -> Result<(String, String)> {
    let bad = || Error::invalid(format!("invalid annotation {text:?}, expected key=value"));
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(bad)?;
    let kinds = ["manifest", "index", "manifest-descriptor", "index-descriptor"];
    if let Some((kind, key)) = key.split_once(':') {
        let bare = kind.split('[').next().unwrap_or(kind);
        if kinds.contains(&bare) {
            return Ok((format!("annotation-{kind}.{key}"), value.to_owned()));
        }
    }
    Ok((format!("annotation.{key}"), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(one("out").unwrap().0, "local");
        assert_eq!(one("-").unwrap().0, "tar");
        let (kind, attrs) = one("type=oci,dest=x.tar,compression=zstd").unwrap();
        assert_eq!((kind.as_str(), attrs["dest"].as_str(), attrs["compression"].as_str()), ("oci", "x.tar", "zstd"));
        assert!(one("dest=x").is_err());
        assert_eq!(annotation("a=b").unwrap(), ("annotation.a".to_owned(), "b".to_owned()));
        assert_eq!(annotation("index:org.x=b=c").unwrap(), ("annotation-index.org.x".to_owned(), "b=c".to_owned()));
        assert!(annotation("=b").is_err());
    }
}
