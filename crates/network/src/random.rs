//! Random bytes for names and ids, from the kernel.

use crate::{Error, Result};

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::Io {
        action: "read random bytes".into(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(bytes)
}
