//! Names that nobody else has.

use crate::error::{Error, Result};

/// 32 hexadecimal digits.
pub(crate) fn name() -> Result<String> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|e| Error::io("cannot make up a name", e))?;
    Ok(faster_hex::hex_string(&random))
}
