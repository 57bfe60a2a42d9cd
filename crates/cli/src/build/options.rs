//! Flags as what the daemon is asked: attributes of the front end, caches, privileges.

use std::collections::HashMap;

use buildkit::wire::control::{CacheOptions, CacheOptionsEntry};

use super::csv;
use crate::{Error, Result, config::ConfigFile, flags::Parsed};

/// What the daemon is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) attrs: HashMap<String, String>,
    pub(super) entitlements: Vec<String>,
    pub(super) cache: CacheOptions,
    /// Names whose address is the daemon's host, to be asked for.
    pub(super) gateways: Vec<String>,
    pub(super) call: Call,
}

/// What to do with the Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Call {
    /// Build it.
    #[default]
    Build,
    /// Ask the front end something about it: the request, and whether JSON is wanted.
    Ask(&'static str, bool),
}

impl Options {
    /// Reads the flags.
    pub(super) fn read(parsed: &Parsed, config: &ConfigFile, daemon: &str) -> Result<Self> {
        let mut options = Self { call: call(parsed)?, ..Self::default() };
        let mut attr = |key: &str, value: &str| {
            if !value.is_empty() {
                options.attrs.insert(key.to_owned(), value.to_owned());
            }
        };
        attr("target", parsed.text("target"));
        attr("cgroup-parent", parsed.text("cgroup-parent"));
        attr("platform", &parsed.list("platform").collect::<Vec<_>>().join(","));
        attr("image-resolve-mode", if parsed.on("pull") { "pull" } else { "" });
        attr("dhow.explain", if parsed.on("explain") { "true" } else { "" });
        let size = parsed.bytes("shm-size");
        attr("shm-size", &if size > 0 { size.to_string() } else { String::new() });
        attr("ulimit", &parsed.list("ulimit").map(ulimit).collect::<Result<Vec<_>>>()?.join(","));
        match parsed.text("network") {
            "" | "default" => {}
            "none" => attr("force-network-mode", "none"),
            "host" => {
                attr("force-network-mode", "host");
                options.entitlements.push("network.host".to_owned());
            }
            other => {
                return Err(Error::invalid(format!(
                    "network mode {other:?} is not supported for builds: default, none or host"
                )));
            }
        }
        options.entitlements.extend(parsed.list("allow").map(str::to_owned));
        options.hosts(parsed)?;
        options.no_cache(parsed)?;
        options.variables(parsed, config, daemon);
        for label in parsed.list("label") {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            options.attrs.insert(format!("label:{key}"), value.to_owned());
        }
        options.attestations(parsed)?;
        options.caches(parsed)?;
        if let Call::Ask(request, _) = &options.call {
            options.attrs.insert("requestid".to_owned(), (*request).to_owned());
            options.attrs.insert("frontend.caps".to_owned(), "moby.buildkit.frontend.subrequests+forward".to_owned());
        }
        Ok(options)
    }

    fn hosts(&mut self, parsed: &Parsed) -> Result<()> {
        let mut hosts = Vec::new();
        for text in parsed.list("add-host").flat_map(|text| text.split(',')).filter(|text| !text.is_empty()) {
            // An address may have colons, a name has none.
            let (name, address) = text
                .split_once('=')
                .or_else(|| text.split_once(':'))
                .filter(|(name, address)| !name.is_empty() && !address.is_empty())
                .ok_or_else(|| Error::invalid(format!("bad format for add-host: {text:?}")))?;
            let address = address.trim_start_matches('[').trim_end_matches(']');
            if address == "host-gateway" {
                self.gateways.push(name.to_owned());
            } else if address.parse::<std::net::IpAddr>().is_ok() {
                hosts.push(format!("{name}={address}"));
            } else {
                return Err(Error::invalid(format!("invalid IP address in add-host: {address:?}")));
            }
        }
        if !hosts.is_empty() {
            self.attrs.insert("add-hosts".to_owned(), hosts.join(","));
        }
        Ok(())
    }

    /// The daemon's host is at this address.
    pub(super) fn gateway(&mut self, address: &str) {
        let mut hosts: Vec<String> = self.attrs.get("add-hosts").into_iter().cloned().collect();
        hosts.extend(self.gateways.drain(..).map(|name| format!("{name}={address}")));
        self.attrs.insert("add-hosts".to_owned(), hosts.join(","));
    }

    fn no_cache(&mut self, parsed: &Parsed) -> Result<()> {
        let stages = parsed.list("no-cache-filter").filter(|stage| !stage.is_empty()).collect::<Vec<_>>().join(",");
        match (parsed.on("no-cache"), stages.is_empty()) {
            (true, false) => return Err(Error::new("--no-cache and --no-cache-filter cannot be used together")),
            (true, true) => drop(self.attrs.insert("no-cache".to_owned(), String::new())),
            (false, false) => drop(self.attrs.insert("no-cache".to_owned(), stages)),
            (false, true) => {}
        }
        Ok(())
    }

    /// Build arguments; proxies of the client configuration, and the time that reproducible builds have, are some.
    fn variables(&mut self, parsed: &Parsed, config: &ConfigFile, daemon: &str) {
        let proxies = config.object("proxies").and_then(|all| all.get(daemon).or_else(|| all.get("default")));
        for (key, name) in [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ] {
            let value = proxies.and_then(|proxies| proxies.get(key)).and_then(serde_json::Value::as_str);
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                self.attrs.insert(format!("build-arg:{name}"), value.to_owned());
                self.attrs.insert(format!("build-arg:{}", name.to_lowercase()), value.to_owned());
            }
        }
        if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
            self.attrs.insert("build-arg:SOURCE_DATE_EPOCH".to_owned(), epoch);
        }
        for text in parsed.list("build-arg") {
            let ours = |name: &str| std::env::var(name).ok().map(|value| (name.to_owned(), value));
            let pair =
                text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).or_else(|| ours(text));
            if let Some((name, value)) = pair {
                self.attrs.insert(format!("build-arg:{name}"), value);
            }
        }
    }

    fn attestations(&mut self, parsed: &Parsed) -> Result<()> {
        let mut wanted: Vec<String> = parsed.list("attest").map(str::to_owned).collect();
        for kind in ["provenance", "sbom"] {
            match parsed.text(kind) {
                "" => {}
                "true" => wanted.push(format!("type={kind}")),
                "false" => wanted.push(format!("type={kind},disabled=true")),
                other => wanted.push(format!("type={kind},{other}")),
            }
        }
        for text in wanted {
            let fields = csv::fields(&text)?;
            let kind = fields.iter().find_map(|field| field.strip_prefix("type=")).unwrap_or_default().to_owned();
            if kind.is_empty() {
                return Err(Error::invalid(format!("--attest {text}: type is required")));
            }
            let disabled = fields.iter().any(|field| field == "disabled=true");
            let rest: Vec<&str> = fields
                .iter()
                .map(String::as_str)
                .filter(|field| !field.starts_with("type=") && !field.starts_with("disabled="))
                .collect();
            let key = format!("attest:{kind}");
            if disabled {
                self.attrs.remove(&key);
            } else {
                self.attrs.insert(key, rest.join(","));
            }
        }
        Ok(())
    }

    fn caches(&mut self, parsed: &Parsed) -> Result<()> {
        for text in parsed.list("cache-from") {
            self.cache.imports.push(cache(text, "cache-from")?);
        }
        for text in parsed.list("cache-to") {
            self.cache.exports.push(cache(text, "cache-to")?);
        }
        if !self.cache.imports.is_empty() {
            let entry = |entry: &CacheOptionsEntry| serde_json::json!({ "Type": entry.r#type, "Attrs": entry.attrs });
            let list: Vec<_> = self.cache.imports.iter().map(entry).collect();
            self.attrs.insert("cache-imports".to_owned(), serde_json::Value::from(list).to_string());
        }
        Ok(())
    }
}

pub(super) fn call(parsed: &Parsed) -> Result<Call> {
    let text = if parsed.on("check") { "check" } else { parsed.text("call") };
    let fields = csv::fields(text)?;
    let (method, rest) = fields.split_first().map(|(method, rest)| (method.as_str(), rest)).unwrap_or_default();
    let mut json = false;
    for field in rest {
        match field.as_str() {
            "format=json" => json = true,
            "format=text" => {}
            other => {
                return Err(Error::invalid(format!(
                    "--call: {other:?} is not known; there are format=json and format=text"
                )));
            }
        }
    }
    match method.strip_prefix("frontend.").unwrap_or(method) {
        "build" | "" => Ok(Call::Build),
        "check" | "lint" => Ok(Call::Ask("frontend.lint", json)),
        "outline" | "subrequests.outline" => Ok(Call::Ask("frontend.outline", json)),
        "targets" | "subrequests.targets" => Ok(Call::Ask("frontend.targets", json)),
        other => {
            Err(Error::invalid(format!("--call: {other:?} is not known; there are build, check, outline and targets")))
        }
    }
}

/// `name=soft[:hard]`, with both limits.
fn ulimit(text: &str) -> Result<String> {
    let bad = || Error::invalid(format!("invalid ulimit argument: {text}"));
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
    Ok(format!("{name}={}:{}", number(soft)?, number(hard)?))
}

fn cache(text: &str, flag: &str) -> Result<CacheOptionsEntry> {
    // A name alone is that of an image.
    let mut attrs: HashMap<String, String> = if text.contains('=') {
        csv::pairs(text, flag)?.into_iter().collect()
    } else {
        HashMap::from([("type".to_owned(), "registry".to_owned()), ("ref".to_owned(), text.to_owned())])
    };
    let kind = attrs.remove("type").ok_or_else(|| Error::invalid(format!("--{flag} {text}: type is required")))?;
    if kind == "local" {
        return Err(Error::new(format!(
            "--{flag}: caches in directories of the client (type=local) are not supported; use type=registry or type=inline"
        )));
    }
    Ok(CacheOptionsEntry { r#type: kind, attrs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(ulimit("nofile=10").unwrap(), "nofile=10:10");
        assert!(ulimit("nofile").is_err() && ulimit("a=b").is_err());
        let found = cache("user/app:cache", "cache-from").unwrap();
        assert_eq!((found.r#type.as_str(), found.attrs["ref"].as_str()), ("registry", "user/app:cache"));
        assert_eq!(cache("type=inline", "cache-to").unwrap().r#type, "inline");
        assert!(cache("type=local,dest=x", "cache-to").unwrap_err().to_string().contains("type=local"));
        assert!(cache("ref=x", "cache-to").is_err());
    }
}
