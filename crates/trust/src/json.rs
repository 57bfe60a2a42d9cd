//! JSON without room for two readings: no key twice in an object, bounded depth, nothing after the value.
//!
//! An error names the place (`rules["docker.io"].action`) and, as serde_json does, line and column.

use std::collections::HashSet;
use std::fmt;

use crate::text::printable;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of arrays and objects.
const DEPTH_MAX: usize = 32;

/// Parses `bytes`, at most `limit` of them, as an object that is a `T`.
///
/// # Errors
/// With the words of the document made printable: serde repeats names of fields as they came.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], limit: u64) -> Result<T, String> {
    read(bytes, limit).map_err(|why| printable(&why))
}

fn read<T: DeserializeOwned>(bytes: &[u8], limit: u64) -> Result<T, String> {
    if bytes.len() as u64 > limit {
        return Err(format!("it is larger than {limit} bytes"));
    }
    // serde would fill a structure from an array by position.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err("it is no JSON object".to_owned());
    }
    let mut check = serde_json::Deserializer::from_slice(bytes);
    Check { depth: 0 }.deserialize(&mut check).and_then(|()| check.end()).map_err(|e| e.to_string())?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| match error.path().to_string().as_str() {
        "." => error.inner().to_string(),
        path => format!("at {path}: {}", error.inner()),
    })
}

#[derive(Clone, Copy)]
struct Check {
    depth: usize,
}

impl Check {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Check {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while seq.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let below = self.below()?;
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(below)?;
            if seen.contains(&key) {
                return Err(A::Error::custom(format!("key {key:?} is there twice")));
            }
            seen.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn two_readings_are_refused() {
        type Map = BTreeMap<String, serde_json::Value>;
        let fails = |text: &str| parse::<Map>(text.as_bytes(), 100_000).unwrap_err();
        assert!(parse::<Map>(br#"{"a":{"b":[1,null,true,1.5,"x"]},"c":-1}"#, 100).is_ok());
        assert!(fails(r#"{"a":1,"a":1}"#).contains("twice"));
        assert!(fails(r#"{"a":[{"b":1,"b":2}]}"#).contains("twice"));
        assert!(fails(r#"{"a":1} x"#).contains("trailing"));
        assert!(fails("[1]").contains("no JSON object"));
        assert!(fails(&format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40))).contains("deeper"));
        assert!(fails("{\"a\\u001b[2J\":1,\"a\\u001b[2J\":1}").contains("u{1b}"));
        assert!(parse::<Map>(b"{\"a\":1}", 3).unwrap_err().contains("larger"));
        let typed = parse::<BTreeMap<String, BTreeMap<String, u8>>>(br#"{"a":{"b":"x"}}"#, 100).unwrap_err();
        assert!(typed.starts_with("at a.b: "), "{typed}");
    }
}
