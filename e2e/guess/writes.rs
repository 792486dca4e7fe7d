//! API writes for each device, counted by a watch: every write of an object is an event of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capf::api::{CertificateAuthorityProxy, CertificateOperation, Phone};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::product::Product;

/// Longer than the controllers' Lease lasts.
const QUIET: Duration = Duration::from_secs(12);

type Seen = Arc<Mutex<HashMap<String, usize>>>;

/// Writes seen since the watches began, by `<kind>/<name>`.
pub struct Writes(Seen);

/// Writes up to a moment.
pub struct Settled {
    by_device: HashMap<String, usize>,
    /// Of the proxy's status.
    pub proxy: usize,
}

impl Writes {
    /// Begins to count: every write from here on.
    pub async fn watch(product: &Product) -> Self {
        let seen = Seen::default();
        follow::<Phone>(product, &seen).await;
        follow::<CertificateOperation>(product, &seen).await;
        follow::<CertificateAuthorityProxy>(product, &seen).await;
        Self(seen)
    }

    /// What was written until nothing more comes for longer than a killed leader takes to be followed by another.
    pub async fn settled(&self, product: &Product) -> Settled {
        let (mut seen, mut since) = (HashMap::new(), Instant::now());
        while since.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.0.lock().unwrap().clone();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        let mut by_device: HashMap<String, usize> = HashMap::new();
        let mut proxy = 0;
        for (object, writes) in seen {
            match object.split_once('/').unwrap() {
                ("CertificateAuthorityProxy", _) => proxy += writes,
                (_, name) => *by_device.entry(device(name)).or_default() += writes,
            }
        }
        for event in product.api::<Event>().list(&ListParams::default()).await.unwrap() {
            let about = event.involved_object;
            if about.kind.as_deref() == Some("Phone") {
                *by_device.entry(device(&about.name.unwrap_or_default())).or_default() += 1;
            }
        }
        Settled { by_device, proxy }
    }
}

/// The device that an object is about: its name is the phone's, or begins with it.
fn device(name: &str) -> String {
    name.split('-').next().unwrap_or_default().to_uppercase()
}

impl Settled {
    /// The most for one of these devices, and all together.
    pub fn of(&self, devices: &[String]) -> (usize, usize) {
        let writes = devices.iter().filter_map(|device| self.by_device.get(device));
        (writes.clone().max().copied().unwrap_or(0), writes.sum())
    }
}

/// Counts the changes of a kind, once it has been listed.
async fn follow<K>(product: &Product, seen: &Seen)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let mut events = watcher::watcher(product.api::<K>(), watcher::Config::default()).boxed();
    let mut versions: HashMap<String, Option<String>> = HashMap::new();
    while let Some(event) = events.next().await {
        match event.unwrap() {
            watcher::Event::InitApply(object) => drop(versions.insert(object.name_any(), object.resource_version())),
            watcher::Event::InitDone => break,
            _ => {}
        }
    }
    let seen = seen.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            // After an error the watch begins anew, and lists what is known already and what is not.
            let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event else { continue };
            let (name, version) = (object.name_any(), object.resource_version());
            if versions.insert(name.clone(), version.clone()) != Some(version) {
                *seen.lock().unwrap().entry(format!("{}/{name}", K::kind(&()))).or_default() += 1;
            }
        }
    });
}
