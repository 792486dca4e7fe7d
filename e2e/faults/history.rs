//! What the API server said of CertificateOperations, each version of each of them, and when it was first seen.
//!
//! It comes from two sides: a watch of the administrator's, and the API server's answers to writes as the proxies see them.
//! The second is entered before the writer hears of it, so that what follows from a write is never older than its entry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capf::api::CertificateOperation;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio_util::sync::{CancellationToken, DropGuard};

/// One version of an operation.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it was first seen.
    pub at: Timestamp,
    /// What it was.
    pub operation: Arc<CertificateOperation>,
}

/// Every version, by the operation's UID and the version's number.
#[derive(Debug, Default)]
pub struct History {
    seen: Mutex<BTreeMap<(String, u64), Seen>>,
}

impl History {
    /// Enters a version that is seen now.
    pub fn enter(&self, operation: CertificateOperation) {
        self.enter_at(operation, Timestamp::now());
    }

    /// The same, for a version seen at another time.
    pub fn enter_at(&self, operation: CertificateOperation, at: Timestamp) {
        let uid = operation.metadata.uid.clone().unwrap_or_default();
        let version = operation.metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
        self.lock()
            .entry((uid, version.unwrap_or_default()))
            .or_insert_with(|| Seen { at, operation: operation.into() });
    }

    /// Every version of every operation, in the order in which they were written.
    pub fn operations(&self) -> Vec<Vec<Seen>> {
        let mut by_uid: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
        for ((uid, _), seen) in self.lock().iter() {
            by_uid.entry(uid.clone()).or_default().push(seen.clone());
        }
        by_uid.into_values().collect()
    }

    /// Watches a namespace from now on, until the guard is dropped.
    pub fn record(self: &Arc<Self>, client: Client, namespace: &str) -> DropGuard {
        let stop = CancellationToken::new();
        let api: Api<CertificateOperation> = Api::namespaced(client, namespace);
        let (history, until) = (Arc::clone(self), stop.clone());
        tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(events.take_until(until.cancelled_owned()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Apply(operation) | watcher::Event::InitApply(operation)) => {
                        history.enter(operation);
                    }
                    // A server that is gone for a while is part of it; the list that follows fills the gap.
                    Ok(watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Delete(_)) | Err(_) => {}
                }
            }
        });
        stop.drop_guard()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
