//! Who asks, and whether they may.
//!
//! Three ways to run: everybody may do everything; whoever is in the password file may do everything; or an access file
//! says who may do what, and clients get tokens from `/token` (Docker's "Token Authentication Specification"). The
//! invariant of the last: a request is let in when the rules as they are now allow it, and, if it comes with a token, the
//! token was asked for it too. Called by `http` for every request before anything is done.

mod passwords;
mod rules;
mod token;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use http::header::{self, HeaderMap, HeaderValue};
use serde_json::json;

use self::passwords::Passwords;
pub(crate) use self::rules::Right;
use self::rules::Rules;
use self::token::{Claims, SERVICE, Scope, Tokens};
use crate::config::Config;
use crate::error::{Code, Error, Result, StartError};
use crate::name::RepositoryName;

/// What decides on requests.
#[derive(Debug)]
pub(crate) struct Auth {
    passwords: Option<Passwords>,
    access: Option<Access>,
}

#[derive(Debug)]
struct Access {
    path: PathBuf,
    rules: RwLock<Arc<Rules>>,
    tokens: Tokens,
    /// `https://host` as clients see it; from their own requests when not given.
    url: Option<String>,
    scheme: &'static str,
}

/// What a request is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need<'a> {
    /// The API as a whole: `/v2/`, the catalog, paths that are no endpoint.
    Entry,
    /// A right in a repository.
    Repository(&'a RepositoryName, Right),
}

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    user: Option<String>,
    /// Nothing where everything is allowed.
    rules: Option<Arc<Rules>>,
}

impl Visitor {
    /// Whether the visitor may do something else too.
    pub(crate) fn may(&self, repository: &RepositoryName, right: Right) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.allow(self.user.as_deref(), repository, right))
    }
}

impl Auth {
    /// Reads what `config` names. Blocks.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) fn read(config: &Config) -> std::result::Result<Self, StartError> {
        let passwords = config.passwords.as_deref().map(Passwords::read).transpose()?;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let access = |path: &Path| -> std::result::Result<Access, StartError> {
            let tokens = Tokens::new().map_err(|source| StartError::File {
                action: "make a key for",
                path: path.display().to_string(),
                source,
                hint: "the system gives no random numbers",
            })?;
            let rules = RwLock::new(Arc::new(Rules::read(path)?));
            Ok(Access { path: path.to_owned(), rules, tokens, url: config.public_url.clone(), scheme })
        };
        Ok(Self { passwords, access: config.access.as_deref().map(access).transpose()? })
    }

    /// Reads the files again. Blocks.
    ///
    /// # Errors
    /// As [`Auth::read`]; everything is then as it was.
    pub(crate) fn reload(&self) -> std::result::Result<(), StartError> {
        let rules = self.access.as_ref().map(|access| Rules::read(&access.path)).transpose()?;
        if let Some(passwords) = &self.passwords {
            passwords.reload()?;
        }
        if let (Some(access), Some(rules)) = (&self.access, rules) {
            *access.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        }
        Ok(())
    }

    /// Whether anybody at all may do everything.
    pub(crate) fn is_open(&self) -> bool {
        self.passwords.is_none() && self.access.is_none()
    }

    /// Whether passwords are sent to this server.
    pub(crate) fn takes_passwords(&self) -> bool {
        self.passwords.is_some()
    }

    /// Lets a request in or not.
    ///
    /// # Errors
    /// `UNAUTHORIZED` (401) with a challenge; `DENIED` (403) when another login would be needed; `TOOMANYREQUESTS` (429).
    pub(crate) async fn admit(&self, headers: &HeaderMap, need: Need<'_>) -> Result<Visitor> {
        let sent = headers.get(header::AUTHORIZATION);
        match (&self.access, &self.passwords) {
            (Some(access), _) => self.admit_by_rules(access, headers, need).await,
            (None, None) => Ok(Visitor { user: None, rules: None }),
            (None, Some(passwords)) => {
                let user = match sent {
                    None => {
                        Err(Error::new(Code::Unauthorized, "log in to this registry first, with a name and a password"))
                    }
                    Some(sent) => passwords.verify(sent).await,
                };
                Ok(Visitor { user: Some(user.map_err(with_basic_challenge)?), rules: None })
            }
        }
    }

    async fn admit_by_rules(&self, access: &Access, headers: &HeaderMap, need: Need<'_>) -> Result<Visitor> {
        let rules = access.rules();
        let challenge = |text: &str, error: &str| {
            let value = HeaderValue::from_str(&access.challenge(headers, need, error));
            let failed = Error::new(Code::Unauthorized, text);
            match value {
                Ok(value) => failed.with_header(header::WWW_AUTHENTICATE, value),
                Err(_) => failed,
            }
        };
        let allowed = |user: Option<&str>| match need {
            Need::Entry => true,
            Need::Repository(name, right) => rules.allow(user, name, right),
        };
        let user = match headers.get(header::AUTHORIZATION) {
            // The API as a whole asks for a login, or clients would not learn where tokens are.
            None if matches!(need, Need::Repository(..)) && allowed(None) => None,
            None => return Err(challenge("log in to this registry first, or ask it for a token", "")),
            Some(sent) => match bearer(sent) {
                Some(token) => {
                    let claims = access.tokens.verify(token);
                    let claims = claims.ok_or_else(|| challenge("the token is not good any more", "invalid_token"))?;
                    let has = match need {
                        Need::Entry => true,
                        Need::Repository(name, right) => claims.has(name, right),
                    };
                    let user = claims.user().map(str::to_owned);
                    // What a login or a new token could change is asked for; what they could not is refused below.
                    if (!has && allowed(user.as_deref())) || (user.is_none() && !allowed(None)) {
                        return Err(challenge(
                            "the token is not for this: ask for another one, or log in",
                            "insufficient_scope",
                        ));
                    }
                    user
                }
                None => {
                    let user = match &self.passwords {
                        Some(passwords) => passwords.verify(sent).await,
                        None => Err(Error::new(Code::Unauthorized, "this registry has no users to log in as")),
                    };
                    let with_challenge = |error: Error| match error.code() {
                        Code::Unauthorized => challenge(&error.to_string(), ""),
                        _ => error,
                    };
                    Some(user.map_err(with_challenge)?)
                }
            },
        };
        if allowed(user.as_deref()) {
            return Ok(Visitor { user, rules: Some(rules) });
        }
        let Need::Repository(name, right) = need else {
            return Err(Error::new(Code::Denied, "this user may not do that"));
        };
        let text = format!("this user may not {} {}: its access file has no such line", right.text(), name.as_str());
        Err(Error::new(Code::Denied, text))
    }

    /// Answers `/token`: a token with what of `scopes` whoever asks may do. Nothing where there are no tokens.
    ///
    /// # Errors
    /// `UNAUTHORIZED` (401) for a wrong password, `UNSUPPORTED` (400) for another service or too many scopes.
    pub(crate) async fn issue(
        &self,
        headers: &HeaderMap,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<Option<String>> {
        let Some(access) = &self.access else { return Ok(None) };
        let bad = |text| Error::new(Code::Unsupported, text).with_status(http::StatusCode::BAD_REQUEST);
        if service.is_some_and(|service| service != SERVICE) {
            return Err(bad("tokens are issued for the service dhow-registry alone"));
        }
        let scopes = token::parse_scopes(scopes).ok_or_else(|| bad("a token is for 32 repositories at most"))?;
        let user = match (headers.get(header::AUTHORIZATION), &self.passwords) {
            (None, _) => None,
            (Some(sent), Some(passwords)) => Some(passwords.verify(sent).await.map_err(with_basic_challenge)?),
            (Some(_), None) => {
                let error = Error::new(Code::Unauthorized, "this registry has no users to log in as");
                return Err(with_basic_challenge(error));
            }
        };
        let rules = access.rules();
        let granted = scopes.into_iter().map(|(name, rights)| {
            let rights = rights.into_iter().filter(|right| rules.allow(user.as_deref(), &name, *right));
            let actions = rights.map(|right| right.text().to_owned()).collect();
            Scope { kind: "repository".to_owned(), name: name.as_str().to_owned(), actions }
        });
        let claims = Claims::new(user.as_deref(), granted.filter(|scope| !scope.actions.is_empty()).collect());
        let token = access.tokens.sign(&claims).map_err(Error::io("sign a token"))?;
        let answer = json!({"token": token, "access_token": token, "expires_in": token::LIFE.as_secs()});
        Ok(Some(answer.to_string()))
    }
}

impl Access {
    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where to get a token, and for what (RFC 6750, 3).
    fn challenge(&self, headers: &HeaderMap, need: Need<'_>, error: &str) -> String {
        let url = match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => {
                let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
                // Goes back to whoever sent it, and into quotes.
                let safe = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
                format!("{}://{}", self.scheme, host.chars().filter(|c| safe(*c)).collect::<String>())
            }
        };
        let mut text = format!("Bearer realm=\"{url}/token\",service=\"{SERVICE}\"");
        if let Need::Repository(name, right) = need {
            let actions = match right {
                Right::Pull => "pull",
                // Clients look before they push and before they delete.
                Right::Push => "pull,push",
                Right::Delete => "pull,delete",
            };
            text.push_str(&format!(",scope=\"repository:{}:{actions}\"", name.as_str()));
        }
        if !error.is_empty() {
            text.push_str(&format!(",error=\"{error}\""));
        }
        text
    }
}

fn bearer(sent: &HeaderValue) -> Option<&str> {
    let (scheme, token) = sent.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn with_basic_challenge(error: Error) -> Error {
    match error.code() {
        Code::Unauthorized => {
            let challenge = HeaderValue::from_static("Basic realm=\"registry\", charset=\"UTF-8\"");
            error.with_header(header::WWW_AUTHENTICATE, challenge)
        }
        _ => error,
    }
}
