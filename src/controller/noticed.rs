//! Writes down what this replica notices at the door, at most once a minute: unknown callers and blocks that guess.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::events::Reporter;
use super::store::{CallError, Cause, Store};
use super::world::{ObjectKey, World};
use crate::api::CertificateAuthorityProxy;
use crate::domain::blocks::SourceBlock;
use crate::domain::callers::{Noticed, guessing_message};

/// Least time between two writes of this replica, all proxies together.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// What comes within it goes into one write: after a power cut the phones of a building come at once.
const GATHER: Duration = Duration::from_secs(1);

/// What this replica has noticed and not written down yet.
#[derive(Debug)]
pub struct Noticer {
    world: Arc<World>,
    store: Store,
    reporter: Reporter,
    pending: Mutex<HashMap<ObjectKey, Noticed>>,
    news: Notify,
}

impl Noticer {
    /// A noticer that has noticed nothing. `store` is that of the loops: nobody waits for these writes.
    #[must_use]
    pub fn new(world: Arc<World>, store: Store) -> Self {
        let reporter = Reporter::new(store.clone());
        Self { world, store, reporter, pending: Mutex::default(), news: Notify::new() }
    }

    /// A device called that no Phone of the proxy stands for.
    pub fn unknown_caller(&self, proxy: &ObjectKey, name: &str, source: Option<SourceBlock>) {
        self.pending().entry(proxy.clone()).or_default().unknown(name, source, crate::clock::now());
        self.news.notify_one();
    }

    /// Strings from this block are answered without a check.
    pub fn guessing(&self, proxy: &ObjectKey, block: SourceBlock) {
        self.pending().entry(proxy.clone()).or_default().guessing(block, crate::clock::now());
        self.news.notify_one();
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<ObjectKey, Noticed>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until `stop`. What has not been written by then is forgotten: whoever calls, calls again.
    pub async fn run(&self, stop: CancellationToken) {
        let writing = async {
            loop {
                self.news.notified().await;
                sleep(GATHER).await;
                while let Some((proxy, noticed)) = self.due() {
                    if let Err(error) = self.write(&proxy, &noticed).await {
                        tracing::warn!(%proxy, %error, "writing down what was noticed; trying again");
                        self.pending().entry(proxy).or_default().take_back(noticed);
                    }
                    sleep(WRITE_EVERY).await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = writing => {}
        }
    }

    /// A proxy of which something is new, and what.
    fn due(&self) -> Option<(ObjectKey, Noticed)> {
        let mut pending = self.pending();
        pending.retain(|key, _| self.world.proxy(key).is_some());
        let news = |key: &ObjectKey, noticed: &Noticed| {
            self.world.proxy(key).is_some_and(|proxy| noticed.is_news(proxy.status.as_ref()))
        };
        let key = pending.iter().find(|(key, noticed)| news(key, noticed)).map(|(key, _)| key.clone())?;
        pending.remove_entry(&key)
    }

    async fn write(&self, key: &ObjectKey, noticed: &Noticed) -> Result<(), CallError> {
        let Some(known) = self.world.proxy(key) else { return Ok(()) };
        let (recorded, new_blocks) = match self.put(key, &known, noticed).await {
            // Another replica wrote, or the leader: its list is merged with, once.
            Err(error) if matches!(error.cause, Cause::Conflict) => {
                let Some(fresh) = self.store.get::<CertificateAuthorityProxy>(key).await? else { return Ok(()) };
                self.world.learn(&fresh);
                if !noticed.is_news(fresh.status.as_ref()) {
                    return Ok(());
                }
                self.put(key, &fresh, noticed).await?
            }
            other => other?,
        };
        if !new_blocks.is_empty() {
            self.reporter.guessing_suspected(&recorded, &guessing_message(&new_blocks.join(", "))).await;
        }
        Ok(())
    }

    async fn put(
        &self,
        key: &ObjectKey,
        known: &CertificateAuthorityProxy,
        noticed: &Noticed,
    ) -> Result<(CertificateAuthorityProxy, Vec<String>), CallError> {
        let new_blocks = noticed.new_blocks(known.status.as_ref());
        let mut proxy = known.clone();
        let is_known = |name: &str| {
            let phone = self.world.phone_view(&ObjectKey::new(&key.namespace, name.to_ascii_lowercase())).phone;
            phone.is_some_and(|phone| phone.spec.proxy_ref.name == key.name)
        };
        let status = proxy.status.take().unwrap_or_default();
        let generation = proxy.metadata.generation;
        proxy.status = Some(noticed.merged_into(status, generation, is_known, crate::clock::now()));
        let recorded = self.store.replace_status(&proxy).await?;
        self.world.learn(&recorded);
        Ok((recorded, new_blocks))
    }
}
