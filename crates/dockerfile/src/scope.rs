//! What names stand for: the environment of an image, arguments of the build, and what of both a word sees.
//!
//! A stage's instructions see one set of names. ENV and ARG both set them, whichever comes later; ENV alone sets what the
//! image keeps. Arguments before the first stage are seen by FROM, and by stages that declare them again.

use std::collections::{BTreeMap, HashMap};

use types::Platform;

use crate::error::{Error, Problem};
use crate::expand::Variables;
use crate::limits;

/// Arguments that every RUN gets from whoever builds, declared or not, and that no history shows.
pub const PREDEFINED_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The search path of an image that has none.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether an argument is one of those that need no declaration.
#[must_use]
pub(crate) fn predefined(name: &str) -> bool {
    PREDEFINED_ARGS.contains(&name)
}

/// Names with values or without, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    order: Vec<String>,
    values: HashMap<String, Option<String>>,
    size: usize,
}

impl Scope {
    /// Sets a value.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        self.put(name, Some(value))
    }

    /// Makes a name known that has no value; one that it has stays.
    pub(crate) fn declare(&mut self, name: &str) -> Result<(), Error> {
        if self.values.contains_key(name) { Ok(()) } else { self.put(name, None) }
    }

    fn put(&mut self, name: &str, value: Option<&str>) -> Result<(), Error> {
        let length = |value: Option<&str>| value.map_or(0, str::len);
        let fits =
            |size: usize| if size > limits::ENVIRONMENT { Err(Error::of(Problem::Environment)) } else { Ok(size) };
        if let Some(old) = self.values.get_mut(name) {
            self.size = fits(self.size - length(old.as_deref()) + length(value))?;
            *old = value.map(str::to_owned);
        } else {
            self.size = fits(self.size + name.len() + length(value))?;
            self.order.push(name.to_owned());
            self.values.insert(name.to_owned(), value.map(str::to_owned));
        }
        Ok(())
    }

    /// Bytes of all names and values.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The names with values.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.order.iter().map(String::as_str).filter(|name| self.value(name).is_some())
    }

    /// Names and values in the order in which names came.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.order.iter().filter_map(|name| Some((name.as_str(), self.value(name)?)))
    }
}

impl Variables for Scope {
    fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_deref()
    }

    fn declared(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

/// What the builder says of platforms and of the target's name.
pub(crate) fn platform_args(target: &Platform, build: &Platform, stage: Option<&str>) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("TARGET", target), ("BUILD", build)] {
        args.insert(format!("{prefix}PLATFORM"), platform.to_string());
        args.insert(format!("{prefix}OS"), platform.os.clone());
        args.insert(format!("{prefix}OSVERSION"), String::new());
        args.insert(format!("{prefix}ARCH"), platform.arch.clone());
        args.insert(format!("{prefix}VARIANT"), platform.variant.clone());
    }
    args.insert("TARGETSTAGE".to_owned(), stage.unwrap_or("default").to_owned());
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_count_and_declarations_do_not_take_them_away() {
        let mut scope = Scope::default();
        scope.declare("a").unwrap();
        assert!(scope.declared("a") && scope.value("a").is_none());
        scope.set("b", "1").unwrap();
        scope.set("a", "2").unwrap();
        scope.declare("b").unwrap();
        assert_eq!(scope.pairs().collect::<Vec<_>>(), [("a", "2"), ("b", "1")]);
        let half = "x".repeat(limits::ENVIRONMENT / 2);
        scope.set("c", &half).unwrap();
        scope.set("c", &half).unwrap();
        assert!(scope.set("d", &half).is_err());
    }
}
