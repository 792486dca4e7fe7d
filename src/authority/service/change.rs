//! One transition, put on record against whatever other replicas write meanwhile.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::super::questions::Unavailable;
use super::Service;
use crate::api::CertificateOperation;
use crate::controller::store::{Cause, Kind};
use crate::controller::world::{Known, ObjectKey};
use crate::domain::transition::{Event, NotPossible, advance};
use crate::telemetry::controller::metrics;

/// Writes of one status that may meet a conflict before the question is given up.
const TRIES: usize = 4;

/// What an operation as it stands calls for.
pub(in crate::authority) enum Next {
    /// This event.
    Make(Box<Event>),
    /// Nothing: what is wanted is on record.
    Done,
}

impl Next {
    /// This event.
    pub(in crate::authority) fn make(event: Event) -> Self {
        Self::Make(Box::new(event))
    }
}

/// What became of a change of an operation's status.
pub(in crate::authority) enum Changed {
    /// It is on record.
    Recorded(Box<CertificateOperation>),
    /// It cannot happen (any more).
    NotPossible(NotPossible),
    /// The operation is gone.
    Gone,
}

impl Service {
    /// Held while an operation is changed by this replica.
    pub(super) fn lock(&self, key: &ObjectKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() > 10_000 {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(locks.entry(key.clone()).or_default())
    }

    /// The operation as known here, else as the API server has it.
    pub(super) async fn operation(
        &self,
        key: &ObjectKey,
        uid: &str,
    ) -> Result<Option<CertificateOperation>, Unavailable> {
        let known = match self.world.operation(key) {
            Some(known) => Some(known.as_ref().clone()),
            None => self.fresh(key).await?,
        };
        Ok(known.filter(|o| o.metadata.uid.as_deref() == Some(uid)))
    }

    /// An object as the API server has it; this replica knows it from then on.
    pub(super) async fn fresh<K: Kind + Known>(&self, key: &ObjectKey) -> Result<Option<K>, Unavailable> {
        let read = self.store.get::<K>(key).await.map_err(|e| Unavailable(e.to_string()))?;
        read.iter().for_each(|object| self.world.learn(object));
        Ok(read)
    }

    /// The operation as the API server has it.
    async fn look_again(&self, key: &ObjectKey, uid: &str) -> Result<Option<CertificateOperation>, Unavailable> {
        Ok(self.fresh::<CertificateOperation>(key).await?.filter(|o| o.metadata.uid.as_deref() == Some(uid)))
    }

    /// Makes one transition and puts it on record, against whatever other replicas write meanwhile.
    pub(in crate::authority) async fn change(
        &self,
        key: &ObjectKey,
        uid: &str,
        next: impl Fn(&CertificateOperation) -> Next,
    ) -> Result<Changed, Unavailable> {
        let (mut known, mut looked) = (self.operation(key, uid).await?, false);
        for tried in 0..TRIES {
            let Some(mut operation) = known else { return Ok(Changed::Gone) };
            let event = match next(&operation) {
                Next::Make(event) => *event,
                Next::Done => return Ok(Changed::Recorded(Box::new(operation))),
            };
            let status = match advance(&operation, event, crate::clock::now()) {
                Ok(status) => status,
                // Another replica may have recorded the step before this one a moment ago.
                Err(NotPossible::OtherCertificate(_) | NotPossible::OtherKind(_)) if !looked => {
                    (known, looked) = (self.look_again(key, uid).await?, true);
                    continue;
                }
                Err(why) => return Ok(Changed::NotPossible(why)),
            };
            operation.status = Some(status);
            match self.store.replace_status(&operation).await {
                Ok(recorded) => {
                    metrics().operation_written(&recorded);
                    self.world.learn(&recorded);
                    return Ok(Changed::Recorded(Box::new(recorded)));
                }
                Err(error) => match error.cause {
                    Cause::NotFound => return Ok(Changed::Gone),
                    // Another replica came first, or what is known here is stale: look, and decide anew.
                    Cause::Conflict | Cause::Invalid(_) if tried + 1 < TRIES => {
                        tokio::time::sleep(Duration::from_millis(5 << tried)).await;
                    }
                    Cause::Unavailable(_) if tried == 0 => {}
                    _ => return Err(Unavailable(error.to_string())),
                },
            }
            (known, looked) = (self.look_again(key, uid).await?, true);
        }
        Err(Unavailable(format!("operation {key} changes too fast")))
    }
}
