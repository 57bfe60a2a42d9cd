//! Options of an output. What nobody takes is refused by its name.

use std::collections::{BTreeMap, HashMap};

use types::Kind;

use crate::error::{Error, Result};

/// Options that are not taken yet.
#[derive(Debug)]
pub(super) struct Attrs<'a> {
    /// Type of the output, for messages.
    kind: &'a str,
    left: BTreeMap<&'a str, &'a str>,
}

impl<'a> Attrs<'a> {
    pub(super) fn new(kind: &'a str, attrs: &'a HashMap<String, String>) -> Self {
        Self { kind, left: attrs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect() }
    }

    /// The value of an option.
    pub(super) fn take(&mut self, key: &str) -> Option<&'a str> {
        self.left.remove(key)
    }

    /// Options whose names begin with this, with what follows.
    pub(super) fn take_all(&mut self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let taken: Vec<_> =
            self.left.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, value)| (*key, *value)).collect();
        self.left.retain(|key, _| !key.starts_with(prefix));
        taken
    }

    /// An option that is on or off.
    ///
    /// # Errors
    /// It is neither.
    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        boolean(value).map(Some).ok_or_else(|| self.invalid(key, value, "it is true or false"))
    }

    /// An option that is a number.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<i64>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| self.invalid(key, value, "it is a number"))
    }

    /// An option with a value that makes no sense.
    pub(super) fn invalid(&self, key: &str, value: &str, why: &str) -> Error {
        Error::new(Kind::Invalid, format!("option {key}={value} of output type {}: {why}", self.kind))
    }

    /// An option that is known and cannot be had.
    pub(super) fn unsupported(&self, option: &str, instead: &str) -> Error {
        Error::new(
            Kind::Unsupported,
            format!("option {option} of output type {} is not supported: {instead}", self.kind),
        )
    }

    /// Everything was taken.
    ///
    /// # Errors
    /// Names an option that was not.
    pub(super) fn finish(self) -> Result<()> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(key) => Err(Error::new(
                Kind::Unsupported,
                format!("output type {} has no option {key} here: leave it out", self.kind),
            )),
        }
    }
}

/// As Go reads what is on or off.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
