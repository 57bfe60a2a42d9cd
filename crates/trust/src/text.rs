//! Text of strangers on its way into messages, and base64 as signatures use it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Longest text that is decoded: a certificate or a document.
const BASE64_MAX: usize = 2 << 20;

/// At most a hundred characters, none of them able to move a cursor.
pub(crate) fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// At most 300 characters of an error, none of them able to move a cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Standard base64 with its padding.
pub(crate) fn base64(what: &str, text: &str) -> Result<Vec<u8>, String> {
    if text.len() > BASE64_MAX {
        return Err(format!("{what} is too long"));
    }
    STANDARD.decode(text).map_err(|e| format!("{what} is not base64: {e}"))
}

/// The base64url without padding of JOSE (RFC 7515).
pub(crate) fn base64url(what: &str, text: &str) -> Result<Vec<u8>, String> {
    if text.len() > BASE64_MAX {
        return Err(format!("{what} is too long"));
    }
    URL_SAFE_NO_PAD.decode(text).map_err(|e| format!("{what} is not base64url: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_whole_or_refused() {
        assert_eq!(base64("x", "AAE=").unwrap(), [0, 1]);
        for bad in ["AAE", "AAF=", "AA E=", "AAE=\n", "-_==", "A"] {
            assert!(base64("x", bad).is_err(), "{bad}");
        }
        assert_eq!(base64url("x", "AAE").unwrap(), [0, 1]);
        for bad in ["AAE=", "AAF", "+/", "A"] {
            assert!(base64url("x", bad).is_err(), "{bad}");
        }
        assert_eq!(clip("a\u{1b}[31m\nb"), "a[31mb");
    }
}
