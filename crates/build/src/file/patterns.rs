//! Which members of a directory a copy takes: those that an include pattern matches, if there are any, and no exclude
//! pattern does. Patterns are those of `.dockerignore`, relative to the directory that is copied; the last one that
//! matches a path or a directory above it decides.

use dockerfile::ignore::Ignore;

use super::error::FileError;

/// The patterns of one copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    include: Option<Ignore>,
    exclude: Option<Ignore>,
    /// What all that an include pattern matches begins with: whole names without wildcards.
    begins: Vec<String>,
}

impl Patterns {
    /// Reads them.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, FileError> {
        let begins = include.iter().map(|pattern| pattern.trim()).filter(|pattern| !pattern.starts_with('!'));
        Ok(Self {
            begins: begins.map(beginning).collect(),
            include: read("include", include)?,
            exclude: read("exclude", exclude)?,
        })
    }

    /// Whether a member is taken, by its path from the directory that is copied.
    pub(super) fn takes(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.excludes(path))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.excludes(path))
    }

    /// Whether something below a directory may be taken that is not taken itself.
    pub(super) fn reaches(&self, directory: &str) -> bool {
        let within = |outer: &str, inner: &str| {
            outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let included = self.include.is_none()
            || self.begins.iter().any(|begin| within(begin, directory) || within(directory, begin));
        included && !self.exclude.as_ref().is_some_and(|exclude| exclude.skips(directory))
    }
}

fn read(kind: &'static str, patterns: &[String]) -> Result<Option<Ignore>, FileError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let invalid = |e: dockerfile::ignore::IgnoreError| FileError::Patterns {
        kind,
        patterns: patterns.to_vec(),
        reason: e.to_string(),
    };
    Ignore::patterns(patterns.iter().map(String::as_str)).map(Some).map_err(invalid)
}

/// The names a pattern begins with, up to the first that is no plain name.
fn beginning(pattern: &str) -> String {
    let plain = |name: &&str| !name.contains(['*', '?', '[', '\\']) && *name != "..";
    let names = pattern.split('/').filter(|name| !name.is_empty() && *name != ".");
    // What `..` takes back is left to the pattern itself.
    if pattern.split('/').any(|name| name == "..") {
        return String::new();
    }
    names.take_while(plain).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Patterns::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn both_kinds_decide() {
        let found = patterns(&["src/*/a", "docs"], &["docs/x", "!docs/x/y"]);
        for (path, taken) in
            [("src/b/a", true), ("src/b", false), ("docs", true), ("docs/x", false), ("docs/x/y", true)]
        {
            assert_eq!(found.takes(path), taken, "{path}");
        }
        for (path, reached) in [("src", true), ("src/b", true), ("sr", false), ("docs/x", true), ("other", false)] {
            assert_eq!(found.reaches(path), reached, "{path}");
        }
        assert!(patterns(&["a/../b"], &[]).reaches("b"));
        assert!(patterns(&[], &["#a"]).takes("b") && !patterns(&[], &["#a"]).takes("#a"));
        assert!(
            Patterns::new(&[], &["[".to_owned()]).unwrap_err().to_string().starts_with("invalid excludepatterns: [[]")
        );
    }
}
