//! Platforms, `os/architecture[/variant]`, in Go's names (OCI image-spec, "Platform Variants").
//! A parsed platform is normalised, so `linux/aarch64`, `linux/arm64` and `linux/arm64/v8` are one.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is an invalid OS component of {1:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\"")]
pub struct PlatformError(String, String);

/// Operating system, architecture and variant of an image or a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system as `GOOS` names it, e.g. `linux`.
    pub os: String,
    /// Architecture as `GOARCH` names it, e.g. `amd64`.
    #[serde(rename = "architecture")]
    pub arch: String,
    /// CPU variant, e.g. `v7`; empty for the default one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// Makes a normalised platform.
    pub fn new(os: &str, arch: &str, variant: &str) -> Platform {
        let os = match os.to_ascii_lowercase() {
            os if os == "macos" => "darwin".to_owned(),
            os => os,
        };
        let arch = arch.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (arch, variant) = match (arch.as_str(), variant.as_str()) {
            ("i386" | "i686" | "x86", v) => ("386", v),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (arch, v) => (arch, v),
        };
        Platform { os, arch: arch.to_owned(), variant: variant.to_owned() }
    }

    /// The platform this process runs on.
    pub fn host() -> Platform {
        let arch = match std::env::consts::ARCH {
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            arch => arch,
        };
        Platform::new("linux", arch, "")
    }

    /// The same platform with Go's names and no redundant variant.
    #[must_use]
    pub fn normalised(&self) -> Platform {
        Platform::new(&self.os, &self.arch, &self.variant)
    }

    /// True when something made for `other` is what was asked for by `self`. Both sides are
    /// normalised first; a variant must be the same one, where a missing variant is the default.
    pub fn matches(&self, other: &Platform) -> bool {
        self.normalised() == other.normalised()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Parses `os/arch[/variant]`, or an architecture or operating system alone.
    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |p: &str| {
            !p.is_empty() && p.len() <= 64 && p.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
        };
        let shown = || text.chars().take(80).collect::<String>();
        if let Some(bad) = parts.iter().find(|p| !word(p)) {
            return Err(PlatformError(bad.chars().take(80).collect(), shown()));
        }
        match parts.as_slice() {
            [os @ ("linux" | "windows" | "darwin" | "freebsd" | "macos")] => {
                Ok(Platform::new(os, &Platform::host().arch, ""))
            }
            [arch] => Ok(Platform::new("linux", arch, "")),
            [os, arch] => Ok(Platform::new(os, arch, "")),
            [os, arch, variant] => Ok(Platform::new(os, arch, variant)),
            _ => Err(PlatformError(shown(), shown())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_each() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        for bad in ["", "linux/", "a/b/c/d", "linux/am d64", "/"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn matching() {
        let raw = Platform { os: "linux".into(), arch: "arm64".into(), variant: "v8".into() };
        assert!("linux/arm64".parse::<Platform>().unwrap().matches(&raw));
        assert!(!"linux/arm/v6".parse::<Platform>().unwrap().matches(&"linux/arm/v7".parse().unwrap()));
        assert!(!Platform::host().matches(&"windows/amd64".parse().unwrap()));
    }
}
