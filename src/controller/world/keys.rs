//! Which phone has which key: an index over what is known of the phones' certificates.

use std::collections::{BTreeSet, HashMap};

use super::{ObjectKey, Tables, World};
use crate::api::{CertificateOperation, Phone};

/// Entries below which stale ones are not swept.
const FEW: usize = 4096;

/// Phones by the hash of a public key that they have or had. An entry is a hint that is looked up, so one that is stale does
/// no harm; they are swept when they outnumber what is known.
#[derive(Default)]
pub(super) struct KeyIndex(HashMap<String, BTreeSet<ObjectKey>>);

impl KeyIndex {
    fn note(&mut self, hash: Option<&str>, phone: ObjectKey) {
        if let Some(hash) = hash {
            self.0.entry(hash.to_owned()).or_default().insert(phone);
        }
    }

    pub(super) fn note_phone(&mut self, phone: &Phone) {
        self.note(of_phone(phone), ObjectKey::of(phone));
    }

    pub(super) fn note_operation(&mut self, operation: &CertificateOperation) {
        self.note(of_operation(operation), phone_of(operation));
    }
}

impl Tables {
    /// Forgets what no object says any more, once that is much.
    pub(super) fn sweep_keys(&mut self) {
        let known = self.phones.objects.len() + self.operations.objects.len();
        if self.keys.0.len() <= FEW.max(4 * known) {
            return;
        }
        let mut fresh = KeyIndex::default();
        self.phones.objects.values().for_each(|phone| fresh.note_phone(phone));
        self.operations.objects.values().for_each(|operation| fresh.note_operation(operation));
        self.keys = fresh;
    }
}

impl World {
    /// Another phone, in whichever namespace, that has the key with this hash: in its live LSC or in one on record for it.
    #[must_use]
    pub fn other_holder(&self, key_sha256: &str, phone: &ObjectKey) -> Option<ObjectKey> {
        let tables = self.read();
        let holds = |other: &&ObjectKey| {
            let live = tables.phones.objects.get(*other).is_some_and(|phone| of_phone(phone) == Some(key_sha256));
            let names = tables.by_phone.get(*other).into_iter().flatten();
            let mut operations = names.filter_map(|name| {
                let key = ObjectKey::new(&other.namespace, name);
                tables.operations.objects.get(&key)
            });
            live || operations.any(|operation| of_operation(operation) == Some(key_sha256))
        };
        tables.keys.0.get(key_sha256)?.iter().filter(|other| *other != phone).find(holds).cloned()
    }
}

fn of_phone(phone: &Phone) -> Option<&str> {
    Some(&phone.status.as_ref()?.lsc.as_ref()?.public_key_sha256)
}

fn of_operation(operation: &CertificateOperation) -> Option<&str> {
    Some(&operation.status.as_ref()?.certificate.as_ref()?.summary.public_key_sha256)
}

fn phone_of(operation: &CertificateOperation) -> ObjectKey {
    let namespace = operation.metadata.namespace.clone().unwrap_or_default();
    ObjectKey::new(namespace, &operation.spec.phone_ref.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CertificateOperationStatus;
    use crate::domain::testing::{at, issued, operation, phone};
    use kube::runtime::watcher::Event;
    use serde_json::json;

    fn with_certificate(name: &str, fingerprint: &str) -> CertificateOperation {
        let mut operation = operation(name, at(1));
        let certificate = Some(issued(fingerprint, at(1)));
        operation.status = Some(CertificateOperationStatus { certificate, ..Default::default() });
        operation
    }

    #[test]
    fn a_key_is_found_with_another_phone_only_and_as_long_as_something_says_so() {
        let world = World::default();
        let (ours, other) = (ObjectKey::new("voice", "sep001"), ObjectKey::new("voice", "sep002"));
        world.learn(&with_certificate("sep001-1", "aa"));
        assert_eq!(world.other_holder("key-aa", &ours), None, "its own key");
        assert_eq!(world.other_holder("key-aa", &other), Some(ours.clone()));
        assert_eq!(world.other_holder("key-bb", &other), None);
        world.observe(Event::Delete(with_certificate("sep001-1", "aa")));
        assert_eq!(world.other_holder("key-aa", &other), None, "the operation is gone");
        let mut holder = phone(json!({}));
        holder.status = Some(crate::api::PhoneStatus { lsc: Some(issued("cc", at(1)).summary), ..Default::default() });
        world.learn(&holder);
        assert_eq!(world.other_holder("key-cc", &other), Some(ours));
    }

    #[test]
    fn what_nothing_says_any_more_is_swept() {
        let world = World::default();
        for number in 0..=FEW {
            world.learn(&with_certificate("sep001-1", &number.to_string()));
        }
        assert_eq!(world.read().keys.0.len(), 1);
    }
}
