//! Text as the content of a JSON string, byte for byte as Docker's json-file log has it.
//!
//! Short escapes only for quote, backslash, newline and carriage return; other control characters,
//! `<`, `>`, `&`, U+2028 and U+2029 as `\u00xx`; bytes that are not UTF-8 as `\ufffd`; 0x7f as it is.

/// Most bytes one input byte becomes.
pub(crate) const MAX_GROWTH: usize = 6;

/// Escapes `text` into `out`, which has room for [`MAX_GROWTH`] times its length; gives the length written.
pub(crate) fn escape(text: &[u8], out: &mut [u8]) -> usize {
    if is_plain(text) {
        out[..text.len()].copy_from_slice(text);
        return text.len();
    }
    escape_slowly(text, out)
}

/// Whether nothing in `text` wants an escape. Written without branches, so that the compiler makes
/// vector instructions of it.
fn is_plain(text: &[u8]) -> bool {
    // Signed comparison takes control characters and everything beyond ASCII at once; `<` and `>`,
    // and `"` and `&`, differ in a single bit each.
    let special =
        |byte: u8| (byte.cast_signed() < 0x20) | (byte & 0xfd == 0x3c) | (byte & 0xfb == 0x22) | (byte == b'\\');
    let (chunks, rest) = text.as_chunks::<32>();
    for chunk in chunks {
        if chunk.iter().fold(false, |found, byte| found | special(*byte)) {
            return false;
        }
    }
    !rest.iter().fold(false, |found, byte| found | special(*byte))
}

fn escape_slowly(text: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        // Plain runs are copied whole.
        let mut start = 0;
        let mut index = 0;
        while index < valid.len() {
            let byte = valid[index];
            let mut unicode = *b"\\u0000";
            let (escaped, width): (&[u8], usize) = match byte {
                b'"' => (b"\\\"", 1),
                b'\\' => (b"\\\\", 1),
                b'\n' => (b"\\n", 1),
                b'\r' => (b"\\r", 1),
                0..=0x1f | b'<' | b'>' | b'&' => {
                    unicode[4] = HEX[usize::from(byte >> 4)];
                    unicode[5] = HEX[usize::from(byte & 15)];
                    (&unicode, 1)
                }
                0xe2 if valid[index..].starts_with(&[0xe2, 0x80, 0xa8]) => (b"\\u2028", 3),
                0xe2 if valid[index..].starts_with(&[0xe2, 0x80, 0xa9]) => (b"\\u2029", 3),
                _ => {
                    index += 1;
                    continue;
                }
            };
            put(&valid[start..index]);
            put(escaped);
            index += width;
            start = index;
        }
        put(&valid[start..]);
        // One replacement for each byte that cannot be read, as Go's decoder counts them.
        for _ in chunk.invalid() {
            put(b"\\ufffd");
        }
    }
    at
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = vec![0; text.len() * MAX_GROWTH];
        let len = escape(text, &mut out);
        String::from_utf8(out[..len].to_vec()).unwrap()
    }

    #[test]
    fn as_docker_writes_it() {
        assert_eq!(
            escaped(b"<&>\"\\ \x01\x1b\x7f\t\x08\x0c\x0b\r\n"),
            "\\u003c\\u0026\\u003e\\\"\\\\ \\u0001\\u001b\x7f\\u0009\\u0008\\u000c\\u000b\\r\\n"
        );
        assert_eq!(escaped("é \u{2028}x\u{2029}\u{202a}".as_bytes()), "é \\u2028x\\u2029\u{202a}");
        assert_eq!(escaped(b"x\xc3\xffx\xe2\x80"), "x\\ufffd\\ufffdx\\ufffd\\ufffd");
    }

    #[test]
    fn every_special_byte_is_seen_at_every_position() {
        for special in (0..0x20u8).chain([b'"', b'\\', b'<', b'>', b'&', 0x80, 0xff]) {
            for at in 0..70 {
                let mut text = vec![b'a'; 70];
                text[at] = special;
                assert!(!is_plain(&text), "byte {special} at {at}");
            }
        }
        let plain: Vec<u8> = (0x20..0x80).filter(|b| !b"\"\\<>&".contains(b)).collect();
        assert!(is_plain(&plain));
    }
}
