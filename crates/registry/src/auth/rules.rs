//! Who may do what in which repositories: the access file.
//!
//! ```text
//! group devs ann bob
//! allow anonymous    public/**   pull
//! allow users        **          pull
//! allow user:ann     ann/**      pull push delete
//! allow group:devs   team/*      pull push
//! ```
//!
//! The invariant: nothing is allowed but what a line allows; lines only add. `anonymous` is everybody, logged in or not,
//! `users` everybody who is logged in. In a pattern `*` stands for any characters within one component of a name, `**`
//! as a whole component for any number of components.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::error::StartError;
use crate::name::RepositoryName;

/// What can be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Right {
    /// Read blobs, manifests and lists.
    Pull,
    /// Upload blobs, write manifests and tags.
    Push,
    /// Delete blobs, manifests and tags.
    Delete,
}

impl Right {
    pub(super) const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// As in scopes of tokens and in the access file.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.text() == text)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Who {
    Everybody,
    Users,
    User(String),
    Group(String),
}

#[derive(Debug)]
struct Rule {
    who: Who,
    pattern: Vec<String>,
    rights: Vec<Right>,
}

/// The content of an access file.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    groups: HashMap<String, HashSet<String>>,
    rules: Vec<Rule>,
}

impl Rules {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// [`StartError::File`]; [`StartError::Access`] for a line that is not understood.
    pub(crate) fn read(path: &Path) -> Result<Self, StartError> {
        let text = std::fs::read_to_string(path).map_err(|source| StartError::File {
            action: "read",
            path: path.display().to_string(),
            source,
            hint: "give a file of `allow` lines with --access",
        })?;
        Self::parse(&text).map_err(|(line, reason)| StartError::Access {
            path: path.display().to_string(),
            line,
            reason,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut all = Self::default();
        let mut named = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let bad = |reason: &str| (at + 1, reason.to_owned());
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            match &words[..] {
                [] => {}
                ["group", name, members @ ..] => {
                    let members = members.iter().map(|&member| member.to_owned()).collect();
                    if all.groups.insert((*name).to_owned(), members).is_some() {
                        return Err(bad("the group is there twice"));
                    }
                }
                ["allow", who, pattern, rights @ ..] if !rights.is_empty() => {
                    let who = match (*who, who.split_once(':')) {
                        ("anonymous", _) => Who::Everybody,
                        ("users", _) => Who::Users,
                        (_, Some(("user", name))) if !name.is_empty() => Who::User(name.to_owned()),
                        (_, Some(("group", name))) => {
                            named.push((at + 1, name.to_owned()));
                            Who::Group(name.to_owned())
                        }
                        _ => return Err(bad("who is one of anonymous, users, user:NAME, group:NAME")),
                    };
                    let pattern: Vec<String> = pattern.split('/').map(str::to_owned).collect();
                    if !pattern.iter().all(|part| valid_part(part)) {
                        return Err(bad(
                            "the pattern is not one of repositories: components of names separated by '/', in which '*' \
                             is anything, or '**' alone",
                        ));
                    }
                    let rights = rights.iter().map(|right| Right::parse(right)).collect::<Option<Vec<_>>>();
                    let rights = rights.ok_or_else(|| bad("rights are pull, push and delete"))?;
                    all.rules.push(Rule { who, pattern, rights });
                }
                _ => return Err(bad("a line is 'group NAME USER…' or 'allow WHO PATTERN RIGHT…'")),
            }
        }
        match named.into_iter().find(|(_, name)| !all.groups.contains_key(name)) {
            Some((line, name)) => Err((line, format!("there is no group {name}"))),
            None => Ok(all),
        }
    }

    /// Whether a user, or whoever did not log in, has a right in a repository.
    pub(crate) fn allow(&self, user: Option<&str>, repository: &RepositoryName, right: Right) -> bool {
        let parts: Vec<&str> = repository.as_str().split('/').collect();
        self.rules.iter().any(|rule| {
            let meant = match (&rule.who, user) {
                (Who::Everybody, _) | (Who::Users, Some(_)) => true,
                (Who::User(name), Some(user)) => name == user,
                (Who::Group(name), Some(user)) => self.groups.get(name).is_some_and(|group| group.contains(user)),
                (Who::Users | Who::User(_) | Who::Group(_), None) => false,
            };
            meant && rule.rights.contains(&right) && matches(&rule.pattern, &parts)
        })
    }
}

fn valid_part(part: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-*".contains(&c);
    part == "**" || (!part.is_empty() && !part.contains("**") && part.bytes().all(allowed))
}

/// Whether a name's components match; `**` takes none or more.
fn matches(pattern: &[String], parts: &[&str]) -> bool {
    // Backtracking to the last `**` alone suffices, so that time is bounded by the product of the lengths.
    wild(
        pattern.len(),
        parts.len(),
        |at| pattern[at] == "**",
        |at, to| glob(pattern[at].as_bytes(), parts[to].as_bytes()),
    )
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    wild(pattern.len(), text.len(), |at| pattern[at] == b'*', |at, to| pattern[at] == text[to])
}

/// Matches a sequence against a pattern of which some elements take any number of elements.
fn wild(pattern: usize, text: usize, many: impl Fn(usize) -> bool, one: impl Fn(usize, usize) -> bool) -> bool {
    let (mut at, mut to, mut back) = (0, 0, None);
    loop {
        if at < pattern && many(at) {
            back = Some((at, to));
            at += 1;
        } else if at < pattern && to < text && one(at, to) {
            at += 1;
            to += 1;
        } else if at == pattern && to == text {
            return true;
        } else if let Some((star, from)) = back.filter(|(_, from)| *from < text) {
            back = Some((star, from + 1));
            at = star + 1;
            to = from + 1;
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        RepositoryName::parse(text).unwrap()
    }

    #[test]
    fn lines_add_and_nothing_else_is_allowed() {
        let rules = Rules::parse(
            "# access\n\ngroup devs ann bob # two\nallow anonymous public/** pull\nallow users shared pull push\n\
             allow user:ann ann/** pull push delete\nallow group:devs team/* pull push\n",
        )
        .unwrap();
        for (user, repository, right, expected) in [
            (None, "public/a", Right::Pull, true),
            (None, "public/a/b", Right::Pull, true),
            (None, "public", Right::Pull, true),
            (None, "publicity", Right::Pull, false),
            (None, "public/a", Right::Push, false),
            (Some("eve"), "public/a", Right::Pull, true),
            (None, "shared", Right::Pull, false),
            (Some("eve"), "shared", Right::Push, true),
            (Some("eve"), "shared", Right::Delete, false),
            (Some("ann"), "ann/x/y", Right::Delete, true),
            (Some("bob"), "ann/x", Right::Pull, false),
            (Some("bob"), "team/app", Right::Push, true),
            (Some("bob"), "team/app/sub", Right::Push, false),
            (Some("eve"), "team/app", Right::Pull, false),
            (None, "team/app", Right::Pull, false),
        ] {
            assert_eq!(rules.allow(user, &name(repository), right), expected, "{user:?} {repository} {right:?}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("**", "a/b/c", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/b/c", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("ci-*", "ci-1", true),
            ("ci-*", "cd-1", false),
            ("*-x-*", "a-x-b", true),
            ("**/app/**/v*", "x/app/app/y/v1", true),
            ("a", "b", false),
        ] {
            let parts: Vec<&str> = text.split('/').collect();
            let pattern: Vec<String> = pattern.split('/').map(str::to_owned).collect();
            assert_eq!(matches(&pattern, &parts), expected, "{pattern:?} {text}");
        }
        let pattern = vec!["**".to_owned(), "*a*a*a*b".to_owned()];
        let name = format!("{}c", "a".repeat(254));
        assert!(!matches(&pattern, &[name.as_str()]));
    }

    #[test]
    fn lines_that_are_not_understood() {
        for (text, line) in [
            ("allow", 1),
            ("allow users a", 1),
            ("\nallow users a sing", 2),
            ("allow nobody a pull", 1),
            ("allow user: a pull", 1),
            ("allow users A pull", 1),
            ("allow users a//b pull", 1),
            ("allow users a/b**/c pull", 1),
            ("allow users ../a/%2f pull", 1),
            ("deny users a pull", 1),
            ("group a x\ngroup a y", 2),
            ("allow users a pull\nallow group:none a pull", 2),
        ] {
            assert_eq!(Rules::parse(text).unwrap_err().0, line, "{text}");
        }
    }
}
