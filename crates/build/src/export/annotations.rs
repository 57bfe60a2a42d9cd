//! Annotations that an output is asked to have, and where: on manifests, on the index, or on what names them.

use std::collections::BTreeMap;

use types::Kind;

use super::attrs::Attrs;
use crate::error::{Error, Result};

/// Annotations by place.
#[derive(Clone, Debug, Default)]
pub(super) struct Annotations {
    all: Vec<Annotation>,
}

#[derive(Clone, Debug)]
struct Annotation {
    place: Place,
    /// Of one platform's manifest alone, as `linux/amd64`.
    platform: Option<String>,
    key: String,
    value: String,
}

/// What is annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An image's manifest.
    Manifest,
    /// What the index says of it.
    ManifestDescriptor,
    /// The index.
    Index,
    /// What names the index.
    IndexDescriptor,
}

impl Annotations {
    /// Takes `annotation.KEY`, `annotation-PLACE.KEY` and `annotation-PLACE[PLATFORM].KEY`.
    ///
    /// # Errors
    /// A place that is none.
    pub(super) fn take(attrs: &mut Attrs) -> Result<Self> {
        let mut all = Vec::new();
        for (option, value) in attrs.take_all("annotation") {
            let parsed =
                parse(option).ok_or_else(|| attrs.invalid(option, value, "it names no place for an annotation"));
            let (place, platform, key) = parsed?;
            all.push(Annotation { place, platform, key, value: value.to_owned() });
        }
        Ok(Self { all })
    }

    /// Those of one place; of a manifest, for its platform.
    pub(super) fn of(&self, place: Place, platform: Option<&str>) -> Option<BTreeMap<String, String>> {
        let here =
            |one: &&Annotation| one.place == place && (one.platform.is_none() || one.platform.as_deref() == platform);
        let found: BTreeMap<_, _> =
            self.all.iter().filter(here).map(|one| (one.key.clone(), one.value.clone())).collect();
        Some(found).filter(|found| !found.is_empty())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Every annotation has its place in an image without an index.
    ///
    /// # Errors
    /// One has not.
    pub(super) fn without_index(&self) -> Result<()> {
        match self.all.iter().find(|one| matches!(one.place, Place::Index | Place::IndexDescriptor)) {
            None => Ok(()),
            Some(one) => Err(Error::new(
                Kind::Invalid,
                format!(
                    "annotation {} is for an index, and this image of one platform has none: annotate the manifest",
                    one.key
                ),
            )),
        }
    }
}

fn parse(option: &str) -> Option<(Place, Option<String>, String)> {
    let rest = option.strip_prefix("annotation")?;
    let (head, platform, key) = match rest.split_once(['[', '.'])? {
        (head, after) if rest.as_bytes().get(head.len()) == Some(&b'[') => {
            let (platform, key) = after.split_once("].")?;
            (head, Some(platform.to_owned()), key)
        }
        (head, key) => (head, None, key),
    };
    let place = match head {
        "" | "-manifest" => Place::Manifest,
        "-manifest-descriptor" => Place::ManifestDescriptor,
        "-index" => Place::Index,
        "-index-descriptor" => Place::IndexDescriptor,
        _ => return None,
    };
    (!key.is_empty()).then(|| (place, platform, key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn places_and_platforms_are_told_apart() {
        let options: HashMap<String, String> = [
            ("annotation.a", "1"),
            ("annotation-manifest[linux/arm64].b.c", "2"),
            ("annotation-index.d", "3"),
            ("annotation-manifest-descriptor.e", "4"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let found = Annotations::take(&mut Attrs::new("image", &options)).unwrap();
        let keys = |place, platform| -> Vec<String> {
            found.of(place, platform).into_iter().flatten().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(Place::Manifest, None), ["a"]);
        assert_eq!(keys(Place::Manifest, Some("linux/arm64")), ["a", "b.c"]);
        assert_eq!(keys(Place::Index, None), ["d"]);
        assert_eq!(keys(Place::ManifestDescriptor, Some("linux/amd64")), ["e"]);
        assert!(found.without_index().unwrap_err().to_string().contains("annotation d"));
        for bad in ["annotation-nowhere.a", "annotation", "annotation.", "annotation-manifest[x"] {
            let options = HashMap::from([(bad.to_owned(), String::new())]);
            assert!(Annotations::take(&mut Attrs::new("image", &options)).is_err(), "{bad}");
        }
    }
}
