//! Tokens: what a client was allowed when it asked for one, signed, for five minutes.
//!
//! The form is that of the Docker token specification: JSON Web Tokens (RFC 7519) with an `access` claim, signed with
//! HMAC-SHA-256. The invariants: the key is random, of this process alone and never leaves it, so tokens end with the
//! server; the header is compared, never interpreted, so there is no algorithm to choose for whoever sends one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::rules::Right;
use crate::name::RepositoryName;

/// How long a token is good: short, since rights are also looked up when it is used.
pub(super) const LIFE: Duration = Duration::from_secs(300);
/// What tokens are for, and by whom they are issued.
pub(super) const SERVICE: &str = "dhow-registry";
/// Repositories in one token.
const SCOPES_MAX: usize = 32;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Signs and verifies.
pub(super) struct Tokens {
    key: Hmac<Sha256>,
}

/// Rights in one repository, or `registry:catalog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scope {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) actions: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    /// The user; empty for whoever did not log in.
    pub(super) sub: String,
    /// Seconds since the epoch.
    iat: u64,
    exp: u64,
    pub(super) access: Vec<Scope>,
}

impl Claims {
    /// Claims that begin now.
    pub(super) fn new(user: Option<&str>, access: Vec<Scope>) -> Self {
        let now = now();
        let text = || SERVICE.to_owned();
        let exp = now + LIFE.as_secs();
        Self { iss: text(), aud: text(), sub: user.unwrap_or_default().to_owned(), iat: now, exp, access }
    }

    pub(super) fn user(&self) -> Option<&str> {
        Some(self.sub.as_str()).filter(|name| !name.is_empty())
    }

    pub(super) fn has(&self, repository: &RepositoryName, right: Right) -> bool {
        let actions =
            self.access.iter().filter(|scope| scope.kind == "repository" && scope.name == repository.as_str());
        actions.flat_map(|scope| &scope.actions).any(|action| action == right.text())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// With a new key.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(std::io::Error::other)?;
        Hmac::new_from_slice(&key).map(|key| Self { key }).map_err(std::io::Error::other)
    }

    pub(super) fn sign(&self, claims: &Claims) -> std::io::Result<String> {
        let claims = serde_json::to_vec(claims)?;
        let mut text = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
        let mac = self.key.clone().chain_update(&text).finalize().into_bytes();
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut text);
        Ok(text)
    }

    /// What a token says, when it is ours and still good.
    pub(super) fn verify(&self, token: &str) -> Option<Claims> {
        let (signed, mac) = token.rsplit_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        self.key.clone().chain_update(signed).verify_slice(&mac).ok()?;
        let (_, claims) = signed.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        (now() < claims.exp).then_some(claims)
    }
}

/// Reads scopes, `repository:NAME:pull,push`, separated by spaces. Kinds and actions that are not known are left out, as
/// the specification wants it; nothing when there are too many.
pub(super) fn parse_scopes(texts: &[String]) -> Option<Vec<(RepositoryName, Vec<Right>)>> {
    let mut out: Vec<(RepositoryName, Vec<Right>)> = Vec::new();
    for scope in texts.iter().flat_map(|text| text.split(' ')).filter(|scope| !scope.is_empty()) {
        let Some((rest, actions)) = scope.rsplit_once(':') else { continue };
        let Some(("repository", name)) = rest.split_once(':') else { continue };
        let Ok(name) = RepositoryName::parse(name) else { continue };
        let rights = match actions {
            "*" => Right::ALL.to_vec(),
            _ => actions.split(',').filter_map(Right::parse).collect(),
        };
        if out.len() == SCOPES_MAX {
            return None;
        }
        out.push((name, rights));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_and_unchanged_tokens_are_good() {
        let tokens = Tokens::new().unwrap();
        let name = RepositoryName::parse("a/b").unwrap();
        let scope = Scope { kind: "repository".into(), name: "a/b".into(), actions: vec!["pull".into()] };
        let token = tokens.sign(&Claims::new(Some("ann"), vec![scope])).unwrap();
        let claims = tokens.verify(&token).unwrap();
        assert_eq!(claims.user(), Some("ann"));
        assert!(claims.has(&name, Right::Pull) && !claims.has(&name, Right::Push));
        assert!(Tokens::new().unwrap().verify(&token).is_none(), "another server's");
        let [header, body, mac] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        let forged = String::from_utf8(URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap().replace("pull", "push");
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        for bad in [
            format!("{header}.{}.{mac}", URL_SAFE_NO_PAD.encode(forged)),
            format!("{none}.{body}.{mac}"),
            format!("{none}.{body}."),
            format!("{header}.{body}"),
            format!("{header}.{body}.{}", &mac[..mac.len() - 4]),
            String::new(),
            "..".to_owned(),
        ] {
            assert!(tokens.verify(&bad).is_none(), "{bad}");
        }
        let mut old = Claims::new(None, Vec::new());
        old.exp = now();
        assert!(tokens.verify(&tokens.sign(&old).unwrap()).is_none(), "too old");
    }

    #[test]
    fn scopes() {
        let parse = |text: &str| parse_scopes(&[text.to_owned()]).unwrap();
        assert_eq!(parse("repository:a/b:pull,push")[0].1, [Right::Pull, Right::Push]);
        assert_eq!(parse("repository:a:*")[0].1, Right::ALL);
        assert_eq!(parse("repository:a:pull repository:b:push").len(), 2);
        assert!(parse("registry:catalog:* repository:../x:pull repository(plugin):a:pull x").is_empty());
        assert!(parse("repository:a:sing")[0].1.is_empty());
        assert!(parse_scopes(&vec!["repository:a:pull".to_owned(); 33]).is_none());
    }
}
