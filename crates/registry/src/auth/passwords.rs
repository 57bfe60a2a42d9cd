//! Names and passwords: HTTP Basic (RFC 7617) against a file of `name:bcrypt` lines, as `htpasswd -B` writes it.
//!
//! The invariant: a name is told only for its password, and a wrong one costs the same time whether the name exists. bcrypt is slow on purpose, so what was verified is remembered for a while, under a digest with a key that
//! no other process knows, and not many verifications run at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::error::{Code, Error, Result, StartError};

/// Verifications at once, and requests that may wait for theirs.
const WORKING: usize = 2;
const WAITING: usize = 64;
/// How long a verified password is remembered, and how many are.
const REMEMBER: Duration = Duration::from_secs(600);
const REMEMBERED_MAX: usize = 4096;
/// Highest bcrypt cost accepted: beyond it one verification takes seconds.
const COST_MAX: u32 = 15;
/// What an unknown user's password is compared with: a hash of cost 10 that belongs to nobody.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuJ2dhyXbVfCdKm3PzJTCtVPjhj0D7F9K";

/// The users and their passwords.
pub(crate) struct Passwords {
    path: PathBuf,
    users: RwLock<Arc<HashMap<String, String>>>,
    verified: Mutex<HashMap<[u8; 32], Instant>>,
    key: [u8; 32],
    working: Semaphore,
    waiting: Semaphore,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Passwords {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// [`StartError::File`]; [`StartError::Passwords`] for a line that is not `name:bcrypt`.
    pub(crate) fn read(path: &Path) -> std::result::Result<Self, StartError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|e| StartError::File {
            action: "make a key for",
            path: path.display().to_string(),
            source: std::io::Error::other(e),
            hint: "the system gives no random numbers",
        })?;
        Ok(Self {
            path: path.to_owned(),
            users: RwLock::new(Arc::new(users(path)?)),
            verified: Mutex::default(),
            key,
            working: Semaphore::new(WORKING),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// Reads the file again; what was verified before is forgotten. Blocks.
    ///
    /// # Errors
    /// As [`Passwords::read`]; the users are then those they were.
    pub(crate) fn reload(&self) -> std::result::Result<(), StartError> {
        let users = users(&self.path)?;
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// The name of the user whose name and password a request carries.
    ///
    /// # Errors
    /// `UNAUTHORIZED` (401) without a challenge, which is the caller's to choose; `TOOMANYREQUESTS` (429) when too many
    /// wait.
    pub(super) async fn verify(&self, sent: &HeaderValue) -> Result<String> {
        let Some((name, password)) = sent.to_str().ok().and_then(basic) else {
            return Err(Error::new(Code::Unauthorized, "Authorization must be Basic with a name and a password"));
        };
        let mark = self.mark(&name, &password);
        if self.remembers(&mark) {
            return Ok(name);
        }
        let busy = || Error::new(Code::TooManyRequests, "too many logins at once: try again in a moment");
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let _working = self.working.acquire().await.map_err(|_| busy())?;
        // Another request with the same password may have been before this one.
        if self.remembers(&mark) {
            return Ok(name);
        }
        let user = name.clone();
        let users = Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner));
        let right = tokio::task::spawn_blocking(move || {
            let known = users.get(&user);
            let matches = bcrypt::verify(password, known.map_or(NOBODY, String::as_str)).unwrap_or(false);
            matches && known.is_some()
        });
        if !right.await.map_err(|e| Error::io("verify a password")(std::io::Error::other(e)))? {
            return Err(Error::new(Code::Unauthorized, "the name or the password is wrong"));
        }
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED_MAX {
            verified.clear();
        }
        verified.insert(mark, Instant::now());
        Ok(name)
    }

    fn mark(&self, name: &str, password: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(self.key);
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(password);
        hash.finalize().into()
    }

    fn remembers(&self, mark: &[u8; 32]) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.get(mark).is_some_and(|since| since.elapsed() < REMEMBER)
    }
}

fn basic(sent: &str) -> Option<(String, Vec<u8>)> {
    let (scheme, text) = sent.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8(bytes[..colon].to_vec()).ok()?, bytes[colon + 1..].to_vec()))
}

fn users(path: &Path) -> std::result::Result<HashMap<String, String>, StartError> {
    let text = std::fs::read_to_string(path).map_err(|source| StartError::File {
        action: "read",
        path: path.display().to_string(),
        source,
        hint: "give a file that `htpasswd -B` made with --htpasswd",
    })?;
    let mut users = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = |reason| StartError::Passwords { path: path.display().to_string(), line: at + 1, reason };
        let (name, hash) = line.split_once(':').ok_or_else(|| bad("it is not name:hash"))?;
        let parts: bcrypt::HashParts =
            hash.parse().map_err(|_| bad("the hash is not bcrypt's, which is the only one accepted"))?;
        if parts.get_cost() > COST_MAX {
            return Err(bad("the cost of the hash is above 15; one login would take seconds"));
        }
        if name.is_empty() || users.insert(name.to_owned(), hash.to_owned()).is_some() {
            return Err(bad("the name is empty, or there twice"));
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> HeaderValue {
        let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
        HeaderValue::from_str(&text).unwrap()
    }

    #[tokio::test]
    async fn the_file_decides() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        let line = |name: &str, password: &str| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap());
        std::fs::write(&path, format!("# people\n\n{}", line("ann", "se:cret"))).unwrap();
        let passwords = Passwords::read(&path).unwrap();
        for _ in 0..2 {
            assert_eq!(passwords.verify(&header("ann:se:cret")).await.unwrap(), "ann");
            for wrong in ["ann:other", "bob:se:cret", "ann:", ":", "x"] {
                let error = passwords.verify(&header(wrong)).await.unwrap_err();
                assert_eq!(error.code(), Code::Unauthorized, "{wrong}");
            }
        }
        let bearer = HeaderValue::from_static("Bearer x");
        assert_eq!(passwords.verify(&bearer).await.unwrap_err().code(), Code::Unauthorized);

        std::fs::write(&path, line("bob", "new")).unwrap();
        passwords.reload().unwrap();
        assert!(passwords.verify(&header("ann:se:cret")).await.is_err(), "remembered over a reload");
        passwords.verify(&header("bob:new")).await.unwrap();
        for bad in ["ann", "ann:{SHA}xyz", "ann:$apr1$a$b", ":x"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(passwords.reload(), Err(StartError::Passwords { line: 1, .. })), "{bad}");
        }
        passwords.verify(&header("bob:new")).await.unwrap();
    }

    #[test]
    fn nobody_costs_a_verification() {
        assert!(NOBODY.parse::<bcrypt::HashParts>().is_ok());
        assert!(!bcrypt::verify("x", NOBODY).expect("a hash that can be compared with"));
    }
}
