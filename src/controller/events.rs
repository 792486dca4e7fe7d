//! Events: for failures, refusals and the proxy only. A failed Event is logged and forgotten.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::ObjectMeta;

use std::sync::Arc;

use super::store::Store;
use crate::api::{
    CertificateAuthorityProxy, CertificateAuthorityProxyStatus, CertificateOperation, Condition, ConditionStatus,
    ConditionType, LOOPS_MANAGER, Phase, Phone, PhoneStatus, Reason,
};

/// Writes Events.
#[derive(Clone, Debug)]
pub struct Reporter {
    store: Store,
}

impl Reporter {
    /// A reporter by this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// An operation that a loop has ended: nothing to add to what its phone's Event will say.
    pub(super) fn operation_ended(&self, operation: &CertificateOperation) {
        let status = operation.status_or_default();
        tracing::info!(
            operation = operation.metadata.name,
            namespace = operation.metadata.namespace,
            phase = ?status.phase,
            reason = status.reason.map(Reason::as_str),
            "operation moved"
        );
    }

    /// A phone whose status was written: an Event when its run has newly failed or its manifest newly stalls.
    pub(super) async fn phone_changed(
        &self,
        phone: &Phone,
        before: Option<&PhoneStatus>,
        operations: &[Arc<CertificateOperation>],
    ) {
        let status = phone.status.clone().unwrap_or_default();
        let failed =
            |s: &PhoneStatus| s.operation.as_ref().filter(|o| o.phase == Phase::Failed).map(|o| o.name.clone());
        if let Some(operation) = failed(&status).filter(|name| before.and_then(failed).as_ref() != Some(name)) {
            let ended = operations.iter().find(|o| o.metadata.name.as_ref() == Some(&operation));
            let ended = ended.map(|o| o.status_or_default()).unwrap_or_default();
            let reason = ended.reason.map_or("Failed", Reason::as_str);
            self.warn(phone, reason, &format!("{operation}: {}", ended.message.unwrap_or_default())).await;
        }
        self.newly_stalled(phone, &status.conditions, before.map_or(&[], |s| &s.conditions)).await;
    }

    /// A proxy whose status was written: an Event when it newly stalls, needs a CTL update, has no usable roots of MICs, or its
    /// endpoint pods newly fail.
    pub(super) async fn proxy_changed(
        &self,
        proxy: &CertificateAuthorityProxy,
        before: &CertificateAuthorityProxyStatus,
    ) {
        let failure = |status: &CertificateAuthorityProxyStatus| status.endpoints.as_ref()?.failure.clone();
        let failing = proxy.status.as_ref().and_then(failure).filter(|why| failure(before).as_ref() != Some(why));
        let (after, before) = (proxy.status.as_ref().map_or(&[][..], |s| &s.conditions), &before.conditions[..]);
        self.newly_stalled(proxy, after, before).await;
        if let Some(why) = failing {
            self.warn(proxy, "EndpointsUnavailable", &why).await;
        }
        for type_ in [ConditionType::CTLUpdateRequired, ConditionType::MICRootsUnusable] {
            if let Some(condition) = newly(type_, after, before) {
                self.warn(proxy, &condition.reason, &condition.message).await;
            }
        }
    }

    /// Blocks from which strings are guessed, newly so.
    pub(super) async fn guessing_suspected(&self, proxy: &CertificateAuthorityProxy, message: &str) {
        self.warn(proxy, "GuessingSuspected", message).await;
    }

    async fn newly_stalled<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        after: &[Condition],
        before: &[Condition],
    ) {
        if let Some(condition) = newly(ConditionType::Stalled, after, before) {
            self.warn(object, &condition.reason, &condition.message).await;
        }
    }

    async fn warn<K: Resource<DynamicType = ()>>(&self, about: &K, reason: &str, message: &str) {
        let now = crate::clock::now();
        let (name, namespace) = (about.meta().name.clone().unwrap_or_default(), about.meta().namespace.clone());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: namespace.clone(),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(K::api_version(&()).into_owned()),
                kind: Some(K::kind(&()).into_owned()),
                name: Some(name),
                namespace,
                uid: about.meta().uid.clone(),
                ..ObjectReference::default()
            },
            type_: Some("Warning".into()),
            reason: Some(reason.into()),
            message: Some(message.into()),
            source: Some(EventSource { component: Some(LOOPS_MANAGER.into()), host: None }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        };
        if let Err(error) = self.store.create(&event).await {
            tracing::warn!(%error, "writing an Event");
        }
    }
}

fn newly<'a>(type_: ConditionType, after: &'a [Condition], before: &[Condition]) -> Option<&'a Condition> {
    let holds = |c: &&Condition| c.type_ == type_ && c.status == ConditionStatus::True;
    let now = after.iter().find(holds)?;
    before.iter().find(holds).is_none_or(|then| then.message != now.message).then_some(now)
}
