//! Leadership of the loops by a Lease, counted on a monotonic clock: no replica trusts another's wall clock, nor
//! its own to stand still.
//!
//! # Guarantees
//! A replica believes to lead for at most [`DURATION`] after the start of its last successful write; another takes
//! over only after it has itself watched the Lease unchanged for longer than that.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::store::{CallError, Cause, Store};
use super::world::ObjectKey;

/// How long a leader that does not write is still believed to lead.
pub const DURATION: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What a follower waits beyond [`DURATION`], for clocks that run at different speeds.
const MARGIN: Duration = Duration::from_secs(1);

/// The part of one replica in the election.
#[derive(Debug)]
pub struct Candidate {
    store: Store,
    key: ObjectKey,
    identity: String,
    /// The newest version of another's Lease, and when it was first seen.
    seen: Option<(String, Instant)>,
    leads_until: Option<Instant>,
}

impl Candidate {
    /// A candidate that has not looked yet. `identity` must be unique to this process.
    #[must_use]
    pub fn new(store: Store, key: ObjectKey, identity: String) -> Self {
        Self { store, key, identity, seen: None, leads_until: None }
    }

    /// Takes part until `stop`, announcing in `leads` whether this replica leads; then lets the Lease go.
    pub async fn run(mut self, leads: watch::Sender<bool>, stop: CancellationToken) {
        loop {
            let started = Instant::now();
            // A leader's turn ends with its belief, whatever the API server does.
            let until = self.leads_until.unwrap_or(started + DURATION);
            let turn = tokio::time::timeout_at(until, self.turn(started)).await;
            match turn.unwrap_or_else(|_| Err(CallError::no_answer("renewing", "Lease", self.key.clone()))) {
                Ok(true) => self.leads_until = Some(started + DURATION),
                Ok(false) => self.leads_until = None,
                Err(error) => tracing::warn!(%error, "taking part in the election"),
            }
            let now = Instant::now();
            let leading = self.leads_until.is_some_and(|until| now < until);
            leads.send_if_modified(|led| std::mem::replace(led, leading) != leading);
            let pause = if leading { RENEW_EVERY } else { LOOK_EVERY };
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

    /// One look at the Lease, and a write if it is ours or free. Whether this replica leads by it.
    async fn turn(&mut self, now: Instant) -> Result<bool, CallError> {
        let Some(lease) = self.store.get::<Lease>(&self.key).await? else {
            return won(self.store.create(&self.lease(None)).await);
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
            if now.duration_since(since) <= DURATION + MARGIN {
                return Ok(false);
            }
            tracing::info!(holder = holder.unwrap_or_default(), "the leader has gone silent; taking over");
        }
        won(self.store.replace(&self.lease(Some(lease))).await)
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
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}

fn won<T>(write: Result<T, CallError>) -> Result<bool, CallError> {
    match write {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.cause, Cause::Conflict | Cause::AlreadyExists) => Ok(false),
        Err(error) => Err(error),
    }
}
