//! Engine API versions: `1.55`, ordered as pairs of numbers. Kept apart so that no caller compares them as text.

use std::{fmt, str::FromStr};

/// An Engine API version, such as 1.51.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Major number; always 1 so far.
    pub major: u16,
    /// Minor number.
    pub minor: u16,
}

impl ApiVersion {
    /// The newest version this client speaks; it is what the engine of this project answers.
    pub const NEWEST: Self = Self { major: 1, minor: 55 };
    /// The oldest version this client can make do with.
    pub const OLDEST: Self = Self { major: 1, minor: 24 };
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.trim().trim_start_matches('v').split_once('.').ok_or(())?;
        Ok(Self { major: major.parse().map_err(drop)?, minor: minor.parse().map_err(drop)? })
    }
}

#[cfg(test)]
mod tests {
    use super::ApiVersion;

    #[test]
    fn versions_are_ordered_by_number() {
        let old: ApiVersion = "1.9".parse().unwrap();
        assert!(old < ApiVersion::NEWEST);
        assert_eq!("v1.51".parse::<ApiVersion>().unwrap().to_string(), "1.51");
        assert!("1".parse::<ApiVersion>().is_err());
    }
}
