//! The objects of one kind, as they are by the newest that was heard of each.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher::Event;

use super::ObjectKey;

/// Objects of one kind.
pub(super) struct Table<K> {
    pub(super) objects: HashMap<ObjectKey, Arc<K>>,
    /// While the watch lists anew: what it listed, and what our own writes told meanwhile.
    listing: Option<Listing>,
    /// Whether all there are have been listed once.
    pub(super) listed: bool,
}

#[derive(Default)]
struct Listing {
    listed: BTreeSet<ObjectKey>,
    told: BTreeSet<ObjectKey>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listing: None, listed: false }
    }
}

fn version(object: &impl Resource) -> u64 {
    // A version that is no number sorts first: the newest event then always wins, as in any other cache.
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl<K: Resource> Table<K> {
    /// Takes a watch event; returns the objects that changed or went.
    pub(super) fn event(&mut self, event: Event<K>) -> Vec<Arc<K>> {
        match event {
            Event::Apply(object) => {
                if let Some(listing) = &mut self.listing {
                    listing.told.insert(ObjectKey::of(&object));
                }
                self.upsert(object).into_iter().collect()
            }
            Event::Delete(object) => self.remove(&object).into_iter().collect(),
            Event::Init => {
                self.listing = Some(Listing::default());
                Vec::new()
            }
            Event::InitApply(object) => {
                let key = ObjectKey::of(&object);
                let told = self.listing.as_ref().is_some_and(|listing| listing.told.contains(&key));
                if let Some(listing) = &mut self.listing {
                    listing.listed.insert(key.clone());
                }
                if !told {
                    // A list is the truth, also where versions have gone back, as after a restore of etcd.
                    self.objects.remove(&key);
                }
                self.upsert(object).into_iter().collect()
            }
            Event::InitDone => {
                self.listed = true;
                let Some(Listing { listed, told }) = self.listing.take() else { return Vec::new() };
                let gone: Vec<_> =
                    self.objects.keys().filter(|key| !listed.contains(*key) && !told.contains(*key)).cloned().collect();
                gone.iter().filter_map(|key| self.objects.remove(key)).collect()
            }
        }
    }

    fn upsert(&mut self, mut object: K) -> Option<Arc<K>> {
        let key = ObjectKey::of(&object);
        if self.objects.get(&key).is_some_and(|known| version(known.as_ref()) > version(&object)) {
            return None;
        }
        // Nobody asks for them, and they are a third of an object.
        object.meta_mut().managed_fields = None;
        let object = Arc::new(object);
        self.objects.insert(key, Arc::clone(&object));
        Some(object)
    }

    fn remove(&mut self, object: &K) -> Option<Arc<K>> {
        let key = ObjectKey::of(object);
        if self.objects.get(&key).is_some_and(|known| version(known.as_ref()) > version(object)) {
            return None;
        }
        self.objects.remove(&key)
    }
}
