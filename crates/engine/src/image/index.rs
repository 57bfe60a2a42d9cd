//! Which names there are and what they point at, in memory.
//!
//! The database holds the same rows; the index is changed after a commit, under the lock of
//! [`super::Images`], so a name that was answered for is never lost. Nothing here does input or output.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use store::model::Descriptor;
use trust::Recorded;
use types::{Digest, Reference};

use super::content::Image;
use crate::error::{Error, Result, fail};

/// What the database keeps of a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub target: Descriptor,
    /// Nanoseconds since the epoch.
    pub created_ns: i64,
    /// When the name was last pointed somewhere, nanoseconds since the epoch.
    pub updated_ns: i64,
    /// Where the image came from and whose signatures it had; absent of what came before that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Recorded>,
}

/// A name in memory.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub record: Record,
    /// Absent for the row that keeps an image without a name, whose key is the digest.
    pub reference: Option<Reference>,
}

/// Names of one image, sorted.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub references: Vec<Reference>,
    pub updated_ns: i64,
    /// It is kept by its digest alone.
    pub dangling: bool,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    names: BTreeMap<String, Entry>,
    images: HashMap<Digest, Arc<Image>>,
}

/// What a user's text led to.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub image: Arc<Image>,
    /// The name it was found by; absent when it was found by id.
    pub name: Option<Reference>,
}

impl Index {
    /// Point `name` at `image`; gives the image it pointed at before.
    pub(super) fn put(&mut self, name: &str, record: Record, image: &Arc<Image>) -> Option<Arc<Image>> {
        let reference = match name.parse::<Digest>() {
            Ok(_) => None,
            Err(_) => name.parse().ok(),
        };
        self.images.insert(image.id(), Arc::clone(image));
        let old = self.names.insert(name.to_owned(), Entry { record, reference });
        let old = old.and_then(|old| self.images.get(&old.record.target.digest).cloned());
        if let Some(old) = &old {
            self.forget_unnamed(old.id());
        }
        old
    }

    /// Take a name away.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(old) = self.names.remove(name) {
            self.forget_unnamed(old.record.target.digest);
        }
    }

    /// Replace what was read of an image before, if the image is known.
    pub(super) fn refresh(&mut self, image: &Arc<Image>) {
        if let Some(known) = self.images.get_mut(&image.id()) {
            *known = Arc::clone(image);
        }
    }

    fn forget_unnamed(&mut self, id: Digest) {
        if !self.names.values().any(|entry| entry.record.target.digest == id) {
            self.images.remove(&id);
        }
    }

    /// The row of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.names.get(name)
    }

    /// An image by its id.
    pub(super) fn image(&self, id: &Digest) -> Option<&Arc<Image>> {
        self.images.get(id)
    }

    /// Every image, unsorted.
    pub(super) fn images(&self) -> Vec<Arc<Image>> {
        self.images.values().cloned().collect()
    }

    /// Keys of the rows that point at an image, sorted.
    pub(super) fn keys_of(&self, id: &Digest) -> Vec<String> {
        self.names.iter().filter(|(_, e)| e.record.target.digest == *id).map(|(key, _)| key.clone()).collect()
    }

    /// Every tag of a repository with its image.
    pub(super) fn tags_of(&self, repository: &Reference) -> Vec<(Arc<Image>, Reference)> {
        let of_repository = |entry: &Entry| {
            let reference = entry.reference.as_ref()?;
            let same = reference.tag().is_some()
                && reference.path() == repository.path()
                && reference.domain() == repository.domain();
            same.then(|| Some((Arc::clone(self.images.get(&entry.record.target.digest)?), reference.clone())))?
        };
        self.names.values().filter_map(of_repository).collect()
    }

    /// Names of every image.
    pub(super) fn names(&self) -> HashMap<Digest, Names> {
        let mut all: HashMap<Digest, Names> = HashMap::with_capacity(self.images.len());
        for entry in self.names.values() {
            all.entry(entry.record.target.digest).or_default().add(entry);
        }
        all
    }

    /// Names of one image.
    pub(super) fn names_of(&self, id: &Digest) -> Names {
        let mut names = Names::default();
        self.names.values().filter(|entry| entry.record.target.digest == *id).for_each(|entry| names.add(entry));
        names
    }

    /// What is known of how an image came, from all its names.
    pub(super) fn recorded_of(&self, id: &Digest) -> Option<Recorded> {
        let mut records: Vec<&Record> =
            self.names.values().map(|entry| &entry.record).filter(|record| record.target.digest == *id).collect();
        records.sort_by_key(|record| record.updated_ns);
        records.into_iter().filter_map(|record| record.trust.as_ref()).fold(None, |known, newer| {
            let mut known: Recorded = known.unwrap_or_default();
            known.merge(newer);
            Some(known)
        })
    }

    /// Find by name, `name@digest`, id or unique prefix of an id.
    ///
    /// # Errors
    /// Docker's words: not found, or invalid for what can be no reference.
    pub(super) fn find(&self, text: &str) -> Result<Found> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let by_id = |image: &Arc<Image>| Found { image: Arc::clone(image), name: None };
        if let Ok(id) = format!("sha256:{hex}").parse::<Digest>() {
            return self.images.get(&id).map(by_id).ok_or_else(|| no_such_image(&id.to_string()));
        }
        let parsed = Reference::parse(text);
        if let Ok(reference) = &parsed
            && let Some(found) = self.by_reference(reference)
        {
            return Ok(found);
        }
        let is_prefix = (4..64).contains(&hex.len()) && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        if is_prefix {
            let mut matching = self.images.iter().filter(|(id, _)| id.hex().starts_with(hex));
            match (matching.next(), matching.next()) {
                (Some((_, image)), None) => return Ok(by_id(image)),
                (Some(_), Some(_)) => {
                    return Err(fail!(Invalid, "ambiguous image ID prefix: {text}: give more digits"));
                }
                _ => {}
            }
        }
        match parsed {
            Ok(reference) => Err(no_such_image(&reference.with_default_tag().familiar())),
            Err(_) if is_prefix => Err(no_such_image(text)),
            Err(error) => Err(fail!(Invalid, "{error}")),
        }
    }

    fn by_reference(&self, reference: &Reference) -> Option<Found> {
        let Some(digest) = reference.digest() else {
            let name = reference.clone().with_default_tag();
            let entry = self.names.get(&name.to_string())?;
            let image = self.images.get(&entry.record.target.digest)?;
            return Some(Found { image: Arc::clone(image), name: Some(name) });
        };
        // A digest decides; the repository must be one the image is known by.
        let image = self.images.get(digest)?;
        let repository = reference.name();
        let names = self.names_of(digest);
        let known = names.references.iter().find(|r| r.name() == repository)?;
        let exact = reference.with_digest(*digest);
        let name = if names.references.contains(&exact) { exact } else { known.clone() };
        Some(Found { image: Arc::clone(image), name: Some(name) })
    }
}

impl Names {
    fn add(&mut self, entry: &Entry) {
        match &entry.reference {
            Some(reference) => {
                self.references.push(reference.clone());
                self.updated_ns = self.updated_ns.max(entry.record.updated_ns);
            }
            None => self.dangling = true,
        }
    }

    /// `repository:tag` for people.
    pub(super) fn tags(&self) -> Vec<String> {
        self.references.iter().filter(|r| r.tag().is_some()).map(Reference::familiar).collect()
    }

    /// `repository@digest` for people, one of each repository.
    pub(super) fn digests(&self, id: Digest) -> Vec<String> {
        let mut out: Vec<String> = self.references.iter().map(|r| r.with_digest(id).familiar()).collect();
        out.sort();
        out.dedup();
        out
    }
}

pub(super) fn no_such_image(name: &str) -> Error {
    fail!(NotFound, "No such image: {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::model::media_type;

    fn image(byte: u8) -> Arc<Image> {
        let target = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256([byte; 32]), 1);
        Arc::new(Image::new(target, Vec::new()))
    }

    fn put(index: &mut Index, name: &str, image: &Arc<Image>) -> Option<Arc<Image>> {
        let record = Record { target: image.target.clone(), created_ns: 1, updated_ns: 1, trust: None };
        index.put(name, record, image)
    }

    #[test]
    fn names_ids_and_prefixes() {
        let mut index = Index::default();
        let (a, b) = (image(0xaa), image(0xab));
        put(&mut index, "docker.io/library/app:latest", &a);
        put(&mut index, "reg.example/team/app:1", &b);
        let id = |text: &str| index.find(text).map(|found| found.image.id());
        for text in ["app", "app:latest", "docker.io/app", "aaaa", &a.id().to_string(), &a.id().hex()] {
            assert_eq!(id(text).unwrap(), a.id(), "{text}");
        }
        assert_eq!(id(&format!("app@{}", a.id())).unwrap(), a.id());
        assert_eq!(id("reg.example/team/app:1").unwrap(), b.id());
        let wrong = [
            ("nosuch", "No such image: nosuch:latest"),
            ("app:2", "No such image: app:2"),
            ("aaa", "No such image: aaa:latest"),
            ("aabb", "No such image: aabb:latest"),
            ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
            ("a b", "invalid reference format"),
        ];
        for (text, message) in wrong {
            assert_eq!(id(text).unwrap_err().to_string(), message);
        }
        assert!(id(&format!("other@{}", a.id())).is_err(), "a repository it is not known by");
    }

    #[test]
    fn a_prefix_must_be_unique() {
        let mut index = Index::default();
        let first = Digest::sha256([0xcc; 32]);
        let mut bytes = [0xcc; 32];
        bytes[31] = 0;
        for digest in [first, Digest::sha256(bytes)] {
            let target = Descriptor::new(media_type::OCI_MANIFEST, digest, 1);
            put(&mut index, &digest.to_string(), &Arc::new(Image::new(target, Vec::new())));
        }
        assert!(index.find("cccc").unwrap_err().to_string().starts_with("ambiguous"));
        assert_eq!(index.find(&first.hex()).unwrap().image.id(), first);
    }

    #[test]
    fn an_image_goes_with_its_last_name() {
        let mut index = Index::default();
        let (a, b) = (image(1), image(2));
        put(&mut index, "docker.io/library/x:1", &a);
        put(&mut index, "docker.io/library/x:2", &a);
        assert_eq!(put(&mut index, "docker.io/library/x:1", &b).unwrap().id(), a.id());
        assert_eq!(index.names_of(&a.id()).tags(), ["x:2"]);
        assert_eq!(index.names_of(&a.id()).digests(a.id()), [format!("x@{}", a.id())]);
        index.remove("docker.io/library/x:2");
        assert!(index.image(&a.id()).is_none());
        assert!(index.image(&b.id()).is_some());
    }
}
