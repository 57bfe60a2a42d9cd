//! Every container by id and by name. Names are unique here before they are in the database, so a
//! creation in progress already holds its name. Locks are held for a map operation only.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Container;
use crate::error::{Error, Result, fail};

#[derive(Debug, Default)]
pub(crate) struct Registry {
    maps: Mutex<Maps>,
    /// There is, or has been, a container with legacy links: spares all others looking for them.
    links: AtomicBool,
}

#[derive(Debug, Default)]
struct Maps {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Name to id; the id may belong to a container still being created.
    names: HashMap<String, String>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take a name for `id`.
    ///
    /// # Errors
    /// Conflict, in Docker's words, when another container has it.
    pub(crate) fn reserve_name(&self, name: &str, id: &str) -> Result<()> {
        match self.lock().names.entry(name.to_owned()) {
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(id.to_owned());
                Ok(())
            }
            std::collections::hash_map::Entry::Occupied(taken) if taken.get() == id => Ok(()),
            std::collections::hash_map::Entry::Occupied(taken) => Err(fail!(
                Conflict,
                "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
                taken.get()
            )),
        }
    }

    /// Give a name back, if `id` holds it.
    pub(crate) fn release_name(&self, name: &str, id: &str) {
        let mut maps = self.lock();
        if maps.names.get(name).is_some_and(|owner| owner == id) {
            maps.names.remove(name);
        }
    }

    /// Make a container visible; its name is reserved already.
    pub(crate) fn insert(&self, container: Arc<Container>) {
        if crate::network::legacy_links::of(&container.record()).next().is_some() {
            self.links.store(true, Ordering::Release);
        }
        self.lock().by_id.insert(container.id().to_owned(), container);
    }

    /// Whether any container may have legacy links.
    pub(crate) fn has_links(&self) -> bool {
        self.links.load(Ordering::Acquire)
    }

    /// Forget a container and its name.
    pub(crate) fn remove(&self, id: &str) {
        let mut maps = self.lock();
        if let Some(container) = maps.by_id.remove(id) {
            let name = container.record().name.clone();
            if maps.names.get(&name).is_some_and(|owner| owner == id) {
                maps.names.remove(&name);
            }
        }
    }

    /// By full id, then name, then unambiguous id prefix.
    ///
    /// # Errors
    /// Not found, or Invalid for an ambiguous prefix.
    pub(crate) fn get(&self, reference: &str) -> Result<Arc<Container>> {
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if name.is_empty() {
            return Err(Error::no_such_container(reference));
        }
        let maps = self.lock();
        if let Some(found) = maps.by_id.get(name) {
            return Ok(Arc::clone(found));
        }
        if let Some(found) = maps.names.get(name).and_then(|id| maps.by_id.get(id)) {
            return Ok(Arc::clone(found));
        }
        let mut matching = maps.by_id.range(name.to_owned()..).map(|(_, c)| c).take_while(|c| c.id().starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(found), None) => Ok(Arc::clone(found)),
            (Some(_), Some(_)) => Err(fail!(Invalid, "multiple IDs found with provided prefix: {reference}")),
            _ => Err(Error::no_such_container(reference)),
        }
    }

    /// All of them, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.lock().by_id.values().cloned().collect()
    }
}
