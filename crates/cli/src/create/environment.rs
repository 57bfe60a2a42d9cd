//! Environment variables and labels, from flags and files.

use std::{fs, path::Path};

use crate::{Error, Result};

/// Largest file of variables or labels read, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Variables of files, then of flags. A name without a value takes ours; when we have none, a flag's name is sent as it
/// is (which removes the image's) and a file's is left out.
pub(crate) fn environment<'a>(
    files: impl Iterator<Item = &'a str>,
    flags: impl Iterator<Item = &'a str>,
    ours: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for file in files {
        for line in lines(Path::new(file), "environment")? {
            match (line.contains('='), ours(&line)) {
                (true, _) => out.push(line),
                (false, Some(value)) => out.push(format!("{line}={value}")),
                (false, None) => {}
            }
        }
    }
    for flag in flags {
        let name = flag.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(Error::invalid(format!(
                "invalid argument {flag:?} for \"-e, --env\" flag: invalid environment variable: {flag}"
            )));
        }
        match (flag.contains('='), ours(flag)) {
            (false, Some(value)) => out.push(format!("{flag}={value}")),
            _ => out.push(flag.to_owned()),
        }
    }
    Ok(out)
}

/// Labels of files, then of flags.
pub(crate) fn labels<'a>(
    files: impl Iterator<Item = &'a str>,
    flags: impl Iterator<Item = &'a str>,
) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for file in files {
        out.extend(lines(Path::new(file), "label")?);
    }
    out.extend(flags.map(str::to_owned));
    Ok(out)
}

fn lines(path: &Path, what: &str) -> Result<Vec<String>> {
    let size = fs::metadata(path)
        .map_err(|error| Error::invalid(format!("open {}: {}", path.display(), crate::error::os_text(&error))))?
        .len();
    if size > MAX_FILE {
        return Err(Error::invalid(format!("{what} file {} is too large", path.display())));
    }
    let bytes = fs::read(path)
        .map_err(|error| Error::invalid(format!("open {}: {}", path.display(), crate::error::os_text(&error))))?;
    parse_lines(&bytes, path, what)
}

fn parse_lines(bytes: &[u8], path: &Path, what: &str) -> Result<Vec<String>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut out = Vec::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|_| Error::invalid(format!("{what} file {}: line {} is not UTF-8", path.display(), at + 1)))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(Error::invalid(format!("{what} file {}: no variable name on line '{line}'", path.display())));
        }
        if name.contains([' ', '\t']) {
            return Err(Error::invalid(format!("poorly formatted {what}: variable '{name}' contains whitespaces")));
        }
        out.push(line.to_owned());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_first_and_names_take_our_values() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        fs::write(&file, "\u{feff}# c\n\nA=1\r\n  B= x \nOURS\nNONE\n").unwrap();
        let ours = |name: &str| (name == "OURS").then(|| "v".to_owned());
        let got = environment([file.to_str().unwrap()].into_iter(), ["C=3", "OURS", "GONE"].into_iter(), ours).unwrap();
        assert_eq!(got, ["A=1", "B= x ", "OURS=v", "C=3", "OURS=v", "GONE"]);
    }

    #[test]
    fn bad_lines() {
        let path = Path::new("f");
        assert!(parse_lines(b"A B=1", path, "environment").unwrap_err().to_string().contains("contains whitespaces"));
        assert!(parse_lines(b"=1", path, "environment").is_err());
        assert!(parse_lines(b"\xff=1", path, "environment").is_err());
        assert!(environment([].into_iter(), ["=x"].into_iter(), |_| None).is_err());
        assert!(
            environment(["/nonexistent"].into_iter(), [].into_iter(), |_| None)
                .unwrap_err()
                .to_string()
                .contains("no such file")
        );
    }
}
