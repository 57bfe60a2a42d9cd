//! Checks of documents, all before anything exists. Each file has the rules of one subject; a rule names the exact
//! place it is about and says what to do. What the specification has passed over is a warning. Called by the
//! `validate` methods of `spec`.

mod devices;
mod hooks;
mod linux;
mod mappings;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod scheduling;
mod seccomp;
mod size;
mod sysctl;
mod text;

use std::fmt::Display;

use crate::fault::shown;
use crate::{Fault, NamespaceKind, Process, Resources, Spec, parse};

pub(crate) use size::limits;
pub use text::clean_path;

use text::{fault, no_nul, one_line};

/// Most warnings given for one document.
const MAX_WARNINGS: usize = 100;
/// Most bytes of a host or domain name (`__NEW_UTS_LEN` of linux/utsname.h).
const MAX_UTS_NAME: usize = 64;

/// What the user should know and can live with.
#[derive(Debug, Default)]
struct Warnings(Vec<Fault>);

impl Warnings {
    fn push(&mut self, path: impl Display, reason: impl Into<String>) {
        if self.0.len() < MAX_WARNINGS {
            self.0.push(Fault::new(path, reason));
        }
    }

    fn lines(self) -> Vec<String> {
        self.0.iter().map(Fault::to_string).collect()
    }
}

/// Checks `config.json`.
pub(crate) fn spec(spec: &Spec) -> Result<Vec<String>, Fault> {
    let mut warnings = Warnings::default();
    version(&spec.oci_version, &mut warnings)?;
    match &spec.root {
        None => return fault("root", "is missing; name the directory of the root file system in root.path"),
        Some(root) if root.path.is_empty() => {
            return fault("root.path", "is empty; name the directory of the root file system");
        }
        Some(root) => no_nul("root.path", &root.path)?,
    }
    if let Some(given) = &spec.process {
        process::check(given, &mut warnings)?;
    }
    uts_name(spec, "hostname", &spec.hostname)?;
    uts_name(spec, "domainname", &spec.domainname)?;
    mounts::check(spec, &mut warnings)?;
    hooks::check(&spec.hooks)?;
    if let Some(value) = spec.annotations.get("") {
        let reason = format!("the key of {} is empty; name the annotation or take it out", shown(value));
        return fault("annotations", reason);
    }
    if let Some(given) = &spec.linux {
        linux::check(spec, given, &mut warnings)?;
    }
    Ok(warnings.lines())
}

/// Checks the document of a process that joins a container.
pub(crate) fn process(given: &Process) -> Result<Vec<String>, Fault> {
    let mut warnings = Warnings::default();
    let within = |fault: Fault| fault.within(parse::PROCESS, "process");
    process::check(given, &mut warnings).map_err(within)?;
    warnings.0 = warnings.0.into_iter().map(within).collect();
    Ok(warnings.lines())
}

/// Checks the document of new limits.
pub(crate) fn resources(given: &Resources) -> Result<Vec<String>, Fault> {
    let mut warnings = Warnings::default();
    let within = |fault: Fault| fault.within(parse::RESOURCES, "linux.resources");
    resources::check(given, &mut warnings).map_err(within)?;
    warnings.0 = warnings.0.into_iter().map(within).collect();
    Ok(warnings.lines())
}

/// SemVer 2.0.0 with the major version this crate reads.
fn version(text: &str, warnings: &mut Warnings) -> Result<(), Fault> {
    const PATH: &str = "ociVersion";
    if text.is_empty() {
        return fault(PATH, format!("is missing; write the version of the specification, such as {}", crate::VERSION));
    }
    let Some((major, minor)) = semantic_version(text) else {
        let reason = format!("{} is not of the form MAJOR.MINOR.PATCH; write such as {}", shown(text), crate::VERSION);
        return fault(PATH, reason);
    };
    if major != 1 {
        let reason = format!("{} is not supported; versions 1.0.0 to {} are", shown(text), crate::VERSION);
        return fault(PATH, reason);
    }
    if semantic_version(crate::VERSION).is_some_and(|(_, known)| minor > known) {
        let reason = format!("{} is newer than {}; what it adds is passed over", shown(text), crate::VERSION);
        warnings.push(PATH, reason);
    }
    Ok(())
}

/// Major and minor number of a version.
fn semantic_version(text: &str) -> Option<(u64, u64)> {
    let word = |text: &str| {
        text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    if !build.is_none_or(word) || !pre.is_none_or(word) {
        return None;
    }
    let number = |text: &str| -> Option<u64> {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        plain.then(|| text.parse().ok()).flatten()
    };
    let mut parts = core.split('.');
    let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    number(patch)?;
    Some((number(major)?, number(minor)?))
}

fn uts_name(spec: &Spec, path: &str, name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Ok(());
    }
    one_line(path, name)?;
    if name.len() > MAX_UTS_NAME {
        return fault(path, format!("is longer than {MAX_UTS_NAME} bytes; shorten it"));
    }
    if spec.namespace(NamespaceKind::Uts).is_none() {
        return fault(path, "would be the host's; add {\"type\": \"uts\"} to linux.namespaces or take the name out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, expected) in [
            ("1.0.0", Some((1, 0))),
            ("1.0.2-dev", Some((1, 0))),
            ("1.2.1+dev", Some((1, 2))),
            ("1.0.0-rc5-dev", Some((1, 0))),
            ("0.6.0", Some((0, 6))),
            ("1.0", None),
            ("1.0.0.0", None),
            ("v1.0.0", None),
            ("01.0.0", None),
            ("1.0.0-", None),
            ("1..0", None),
            ("1.0.x", None),
            (" 1.0.0", None),
        ] {
            assert_eq!(semantic_version(text), expected, "{text}");
        }
    }
}
