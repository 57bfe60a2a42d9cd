//! Registry credentials: the `X-Registry-Auth` header and `POST /auth`.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Credentials for one registry; body of `POST /auth` and content of `X-Registry-Auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User name.
    #[serde(rename = "username", deserialize_with = "crate::go::lenient", skip_serializing_if = "crate::go::omit")]
    pub username: String,
    /// Password or access token.
    #[serde(rename = "password", deserialize_with = "crate::go::lenient", skip_serializing_if = "crate::go::omit")]
    pub password: String,
    /// Base64 of `user:password`, as client config files keep it.
    #[serde(rename = "auth", deserialize_with = "crate::go::lenient", skip_serializing_if = "crate::go::omit")]
    pub auth: String,
    /// The registry meant.
    #[serde(
        rename = "serveraddress",
        deserialize_with = "crate::go::lenient",
        skip_serializing_if = "crate::go::omit"
    )]
    pub server_address: String,
    /// An OAuth refresh token, used instead of a password.
    #[serde(
        rename = "identitytoken",
        deserialize_with = "crate::go::lenient",
        skip_serializing_if = "crate::go::omit"
    )]
    pub identity_token: String,
    /// A bearer token, sent to the registry as it is.
    #[serde(
        rename = "registrytoken",
        deserialize_with = "crate::go::lenient",
        skip_serializing_if = "crate::go::omit"
    )]
    pub registry_token: String,
}

impl fmt::Debug for AuthConfig {
    /// Shows whose credentials these are, never the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AuthConfig { username, server_address, .. } = self;
        write!(f, "AuthConfig({username:?} at {server_address:?}, ..)")
    }
}

/// Answer of `POST /auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthResponse {
    /// `Login Succeeded`.
    #[serde(rename = "Status")]
    pub status: String,
    /// A refresh token to keep in the password's place.
    #[serde(
        rename = "IdentityToken",
        deserialize_with = "crate::go::lenient",
        skip_serializing_if = "crate::go::omit"
    )]
    pub identity_token: String,
}

impl fmt::Debug for AuthResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthResponse({:?}, ..)", self.status)
    }
}

/// A header that holds no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not base64url.
    #[error("invalid header of registry credentials: not base64url encoded; send base64url of a JSON object")]
    Encoding,
    /// Not the expected JSON.
    #[error(
        "invalid header of registry credentials: not the JSON of credentials; send {{\"username\":…,\"password\":…}}"
    )]
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

/// Reads the `X-Registry-Config` header: credentials by the names that client config files have.
///
/// # Errors
/// [`AuthError`] when it cannot be decoded.
pub fn decode_registry_config(header: &str) -> Result<std::collections::BTreeMap<String, AuthConfig>, AuthError> {
    if header.is_empty() {
        return Ok(std::collections::BTreeMap::new());
    }
    let json = URL_SAFE.decode(header).or_else(|_| STANDARD.decode(header)).map_err(|_| AuthError::Encoding)?;
    let found: Option<_> = serde_json::from_slice(&json).map_err(|_| AuthError::Json)?;
    Ok(found.unwrap_or_default())
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
        assert_eq!(decode_registry_auth(header.trim_end_matches('=')), Ok(Some(auth.clone())));
        assert!(!format!("{auth:?}").contains("p?>"));
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
