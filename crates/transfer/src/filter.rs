//! Which files are taken: those that an include pattern matches, if there are any, and no exclude pattern does. The last
//! pattern that matches a path or a directory above it decides.

use dockerfile::ignore::Ignore;
use sys::path::Root;

use crate::{Error, Result, follow};

/// Patterns of one transfer.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Option<Ignore>,
    exclude: Option<Ignore>,
    /// What everything that an include pattern matches begins with: whole names without wildcards.
    begins: Vec<String>,
    /// Nothing below what is taken is left out.
    whole: bool,
}

impl Filter {
    /// Reads patterns; `links` are paths that are taken with everything that links in them lead to.
    ///
    /// # Errors
    /// [`Error::Pattern`]; [`Error::Io`] where links cannot be read.
    pub fn new(root: &Root, include: &[String], exclude: &[String], links: &[String]) -> Result<Self> {
        let mut include = include.to_vec();
        if !links.is_empty() {
            include.extend(follow(root, links)?);
        }
        // The top itself is everything.
        if include.iter().any(|pattern| matches!(pattern.as_str(), "" | "." | "/")) {
            include.clear();
        }
        let begins = include.iter().map(|pattern| pattern.trim()).filter(|pattern| !pattern.starts_with('!'));
        Ok(Self {
            whole: exclude.is_empty() && !include.iter().any(|pattern| pattern.trim().starts_with('!')),
            begins: begins.map(beginning).collect(),
            include: read("include", &include)?,
            exclude: read("exclude", exclude)?,
        })
    }

    /// Whether everything below a directory that is taken is taken.
    #[must_use]
    pub fn takes_whole(&self) -> bool {
        self.whole
    }

    /// Whether a path is taken.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.excludes(path))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.excludes(path))
    }

    /// Whether something below a directory may be taken.
    #[must_use]
    pub fn reaches(&self, directory: &str) -> bool {
        let within = |outer: &str, inner: &str| {
            outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let included = self.include.is_none()
            || self.begins.iter().any(|begin| within(begin, directory) || within(directory, begin));
        included && !self.exclude.as_ref().is_some_and(|exclude| exclude.skips(directory))
    }
}

fn read(kind: &'static str, patterns: &[String]) -> Result<Option<Ignore>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let invalid = |e: dockerfile::ignore::IgnoreError| Error::Pattern { kind, reason: e.to_string() };
    Ignore::patterns(patterns.iter().map(String::as_str)).map(Some).map_err(invalid)
}

/// The names a pattern begins with, up to the first that is no plain name.
fn beginning(pattern: &str) -> String {
    // What `..` takes back is left to the pattern itself.
    if pattern.split('/').any(|name| name == "..") {
        return String::new();
    }
    let names = pattern.split('/').filter(|name| !name.is_empty() && *name != ".");
    names.take_while(|name| !name.contains(['*', '?', '[', '\\'])).collect::<Vec<_>>().join("/")
}
