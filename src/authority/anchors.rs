//! The roots of MICs that proxies name, read from their ConfigMap or Secret and kept for a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use secrecy::ExposeSecret as _;

use super::credentials::text;
use crate::api::{CertificateAuthorityProxy, MIC_ROOTS_TYPE, MicRoots};
use crate::controller::store::{CallError, Cause, Store};
use crate::controller::world::ObjectKey;
use crate::domain::existing::MicTrust;
use crate::domain::proxy::MicRootsProblem;
use crate::pki::Anchors;

/// How long roots that were read are believed: what is mended or taken away counts within it.
const KEPT: SignedDuration = SignedDuration::from_secs(60);
/// Proxies whose roots are kept.
const MOST_KEPT: usize = 256;

/// What was read, and of which reference.
#[derive(Clone, Debug)]
struct Kept {
    roots: MicRoots,
    trust: MicTrust,
    until: Timestamp,
}

/// See the module.
#[derive(Debug)]
pub(super) struct AnchorCache {
    store: Store,
    kept: Mutex<HashMap<ObjectKey, Kept>>,
    /// One reads at a time, for the same reason as with issuers.
    reading: tokio::sync::Mutex<()>,
}

impl AnchorCache {
    pub(super) fn new(store: Store) -> Self {
        Self { store, kept: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// What the proxy's MICs are verified against.
    pub(super) async fn of(&self, proxy: &CertificateAuthorityProxy) -> MicTrust {
        let Some(roots) = &proxy.spec.mic_roots else { return MicTrust::NotConfigured };
        let key = ObjectKey::of(proxy);
        if let Some(trust) = self.known(&key, roots) {
            return trust;
        }
        let _one_reads = self.reading.lock().await;
        if let Some(trust) = self.known(&key, roots) {
            return trust;
        }
        let trust = match read_anchors(&self.store, &key.namespace, roots).await {
            Ok(Ok(anchors)) => MicTrust::Anchors(Arc::new(anchors)),
            Ok(Err(problem)) => MicTrust::Unusable(problem.message),
            // Not kept: the next phone asks again.
            Err(error) => return MicTrust::Unreachable(error.to_string()),
        };
        let now = crate::clock::now();
        let until = now.checked_add(KEPT).unwrap_or(now);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, one| now < one.until);
        }
        if kept.len() < MOST_KEPT {
            kept.insert(key, Kept { roots: roots.clone(), trust: trust.clone(), until });
        }
        trust
    }

    fn known(&self, key: &ObjectKey, roots: &MicRoots) -> Option<MicTrust> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = crate::clock::now();
        kept.get(key).filter(|one| one.roots == *roots && now < one.until).map(|one| one.trust.clone())
    }
}

/// Reads and parses the roots; a Secret of another type is never looked into.
pub(crate) async fn read_anchors(
    store: &Store,
    namespace: &str,
    roots: &MicRoots,
) -> Result<Result<Anchors, MicRootsProblem>, CallError> {
    let problem = |reason, message| Ok(Err(MicRootsProblem { reason, message }));
    let (kind, name) = match (&roots.config_map_ref, &roots.secret_ref) {
        (Some(map), None) => ("ConfigMap", &map.name),
        (None, Some(secret)) => ("Secret", &secret.name),
        _ => return problem("NoReference", "micRoots names neither a ConfigMap nor a Secret".to_owned()),
    };
    let (key, object) = (ObjectKey::new(namespace, name), format!("{kind} {name}"));
    let read = match kind {
        "ConfigMap" => store.get::<ConfigMap>(&key).await.map(|map| {
            let found = map.ok_or("NotFound")?;
            found.data.and_then(|mut data| data.remove(&roots.key)).ok_or("KeyMissing")
        }),
        _ => store.get::<Secret>(&key).await.map(|secret| {
            let secret = secret.ok_or("NotFound")?;
            if secret.type_.as_deref() != Some(MIC_ROOTS_TYPE) {
                return Err("WrongType");
            }
            let text = text(&secret.data.unwrap_or_default(), &roots.key).ok_or("KeyMissing")?;
            Ok(text.expose_secret().to_owned())
        }),
    };
    let pem = match read {
        Ok(Ok(pem)) => pem,
        Ok(Err(reason @ "NotFound")) => return problem(reason, format!("there is no {object}")),
        Ok(Err(reason @ "WrongType")) => {
            return problem(reason, format!("{object} is not of type {MIC_ROOTS_TYPE}; make it anew with that type"));
        }
        Ok(Err(reason)) => return problem(reason, format!("{object} has no key {} with text", roots.key)),
        Err(CallError { cause: Cause::Forbidden(why), .. }) => return problem("Forbidden", why),
        Err(error) => return Err(error),
    };
    match Anchors::from_pem(&pem) {
        Ok(anchors) => Ok(Ok(anchors)),
        Err(why) => problem("NotRoots", format!("{object}, key {}: {why}", roots.key)),
    }
}
