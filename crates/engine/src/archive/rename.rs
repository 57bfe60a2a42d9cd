//! An archive under another first name: what is mounted at `/data` is called `data` in the container,
//! whatever it is called where it comes from.

use std::io::{self, Read, Write};

use layer::tar::{Kind, Limits, Reader, Writer};

use crate::error::{Error, Result};

/// Copy the archive that `make` writes to `out`, with the first component of every name replaced by
/// `name`; archives of a tree's root have no first component, and get it.
///
/// # Errors
/// Those of `make`, and of `out`.
pub(super) fn archive(
    name: &str,
    rooted: bool,
    out: &mut dyn Write,
    make: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
) -> Result<()> {
    let failed = |e: io::Error| Error::io("cannot send an archive", e);
    let (input, mut output) = io::pipe().map_err(failed)?;
    std::thread::scope(|scope| {
        let maker = scope.spawn(move || make(&mut output));
        let copied = copy(name, rooted, input, out);
        let made = maker.join().unwrap_or_else(|_| Err(Error::io("cannot make an archive", "it ended unexpectedly")));
        // What stopped the maker is the cause; a pipe that broke is only what it saw of the copy's failure.
        match (copied, made) {
            (Ok(()), made) => made,
            (Err(copied), Ok(())) => Err(copied),
            (Err(copied), Err(made)) if made.to_string().contains("roken pipe") => Err(copied),
            (Err(_), Err(made)) => Err(made),
        }
    })
}

fn copy(name: &str, rooted: bool, input: impl Read, out: &mut dyn Write) -> Result<()> {
    let failed = |e: layer::tar::Error| Error::io("cannot send an archive", e);
    let mut reader = Reader::new(input, Limits::default());
    let mut writer = Writer::new(out);
    while let Some(mut entry) = reader.next_entry().map_err(failed)? {
        entry.path = renamed(name, rooted, &entry.path);
        if entry.kind == Kind::HardLink {
            entry.link = renamed(name, rooted, &entry.link);
        }
        writer.entry(&entry).map_err(failed)?;
        if entry.kind == Kind::File {
            while let Some((_, piece)) = reader.data().map_err(failed)? {
                writer.data(piece).map_err(failed)?;
            }
        }
    }
    writer.finish().map_err(failed)?;
    Ok(())
}

fn renamed(name: &str, rooted: bool, path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let rest = match rooted {
        true => path,
        false => path.iter().position(|byte| *byte == b'/').map_or(&b""[..], |at| &path[at + 1..]),
    };
    let had_slash = rooted || path.contains(&b'/');
    let mut out = name.as_bytes().to_vec();
    if had_slash {
        out.push(b'/');
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn names() {
        let of = |rooted, path: &str| String::from_utf8(renamed("data", rooted, path.as_bytes())).unwrap();
        assert_eq!(of(true, "/"), "data/");
        assert_eq!(of(true, "/a/b"), "data/a/b");
        assert_eq!(of(false, "file"), "data");
        assert_eq!(of(false, "_data/a"), "data/a");
    }
}
