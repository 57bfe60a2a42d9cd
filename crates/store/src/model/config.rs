//! Image configuration: what to run and which layers make the root (OCI image-spec, "OCI Image
//! Configuration"), with the fields Docker adds.
//!
//! It is input from whoever made the image. [`Image::parse`] bounds it and refuses what no process could
//! be given; meaning (users, paths, ports) is for the engine to check where it is used.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use types::{DiffId, Platform};

use super::{MAX_CONFIG, MAX_LAYERS, strict};
use crate::error::{Error, Result};

const WHAT: &str = "image configuration";

/// The empty object that Go writes for members of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// An image configuration document.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Image {
    /// Creation time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub author: String,
    /// Architecture in Go's names.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub variant: String,
    /// Operating system in Go's names.
    #[serde(default)]
    pub os: String,
    /// Docker: note given to commit or import.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub comment: String,
    /// What to run.
    #[serde(default, deserialize_with = "or_default")]
    pub config: ImageConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// How each layer came to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub history: Vec<History>,
    /// Docker: version of the engine that made it.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub docker_version: String,
    /// Ours: which results of builds the layers are, for builders elsewhere. The builder reads and writes it.
    #[serde(rename = "dhow.cache.v1", default, skip_serializing_if = "Option::is_none")]
    pub build_cache: Option<serde_json::Value>,
}

/// What to run and how.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`, names or numbers.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub user: String,
    /// `port/protocol` members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// `NAME=value` members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Command that arguments are appended to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments, or the command when there is no entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Docker: the command is escaped already (Windows).
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "or_default")]
    pub args_escaped: bool,
    /// Paths that get a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that asks the process to end.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub stop_signal: String,
    /// Docker: how to probe the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker: instructions for images built from this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Docker: shell of the `RUN` shell form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Docker: seconds between asking and killing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
}

/// Probe of a container's health; times in nanoseconds, 0 for the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, `CMD` with arguments or `CMD-SHELL` with a line; empty inherits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Time between probes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time a probe may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between probes in the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, base first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// Time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Command.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub created_by: String,
    /// Who.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub author: String,
    /// Note.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "or_default")]
    pub empty_layer: bool,
}

impl Image {
    /// Parses a configuration.
    ///
    /// # Errors
    /// [`Error::Document`] for what is malformed, too large, or holds a NUL where a process could not take it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut image: Self = strict::parse(WHAT, bytes, MAX_CONFIG)?;
        if image.rootfs.kind != "layers" {
            return Err(Error::document(WHAT, format!("rootfs type {:?} is not \"layers\"", image.rootfs.kind)));
        }
        if image.rootfs.diff_ids.len() > MAX_LAYERS {
            return Err(Error::document(WHAT, format!("more than {MAX_LAYERS} layers")));
        }
        let config = &mut image.config;
        // An item without `=` would take its value from the engine's own environment in some runtimes.
        if let Some(env) = &mut config.env {
            env.retain(|item| item.find('=').is_some_and(|at| at > 0));
        }
        let texts = [&config.env, &config.entrypoint, &config.cmd, &config.shell].into_iter().flatten().flatten();
        if texts.chain([&config.user, &config.working_dir]).any(|text| text.contains('\0')) {
            return Err(Error::document(WHAT, "a NUL in the environment, command, user or working directory"));
        }
        Ok(image)
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// Never for values built from valid parts.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::document(WHAT, error.to_string()))
    }

    /// The platform the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Go writes `null` for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_writes_null() {
        let text = r#"{"architecture":"amd64","config":{"Hostname":"","User":"","Env":["PATH=/bin","HOME","=x"],"Cmd":["sh"],"Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null},"created":"2026-11-23T15:00:12.473727838Z","history":null,"os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#;
        let image = Image::parse(text.as_bytes()).unwrap();
        assert_eq!(image.config.env, Some(vec!["PATH=/bin".to_owned()]));
        assert_eq!((image.config.volumes, image.history.len(), image.rootfs.diff_ids.len()), (None, 0, 0));
        let none = Image::parse(br#"{"config":null,"rootfs":{"type":"layers"}}"#).unwrap();
        assert_eq!(none.config, ImageConfig::default());
    }
}
