//! From the flags of `run` and `create` to the body of `POST /containers/create`.
//!
//! Only what was asked for is sent: an absent field and a zero one mean the same to the API, and short bodies cost
//! less. Nothing here talks to the daemon; files named by flags are read.

mod body;
mod environment;
mod flags;
mod mounts;
mod network;
mod resources;

pub(crate) use body::{CreateRequest, request};
pub(crate) use environment::environment;
pub(crate) use flags::CREATE;
pub(crate) use network::{mac_or_ip as check_address, net_rate};
pub(crate) use resources::{nano_cpus, restart_policy};

use crate::{Error, Result};

/// Splits `key=value`; a lone key has an empty value.
pub(crate) fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// Fields of a comma-separated value; quotes protect commas (RFC 4180).
pub(crate) fn csv(text: &str) -> Result<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = letters.next() {
        let last = fields.len() - 1;
        match c {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => fields[last].push('"'),
            '"' if quoted => quoted = false,
            '"' if fields[last].is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    if quoted {
        return Err(Error::invalid(format!("parse error in {text:?}: a quote is not closed")));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_protect_commas() {
        assert_eq!(csv("a=b,\"c=d,e\",f\"g").unwrap(), ["a=b", "c=d,e", "f\"g"]);
        assert_eq!(csv("\"x\"\"y\"").unwrap(), ["x\"y"]);
        assert!(csv("\"x").is_err());
        assert_eq!(pair("a=b=c"), ("a".into(), "b=c".into()));
    }
}
