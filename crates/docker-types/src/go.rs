//! Go's JSON conventions for serde: `null` reads as the default, `omitempty` leaves out empty
//! values. Used by every other file here through `go_struct!`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::ops::Deref;

/// Reads a value where `null` stands for the default, as Go's decoder treats it.
pub(crate) fn lenient<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

/// Go's notion of an empty value for `omitempty`.
pub trait IsEmpty {
    /// True for false, 0, nil, and empty strings, slices and maps.
    fn is_empty_value(&self) -> bool;
}

macro_rules! empty_if_default {
    ($($t:ty),*) => {$(
        impl IsEmpty for $t {
            fn is_empty_value(&self) -> bool {
                *self == <$t>::default()
            }
        }
    )*};
}
empty_if_default!(bool, i32, i64, u8, u16, u32, u64, f64, String);

impl<T> IsEmpty for Vec<T> {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> IsEmpty for BTreeMap<K, V> {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

impl<T: IsEmptyInside> IsEmpty for Option<T> {
    fn is_empty_value(&self) -> bool {
        self.as_ref().is_none_or(IsEmptyInside::is_empty_inside)
    }
}

/// Whether a value inside an `Option` counts as empty: slices and maps do when they have no
/// element, pointers to anything else do not.
pub trait IsEmptyInside {
    /// True when the whole option is to be left out.
    fn is_empty_inside(&self) -> bool {
        false
    }
}

impl<T> IsEmptyInside for Vec<T> {
    fn is_empty_inside(&self) -> bool {
        self.is_empty()
    }
}
impl<K, V> IsEmptyInside for BTreeMap<K, V> {
    fn is_empty_inside(&self) -> bool {
        self.is_empty()
    }
}
impl IsEmptyInside for StrSlice {
    fn is_empty_inside(&self) -> bool {
        self.0.is_empty()
    }
}
impl IsEmptyInside for bool {}
impl IsEmptyInside for i64 {}
impl IsEmptyInside for u64 {}
impl IsEmptyInside for String {}
impl IsEmptyInside for serde_json::Value {}

pub(crate) fn omit<T: IsEmpty>(value: &T) -> bool {
    value.is_empty_value()
}

/// Defines a struct in Go's JSON: each field is `"Wire" name: Type`, or `"Wire" / "omit" name: Type`
/// where an empty value is to be left out.
macro_rules! go_struct {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$fmeta:meta])* $wire:literal $(/ $skip:literal)? $field:ident : $ty:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $(
                $(#[$fmeta])*
                #[doc = concat!("`", $wire, "` on the wire.")]
                #[serde(rename = $wire, deserialize_with = "crate::go::lenient" $(, skip_serializing_if = $skip)?)]
                pub $field: $ty,
            )*
        }

        impl $crate::go::IsEmptyInside for $name {}
    };
}
pub(crate) use go_struct;

/// Go's `struct{}`: the value of maps that are used as sets. Reads from anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Empty {}

impl Serialize for Empty {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        s.serialize_map(Some(0))?.end()
    }
}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Empty, D::Error> {
        serde::de::IgnoredAny::deserialize(d).map(|_| Empty {})
    }
}

/// A command line: an array of strings, or one string for an array of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StrSlice(pub Vec<String>);

impl Deref for StrSlice {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl From<Vec<String>> for StrSlice {
    fn from(words: Vec<String>) -> StrSlice {
        StrSlice(words)
    }
}

impl<'de> Deserialize<'de> for StrSlice {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<StrSlice, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Many(Vec<String>),
            One(String),
        }
        Ok(StrSlice(match Form::deserialize(d)? {
            Form::Many(words) => words,
            Form::One(word) => vec![word],
        }))
    }
}
