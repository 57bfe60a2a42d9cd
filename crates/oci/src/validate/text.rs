//! What every text that reaches the kernel must be. Used by all the checks.

use std::fmt::Display;

use crate::Fault;
use crate::fault::shown;

pub(super) fn fault<T>(path: impl Display, reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::new(path, reason))
}

/// System calls end a text at its first NUL, and would act on something else than what was written.
pub(super) fn no_nul(path: impl Display, text: &str) -> Result<(), Fault> {
    if text.contains('\0') {
        return fault(path, format!("{} contains a NUL character; take it out", shown(text)));
    }
    Ok(())
}

/// The same of every item of a list.
pub(super) fn no_nuls(path: impl Display, texts: &[String]) -> Result<(), Fault> {
    texts.iter().enumerate().try_for_each(|(at, text)| no_nul(format_args!("{path}[{at}]"), text))
}

/// For what is written to files of the kernel, where a line more is a command more.
pub(super) fn one_line(path: impl Display, text: &str) -> Result<(), Fault> {
    if text.contains('\n') {
        return fault(path, format!("{} contains a line break; write it in one line", shown(text)));
    }
    no_nul(path, text)
}

/// A path from the root.
pub(super) fn absolute(path: impl Display, text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return fault(path, "is empty; write an absolute path");
    }
    if !text.starts_with('/') {
        return fault(path, format!("{} is not absolute; begin it with /", shown(text)));
    }
    no_nul(path, text)
}

/// A name of a network interface (`dev_valid_name` of the kernel).
pub(super) fn interface(path: impl Display, name: &str) -> Result<(), Fault> {
    let bad = name.is_empty()
        || name.len() > 15
        || matches!(name, "." | "..")
        || name.bytes().any(|b| matches!(b, b'/' | b':' | 0) || b.is_ascii_whitespace() || b == 0x0b);
    if bad {
        let reason = format!(
            "{} is not a name of a network interface; it has 1 to 15 characters, none of them /, : or space",
            shown(name)
        );
        return fault(path, reason);
    }
    Ok(())
}

/// A path from the root without `.`, `..` and empty parts, as far as that can be told without looking. One without
/// a slash at its beginning, as old configurations have them, is meant from the root.
pub fn clean_path(path: &str) -> String {
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

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("/proc", "/proc"),
            ("proc//", "/proc"),
            ("//proc/./", "/proc"),
            ("/a/../proc", "/proc"),
            ("/../../proc/b/..", "/proc"),
            ("", "/"),
        ] {
            assert_eq!(clean_path(path), expected, "{path}");
        }
    }
}
