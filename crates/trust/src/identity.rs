//! Identities of certificates: distinguished names, whole or in part.
//!
//! An identity is `x509.subject:` and attributes in the text form of RFC 4514; a certificate has it when its subject has
//! each of them with that very value (Notary Project trust policy specification, "Trusted Identities"). An attribute that
//! is there twice decides nothing and is refused on both sides.

use std::collections::BTreeMap;

use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Tag, Tagged};
use x509_cert::name::Name;

const NAMES: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("POSTALCODE", "2.5.4.17"),
];

/// Who may have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Whoever has a certificate of the trust store's authorities.
    Anyone,
    /// A subject with at least these attributes.
    Subject(BTreeMap<&'static str, String>),
}

impl Identity {
    /// Reads a policy's list.
    pub(crate) fn list(texts: &[String]) -> Result<Vec<Self>, String> {
        if texts.is_empty() {
            return Err("identities: a list of none can never be met".to_owned());
        }
        if texts.len() > 1 && texts.iter().any(|text| text == "*") {
            return Err("identities: * is all of them, and stands alone".to_owned());
        }
        texts.iter().map(|text| Self::parse(text)).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Anyone);
        }
        let Some(name) = text.strip_prefix("x509.subject:") else {
            return Err(format!("identities: {text:?} is neither * nor x509.subject: and a distinguished name"));
        };
        let mut attributes = BTreeMap::new();
        for part in split(name)? {
            let wrong = |why: &str| format!("identities: {text:?}: {why}");
            let (key, value) = part.split_once('=').ok_or_else(|| wrong("an attribute has no ="))?;
            let key = key.trim().to_ascii_uppercase();
            let key = if key == "S" { "ST".to_owned() } else { key };
            let Some((known, _)) = NAMES.iter().find(|(known, _)| *known == key) else {
                return Err(wrong(&format!("{key} is no attribute we compare")));
            };
            if value.is_empty() {
                return Err(wrong(&format!("{key} is empty")));
            }
            if attributes.insert(*known, value.to_owned()).is_some() {
                return Err(wrong(&format!("{key} is there twice")));
            }
        }
        // With fewer, another organisation of the same name elsewhere would do.
        if ["C", "ST", "O"].iter().any(|needed| !attributes.contains_key(needed)) {
            return Err(format!("identities: {text:?}: C, ST and O are needed"));
        }
        Ok(Self::Subject(attributes))
    }

    /// Whether a certificate's subject is one of this identity.
    pub(crate) fn matches(&self, subject: &Name) -> bool {
        match self {
            Self::Anyone => true,
            Self::Subject(wanted) => wanted.iter().all(|(key, value)| single(subject, key).as_deref() == Some(value)),
        }
    }
}

/// The one value a subject has of an attribute.
fn single(subject: &Name, key: &str) -> Option<String> {
    let (_, oid) = NAMES.iter().find(|(known, _)| *known == key)?;
    let oid = ObjectIdentifier::new(oid).ok()?;
    let mut values = subject.iter().filter(|attribute| attribute.oid == oid);
    let (first, None) = (values.next()?, values.next()) else { return None };
    match first.value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => String::from_utf8(first.value.value().to_vec()).ok(),
        _ => None,
    }
}

/// The attributes of a name between commas, unescaped.
fn split(name: &str) -> Result<Vec<String>, String> {
    let (mut parts, mut part, mut kept) = (Vec::new(), String::new(), 0);
    let mut chars = name.trim().chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) if escaped.is_ascii_punctuation() || escaped == ' ' => {
                    part.push(escaped);
                    kept = part.len();
                }
                _ => return Err(format!("identities: {name:?}: only punctuation is escaped with \\")),
            },
            '+' => return Err(format!("identities: {name:?}: attributes joined with + are not supported")),
            ',' => {
                parts.push(finish(std::mem::take(&mut part), std::mem::take(&mut kept)));
            }
            c if c == ' ' && part.is_empty() => {}
            c => part.push(c),
        }
    }
    parts.push(finish(part, kept));
    Ok(parts)
}

/// Without the blanks at its end that were not escaped.
fn finish(mut part: String, kept: usize) -> String {
    let end = part.trim_end_matches(' ').len().max(kept);
    part.truncate(end);
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn subject(text: &str) -> Name {
        Name::from_str(text).unwrap()
    }

    fn one(text: &str) -> Result<Identity, String> {
        Identity::list(&[text.to_owned()]).map(|mut list| list.remove(0))
    }

    #[test]
    fn attributes_are_a_subset() {
        let subject = subject("CN=signer,O=Acme\\, Inc.,ST=WA,C=US");
        for (text, matches) in [
            ("*", true),
            ("x509.subject: C=US, ST=WA, O=Acme\\, Inc.", true),
            ("x509.subject:c=US,s=WA,o=Acme\\, Inc. ,CN=signer", true),
            ("x509.subject: C=US, ST=WA, O=Acme", false),
            ("x509.subject: C=us, ST=WA, O=Acme\\, Inc.", false),
            ("x509.subject: C=US, ST=WA, O=Acme\\, Inc., OU=x", false),
        ] {
            assert_eq!(one(text).unwrap().matches(&subject), matches, "{text}");
        }
    }

    #[test]
    fn an_attribute_twice_decides_nothing() {
        let subject = subject("CN=x,O=Other,O=Acme,ST=WA,C=US");
        assert!(!one("x509.subject: C=US, ST=WA, O=Acme").unwrap().matches(&subject));
        assert!(!one("x509.subject: C=US, ST=WA, O=Other").unwrap().matches(&subject));
    }

    #[test]
    fn what_is_no_identity() {
        for (text, said) in [
            ("C=US", "neither"),
            ("x509.subject: C=US, ST=WA", "C, ST and O"),
            ("x509.subject: C=US, ST=WA, O=A, O=B", "twice"),
            ("x509.subject: C=US, ST=WA, O=", "empty"),
            ("x509.subject: C=US, ST=WA, O=A, DC=x", "no attribute"),
            ("x509.subject: C=US, ST=WA+O=A", "joined"),
            ("x509.subject: C=US, ST=WA, O=A\\", "escaped"),
            ("x509.subject: C=US,, ST=WA, O=A", "no ="),
        ] {
            assert!(one(text).unwrap_err().contains(said), "{text}");
        }
        assert!(Identity::list(&[]).is_err());
        assert!(Identity::list(&["*".to_owned(), "*".to_owned()]).is_err());
    }
}
