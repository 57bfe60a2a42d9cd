//! Domain names in wire form, without compression and of any case.

use std::fmt;
use std::hash::{Hash, Hasher};

use domain::base::ParsedName;
use domain::base::name::ToLabelIter;

/// Longest name in wire form, with its root label (RFC 1035 2.3.4).
pub const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;

/// An absolute name: labels, each behind its length, and the root's empty one.
#[derive(Clone, Copy)]
pub struct Name {
    len: u8,
    bytes: [u8; MAX_NAME],
}

impl Name {
    /// The root.
    pub const ROOT: Self = Self { len: 1, bytes: [0; MAX_NAME] };

    /// A name as people write it: labels between dots, with or without a last dot. `None` for what no query can ask.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut name = Self { len: 0, bytes: [0; MAX_NAME] };
        let text = text.strip_suffix('.').unwrap_or(text);
        for label in text.split('.') {
            if label.is_empty() {
                return None;
            }
            name.push(label.as_bytes())?;
        }
        name.push(&[])?;
        Some(name)
    }

    /// What the parser of messages found, made flat.
    pub(crate) fn from_parsed<O: AsRef<[u8]>>(parsed: &ParsedName<O>) -> Option<Self> {
        let mut name = Self { len: 0, bytes: [0; MAX_NAME] };
        for label in parsed.iter_labels() {
            name.push(label.as_slice())?;
        }
        Some(name)
    }

    fn push(&mut self, label: &[u8]) -> Option<()> {
        if label.len() > MAX_LABEL {
            return None;
        }
        let start = usize::from(self.len);
        let end = start + 1 + label.len();
        let place = self.bytes.get_mut(start..end)?;
        let (length, text) = place.split_first_mut()?;
        *length = u8::try_from(label.len()).ok()?;
        text.copy_from_slice(label);
        self.len = u8::try_from(end).ok()?;
        Some(())
    }

    /// The wire form.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The labels without the root's: what keys are made of.
    #[must_use]
    pub fn labels(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len.saturating_sub(1))]
    }

    /// The same in lower case. Lengths of labels are below every letter, so all bytes are treated alike.
    #[must_use]
    pub fn lower(mut self) -> Self {
        self.bytes[..usize::from(self.len)].make_ascii_lowercase();
        self
    }

    /// Where labels begin within [`Name::labels`].
    pub fn starts(&self) -> impl Iterator<Item = usize> + '_ {
        let labels = self.labels();
        let mut at = 0;
        std::iter::from_fn(move || {
            let length = usize::from(*labels.get(at)?);
            let start = at;
            at += 1 + length;
            Some(start)
        })
    }

    /// Whether it is of one label.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.starts().count() == 1
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire() == other.wire()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire().hash(state);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.labels();
        for start in self.starts() {
            let length = usize::from(labels[start]);
            write!(f, "{}.", labels[start + 1..start + 1 + length].escape_ascii())?;
        }
        if labels.is_empty() { f.write_str(".") } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_labels_and_come_back() {
        let name = Name::from_text("Web.Net").unwrap();
        assert_eq!(name.wire(), b"\x03Web\x03Net\x00");
        assert_eq!(Name::from_text("Web.Net.").unwrap(), name);
        assert_eq!(name.lower().wire(), b"\x03web\x03net\x00");
        assert_eq!(name.to_string(), "Web.Net.");
        assert_eq!(name.starts().collect::<Vec<_>>(), [0, 4]);
        assert!(Name::from_text("web").unwrap().is_single() && !name.is_single() && !Name::ROOT.is_single());
        assert_eq!(Name::ROOT.to_string(), ".");
    }

    #[test]
    fn what_no_query_can_ask_is_no_name() {
        for text in ["", ".", "a..b", ".a", &"a".repeat(64), &vec!["a".repeat(63); 4].join(".")] {
            assert!(Name::from_text(text).is_none(), "{text}");
        }
        assert!(Name::from_text(&"a".repeat(63)).is_some());
        // 255 bytes with the root: 3 × 64 + 62 + 1.
        let longest = [63, 63, 63, 61].map(|length| "a".repeat(length)).join(".");
        assert_eq!(Name::from_text(&longest).unwrap().wire().len(), 255);
    }
}
