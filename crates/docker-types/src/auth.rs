//! Registry credentials: the `X-Registry-Auth` header and `POST /auth`.

use crate::go::go_struct;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

go_struct! {
    /// Credentials for one registry; body of `POST /auth` and content of `X-Registry-Auth`.
    pub struct AuthConfig {
        "username" / "crate::go::omit" username: String,
        "password" / "crate::go::omit" password: String,
        "auth" / "crate::go::omit" auth: String,
        "serveraddress" / "crate::go::omit" server_address: String,
        /// An OAuth refresh token, used instead of a password.
        "identitytoken" / "crate::go::omit" identity_token: String,
        /// A bearer token, sent to the registry as it is.
        "registrytoken" / "crate::go::omit" registry_token: String,
    }
}

go_struct! {
    /// Answer of `POST /auth`.
    pub struct AuthResponse {
        "Status" status: String,
        "IdentityToken" / "crate::go::omit" identity_token: String,
    }
}

/// A header that holds no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not base64url.
    #[error("invalid X-Registry-Auth header: not base64url encoded; send base64url of a JSON object")]
    Encoding,
    /// Not the expected JSON.
    #[error("invalid X-Registry-Auth header: not the JSON of credentials; send {{\"username\":…,\"password\":…}}")]
    Json,
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);

/// Reads the `X-Registry-Auth` header. An empty header, `{}` or `null` holds no credentials.
///
/// # Errors
/// [`AuthError`] when it cannot be decoded.
pub fn decode_registry_auth(header: &str) -> Result<Option<AuthConfig>, AuthError> {
    if header.is_empty() {
        return Ok(None);
    }
    let json = URL_SAFE.decode(header).or_else(|_| STANDARD.decode(header)).map_err(|_| AuthError::Encoding)?;
    let auth: Option<AuthConfig> = serde_json::from_slice(&json).map_err(|_| AuthError::Json)?;
    Ok(auth.filter(|a| *a != AuthConfig::default()))
}

/// Writes the header.
pub fn encode_registry_auth(auth: &AuthConfig) -> String {
    let json = serde_json::to_vec(auth).unwrap_or_default();
    base64::engine::general_purpose::URL_SAFE.encode(json)
}

/// Splits the `auth` field of a client's config file, base64 of `user:password`.
pub fn decode_basic(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Makes the `auth` field of a client's config file.
pub fn encode_basic(user: &str, password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header() {
        let auth = AuthConfig { username: "u".into(), password: "p?>".into(), ..AuthConfig::default() };
        let header = encode_registry_auth(&auth);
        assert_eq!(decode_registry_auth(&header), Ok(Some(auth.clone())));
        assert_eq!(decode_registry_auth(header.trim_end_matches('=')), Ok(Some(auth)));
        assert_eq!(decode_registry_auth("e30="), Ok(None));
        assert_eq!(decode_registry_auth(""), Ok(None));
        assert_eq!(decode_registry_auth("!"), Err(AuthError::Encoding));
        assert_eq!(decode_registry_auth("AAAA"), Err(AuthError::Json));
    }

    #[test]
    fn config_file() {
        assert_eq!(decode_basic(&encode_basic("u", "p:q")), Some(("u".into(), "p:q".into())));
        assert_eq!(decode_basic("xx"), None);
    }
}
