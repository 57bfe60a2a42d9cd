//! What is wrong with a document, and where. A fault is one line whatever the document says. Made by the parser and
//! the checks, shown by `oci-runtime`.

use std::fmt;

/// Most characters of a document's own text that a message repeats.
const SHOWN: usize = 80;

/// A mistake in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which document: `config.json`, `process` (of an `exec`) or `resources` (of an `update`).
    pub document: &'static str,
    /// Place in it, as `linux.uidMappings[1].size`; empty for the document as a whole.
    pub path: String,
    /// What is wrong there and what to do about it.
    pub reason: String,
}

impl Fault {
    /// A mistake in `config.json`.
    pub fn new(path: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self { document: crate::parse::CONFIG, path: path.to_string(), reason: reason.into() }
    }

    /// The same of a document that is the part of `config.json` called `part`.
    pub(crate) fn within(mut self, document: &'static str, part: &str) -> Self {
        self.document = document;
        if let Some(rest) = self.path.strip_prefix(part) {
            self.path = rest.trim_start_matches('.').to_owned();
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys of maps are the document's own text.
        for piece in [self.document, &self.path, &self.reason].into_iter().filter(|piece| !piece.is_empty()).enumerate()
        {
            let (at, text) = piece;
            if at > 0 {
                f.write_str(": ")?;
            }
            for c in text.chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Text of the document in quotes, not more of it than helps.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}
