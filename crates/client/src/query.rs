//! Query strings and path segments with percent-encoding (RFC 3986); every value from a user passes through here,
//! so that no name can add a parameter or leave its segment.

/// Parameters of a request in the order they were added.
#[derive(Clone, Debug, Default)]
pub struct Query(String);

impl Query {
    /// Adds one parameter; both parts are encoded.
    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        escape(&mut self.0, name);
        self.0.push('=');
        escape(&mut self.0, value);
    }

    /// `?a=b&c=d`, or nothing.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Encodes one path segment. A slash stays a slash: image names carry them and the API's routes expect them raw.
pub fn escape_segment(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for (at, part) in segment.split('/').enumerate() {
        if at > 0 {
            out.push('/');
        }
        escape(&mut out, part);
    }
    out
}

fn escape(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        // The colon is legal in queries and segments, and image names read better with it.
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_place() {
        let mut query = Query::default();
        query.push("name", "a&b=c#d é");
        query.push("x", "1");
        assert_eq!(query.as_str(), "?name=a%26b%3Dc%23d%20%C3%A9&x=1");
        assert_eq!(escape_segment("lib/x:1@sha256:ab"), "lib/x:1@sha256:ab");
        assert_eq!(escape_segment("a?b\r\n"), "a%3Fb%0D%0A");
    }
}
