//! What this replica knows of the API server: the objects of the three kinds, fed by watches and by the answers
//! to our own writes, whichever is newer.
//!
//! # Assumptions
//! Resource versions of one kind grow as numbers, which Kubernetes promises since 1.35 and has always kept to.
//! An answer to a write of ours is thereby never overwritten by an older watch event.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::Resource;
use kube::runtime::watcher::Event;
use tokio::sync::broadcast;

use crate::api::{CertificateAuthorityProxy, CertificateOperation, Phone};

mod keys;
mod table;

use keys::KeyIndex;
use table::Table;

/// Namespace and name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// A key from its parts.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    #[must_use]
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a change concerns: a unit of work for the loops.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum WorkKey {
    /// A phone together with its operations.
    Phone(ObjectKey),
    /// A proxy.
    Proxy(ObjectKey),
}

#[derive(Default)]
struct Tables {
    proxies: Table<CertificateAuthorityProxy>,
    phones: Table<Phone>,
    operations: Table<CertificateOperation>,
    /// Names of the operations of each phone, whether or not there is such a phone.
    by_phone: HashMap<ObjectKey, BTreeSet<String>>,
    /// Phones by their public keys.
    keys: KeyIndex,
}

/// See the module.
pub struct World {
    tables: RwLock<Tables>,
    changes: broadcast::Sender<WorkKey>,
}

impl Default for World {
    fn default() -> Self {
        Self { tables: RwLock::default(), changes: broadcast::channel(65_536).0 }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.read();
        f.debug_struct("World")
            .field("proxies", &tables.proxies.objects.len())
            .field("phones", &tables.phones.objects.len())
            .field("operations", &tables.operations.objects.len())
            .finish()
    }
}

/// A phone, its operations and its proxy, as they are known at one moment.
#[derive(Clone, Debug)]
pub struct PhoneView {
    /// The phone, if there is one.
    pub phone: Option<Arc<Phone>>,
    /// Every operation that refers to it.
    pub operations: Vec<Arc<CertificateOperation>>,
    /// Its proxy.
    pub proxy: Option<Arc<CertificateAuthorityProxy>>,
}

impl World {
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Units of work that changed, from now on. A receiver that lags is told so and starts over with [`Self::all_work`].
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<WorkKey> {
        self.changes.subscribe()
    }

    /// Whether every kind has been listed once.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        let tables = self.read();
        tables.proxies.listed && tables.phones.listed && tables.operations.listed
    }

    /// The kinds that have not been listed yet.
    #[must_use]
    pub fn unlisted(&self) -> Vec<&'static str> {
        let tables = self.read();
        let kinds = [
            ("CertificateAuthorityProxies", tables.proxies.listed),
            ("Phones", tables.phones.listed),
            ("CertificateOperations", tables.operations.listed),
        ];
        kinds.into_iter().filter(|(_, listed)| !listed).map(|(kind, _)| kind).collect()
    }

    /// Every phone.
    #[must_use]
    pub fn phones(&self) -> Vec<Arc<Phone>> {
        self.read().phones.objects.values().cloned().collect()
    }

    /// Every proxy.
    #[must_use]
    pub fn proxies(&self) -> Vec<Arc<CertificateAuthorityProxy>> {
        self.read().proxies.objects.values().cloned().collect()
    }

    /// Every unit of work there is.
    #[must_use]
    pub fn all_work(&self) -> Vec<WorkKey> {
        let tables = self.read();
        let phones: BTreeSet<_> = tables.phones.objects.keys().chain(tables.by_phone.keys()).cloned().collect();
        let proxies = tables.proxies.objects.keys().cloned().map(WorkKey::Proxy);
        proxies.chain(phones.into_iter().map(WorkKey::Phone)).collect()
    }

    /// Everything that is known about a phone.
    #[must_use]
    pub fn phone_view(&self, key: &ObjectKey) -> PhoneView {
        let tables = self.read();
        let phone = tables.phones.objects.get(key).cloned();
        let names = tables.by_phone.get(key).into_iter().flatten();
        let operations = names
            .filter_map(|name| tables.operations.objects.get(&ObjectKey::new(&key.namespace, name)).cloned())
            .collect();
        let proxy = phone.as_ref().and_then(|phone| {
            tables.proxies.objects.get(&ObjectKey::new(&key.namespace, &phone.spec.proxy_ref.name)).cloned()
        });
        PhoneView { phone, operations, proxy }
    }

    /// A proxy.
    #[must_use]
    pub fn proxy(&self, key: &ObjectKey) -> Option<Arc<CertificateAuthorityProxy>> {
        self.read().proxies.objects.get(key).cloned()
    }

    /// An operation.
    #[must_use]
    pub fn operation(&self, key: &ObjectKey) -> Option<Arc<CertificateOperation>> {
        self.read().operations.objects.get(key).cloned()
    }

    fn announce(&self, keys: impl IntoIterator<Item = WorkKey>) {
        for key in keys {
            // Without a receiver nobody leads here, and whoever will starts with all work.
            let _ = self.changes.send(key);
        }
    }
}

/// A kind that the world holds.
pub trait Known: Resource<DynamicType = ()> + Clone + Sized {
    /// Takes a watch event.
    fn observe(world: &World, event: Event<Self>);
}

impl World {
    /// Takes a watch event, or the answer to a write as [`Event::Apply`].
    pub fn observe<K: Known>(&self, event: Event<K>) {
        K::observe(self, event);
    }

    /// Takes the answer to a write of ours.
    pub fn learn<K: Known>(&self, object: &K) {
        K::observe(self, Event::Apply(object.clone()));
    }

    /// Forgets what a deletion of ours took away, unless something newer is known by that name.
    pub fn forget<K: Known>(&self, object: &K) {
        K::observe(self, Event::Delete(object.clone()));
    }
}

impl Known for Phone {
    fn observe(world: &World, event: Event<Self>) {
        let mut tables = world.write();
        let changed = tables.phones.event(event);
        changed.iter().for_each(|phone| tables.keys.note_phone(phone));
        tables.sweep_keys();
        drop(tables);
        world.announce(changed.iter().map(|phone| WorkKey::Phone(ObjectKey::of(phone.as_ref()))));
    }
}

impl Known for CertificateOperation {
    fn observe(world: &World, event: Event<Self>) {
        let mut guard = world.write();
        let tables = &mut *guard;
        let changed = tables.operations.event(event);
        let mut keys = BTreeSet::new();
        for operation in &changed {
            let key = ObjectKey::of(operation.as_ref());
            let phone = ObjectKey::new(&key.namespace, &operation.spec.phone_ref.name);
            let names = tables.by_phone.entry(phone.clone()).or_default();
            if tables.operations.objects.contains_key(&key) {
                names.insert(key.name);
            } else {
                names.remove(&key.name);
            }
            if names.is_empty() {
                tables.by_phone.remove(&phone);
            }
            keys.insert(WorkKey::Phone(phone));
            tables.keys.note_operation(operation);
        }
        tables.sweep_keys();
        drop(guard);
        world.announce(keys);
    }
}

impl Known for CertificateAuthorityProxy {
    fn observe(world: &World, event: Event<Self>) {
        let mut guard = world.write();
        let changed = guard.proxies.event(event);
        let keys: BTreeSet<_> = changed.iter().map(|proxy| ObjectKey::of(proxy.as_ref())).collect();
        // A parameter may be what its phones wait for. Phones that need nothing cost a look and no call.
        let phones: Vec<_> = guard
            .phones
            .objects
            .iter()
            .filter(|(key, phone)| keys.contains(&ObjectKey::new(&key.namespace, &phone.spec.proxy_ref.name)))
            .map(|(key, _)| WorkKey::Phone(key.clone()))
            .collect();
        drop(guard);
        world.announce(keys.into_iter().map(WorkKey::Proxy).chain(phones));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{at, operation, phone};
    use serde_json::json;

    fn versioned<K: Resource>(mut object: K, version: &str) -> K {
        object.meta_mut().resource_version = Some(version.into());
        object
    }

    #[test]
    fn an_older_event_never_replaces_a_newer_answer() {
        let world = World::default();
        let mut newer = versioned(phone(json!({})), "12");
        newer.metadata.generation = Some(5);
        world.learn(&newer);
        world.observe(Event::Apply(versioned(phone(json!({})), "9")));
        world.observe(Event::Delete(versioned(phone(json!({})), "11")));
        let key = ObjectKey::of(&newer);
        assert_eq!(world.phone_view(&key).phone.unwrap().metadata.generation, Some(5));
        world.observe(Event::Delete(versioned(phone(json!({})), "13")));
        assert!(world.phone_view(&key).phone.is_none());
    }

    #[test]
    fn a_new_list_drops_what_is_gone_but_not_what_was_written_after_it() {
        let world = World::default();
        world.observe(Event::<CertificateOperation>::Init);
        world.observe(Event::InitApply(versioned(operation("sep001-1", at(1)), "5")));
        world.observe::<CertificateOperation>(Event::InitDone);
        world.observe(Event::<CertificateOperation>::Init);
        world.observe(Event::InitApply(versioned(operation("sep001-2", at(1)), "8")));
        world.learn(&versioned(operation("sep001-3", at(1)), "9"));
        world.observe::<CertificateOperation>(Event::InitDone);
        let names: Vec<_> = world
            .phone_view(&ObjectKey::new("voice", "sep001"))
            .operations
            .iter()
            .map(|o| o.metadata.name.clone().unwrap())
            .collect();
        assert_eq!(names, ["sep001-2", "sep001-3"]);
    }

    #[test]
    fn an_empty_list_empties_and_a_list_is_believed_over_newer_versions() {
        let world = World::default();
        let key = ObjectKey::new("voice", "sep001");
        let mut newer = versioned(phone(json!({})), "90");
        newer.metadata.generation = Some(9);
        world.learn(&newer);
        world.observe(Event::<Phone>::Init);
        world.observe(Event::InitApply(versioned(phone(json!({})), "5")));
        world.observe::<Phone>(Event::InitDone);
        assert_eq!(world.phone_view(&key).phone.unwrap().metadata.generation, Some(1), "as after a restore of etcd");
        world.observe(Event::<Phone>::Init);
        world.observe::<Phone>(Event::InitDone);
        assert!(world.phone_view(&key).phone.is_none());
    }

    #[test]
    fn a_change_of_an_operation_is_work_for_its_phone() {
        let world = World::default();
        let mut changes = world.changes();
        world.learn(&versioned(operation("sep001-1", at(1)), "5"));
        assert_eq!(changes.try_recv().unwrap(), WorkKey::Phone(ObjectKey::new("voice", "sep001")));
        assert_eq!(world.all_work().len(), 1);
    }
}
