//! An installation where everything can go wrong: a proxy before each controller, keepers that start again what is
//! killed, phones with disks, and a record of what the API server said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use capf::api::{CertificateAuthorityProxy, CertificateOperation, Phone};
use capf::phone::tls_config;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret};
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use crate::harness::{ControlPlane, eventually};
use crate::product::{Options, Product};

use super::disk::PhoneDisk;
use super::history::History;
use super::invariants::{Invariant, Serials, Violation, at_rest, holds, no_secret, of_history, quiet};
use super::keeper::Keeper;
use super::proxy::ApiProxy;

/// When faults stop, all settles within this time.
pub const SETTLES: Duration = Duration::from_secs(60);
/// Two looks at what is written, this far apart and with the same result, mean rest.
const REST: Duration = Duration::from_millis(500);

/// Versions of objects by kind and name.
pub type Versions = BTreeMap<String, String>;

/// An installation.
pub struct Site {
    /// One before each controller.
    pub proxies: Vec<ApiProxy>,
    /// The controllers.
    pub controllers: Vec<Keeper>,
    /// The endpoint.
    pub endpoint: Keeper,
    /// What the API server said of operations.
    pub history: Arc<History>,
    /// The rest of it. Its own processes are with the keepers.
    pub product: Product,
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// Those with a disk.
    pub(super) phones: Mutex<BTreeSet<String>>,
    /// What must be found nowhere, with what it is.
    secrets: Mutex<Vec<(String, String)>>,
    clock: Mutex<i64>,
    _recording: DropGuard,
}

impl Site {
    /// Installs with a proxy before each controller.
    pub async fn start(name: &str, options: Options) -> Self {
        let plane = ControlPlane::shared();
        let history = Arc::new(History::default());
        let mut proxies = Vec::new();
        for replica in 0..options.replicas {
            let process = format!("{name}, controller {replica}");
            proxies.push(ApiProxy::start(plane, Some("capf-controller"), &process, Some(Arc::clone(&history))).await);
        }
        let kubeconfigs = proxies.iter().map(|proxy| proxy.kubeconfig().to_owned()).collect();
        let mut product = Product::start_with(name, Options { kubeconfigs, ..options }).await;
        let recording = history.record(product.client.clone(), product.ns());
        let user = Some("capf-controller");
        let processes = std::mem::take(&mut product.controllers).into_iter().enumerate();
        let controllers = processes.map(|(replica, process)| {
            let name = format!("{}-controller-{replica}-{replica}", product.ns());
            let victim = proxies[replica].victim();
            Keeper::keep(plane, &name, user, process, product.controller_command(replica), victim)
        });
        let controllers = controllers.collect();
        let endpoint = product.endpoint.take().expect("an installation has an endpoint");
        let name = format!("{}-endpoint", product.ns());
        let pid = Arc::new(AtomicU32::new(0));
        let endpoint = Keeper::keep(plane, &name, None, endpoint, product.endpoint_command(), pid);
        let tls = tls_config(&product.ctl().await).unwrap();
        let site = Self {
            proxies,
            controllers,
            endpoint,
            history,
            product,
            tls,
            phones: Mutex::default(),
            secrets: Mutex::default(),
            clock: Mutex::default(),
            _recording: recording,
        };
        site.plant_keys().await;
        site.rest().await;
        site
    }

    /// Every key of the installation is a secret: a line from the middle of each.
    async fn plant_keys(&self) {
        for secret in self.product.api::<Secret>().list(&ListParams::default()).await.unwrap() {
            let name = secret.name_any();
            for (key, octets) in secret.data.unwrap_or_default().into_iter().filter(|(key, _)| key.ends_with(".key")) {
                let text = String::from_utf8(octets.0).unwrap();
                let lines: Vec<&str> = text.lines().filter(|line| !line.contains("-----")).collect();
                self.plant(&format!("{name}/{key}"), lines[lines.len() / 2]);
            }
        }
        assert!(lock(&self.secrets).len() >= 6, "issuer, service, endpoint, client, CA, ticket and string keys");
    }

    /// From now on this must be found nowhere outside its Secret.
    pub fn plant(&self, what: &str, secret: &str) {
        let mut secrets = lock(&self.secrets);
        secrets.push((what.to_owned(), secret.to_owned()));
        secrets.push((format!("{what} in base64"), BASE64_STANDARD.encode(secret)));
    }

    /// What an administrator asks directly, again while the API server is away.
    pub(super) async fn admin<T>(&self, what: &str, ask: impl AsyncFn() -> kube::Result<T>) -> T {
        eventually(what, Duration::from_secs(60), || ask()).await.unwrap()
    }

    /// Moves the controllers' clock on.
    pub fn move_clock(&self, seconds: i64) {
        let mut clock = lock(&self.clock);
        *clock += seconds;
        self.product.move_clock(*clock);
    }

    /// The versions of everything in the namespace whose name begins so, Leases aside.
    pub async fn versions(&self, prefix: &str) -> Versions {
        let mut versions = Versions::new();
        self.versions_of::<Phone>(prefix, &mut versions).await;
        self.versions_of::<CertificateOperation>(prefix, &mut versions).await;
        self.versions_of::<CertificateAuthorityProxy>(prefix, &mut versions).await;
        self.versions_of::<Secret>(prefix, &mut versions).await;
        self.versions_of::<ConfigMap>(prefix, &mut versions).await;
        self.versions_of::<Event>(prefix, &mut versions).await;
        versions
    }

    async fn versions_of<K>(&self, prefix: &str, versions: &mut Versions)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = self.product.api();
        let all = self.admin("objects are listed", async || api.list_metadata(&ListParams::default()).await).await;
        for object in all.items.into_iter().filter(|object| object.name_any().starts_with(prefix)) {
            let name = format!("{} {}", K::kind(&()), object.name_any());
            versions.insert(name, object.resource_version().unwrap_or_default());
        }
    }

    /// Waits until nothing is written any more.
    async fn rest(&self) {
        let mut before = self.versions("").await;
        loop {
            tokio::time::sleep(REST).await;
            let after = self.versions("").await;
            if after == before {
                return;
            }
            before = after;
        }
    }

    /// Waits until what begins with this name is at rest, and returns its versions; or says why it is not.
    pub async fn settled(&self, prefix: &str) -> Result<Versions, Vec<Violation>> {
        let until = Instant::now() + SETTLES;
        let mut before = self.versions(prefix).await;
        loop {
            tokio::time::sleep(REST).await;
            // Between the two looks, so that they are of what was judged.
            let mut found = self.unsettled(prefix).await;
            let after = self.versions(prefix).await;
            if found.is_empty() && after == before {
                return Ok(after);
            }
            if Instant::now() > until {
                found.extend(quiet(&before, &after));
                return Err(found);
            }
            before = after;
        }
    }

    async fn unsettled(&self, prefix: &str) -> Vec<Violation> {
        let all = ListParams::default();
        let phones = self.admin("phones are listed", async || self.product.api::<Phone>().list(&all).await).await;
        let operations = self.admin("operations are listed", async || self.product.api().list(&all).await).await.items;
        let phones: Vec<Phone> = phones.items.into_iter().filter(|p| p.name_any().starts_with(prefix)).collect();
        let now = Timestamp::now();
        let mut found: Vec<Violation> = phones.iter().flat_map(|phone| at_rest(phone, &operations, now)).collect();
        let with_disk = lock(&self.phones).clone();
        found.extend(phones.iter().filter_map(|phone| {
            let device = with_disk.iter().find(|device| device.eq_ignore_ascii_case(&phone.name_any()))?;
            holds(phone, &self.disk(device))
        }));
        let over = operations.iter().filter(|o| o.name_any().starts_with(prefix) && o.phase().is_terminal());
        let strings: BTreeSet<String> = over.map(|o| format!("{}-string", o.name_any())).collect();
        let mut secrets = Versions::new();
        self.versions_of::<Secret>(prefix, &mut secrets).await;
        let kept = secrets.keys().filter(|name| strings.contains(name.trim_start_matches("Secret ")));
        found.extend(kept.map(|name| Violation::new(Invariant::Settled, name, "its operation is over")));
        found
    }

    /// Everything that has happened so far, checked; and what ended by itself.
    pub fn violations(&self) -> Vec<Violation> {
        let disks: Vec<PhoneDisk> = lock(&self.phones).iter().map(|device| self.disk(device)).collect();
        let mut found = of_history(&self.history.operations(), &disks, &mut serials());
        for keeper in self.controllers.iter().chain([&self.endpoint]) {
            let ended = keeper.ended().into_iter();
            found.extend(ended.map(|seen| Violation::new(Invariant::Settled, keeper.name(), seen)));
        }
        found
    }

    /// Whether a secret stands in a log, an Event, or any other object than a Secret.
    pub fn leaks(&self) -> Vec<Violation> {
        let kinds = "capf,phones,certificateoperations,configmaps,events,leases.coordination.k8s.io";
        let resources = self.product.kubectl(&["get", kinds, "-o", "yaml"]);
        let mut texts = vec![("an object".to_owned(), resources)];
        for keeper in self.controllers.iter().chain([&self.endpoint]) {
            texts.push((format!("the log of {}", keeper.name()), keeper.log()));
        }
        no_secret(&lock(&self.secrets), &texts)
    }
}

/// Every serial number that any installation of this process has seen.
fn serials() -> MutexGuard<'static, Serials> {
    static SERIALS: Mutex<Serials> = Mutex::new(Serials::new());
    lock(&SERIALS)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
