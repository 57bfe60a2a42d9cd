//! Which attestations are asked for: `attest:provenance` and `attest:sbom` of the front end's options.

use std::collections::HashMap;

use types::Kind;

use crate::error::{Error, Result};
use crate::export::boolean;

const PREFIX: &str = "attest:";

/// Attestations that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(super) provenance: Option<Provenance>,
    pub(super) sbom: Option<Sbom>,
}

/// How a result came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Provenance {
    /// With arguments, the definition and times.
    pub full: bool,
    /// In the form of SLSA 1 rather than 0.2.
    pub v1: bool,
    /// Who built it.
    pub builder: String,
    /// It says that it can be built again with the same outcome.
    pub reproducible: bool,
    /// It is for images alone.
    pub inline_only: bool,
    pub filename: String,
}

/// What a result is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sbom {
    pub inline_only: bool,
    pub filename: String,
}

impl Asked {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// Attestations and options of them that are not known, or make no sense.
    pub(crate) fn read(attrs: &HashMap<String, String>) -> Result<Self> {
        let mut asked = Self::default();
        for (key, value) in attrs.iter().filter(|(key, _)| key.starts_with(PREFIX)) {
            let kind = &key[PREFIX.len()..];
            let mut options = Options::read(kind, value)?;
            if options.flag("disabled")?.unwrap_or(false) {
                continue;
            }
            match kind {
                "provenance" => asked.provenance = Some(Provenance::read(options)?),
                "sbom" => asked.sbom = Some(Sbom::read(options)?),
                other => {
                    return Err(Error::new(
                        Kind::Unsupported,
                        format!("attestations of type {other} are not known: there are provenance and sbom"),
                    ));
                }
            }
        }
        Ok(asked)
    }

    /// Whether there is nothing to make: with `everything`, also nothing that is for images alone.
    pub(crate) fn is_empty(&self, everything: bool) -> bool {
        let provenance = self.provenance.as_ref().is_none_or(|asked| asked.inline_only && !everything);
        provenance && self.sbom.as_ref().is_none_or(|asked| asked.inline_only && !everything)
    }
}

impl Provenance {
    fn read(mut options: Options) -> Result<Self> {
        let full = match options.take("mode").as_deref() {
            None | Some("" | "min") => false,
            Some("max") => true,
            Some(other) => return Err(options.invalid("mode", other, "it is min or max")),
        };
        let v1 = match options.take("version").as_deref() {
            None | Some("" | "v0.2") => false,
            Some("v1") => true,
            Some(other) => return Err(options.invalid("version", other, "it is v0.2 or v1")),
        };
        let provenance = Self {
            full,
            v1,
            builder: options.take("builder-id").unwrap_or_default(),
            reproducible: options.flag("reproducible")?.unwrap_or(false),
            inline_only: options.flag("inline-only")?.unwrap_or(false),
            filename: options.filename("provenance.json")?,
        };
        options.finish()?;
        Ok(provenance)
    }
}

impl Sbom {
    fn read(mut options: Options) -> Result<Self> {
        if let Some(generator) = options.take("generator").filter(|generator| !generator.is_empty()) {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "the generator {generator} of an SBOM is not run: leave it out, and the builder makes it itself"
                ),
            ));
        }
        let inline_only = options.flag("inline-only")?.unwrap_or(false);
        let sbom = Self { inline_only, filename: options.filename("sbom.spdx.json")? };
        options.finish()?;
        Ok(sbom)
    }
}

/// Options of one attestation, `key=value,…`.
struct Options {
    kind: String,
    left: HashMap<String, String>,
}

impl Options {
    fn read(kind: &str, text: &str) -> Result<Self> {
        let mut left = HashMap::new();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            // A name without a value is one that is on, as clients write `--sbom=true`.
            let (key, value) = option.split_once('=').unwrap_or((option, "true"));
            left.insert(key.trim().to_owned(), value.trim().trim_matches('"').to_owned());
        }
        if left.get("type").is_some_and(|said| said == kind) {
            left.remove("type");
        }
        Ok(Self { kind: kind.to_owned(), left })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.left.remove(key)
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        boolean(&value).map(Some).ok_or_else(|| self.invalid(key, &value, "it is true or false"))
    }

    fn filename(&mut self, default: &str) -> Result<String> {
        let Some(name) = self.take("filename").filter(|name| !name.is_empty()) else { return Ok(default.to_owned()) };
        if name.contains(['/', '\0']) || matches!(name.as_str(), "." | "..") || name.len() > 255 {
            return Err(self.invalid("filename", &name, "it is a name without a directory"));
        }
        Ok(name)
    }

    fn invalid(&self, key: &str, value: &str, why: &str) -> Error {
        Error::new(Kind::Invalid, format!("option {key}={value} of the attestation {}: {why}", self.kind))
    }

    fn finish(self) -> Result<()> {
        match self.left.keys().min() {
            None => Ok(()),
            Some(key) => Err(Error::new(
                Kind::Unsupported,
                format!("the attestation {} has no option {key} here: leave it out", self.kind),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Asked> {
        Asked::read(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_is_asked_for_is_read_and_the_rest_refused() {
        let default = read(&[("attest:provenance", "mode=min,inline-only=true"), ("label:a", "b")]).unwrap();
        assert!(default.is_empty(false) && !default.is_empty(true));
        let both = read(&[("attest:sbom", ""), ("attest:provenance", "type=provenance,mode=max,version=v1")]).unwrap();
        assert!(!both.is_empty(false));
        let provenance = both.provenance.unwrap();
        assert!(provenance.full && provenance.v1 && !provenance.inline_only);
        assert_eq!(read(&[("attest:sbom", "disabled=true")]).unwrap(), Asked::default());
        for (key, value, words) in [
            ("attest:provenance", "mode=most", "mode=most"),
            ("attest:provenance", "version=v9", "v0.2 or v1"),
            ("attest:provenance", "capture-usage=true", "no option capture-usage"),
            ("attest:provenance", "filename=../x", "without a directory"),
            ("attest:sbom", "generator=some/image", "some/image"),
            ("attest:vex", "", "vex"),
        ] {
            let error = read(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
