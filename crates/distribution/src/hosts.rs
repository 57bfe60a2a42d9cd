//! What the administrator says about single registries: containerd's `hosts.toml`, found in a directory of the
//! registry's name, or in `_default` for registries without a directory.
//!
//! Read anew for every operation, so that a change needs no restart. A file that cannot be followed to the letter is an
//! error with its line and key: a rule that is passed over would send content or secrets where nobody meant them to go.
//! The file of a host that another file names is not looked at, so files cannot lead in a circle.

use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use types::GoDuration;

use crate::error::Error;
use crate::origin::Url;

/// Longest file.
const FILE_MAX: u64 = 256 << 10;
/// Most hosts of a registry.
const HOSTS_MAX: usize = 64;
/// Name of the directory for registries without their own.
const DEFAULT: &str = "_default";
/// Keys of a host, at the top of the file for the server.
const KEYS: [&str; 7] = ["capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"];
/// Headers that belong to the exchange itself.
const RESERVED: [HeaderName; 6] =
    [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TE, header::UPGRADE];

/// How connections to one host are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    /// Authorities besides the system's.
    pub(crate) authorities: Vec<PathBuf>,
    /// Certificate and key to identify ourselves with; one file has both when there is no second.
    pub(crate) identity: Option<(PathBuf, Option<PathBuf>)>,
    /// Whether certificates go unchecked; unset leaves it to `insecure-registries`.
    pub(crate) skip_verify: Option<bool>,
    /// Time for name resolution, connection and TLS, in place of the client's own limit.
    pub(crate) dial_timeout: Option<Duration>,
}

impl Site {
    /// How hosts are connected to that this one refers to: its authorities vouch for them, too, since a site's token
    /// server and storage commonly have certificates of the same authority.
    pub(crate) fn referred(&self) -> Site {
        Site { authorities: self.authorities.clone(), ..Site::default() }
    }
}

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Content by its digest.
    pub(crate) pull: bool,
    /// What a tag stands for.
    pub(crate) resolve: bool,
    /// To take content.
    pub(crate) push: bool,
}

impl Capabilities {
    /// Everything.
    pub(crate) const ALL: Capabilities = Capabilities { pull: true, resolve: true, push: true };
    /// What a mirror of `registry-mirrors` is for.
    pub(crate) const READ: Capabilities = Capabilities { pull: true, resolve: true, push: false };
}

/// One host of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Where it is, with the path before repository names as target; nothing is the registry's own address.
    pub(crate) url: Option<Url>,
    pub(crate) capabilities: Capabilities,
    pub(crate) site: Site,
    /// Sent to this host alone.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// The rules for one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// Asked first, in this order.
    pub(crate) hosts: Vec<Host>,
    /// Asked last.
    pub(crate) server: Host,
}

/// Names of the directory of a registry: `host:port`, and `host_port_` for file systems without colons.
pub(crate) fn directories(authority: &str) -> Vec<String> {
    // A host name from a redirect must not walk the file system.
    if authority.is_empty() || authority.starts_with('.') || authority.contains(['/', '\0']) {
        return Vec::new();
    }
    let mut names = vec![authority.to_owned()];
    if let Some((host, port)) = authority.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    names
}

/// Finds the rules of a registry in the first of `dirs` that has some. Reads files: call it off the async threads.
///
/// # Errors
/// [`Error::Hosts`] when the file is there and cannot be followed.
pub(crate) fn find(dirs: &[PathBuf], authority: &str) -> Result<Option<Hosts>, Error> {
    let own: Vec<PathBuf> =
        directories(authority).iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).collect();
    for dir in &own {
        if let Some(hosts) = read(dir)? {
            return Ok(Some(hosts));
        }
    }
    // A directory with nothing but certificates says that nothing else is special about the registry.
    if own.iter().any(|dir| dir.is_dir()) {
        return Ok(None);
    }
    for dir in dirs {
        if let Some(hosts) = read(&dir.join(DEFAULT))? {
            return Ok(Some(hosts));
        }
    }
    Ok(None)
}

fn read(dir: &Path) -> Result<Option<Hosts>, Error> {
    let path = dir.join("hosts.toml");
    let failed = |why: String| Error::Hosts { path: path.display().to_string(), place: String::new(), why };
    let none = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let about = match std::fs::metadata(&path) {
        Err(e) if none(&e) => return Ok(None),
        other => other.map_err(|e| failed(e.to_string()))?,
    };
    // Opening a pipe would wait for its other end.
    if !about.is_file() {
        return Err(failed("it is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = match std::fs::File::open(&path) {
        Err(e) if none(&e) => return Ok(None),
        other => other.map_err(|e| failed(e.to_string()))?,
    };
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(failed(format!("it has more than {} KiB", FILE_MAX >> 10)));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count();
        failed(format!("line {line} is not UTF-8"))
    })?;
    parse(&path, &text).map(Some)
}

/// Reads the text of a file.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Hosts, Error> {
    let file = File { path, text };
    let table = DeTable::parse(text).map_err(|e| file.error(e.span().unwrap_or_default(), "", e.message()))?;
    let table = table.get_ref();
    let mut server = Host { url: None, capabilities: Capabilities::ALL, site: Site::default(), headers: Vec::new() };
    let mut found = Vec::new();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "server" => {}
            "host" => {
                let hosts = value.get_ref().as_table();
                let hosts = hosts.ok_or_else(|| file.error(value.span(), "host", "write [host.\"https://NAME\"]"))?;
                found.extend(hosts.iter());
            }
            name if KEYS.contains(&name) => {}
            name => return Err(file.unknown(key, name, &["server", "host"])),
        }
    }
    file.fill(&mut server, table, "")?;
    if let Some(value) = table.iter().find(|(key, _)| key.get_ref() == "server").map(|(_, value)| value) {
        let text = file.text_of(value, "server")?;
        if !text.is_empty() {
            server.url = Some(file.address(value.span(), "server", text, file.keeps_path(table)?)?);
        }
    }
    if found.len() > HOSTS_MAX {
        let last = found.len() - 1;
        return Err(file.error(found[last].0.span(), "host", &format!("there are more than {HOSTS_MAX} hosts")));
    }
    // The order of the file is the order of trying.
    found.sort_by_key(|(key, _)| key.span().start);
    let hosts = found.into_iter().map(|(key, value)| file.host(key, value)).collect::<Result<_, _>>()?;
    Ok(Hosts { hosts, server })
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl File<'_> {
    fn error(&self, span: Range<usize>, key: &str, why: &str) -> Error {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        let place = if key.is_empty() { format!(", line {line}") } else { format!(", line {line}, key {key}") };
        Error::Hosts { path: self.path.display().to_string(), place, why: why.to_owned() }
    }

    fn unknown(&self, key: &Spanned<DeString<'_>>, name: &str, besides: &[&str]) -> Error {
        let known = besides.iter().chain(&KEYS).copied().collect::<Vec<_>>().join(", ");
        let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
        self.error(key.span(), &shown, &format!("it is not known; there are {known}"))
    }

    fn host(&self, key: &Spanned<DeString<'_>>, value: &Value<'_>) -> Result<Host, Error> {
        let name = key.get_ref().as_ref();
        let place = format!("host.\"{}\"", name.chars().filter(|c| !c.is_control()).take(200).collect::<String>());
        let table = value.get_ref().as_table().ok_or_else(|| self.error(value.span(), &place, "it is not a table"))?;
        if let Some((key, _)) = table.iter().find(|(key, _)| !KEYS.contains(&key.get_ref().as_ref())) {
            return Err(self.unknown(key, &format!("{place}.{}", key.get_ref()), &[]));
        }
        let url = Some(self.address(key.span(), &place, name, self.keeps_path(table)?)?);
        let mut host = Host { url, capabilities: Capabilities::ALL, site: Site::default(), headers: Vec::new() };
        self.fill(&mut host, table, &format!("{place}."))?;
        Ok(host)
    }

    /// Reads the keys a host and the server have in common.
    fn fill(&self, host: &mut Host, table: &DeTable<'_>, place: &str) -> Result<(), Error> {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let place = format!("{place}{name}");
            match name {
                "capabilities" => host.capabilities = self.capabilities(value, &place)?,
                "ca" => host.site.authorities = self.paths(value, &place)?,
                "client" => host.site.identity = self.identity(value, &place)?,
                "skip_verify" => host.site.skip_verify = Some(self.switch(value, &place)?),
                "header" => host.headers = self.headers(value, &place)?,
                "dial_timeout" => host.site.dial_timeout = self.duration(value, &place)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn keeps_path(&self, table: &DeTable<'_>) -> Result<bool, Error> {
        let found = table.iter().find(|(key, _)| key.get_ref() == "override_path");
        found.map_or(Ok(false), |(_, value)| self.switch(value, "override_path"))
    }

    /// A host's address. Without scheme TLS is meant; `/v2` is added unless the path is to stay as it is.
    fn address(&self, span: Range<usize>, key: &str, text: &str, keeps_path: bool) -> Result<Url, Error> {
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let why = "it is not an http or https address without user, query and fragment";
        let url = Url::parse(&full).filter(|_| !full.contains(['?', '#']));
        let mut url = url.ok_or_else(|| self.error(span, key, why))?;
        let path = url.target.trim_end_matches('/');
        url.target = if keeps_path || path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
        Ok(url)
    }

    fn text_of<'v>(&self, value: &'v Value<'_>, key: &str) -> Result<&'v str, Error> {
        value.get_ref().as_str().ok_or_else(|| self.error(value.span(), key, "it is not a text in quotes"))
    }

    fn switch(&self, value: &Value<'_>, key: &str) -> Result<bool, Error> {
        value.get_ref().as_bool().ok_or_else(|| self.error(value.span(), key, "it is neither true nor false"))
    }

    /// A text, or an array of texts.
    fn texts<'v>(&self, value: &'v Value<'_>, key: &str) -> Result<Vec<&'v str>, Error> {
        if let Some(one) = value.get_ref().as_str() {
            return Ok(vec![one]);
        }
        let several = value.get_ref().as_array();
        let several =
            several.ok_or_else(|| self.error(value.span(), key, "it is neither a text nor an array of texts"))?;
        several.iter().map(|text| self.text_of(text, key)).collect()
    }

    fn capabilities(&self, value: &Value<'_>, key: &str) -> Result<Capabilities, Error> {
        let mut found = Capabilities { pull: false, resolve: false, push: false };
        let words = self.texts(value, key)?;
        if words.is_empty() {
            return Ok(Capabilities::ALL);
        }
        for word in words {
            match word.to_ascii_lowercase().as_str() {
                "pull" => found.pull = true,
                "resolve" => found.resolve = true,
                "push" => found.push = true,
                // Newer releases of containerd have it; lists of referrers are asked for where tags are.
                "referrers" => {}
                _ => return Err(self.error(value.span(), key, "the words are pull, resolve and push")),
            }
        }
        Ok(found)
    }

    fn path(&self, text: &str) -> PathBuf {
        // An absolute path replaces what it is joined to.
        self.path.parent().unwrap_or(self.path).join(text)
    }

    fn paths(&self, value: &Value<'_>, key: &str) -> Result<Vec<PathBuf>, Error> {
        Ok(self.texts(value, key)?.into_iter().map(|text| self.path(text)).collect())
    }

    /// `"both.pem"`, `["both.pem"]`, `[["client.cert", "client.key"]]`.
    fn identity(&self, value: &Value<'_>, key: &str) -> Result<Option<(PathBuf, Option<PathBuf>)>, Error> {
        let many = || self.error(value.span(), key, "give one certificate with its key: [[\"CERT\", \"KEY\"]]");
        if value.get_ref().as_str().is_some() {
            return Ok(self.paths(value, key)?.pop().map(|path| (path, None)));
        }
        let entries = value.get_ref().as_array().ok_or_else(many)?;
        let (Some(entry), None) = (entries.first(), entries.get(1)) else {
            return if entries.is_empty() { Ok(None) } else { Err(many()) };
        };
        match self.texts(entry, key)?.as_slice() {
            [both] | [both, ""] => Ok(Some((self.path(both), None))),
            [cert, private] => Ok(Some((self.path(cert), Some(self.path(private))))),
            _ => Err(many()),
        }
    }

    fn headers(&self, value: &Value<'_>, key: &str) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
        let table = value.get_ref().as_table();
        let table = table.ok_or_else(|| self.error(value.span(), key, "it is not a table of names and values"))?;
        let mut out = Vec::new();
        for (name, value) in table {
            let place = format!("{key}.{}", name.get_ref().chars().filter(|c| !c.is_control()).collect::<String>());
            let bad = |why: &str| self.error(value.span(), &place, why);
            let parsed = HeaderName::from_bytes(name.get_ref().as_bytes());
            let name = parsed.map_err(|_| bad("it is not the name of a header"))?;
            if RESERVED.contains(&name) {
                return Err(bad("this header cannot be set"));
            }
            for text in self.texts(value, &place)? {
                let mut value = HeaderValue::from_str(text).map_err(|_| bad("the value is not printable ASCII"))?;
                value.set_sensitive(true);
                out.push((name.clone(), value));
            }
        }
        Ok(out)
    }

    fn duration(&self, value: &Value<'_>, key: &str) -> Result<Option<Duration>, Error> {
        let text = self.text_of(value, key)?;
        let parsed = text.parse::<GoDuration>().ok().filter(|d| d.nanos() >= 0);
        let duration = parsed.ok_or_else(|| self.error(value.span(), key, "it is not a duration as 5s or 1m30s"))?;
        Ok(Some(duration.to_std()).filter(|d| !d.is_zero()))
    }
}

#[cfg(test)]
mod tests;
