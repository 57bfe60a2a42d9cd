//! Names users give to containers and volumes. A value of these types is safe as a path component:
//! it holds no slash, no control character and does not start with a dot.

use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// A name that is not allowed; the text is the one Docker's clients print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A container name with other characters.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Container(String),
    /// A volume name with other characters.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )]
    Volume(String),
    /// A volume name of one character.
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    VolumeShort,
}

/// Longest name: it serves as a file name, so NAME_MAX.
const NAME_MAX: usize = 255;

fn allowed(text: &str) -> bool {
    let mut bytes = text.bytes();
    (2..=NAME_MAX).contains(&text.len())
        && bytes.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && bytes.all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}

/// The name of a container, without the leading slash the API shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ContainerName(String);

/// The name of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct VolumeName(String);

impl ContainerName {
    /// The name without leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl VolumeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = NameError;

    /// Accepts one leading slash, as the API does.
    fn from_str(text: &str) -> Result<ContainerName, NameError> {
        let name = text.strip_prefix('/').unwrap_or(text);
        if allowed(name) { Ok(ContainerName(name.to_owned())) } else { Err(NameError::Container(text.to_owned())) }
    }
}

impl FromStr for VolumeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<VolumeName, NameError> {
        if text.len() == 1 {
            return Err(NameError::VolumeShort);
        }
        if allowed(text) { Ok(VolumeName(text.to_owned())) } else { Err(NameError::Volume(text.to_owned())) }
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_names() {
        assert_eq!("/web_1.a-b".parse::<ContainerName>().unwrap().as_str(), "web_1.a-b");
        for bad in ["", "/", "a", "_a", ".a", "..", "a/b", "a b", "é1", "a\0b", &"a".repeat(256)] {
            let error = bad.parse::<ContainerName>().unwrap_err().to_string();
            assert_eq!(error, format!("Invalid container name ({bad}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"));
        }
    }

    #[test]
    fn volume_names() {
        assert!("data-1".parse::<VolumeName>().is_ok());
        assert_eq!("d".parse::<VolumeName>(), Err(NameError::VolumeShort));
        assert!(
            "a/b".parse::<VolumeName>().unwrap_err().to_string().starts_with("\"a/b\" includes invalid characters")
        );
    }
}
