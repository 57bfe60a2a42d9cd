//! The `--change` instructions of commit and import: a few Dockerfile instructions laid over an image's
//! configuration, in order, with Docker's messages.
//!
//! Input is the client's. Words are expanded with the environment the configuration has at that point.

use std::collections::BTreeMap;

use docker_types::container::HealthConfig;
use docker_types::image::ImageConfig;
use docker_types::{Empty, StrSlice};
use types::{GoDuration, PortRange, Protocol, Signal};

use crate::error::{Result, fail};

/// Ports one instruction may name.
const MAX_PORTS: usize = 65_536;

/// Apply instructions in order.
///
/// # Errors
/// Invalid, with Docker's text.
pub(crate) fn apply(config: &mut ImageConfig, changes: &[String]) -> Result<()> {
    let mut cmd_given = false;
    for line in changes {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = name.to_ascii_uppercase();
        cmd_given |= name == "CMD";
        instruction(config, &name, rest.trim(), cmd_given)?;
    }
    Ok(())
}

fn instruction(config: &mut ImageConfig, name: &str, rest: &str, cmd_given: bool) -> Result<()> {
    let env: BTreeMap<String, String> = config
        .env
        .iter()
        .flatten()
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let lookup = |key: &str| env.get(key).cloned();
    let one = || -> Result<String> {
        let mut words = words(rest, &lookup)?;
        match (words.pop(), words.is_empty()) {
            (Some(word), true) => Ok(word),
            _ => Err(fail!(Invalid, "{name} requires exactly one argument")),
        }
    };
    let some = |list: Vec<String>| match list.is_empty() {
        true => Err(fail!(Invalid, "{name} requires at least one argument")),
        false => Ok(list),
    };
    match name {
        "CMD" => config.cmd = command(rest),
        "ENTRYPOINT" => {
            config.entrypoint = command(rest).filter(|words| !words.is_empty());
            if !cmd_given {
                // A command was an argument of the old entry point.
                config.cmd = None;
            }
        }
        "ENV" => {
            for (key, value) in pairs(name, rest, &lookup)? {
                let list = config.env.get_or_insert_default();
                let entry = format!("{key}={value}");
                match list.iter_mut().find(|old| old.split('=').next() == Some(&key)) {
                    Some(old) => *old = entry,
                    None => list.push(entry),
                }
            }
        }
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(name, rest, &lookup)?),
        "EXPOSE" => {
            for word in some(words(rest, &lookup)?)? {
                expose(config, &word)?;
            }
        }
        "USER" => config.user = one()?,
        "VOLUME" => {
            let list = match json_words(rest) {
                Some(list) => list,
                None => words(rest, &lookup)?,
            };
            for volume in some(list)? {
                if volume.trim().is_empty() {
                    return Err(fail!(Invalid, "VOLUME specified can not be an empty string"));
                }
                config.volumes.get_or_insert_default().insert(volume, Empty {});
            }
        }
        "WORKDIR" => {
            let path = one()?;
            config.working_dir = match path.starts_with('/') {
                true => clean(&path),
                false => clean(&format!("/{}/{path}", config.working_dir)),
            };
        }
        "STOPSIGNAL" => {
            let signal = one()?;
            signal.parse::<Signal>().map_err(|_| fail!(Invalid, "invalid signal: {signal}"))?;
            config.stop_signal = signal;
        }
        "HEALTHCHECK" => config.healthcheck = Some(health(rest)?),
        "ONBUILD" => {
            let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match trigger.as_str() {
                "" => return Err(fail!(Invalid, "ONBUILD requires at least one argument")),
                "ONBUILD" => {
                    return Err(fail!(Invalid, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
                }
                "MAINTAINER" | "FROM" => return Err(fail!(Invalid, "{trigger} isn't allowed as an ONBUILD trigger")),
                _ => config.on_build.get_or_insert_default().push(rest.to_owned()),
            }
        }
        "SHELL" => {
            let shell = json_words(rest)
                .filter(|list| !list.is_empty())
                .ok_or_else(|| fail!(Invalid, "SHELL requires the arguments to be in JSON form"))?;
            config.shell = Some(StrSlice(shell));
        }
        _ => return Err(fail!(Invalid, "{name} is not a valid change command")),
    }
    Ok(())
}

/// The array form, or the shell form; nothing for nothing.
fn command(rest: &str) -> Option<StrSlice> {
    if let Some(list) = json_words(rest) {
        return Some(StrSlice(list));
    }
    if rest.is_empty() {
        return None;
    }
    Some(StrSlice(vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.to_owned()]))
}

fn json_words(rest: &str) -> Option<Vec<String>> {
    if !rest.starts_with('[') {
        return None;
    }
    serde_json::from_str(rest).ok()
}

fn expose(config: &mut ImageConfig, word: &str) -> Result<()> {
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol: Protocol = protocol.parse().map_err(|_| fail!(Invalid, "invalid proto: {protocol}"))?;
    let range = PortRange::parse(ports)
        .filter(|range| range.start > 0)
        .ok_or_else(|| fail!(Invalid, "Invalid containerPort: {ports}"))?;
    let known = config.exposed_ports.get_or_insert_default();
    for port in range.start..=range.end {
        known.insert(format!("{port}/{}", protocol.as_str()), Empty {});
    }
    if known.len() > MAX_PORTS {
        return Err(fail!(Invalid, "too many exposed ports"));
    }
    Ok(())
}

fn health(rest: &str) -> Result<HealthConfig> {
    let mut check = HealthConfig::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = after.trim_start();
        let (key, value) = flag.split_once('=').ok_or_else(|| fail!(Invalid, "Missing a value on flag: {flag}"))?;
        let nanos = || -> Result<i64> {
            let parsed: GoDuration = value.parse().map_err(|_| fail!(Invalid, "time: invalid duration {value:?}"))?;
            match parsed.nanos() {
                0 => Ok(0),
                short if short < 1_000_000 => Err(fail!(Invalid, "Interval {key:?} cannot be less than 1ms")),
                nanos => Ok(nanos),
            }
        };
        match key {
            "interval" => check.interval = nanos()?,
            "timeout" => check.timeout = nanos()?,
            "start-period" => check.start_period = nanos()?,
            "start-interval" => check.start_interval = nanos()?,
            "retries" => {
                check.retries = value
                    .parse()
                    .ok()
                    .filter(|retries: &i64| *retries >= 0)
                    .ok_or_else(|| fail!(Invalid, "--retries cannot be negative or no number: {value}"))?;
            }
            _ => return Err(fail!(Invalid, "Unknown flag: {key}")),
        }
    }
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match kind.to_ascii_uppercase().as_str() {
        "" => return Err(fail!(Invalid, "HEALTHCHECK requires at least one argument")),
        "NONE" if rest.trim().is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err(fail!(Invalid, "HEALTHCHECK NONE takes no arguments")),
        "CMD" => match (json_words(rest.trim()), rest.trim()) {
            (Some(list), _) if !list.is_empty() => [vec!["CMD".to_owned()], list].concat(),
            (None, line) if !line.is_empty() => vec!["CMD-SHELL".to_owned(), line.to_owned()],
            _ => return Err(fail!(Invalid, "Missing command after HEALTHCHECK CMD")),
        },
        _ => return Err(fail!(Invalid, "Unknown type {kind:?} in HEALTHCHECK (try CMD)")),
    };
    Ok(check)
}

/// `A=1 B="x y"`, or the old form of one name and everything after it.
fn pairs(name: &str, rest: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>> {
    let raw = split(rest)?;
    let Some(first) = raw.first() else { return Err(fail!(Invalid, "{name} requires at least one argument")) };
    if !first.contains('=') {
        let Some((key, value)) = rest.split_once(char::is_whitespace) else {
            return Err(fail!(Invalid, "{name} must have two arguments"));
        };
        return Ok(vec![(expand(key, env)?, expand(value.trim_start(), env)?)]);
    }
    raw.iter()
        .map(|word| {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                fail!(Invalid, "Syntax error - can't find = in {word:?}. Must be of the form: name=value")
            })?;
            let key = expand(key, env)?;
            if key.is_empty() {
                return Err(fail!(Invalid, "{name} names can not be blank"));
            }
            Ok((key, expand(value, env)?))
        })
        .collect()
}

fn words(rest: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>> {
    split(rest)?.iter().map(|word| expand(word, env)).collect()
}

/// Split at white space outside quotes; quotes and escapes stay for [`expand`].
fn split(text: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if quote.is_some() {
        return Err(fail!(Invalid, "unexpected end of statement while looking for matching quote"));
    }
    if !word.is_empty() {
        out.push(word);
    }
    Ok(out)
}

/// Take quotes away and put variables in: `$A`, `${A}`, `${A:-word}`, `${A:+word}`.
fn expand(word: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::new();
    let mut quote: Option<char> = None;
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (Some('\''), c) => out.push(c),
            (None, '\\') => out.extend(chars.next()),
            (Some('"'), '\\') => match chars.peek() {
                Some('"' | '$' | '\\') => out.extend(chars.next()),
                _ => out.push('\\'),
            },
            (_, '$') => {
                if chars.peek() == Some(&'{') {
                    chars.next();
                    let inside: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    out.push_str(&braced(&inside, env)?);
                } else {
                    let mut name = String::new();
                    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                        name.push(c);
                    }
                    match name.is_empty() {
                        true => out.push('$'),
                        false => out.push_str(&env(&name).unwrap_or_default()),
                    }
                }
            }
            (_, c) => out.push(c),
        }
    }
    Ok(out)
}

fn braced(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
    let (name, modifier) = inside.split_at(end);
    let value = env(name).filter(|value| !value.is_empty());
    if name.is_empty() {
        return Err(fail!(Invalid, "failed to process \"${{{inside}}}\": bad substitution"));
    }
    if modifier.is_empty() {
        return Ok(value.unwrap_or_default());
    }
    match (modifier.strip_prefix(":-"), modifier.strip_prefix(":+")) {
        (Some(word), _) => Ok(value.unwrap_or_else(|| word.to_owned())),
        (_, Some(word)) => Ok(value.map(|_| word.to_owned()).unwrap_or_default()),
        _ => Err(fail!(Invalid, "failed to process \"${{{inside}}}\": unsupported modifier ({modifier})")),
    }
}

/// An absolute path without `.`, `..` and doubled slashes.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<ImageConfig> {
        let mut config = ImageConfig {
            env: Some(vec!["PATH=/bin".into(), "A=old".into()]),
            cmd: Some(StrSlice(vec!["base".into()])),
            working_dir: "/srv".into(),
            ..ImageConfig::default()
        };
        let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
        apply(&mut config, &changes).map(|()| config)
    }

    fn list(words: &[&str]) -> Option<StrSlice> {
        Some(StrSlice(words.iter().map(|w| (*w).to_owned()).collect()))
    }

    #[test]
    fn commands() {
        assert_eq!(applied(&["CMD [\"a\", \"b c\"]"]).unwrap().cmd, list(&["a", "b c"]));
        assert_eq!(applied(&["cmd echo  $A"]).unwrap().cmd, list(&["/bin/sh", "-c", "echo  $A"]));
        assert_eq!(applied(&["CMD"]).unwrap().cmd, None);
        let both = applied(&["ENTRYPOINT [\"e\"]"]).unwrap();
        assert_eq!((both.entrypoint, both.cmd), (list(&["e"]), None), "the old command was the old entry point's");
        assert_eq!(applied(&["CMD [\"c\"]", "ENTRYPOINT [\"e\"]"]).unwrap().cmd, list(&["c"]));
    }

    #[test]
    fn environment_and_labels() {
        let config = applied(&["ENV A=new B=\"x y\" C=$A'$A'", "ENV D some ${E:-words}", "LABEL k=v x"]);
        assert!(config.unwrap_err().to_string().contains("can't find ="));
        let config =
            applied(&["ENV A=new B=\"x y\" C=$A'$A'", "ENV D some ${E:-words}", "LABEL k=v l=\"a=b\""]).unwrap();
        let env = config.env.unwrap();
        assert_eq!(env, ["PATH=/bin", "A=new", "B=x y", "C=old$A", "D=some words"]);
        assert_eq!(
            config.labels.unwrap().into_iter().collect::<Vec<_>>(),
            [("k".to_owned(), "v".to_owned()), ("l".to_owned(), "a=b".to_owned())]
        );
    }

    #[test]
    fn the_rest() {
        let config = applied(&[
            "EXPOSE 80 53/udp 8000-8001",
            "USER app:$A",
            "VOLUME [\"/a\", \"/b\"]",
            "VOLUME /c",
            "WORKDIR ../opt/./x",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN true",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl -f x",
            "# nothing",
        ])
        .unwrap();
        let ports: Vec<String> = config.exposed_ports.unwrap().into_keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app:old", "/opt/x"));
        assert_eq!(config.volumes.unwrap().into_keys().collect::<Vec<_>>(), ["/a", "/b", "/c"]);
        assert_eq!((config.stop_signal.as_str(), config.on_build.unwrap().len()), ("SIGQUIT", 1));
        let health = config.healthcheck.unwrap();
        assert_eq!((health.interval, health.retries), (5_000_000_000, 2));
        assert_eq!(health.test, ["CMD-SHELL", "curl -f x"]);
    }

    #[test]
    fn refusals_are_dockers() {
        for (change, message) in [
            ("FROM x", "FROM is not a valid change command"),
            ("EXPOSE 99999999", "Invalid containerPort: 99999999"),
            ("STOPSIGNAL BLA", "invalid signal: BLA"),
            ("ENV a", "ENV must have two arguments"),
            ("LABEL", "LABEL requires at least one argument"),
            ("USER", "USER requires exactly one argument"),
            ("ONBUILD ONBUILD x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
            ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ] {
            assert_eq!(applied(&[change]).unwrap_err().to_string(), message, "{change}");
        }
        assert!(applied(&["ENV A=\"open"]).is_err());
    }
}
