//! Addresses of git repositories, as ADD takes them: the remote, what is checked out, and what of it is used. Forms are
//! those of URLs with a fragment (`#ref:directory`) or a query (`?ref=…&subdir=…`), and of `user@host:path`.

use std::collections::BTreeMap;

use super::error::Problem;

/// A repository and what of it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GitSource {
    /// Where it is fetched from.
    pub(super) remote: String,
    /// Host and path, which it is known by.
    pub(super) name: String,
    /// Branch, tag or commit; empty for the default branch.
    pub(super) reference: String,
    /// Directory in it; empty for all.
    pub(super) directory: String,
    pub(super) checksum: String,
    pub(super) keep_git_dir: Option<bool>,
    pub(super) submodules: Option<bool>,
    /// An agent is needed.
    pub(super) ssh: bool,
}

impl GitSource {
    /// Reads an address.
    pub(super) fn parse(address: &str) -> Result<Self, Problem> {
        let fail = |why: &str| Problem::Git { address: address.to_owned(), why: why.to_owned() };
        let mut source = Self::default();
        let (rest, fragment) = address.split_once('#').unwrap_or((address, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        directory.trim_matches('/').clone_into(&mut source.directory);
        reference.clone_into(&mut source.reference);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = decoded(value).ok_or_else(|| fail("a query that is not percent-encoded text"))?;
            source.query(key, value).map_err(|why| fail(&why))?;
        }
        let (scheme, rest) = match rest.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if rest.starts_with("github.com/") => ("https", rest),
            None => {
                let (host, path) = rest.split_once(':').ok_or_else(|| fail("no path behind the host"))?;
                let named = host.rsplit('@').next().unwrap_or(host);
                source.name = format!("{named}{}", super::path::clean(path));
                rest.clone_into(&mut source.remote);
                source.ssh = true;
                return source.checked().map_err(|why| fail(&why));
            }
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let named = host.rsplit('@').next().unwrap_or(host);
        if named.is_empty() {
            return Err(fail("no host"));
        }
        source.name = format!("{named}{}", super::path::clean(path));
        source.remote = format!("{scheme}://{rest}");
        source.ssh = scheme == "ssh";
        source.checked().map_err(|why| fail(&why))
    }

    fn query(&mut self, key: &str, value: String) -> Result<(), String> {
        let once = |slot: &mut String| {
            if !slot.is_empty() && *slot != value {
                return Err(format!("{key} is given twice"));
            }
            slot.clone_from(&value);
            Ok(())
        };
        match key {
            "ref" => once(&mut self.reference),
            "branch" => once(&mut self.reference).map(|()| self.reference = format!("refs/heads/{value}")),
            "tag" => once(&mut self.reference).map(|()| self.reference = format!("refs/tags/{value}")),
            "subdir" => once(&mut self.directory),
            "checksum" | "commit" => once(&mut self.checksum),
            "keep-git-dir" => flag(&value).map(|value| self.keep_git_dir = Some(value)),
            "submodules" => flag(&value).map(|value| self.submodules = Some(value)),
            _ => Err(format!("unexpected query parameter {key:?}")),
        }
    }

    fn checked(self) -> Result<Self, String> {
        // Git would take it for a flag.
        if self.reference.starts_with('-') || self.remote.starts_with('-') {
            return Err("it begins with a dash".to_owned());
        }
        if self.directory.split('/').any(|part| part == "..") {
            return Err("its directory is outside of it".to_owned());
        }
        Ok(self)
    }

    /// What every operation says of it.
    pub(super) fn attrs(&self) -> BTreeMap<String, String> {
        let mut attrs = BTreeMap::new();
        let mut attr = |name: &str, value: &str| drop(attrs.insert(name.to_owned(), value.to_owned()));
        attr("git.fullurl", &self.remote);
        attr("git.authtokensecret", "GIT_AUTH_TOKEN");
        attr("git.authheadersecret", "GIT_AUTH_HEADER");
        if self.submodules == Some(false) {
            attr("git.skipsubmodules", "true");
        }
        if self.ssh {
            attr("git.mountsshsock", "default");
        }
        attrs
    }

    /// The name of the source operation.
    pub(super) fn identifier(&self) -> String {
        let mut text = format!("git://{}", self.name);
        if !self.reference.is_empty() || !self.directory.is_empty() {
            text.extend(["#", &self.reference]);
        }
        if !self.directory.is_empty() {
            text.extend([":", &self.directory]);
        }
        text
    }
}

fn flag(value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("{value:?} is neither true nor false")),
    }
}

/// A percent-encoded file name; nothing when it is none.
pub(super) fn decoded_path(text: &str) -> Option<String> {
    let name = decoded(&text.replace('+', "%2B"))?;
    (!name.contains(['/', '\0']) && !matches!(name.as_str(), "" | "." | "..")).then_some(name)
}

/// Percent-encoded text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let value = digit()? * 16 + digit()?;
                bytes.push(u8::try_from(value).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let id = |address: &str| GitSource::parse(address).map(|source| (source.identifier(), source.remote));
        for (address, identifier, remote) in [
            ("https://h/a.git#main:x/", "git://h/a.git#main:x", "https://h/a.git"),
            ("https://u:p@h/a.git", "git://h/a.git", "https://u:p@h/a.git"),
            ("git@h:o/a.git#v1", "git://h/o/a.git#v1", "git@h:o/a.git"),
            ("github.com/o/a", "git://github.com/o/a", "https://github.com/o/a"),
            ("https://h/a.git?tag=v%31&subdir=d", "git://h/a.git#refs/tags/v1:d", "https://h/a.git"),
            ("ssh://git@h:22/a", "git://h:22/a", "ssh://git@h:22/a"),
        ] {
            assert_eq!(id(address).unwrap(), (identifier.to_owned(), remote.to_owned()), "{address}");
        }
        for address in [
            "https://h/a.git#--upload-pack=x",
            "https://h/a.git#main:../x",
            "https://h/a.git?x=1",
            "https://h/a.git?ref=%",
            "https:///a.git",
            "git@h",
            "https://h/a.git?keep-git-dir=maybe",
        ] {
            assert!(id(address).is_err(), "{address}");
        }
    }
}
