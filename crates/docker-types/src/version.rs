//! API versions, and what older ones show differently.

use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// A version of the Engine API, `1.55`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u16,
    /// Counts up with every change.
    pub minor: u16,
}

impl ApiVersion {
    /// The version spoken when a request names none.
    pub const CURRENT: ApiVersion = ApiVersion::new(1, 55);
    /// The oldest version accepted in a request.
    pub const MINIMUM: ApiVersion = ApiVersion::new(1, 24);

    /// Makes a version.
    pub const fn new(major: u16, minor: u16) -> ApiVersion {
        ApiVersion { major, minor }
    }

    /// True when this is 1.`minor` or later.
    pub fn at_least(self, minor: u16) -> bool {
        self >= ApiVersion::new(1, minor)
    }
}

impl Default for ApiVersion {
    fn default() -> ApiVersion {
        ApiVersion::CURRENT
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text that is no API version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid API version {0:?}: it must look like 1.55")]
pub struct VersionError(String);

impl FromStr for ApiVersion {
    type Err = VersionError;

    /// Parses `1.55`, with or without a leading `v`.
    fn from_str(text: &str) -> Result<ApiVersion, VersionError> {
        let number = |t: &str| -> Option<u16> {
            (!t.is_empty() && t.len() <= 4 && t.bytes().all(|c| c.is_ascii_digit())).then(|| t.parse().ok()).flatten()
        };
        let bare = text.strip_prefix('v').unwrap_or(text);
        bare.split_once('.')
            .and_then(|(major, minor)| Some(ApiVersion { major: number(major)?, minor: number(minor)? }))
            .ok_or_else(|| VersionError(text.chars().take(20).collect()))
    }
}

/// An answer whose JSON depends on the API version asked for. The plain serialisation is that of
/// [`ApiVersion::CURRENT`].
pub trait Versioned: Serialize {
    /// The first minor version whose form is the current one.
    const SINCE_MINOR: u16;

    /// Changes the current form in place to what `version` shows.
    fn adapt(value: &mut Value, version: ApiVersion);

    /// The JSON of this answer at a version.
    ///
    /// # Errors
    /// Only when serialisation itself fails, which plain data never does.
    fn at_version(&self, version: ApiVersion) -> serde_json::Result<Vec<u8>> {
        if version.at_least(Self::SINCE_MINOR) {
            return serde_json::to_vec(self);
        }
        let mut value = serde_json::to_value(self)?;
        Self::adapt(&mut value, version);
        serde_json::to_vec(&value)
    }
}

impl<T: Versioned> Versioned for Vec<T> {
    const SINCE_MINOR: u16 = T::SINCE_MINOR;

    fn adapt(value: &mut Value, version: ApiVersion) {
        for item in value.as_array_mut().into_iter().flatten() {
            T::adapt(item, version);
        }
    }
}

/// Sets a key that is missing.
pub(crate) fn backfill(value: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(object) = value.as_object_mut() {
        object.entry(key).or_insert_with(|| default.into());
    }
}

/// Removes a key.
pub(crate) fn drop_key(value: &mut Value, key: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_text() {
        let v: ApiVersion = "v1.9".parse().unwrap();
        assert!(v < "1.24".parse().unwrap());
        assert!(ApiVersion::CURRENT.at_least(55));
        assert_eq!(ApiVersion::CURRENT.to_string(), "1.55");
        for bad in ["", "1", "1.", ".5", "1.x", "1.2.3", "1.99999", "+1.2"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }
}
