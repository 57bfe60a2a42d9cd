//! API versions: the `/vX.YY` prefix of a path and the range this engine speaks.
//!
//! A request without a prefix is answered as the newest version. Called by the gate before
//! anything else looks at the path.

use docker_types::ApiVersion;

use crate::status::ApiError;

/// The newest version spoken, also announced in `Api-Version`.
pub const MAXIMUM: ApiVersion = ApiVersion::CURRENT;

/// The oldest version accepted in a path.
pub const MINIMUM: ApiVersion = ApiVersion::MINIMUM;

/// [`MAXIMUM`] as header text.
pub const MAXIMUM_TEXT: &str = "1.55";

/// Reads the first segment of a path as a version prefix.
///
/// `None`: it is no prefix, the path is unversioned. Docker's pattern is `v[0-9.]+`.
///
/// # Errors
/// A prefix outside the range, or one that is not `MAJOR.MINOR`; the wording of the first two is
/// what clients show to their users.
pub(crate) fn from_segment(segment: &str) -> Result<Option<ApiVersion>, ApiError> {
    let Some(text) = segment.strip_prefix('v') else {
        return Ok(None);
    };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok(None);
    }
    let malformed =
        || ApiError::invalid(format!("invalid API version {text:.16}: must be MAJOR.MINOR, as in v{MAXIMUM_TEXT}"));
    let mut parts = text.split('.').map(|part| part.parse::<u16>().map_err(|_| malformed()));
    let major = parts.next().unwrap_or(Ok(0))?;
    let minor = parts.next().unwrap_or(Ok(0))?;
    if parts.next().is_some() {
        return Err(malformed());
    }
    let version = ApiVersion::new(major, minor);
    if version < MINIMUM {
        return Err(ApiError::invalid(format!(
            "client version {text} is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        )));
    }
    if version > MAXIMUM {
        return Err(ApiError::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {MAXIMUM_TEXT}"
        )));
    }
    Ok(Some(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_and_wording() {
        assert!(from_segment("containers").unwrap().is_none());
        assert!(from_segment("volumes").unwrap().is_none());
        assert!(from_segment("v").unwrap().is_none());
        assert_eq!(from_segment("v1.24").unwrap(), Some(MINIMUM));
        assert_eq!(from_segment("v1.55").unwrap(), Some(MAXIMUM));
        let old = from_segment("v1.10").unwrap_err();
        assert_eq!(old.status(), 400);
        assert_eq!(
            old.message(),
            "client version 1.10 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        let new = from_segment("v1.99").unwrap_err();
        assert_eq!(new.message(), "client version 1.99 is too new. Maximum supported API version is 1.55");
        for bad in ["v0", "v1", "v1..2", "v1.51.1", "v99999.1", "v.", "v2.0"] {
            assert_eq!(from_segment(bad).unwrap_err().status(), 400, "{bad}");
        }
        assert_eq!(MAXIMUM.to_string(), MAXIMUM_TEXT);
    }
}
