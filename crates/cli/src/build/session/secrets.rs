//! Secrets: files and variables of ours that steps may see.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

use tonic::Status;

use crate::{Error, Result, build::csv, flags::Parsed};

/// Largest secret, in bytes; builders refuse more.
const MAX_SECRET: u64 = 500 * 1024;

/// Secrets by their names.
#[derive(Debug, Default)]
pub(in crate::build) struct Secrets(HashMap<String, Source>);

#[derive(Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Variable(String),
}

impl Secrets {
    /// Reads the flags; the secrets themselves are read when they are asked for.
    pub(in crate::build) fn read(parsed: &Parsed) -> Result<Self> {
        let mut all = HashMap::new();
        for text in parsed.list("secret") {
            let (id, source) = secret(text)?;
            if let Source::File(path) = &source
                && !path.exists()
            {
                return Err(Error::new(format!("failed to stat {}: no such file or directory", path.display())));
            }
            all.insert(id, source);
        }
        Ok(Self(all))
    }

    /// One by its name.
    pub(super) fn get(&self, id: &str) -> std::result::Result<Vec<u8>, Status> {
        let source = self.0.get(id).ok_or_else(|| Status::not_found(format!("secret {id} not found")))?;
        match source {
            Source::Variable(name) => match std::env::var_os(name) {
                Some(value) => Ok(std::os::unix::ffi::OsStringExt::into_vec(value)),
                None => Err(Status::not_found(format!("secret {id} not found: the variable {name} is not set"))),
            },
            Source::File(path) => {
                let mut data = Vec::new();
                let read = std::fs::File::open(path).and_then(|file| file.take(MAX_SECRET + 1).read_to_end(&mut data));
                read.map_err(|error| Status::unknown(format!("cannot read secret {id}: {error}")))?;
                if data.len() as u64 > MAX_SECRET {
                    return Err(Status::unknown(format!("invalid secret {id}: larger than {MAX_SECRET} bytes")));
                }
                Ok(data)
            }
        }
    }
}

fn secret(text: &str) -> Result<(String, Source)> {
    let bad = |why: &str| Error::invalid(format!("invalid value {text:?} of --secret: {why}"));
    let (mut id, mut file, mut variable, mut kind) = (String::new(), None, None, String::new());
    for (key, value) in csv::pairs(text, "secret")? {
        match key.as_str() {
            "id" => id = value,
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            "type" if matches!(value.as_str(), "file" | "env") => kind = value,
            "type" => return Err(bad(&format!("type {value:?} is not known; there are file and env"))),
            other => return Err(bad(&format!("unexpected key {other:?}; there are id, src, env and type"))),
        }
    }
    if id.is_empty() {
        return Err(bad("id is required"));
    }
    if kind == "env" && variable.is_none() {
        variable = file.take();
    }
    let source = match (variable, file) {
        (Some(_), Some(_)) => return Err(bad("a secret is a file or a variable, not both")),
        (Some(name), None) => Source::Variable(name),
        (None, Some(path)) => Source::File(path.into()),
        (None, None) if kind == "env" || (kind.is_empty() && std::env::var_os(&id).is_some()) => {
            Source::Variable(id.clone())
        }
        (None, None) => Source::File(id.clone().into()),
    };
    Ok((id, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let found = |text: &str| secret(text).unwrap().1;
        assert_eq!(found("id=a,src=/x"), Source::File("/x".into()));
        assert_eq!(found("id=a,env=B"), Source::Variable("B".into()));
        assert_eq!(found("type=env,id=a,src=B"), Source::Variable("B".into()));
        assert_eq!(found("id=PATH"), Source::Variable("PATH".into()));
        assert_eq!(found("id=PATH,type=file"), Source::File("PATH".into()));
        assert_eq!(found("id=none-such"), Source::File("none-such".into()));
        for bad in ["src=x", "id=a,foo=b", "id=a,type=x", "id=a,src=b,env=c", "id"] {
            assert!(secret(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn large_ones_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0; usize::try_from(MAX_SECRET).unwrap() + 1]).unwrap();
        let secrets = Secrets(HashMap::from([("big".to_owned(), Source::File(file.path().to_owned()))]));
        assert!(secrets.get("big").unwrap_err().message().contains("larger than"));
        assert_eq!(secrets.get("other").unwrap_err().code(), tonic::Code::NotFound);
    }
}
