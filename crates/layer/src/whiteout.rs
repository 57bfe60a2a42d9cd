//! Whiteouts of image layers (OCI image-spec, "Layer Filesystem Changeset").
//!
//! `.wh.NAME` deletes NAME of the layers below, `.wh..wh..opq` hides all of a directory below. The rest of
//! the `.wh.` name space is reserved, and a member that uses it is refused.

use thiserror::Error;

/// Prefix of a whiteout's file name.
pub const PREFIX: &[u8] = b".wh.";
/// File name of an opaque marker.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// A name in the reserved `.wh.` space that is no whiteout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid whiteout name: the .wh. prefix is reserved for whiteouts of a single, ordinary name")]
pub struct Invalid;

/// Meaning of a member's file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteout<'a> {
    /// An ordinary name.
    None,
    /// Deletes this name of the layers below.
    Delete(&'a [u8]),
    /// Hides everything the layers below have in this directory.
    Opaque,
    /// Bookkeeping of the aufs storage driver, left out when applying a layer.
    Ignored,
}

/// Classifies the last component of a path.
///
/// # Errors
/// [`Invalid`] for `.wh.` followed by nothing, by dots, or by another whiteout name.
pub fn classify(name: &[u8]) -> Result<Whiteout<'_>, Invalid> {
    let Some(target) = name.strip_prefix(PREFIX) else { return Ok(Whiteout::None) };
    if name == OPAQUE {
        return Ok(Whiteout::Opaque);
    }
    if matches!(name, b".wh..wh.plnk" | b".wh..wh.aufs" | b".wh..wh.orph") {
        return Ok(Whiteout::Ignored);
    }
    let undotted = target.iter().position(|byte| *byte != b'.').map_or(&[][..], |at| &target[at..]);
    let dotted = undotted.len() < target.len();
    if undotted.is_empty() || (dotted && (undotted == b"wh" || undotted.starts_with(b"wh."))) || target.contains(&b'/')
    {
        return Err(Invalid);
    }
    Ok(Whiteout::Delete(target))
}

/// Classifies a whole path: only the last component may be a whiteout.
///
/// # Errors
/// [`Invalid`] when a directory on the way has a reserved name, or as [`classify`].
pub fn classify_path<'a>(mut components: impl DoubleEndedIterator<Item = &'a [u8]>) -> Result<Whiteout<'a>, Invalid> {
    let Some(last) = components.next_back() else { return Ok(Whiteout::None) };
    if components.any(|part| part.starts_with(PREFIX)) {
        return Err(Invalid);
    }
    classify(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let good: [(&[u8], Whiteout<'_>); 8] = [
            (b"file", Whiteout::None),
            (b".where", Whiteout::None),
            (b".wh", Whiteout::None),
            (b".wh.file", Whiteout::Delete(b"file")),
            (b".wh..hidden", Whiteout::Delete(b".hidden")),
            (b".wh...data", Whiteout::Delete(b"..data")),
            (b".wh..wh..opq", Whiteout::Opaque),
            (b".wh..wh.plnk", Whiteout::Ignored),
        ];
        for (name, expected) in good {
            assert_eq!(classify(name), Ok(expected), "{name:?}");
        }
        for bad in
            [&b".wh."[..], b".wh..", b".wh...", b".wh....", b".wh...wh", b".wh..wh", b".wh..wh.x", b".wh..wh..wh..opq"]
        {
            assert_eq!(classify(bad), Err(Invalid), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn only_the_last_component() {
        let path = |text: &'static str| text.as_bytes().split(|byte| *byte == b'/').collect::<Vec<_>>();
        assert_eq!(classify_path(path("a/.wh.b").into_iter()), Ok(Whiteout::Delete(b"b")));
        assert_eq!(classify_path(path(".wh.a/b").into_iter()), Err(Invalid));
        assert_eq!(classify_path(path(".wh..wh.plnk/b").into_iter()), Err(Invalid));
        assert_eq!(classify_path(std::iter::empty()), Ok(Whiteout::None));
    }
}
