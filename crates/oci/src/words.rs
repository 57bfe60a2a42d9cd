//! Words of the specification that stand for numbers of the kernel: an enumeration that is read from its words and
//! refuses others with a message that lists them. Used by the types of `spec`.

/// Declares such an enumeration; the method after the colon gives the number.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident: $(#[$about:meta])* $method:ident -> $repr:ty {
        $($variant:ident = $word:literal => $number:expr,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)+
        }

        impl $name {
            /// Every word there is, in the order of the specification.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            $(#[$about])*
            #[must_use]
            pub fn $method(self) -> $repr {
                match self { $(Self::$variant => $number,)+ }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(from)?;
                Self::ALL.iter().copied().find(|word| word.name() == text).ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|word| word.name()).collect();
                    serde::de::Error::custom(format!(
                        "{} is not known; use one of {}", $crate::fault::shown(&text), known.join(", "),
                    ))
                })
            }
        }
    };
}
pub(crate) use words;
