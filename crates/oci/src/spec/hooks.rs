//! Programs run at points of a container's life (runtime-spec, config.md "POSIX-platform Hooks"). Run by
//! `oci-runtime`, which also remembers those still to come.

use serde::{Deserialize, Serialize};

use crate::parse::nil;

/// Programs by the point at which they run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Before `create_runtime`, deprecated.
    #[serde(deserialize_with = "nil")]
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, before the root is changed.
    #[serde(deserialize_with = "nil")]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before the root is changed.
    #[serde(deserialize_with = "nil")]
    pub create_container: Vec<Hook>,
    /// In the container, before its program.
    #[serde(deserialize_with = "nil")]
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, once the program runs.
    #[serde(deserialize_with = "nil")]
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container is deleted.
    #[serde(deserialize_with = "nil")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Every point by its name in the document.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }
}

/// One program.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path.
    #[serde(deserialize_with = "nil")]
    pub path: String,
    /// Arguments with the program's name first; empty for none.
    #[serde(deserialize_with = "nil")]
    pub args: Vec<String>,
    /// Its whole environment.
    #[serde(deserialize_with = "nil")]
    pub env: Vec<String>,
    /// Seconds it may take.
    pub timeout: Option<i64>,
}
