//! Leadership of the loops by a Lease, counted on a monotonic clock: no replica trusts another's wall clock, nor
//! its own to stand still.
//!
//! # Guarantees
//! A replica believes to lead for at most the Lease's duration after the start of its last successful write; another
//! takes over only after it has itself watched the Lease unchanged for longer than that.
//!
//! # Costs
//! At rest a leader writes once a renewal and reads nothing, a follower reads once a renewal.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::store::{CallError, Cause, Store};
use super::world::ObjectKey;

/// The part of one replica in the election.
#[derive(Debug)]
pub struct Candidate {
    store: Store,
    key: ObjectKey,
    identity: String,
    /// How long a leader that does not write is still believed to lead.
    duration: Duration,
    /// The newest version of another's Lease, and when it was first seen.
    seen: Option<(String, Instant)>,
    /// The Lease as this replica last wrote it; renewed without another look.
    held: Option<Lease>,
    leads_until: Option<Instant>,
}

impl Candidate {
    /// A candidate that has not looked yet. No other process may bear `identity` while this one runs; `duration` is the same in
    /// all replicas.
    #[must_use]
    pub fn new(store: Store, key: ObjectKey, identity: String, duration: Duration) -> Self {
        Self { store, key, identity, duration, seen: None, held: None, leads_until: None }
    }

    /// How often a leader renews, and a follower looks while the leader does.
    fn renew_every(&self) -> Duration {
        self.duration / 3
    }

    /// What a follower waits beyond the duration, for clocks that run at different speeds.
    fn margin(&self) -> Duration {
        self.duration / 15
    }

    /// The pause before the next turn of a follower: short once the leader has missed a renewal.
    fn look_every(&self, now: Instant) -> Duration {
        let silent = self.seen.as_ref().is_none_or(|(_, since)| now.duration_since(*since) >= self.renew_every());
        if silent { self.duration / 10 } else { self.renew_every() }
    }

    /// Takes part until `stop`, announcing in `leads` whether this replica leads; then lets the Lease go.
    pub async fn run(mut self, leads: watch::Sender<bool>, stop: CancellationToken) {
        loop {
            let started = Instant::now();
            // A leader's turn ends with its belief, whatever the API server does.
            let until = self.leads_until.unwrap_or(started + self.duration);
            let turn = tokio::time::timeout_at(until, self.turn(started)).await;
            match turn.unwrap_or_else(|_| Err(CallError::no_answer("renewing", "Lease", self.key.clone()))) {
                Ok(true) => self.leads_until = Some(started + self.duration),
                Ok(false) => self.leads_until = None,
                Err(error) => {
                    // Whether a write came through is not known: the next turn looks before it writes.
                    self.held = None;
                    tracing::warn!(%error, "taking part in the election");
                }
            }
            let now = Instant::now();
            let leading = self.leads_until.is_some_and(|until| now < until);
            leads.send_if_modified(|led| std::mem::replace(led, leading) != leading);
            let pause = if leading { self.renew_every() } else { self.look_every(now) };
            // Whatever holds up the next write, the belief ends on time.
            let end = self.leads_until.filter(|_| leading).unwrap_or(now + pause);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until((started + pause).min(end).max(now)) => {}
            }
            if self.leads_until.is_some_and(|until| Instant::now() >= until) {
                // Over and done with: the next turn is a follower's, and has a follower's time.
                self.leads_until = None;
                leads.send_if_modified(|led| std::mem::replace(led, false));
            }
        }
        leads.send_if_modified(|led| std::mem::replace(led, false));
        if self.leads_until.is_some()
            && let Err(error) = self.let_go().await
        {
            tracing::info!(%error, "letting the lease go");
        }
    }

    /// One write of the Lease if it is ours or free, after a look unless this replica wrote it last. Whether it leads by it.
    async fn turn(&mut self, now: Instant) -> Result<bool, CallError> {
        if let Some(held) = self.held.take() {
            let renewed = self.store.replace(&self.lease(Some(held))).await;
            return self.won(renewed);
        }
        let Some(lease) = self.store.get::<Lease>(&self.key).await? else {
            let created = self.store.create(&self.lease(None)).await;
            return self.won(created);
        };
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.clone()).filter(|h| !h.is_empty());
        if holder.as_deref() != Some(&self.identity) && holder.is_some() {
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            let since = match &self.seen {
                Some((seen, since)) if *seen == version => *since,
                _ => {
                    self.seen = Some((version, now));
                    now
                }
            };
            if now.duration_since(since) <= self.duration + self.margin() {
                return Ok(false);
            }
            tracing::info!(holder = holder.unwrap_or_default(), "the leader has gone silent; taking over");
        }
        let written = self.store.replace(&self.lease(Some(lease))).await;
        self.won(written)
    }

    /// Whether a write was the one that counts; what it made is what the next one is made from.
    fn won(&mut self, write: Result<Lease, CallError>) -> Result<bool, CallError> {
        match write {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            Err(error) if matches!(error.cause, Cause::Conflict | Cause::AlreadyExists | Cause::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn let_go(&self) -> Result<(), CallError> {
        let Some(mut lease) = self.store.get::<Lease>(&self.key).await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(&self.identity)) else {
            return Ok(());
        };
        spec.holder_identity = None;
        self.store.replace(&lease).await.map(drop)
    }

    fn lease(&self, before: Option<Lease>) -> Lease {
        let now = MicroTime(crate::clock::now());
        let mut lease = before.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.key.name.clone()),
                namespace: Some(self.key.namespace.clone()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |t| t.saturating_add(1)));
        }
        spec.lease_duration_seconds = i32::try_from(self.duration.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}
