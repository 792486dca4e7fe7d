//! Proxies: their own key pairs, the publication of their certificates, and their endpoints' bundle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ObjectMeta;
use secrecy::ExposeSecret as _;

use super::endpoints::Endpoints;
use super::events::Reporter;
use super::key_limits::{NoKey, within_limits};
use super::phone::owned_by;
use super::store::{CallError, Store};
use super::world::{ObjectKey, World};
use crate::api::{CertificateAuthorityProxy, PROXY_LABEL};
use crate::authority::anchors::read_anchors;
use crate::authority::bundle::{EndpointConfig, files};
use crate::authority::credentials::{Credentials, text};
use crate::authority::service::subject;
use crate::domain::proxy::{
    Activated, CERTIFICATE, ENDPOINT_SECRET_TYPE, Found, Obstacle, OwnKeyRole, OwnPairFacts, PRIVATE_KEY,
    REVISION_ANNOTATION, certificates_config_map, endpoint_secret, must_make, name_taken, own_key, status,
};
use crate::pki::certificate::{CertificateFacts, from_pem};
use crate::pki::control::{proxy_uri, renew_at};
use crate::pki::{IssueError, IssuerRequest, OwnIssuer, OwnPair, ServiceRequest, generate_issuer, generate_service};

/// Years that CAPF's own certificates are good for.
const OWN_YEARS: u16 = 10;
/// Days that an endpoint's client certificate is good for; renewed after two thirds of them.
const CLIENT_DAYS: u16 = 90;
/// Looked at again without a change this often: Secrets are not watched.
const LOOK_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// The loop of proxies.
#[derive(Debug)]
pub struct Proxies {
    /// What is known.
    pub world: Arc<World>,
    /// How it is written.
    pub store: Store,
    /// The CA of endpoints' client certificates.
    pub credentials: Arc<Credentials>,
    /// Events on what goes wrong.
    pub reporter: Reporter,
    /// Where endpoints find controllers, and those that run as pods.
    pub endpoints: Endpoints,
}

/// Why activation is not complete.
pub(super) enum Hindrance {
    Obstacle(Obstacle),
    Call(CallError),
}

impl From<CallError> for Hindrance {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Obstacle> for Hindrance {
    fn from(obstacle: Obstacle) -> Self {
        Self::Obstacle(obstacle)
    }
}

/// A key pair that is in place.
struct InPlace {
    certificate: String,
    private_key: secrecy::SecretString,
    facts: CertificateFacts,
}

impl Proxies {
    /// Brings one proxy forward; returns when to look again.
    ///
    /// # Errors
    /// When a call failed; what was done before it is found again.
    pub async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Timestamp>, CallError> {
        if self.world.proxy(key).is_none() {
            return Ok(None);
        }
        // As it is now, not as the watch has told so far: what is made for a proxy that is going goes with it, and may be
        // what one of the same name is about to take over.
        let current = self.store.get::<CertificateAuthorityProxy>(key).await?;
        let Some(proxy) = current.filter(|p| p.metadata.deletion_timestamp.is_none()) else {
            return Ok(None);
        };
        let (outcome, again) = match self.activate(key, &proxy).await {
            Ok((activated, soon)) if soon || activated.is_unsettled() => (Ok(activated), SignedDuration::from_mins(1)),
            Ok((activated, _)) => (Ok(activated), LOOK_EVERY),
            Err(Hindrance::Obstacle(obstacle)) => {
                tracing::warn!(proxy = %key, reason = obstacle.reason, message = obstacle.message, "not activated");
                (Err(obstacle), SignedDuration::from_mins(1))
            }
            Err(Hindrance::Call(error)) => return Err(error),
        };
        let now = crate::clock::now();
        let next = status(&proxy, outcome.as_ref(), now);
        if proxy.status.as_ref() != Some(&next) {
            let mut written = proxy;
            let before = written.status.replace(next);
            let recorded = self.store.replace_status(&written).await?;
            self.world.learn(&recorded);
            self.reporter.proxy_changed(&written, &before.unwrap_or_default()).await;
        }
        Ok(now.checked_add(again).ok())
    }

    /// What there is when everything is in place, and whether to look again soon all the same.
    async fn activate(
        &self,
        key: &ObjectKey,
        proxy: &CertificateAuthorityProxy,
    ) -> Result<(Activated, bool), Hindrance> {
        let issuer = self.pair(OwnKeyRole::Issuer, key, proxy, None).await?;
        let service = self.pair(OwnKeyRole::Service, key, proxy, Some(issuer.facts.not_after)).await?;
        self.publish(key, proxy, &issuer, &service).await?;
        let client_not_after = self.bundle(key, proxy, &service).await?;
        let mic_roots = match &proxy.spec.mic_roots {
            Some(roots) => read_anchors(&self.store, &key.namespace, roots).await?.err(),
            None => None,
        };
        // After the bundle: a pod that is new finds one that is current.
        let (endpoints, soon) = match self.endpoints.keep(key, proxy).await {
            Ok((seen, soon)) => (Ok(seen), soon),
            Err(Hindrance::Obstacle(obstacle)) => (Err(obstacle), true),
            Err(error) => return Err(error),
        };
        let activated =
            Activated { issuer: issuer.facts, service: service.facts, client_not_after, mic_roots, endpoints };
        Ok((activated, soon))
    }

    /// One of the two key pairs: as it is, or made now.
    async fn pair(
        &self,
        role: OwnKeyRole,
        key: &ObjectKey,
        proxy: &CertificateAuthorityProxy,
        issuer_not_after: Option<Timestamp>,
    ) -> Result<InPlace, Hindrance> {
        let name = ObjectKey::new(&key.namespace, role.secret_name(&key.name));
        let before = self.store.get::<Secret>(&name).await?;
        let (found, in_place) = look(role, before.as_ref());
        if !must_make(role, proxy, &found)? {
            return in_place.ok_or_else(|| name_taken("Secret", &name.name).into());
        }
        let made = make(role, proxy, issuer_not_after).await?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.name.clone()),
                namespace: Some(name.namespace.clone()),
                resource_version: before.as_ref().and_then(|s| s.metadata.resource_version.clone()),
                labels: Some([(PROXY_LABEL.to_owned(), key.name.clone())].into()),
                annotations: Some(
                    [(REVISION_ANNOTATION.to_owned(), proxy.spec.certificate_revision.to_string())].into(),
                ),
                // No owner: the keys outlive their proxy, and one of the same name takes them up again.
                ..ObjectMeta::default()
            },
            type_: Some(role.secret_type().into()),
            data: Some(BTreeMap::from([
                (CERTIFICATE.to_owned(), octets(made.certificate.pem())),
                (PRIVATE_KEY.to_owned(), octets(made.private_key.expose_secret())),
            ])),
            ..Secret::default()
        };
        match before {
            None => self.store.create(&secret).await?,
            Some(_) => self.store.replace(&secret).await?,
        };
        tracing::info!(proxy = %key, ?role, certificate = made.certificate.facts().subject_common_name, "made a key pair");
        Ok(InPlace {
            certificate: made.certificate.pem().to_owned(),
            facts: made.certificate.facts().clone(),
            private_key: made.private_key,
        })
    }

    async fn publish(
        &self,
        key: &ObjectKey,
        proxy: &CertificateAuthorityProxy,
        issuer: &InPlace,
        service: &InPlace,
    ) -> Result<(), Hindrance> {
        let name = ObjectKey::new(&key.namespace, certificates_config_map(&key.name));
        let before = self.store.get::<ConfigMap>(&name).await?;
        if before.as_ref().is_some_and(|map| !labelled(&map.metadata, key)) {
            return Err(name_taken("ConfigMap", &name.name).into());
        }
        let common_name = service.facts.subject_common_name.clone().unwrap_or_default();
        let der = from_pem(&service.certificate).map_err(|e| unusable(&e.to_string()))?;
        let wanted = ConfigMap {
            metadata: self.metadata(&name, key, proxy, before.as_ref().map(|m| &m.metadata)),
            data: Some(BTreeMap::from([
                (format!("{common_name}.0"), service.certificate.clone()),
                ("issuer.pem".to_owned(), issuer.certificate.clone()),
            ])),
            binary_data: Some(BTreeMap::from([("CAPF.cer".to_owned(), ByteString(der))])),
            ..ConfigMap::default()
        };
        match before {
            None => drop(self.store.create(&wanted).await?),
            Some(before)
                if (&before.data, &before.binary_data) != (&wanted.data, &wanted.binary_data)
                    || !owned(&before.metadata, proxy) =>
            {
                self.store.replace(&wanted).await?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// The endpoints' bundle; returns the end of its client certificate.
    async fn bundle(
        &self,
        key: &ObjectKey,
        proxy: &CertificateAuthorityProxy,
        service: &InPlace,
    ) -> Result<Timestamp, Hindrance> {
        let name = ObjectKey::new(&key.namespace, endpoint_secret(&key.name));
        let before = self.store.get::<Secret>(&name).await?;
        if before
            .as_ref()
            .is_some_and(|s| s.type_.as_deref() != Some(ENDPOINT_SECRET_TYPE) || !labelled(&s.metadata, key))
        {
            return Err(name_taken("Secret", &name.name).into());
        }
        let now = crate::clock::now();
        let held = before.as_ref().and_then(|s| s.data.clone()).unwrap_or_default();
        let client = match self.usable_client(&held, now) {
            Some(client) => client,
            None => {
                let uri = proxy_uri(&key.namespace, &key.name);
                let made = self.credentials.ca.client_credential(&uri, now, CLIENT_DAYS);
                let made = made.map_err(|e| unusable(&e.to_string()))?;
                let not_after = made.certificate.facts().not_after;
                (octets(made.certificate.pem()), octets(made.private_key.expose_secret()), not_after)
            }
        };
        let config = EndpointConfig {
            namespace: key.namespace.clone(),
            proxy: key.name.clone(),
            controllers: self.endpoints.controllers(key, proxy, &held).await?,
            phone_port: proxy.spec.phone_port,
            connections: proxy.spec.limits.connections,
            handshake_seconds: proxy.spec.limits.handshake_seconds,
            answer_seconds: proxy.spec.limits.answer_seconds,
        };
        let config = serde_json::to_string_pretty(&config).map_err(|e| unusable(&e.to_string()))?;
        let data = BTreeMap::from([
            (files::SERVICE_CERTIFICATE.to_owned(), octets(&service.certificate)),
            (files::SERVICE_KEY.to_owned(), octets(service.private_key.expose_secret())),
            (files::CLIENT_CERTIFICATE.to_owned(), client.0),
            (files::CLIENT_KEY.to_owned(), client.1),
            (files::CONTROLLER_CA.to_owned(), octets(&self.credentials.ca_pem)),
            (files::CONFIG.to_owned(), octets(&config)),
        ]);
        let wanted = Secret {
            metadata: self.metadata(&name, key, proxy, before.as_ref().map(|s| &s.metadata)),
            type_: Some(ENDPOINT_SECRET_TYPE.into()),
            data: Some(data),
            ..Secret::default()
        };
        match before {
            None => drop(self.store.create(&wanted).await?),
            Some(before) if before.data != wanted.data || !owned(&before.metadata, proxy) => {
                drop(self.store.replace(&wanted).await?);
            }
            Some(_) => {}
        }
        Ok(client.2)
    }

    /// The client certificate on record, as long as it is ours and not due for renewal.
    fn usable_client(
        &self,
        held: &BTreeMap<String, ByteString>,
        now: Timestamp,
    ) -> Option<(ByteString, ByteString, Timestamp)> {
        let ca = held.get(files::CONTROLLER_CA)?;
        let (certificate, key) = (held.get(files::CLIENT_CERTIFICATE)?, held.get(files::CLIENT_KEY)?);
        let der = from_pem(std::str::from_utf8(&certificate.0).ok()?).ok()?;
        let facts = CertificateFacts::from_der(&der).ok()?;
        (*ca == octets(&self.credentials.ca_pem) && now < renew_at(&facts))
            .then(|| (certificate.clone(), key.clone(), facts.not_after))
    }

    fn metadata(
        &self,
        name: &ObjectKey,
        proxy_key: &ObjectKey,
        proxy: &CertificateAuthorityProxy,
        before: Option<&ObjectMeta>,
    ) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            resource_version: before.and_then(|m| m.resource_version.clone()),
            labels: Some([(PROXY_LABEL.to_owned(), proxy_key.name.clone())].into()),
            owner_references: Some(vec![owned_by(proxy)]),
            ..ObjectMeta::default()
        }
    }
}

fn octets(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

fn labelled(metadata: &ObjectMeta, proxy: &ObjectKey) -> bool {
    metadata.labels.as_ref().and_then(|labels| labels.get(PROXY_LABEL)) == Some(&proxy.name)
}

/// Whether an object goes with this proxy. One of a proxy of the same name before, or of a backup, has another owner or none:
/// it would be collected, though it is in use, or outlive its use.
fn owned(metadata: &ObjectMeta, proxy: &CertificateAuthorityProxy) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == proxy.metadata.uid.as_ref())
}

fn unusable(why: &str) -> Obstacle {
    Obstacle { reason: "KeyPairUnusable", message: why.into(), stalls: false }
}

/// What the Secret of a key pair holds.
fn look(role: OwnKeyRole, secret: Option<&Secret>) -> (Found<OwnPairFacts>, Option<InPlace>) {
    let Some(secret) = secret else { return (Found::Missing, None) };
    if secret.type_.as_deref() != Some(role.secret_type()) {
        return (Found::Foreign, None);
    }
    let data = secret.data.clone().unwrap_or_default();
    let (Some(certificate), Some(private_key)) = (text(&data, CERTIFICATE), text(&data, PRIVATE_KEY)) else {
        return (Found::Broken(format!("lacks {CERTIFICATE} or {PRIVATE_KEY}")), None);
    };
    let certificate = certificate.expose_secret().to_owned();
    let checked = match role {
        // The whole pair is looked at where that is cheap; a service key that does not fit shows at the endpoint.
        OwnKeyRole::Issuer => OwnIssuer::from_pem(&certificate, &private_key)
            .map(|i| i.certificate().facts().clone())
            .map_err(|e| e.to_string()),
        OwnKeyRole::Service => {
            from_pem(&certificate).and_then(|der| CertificateFacts::from_der(&der)).map_err(|e| e.to_string())
        }
    };
    let facts = match checked {
        Ok(facts) => facts,
        Err(why) => return (Found::Broken(why), None),
    };
    let annotations = secret.metadata.annotations.as_ref();
    let revision = annotations.and_then(|a| a.get(REVISION_ANNOTATION)).and_then(|r| r.parse().ok()).unwrap_or(0);
    let found = OwnPairFacts { facts: facts.clone(), revision };
    (Found::Here(found), Some(InPlace { certificate, private_key, facts }))
}

/// Makes a key pair within the allowed minutes and attempts (Table 4-3).
async fn make(
    role: OwnKeyRole,
    proxy: &CertificateAuthorityProxy,
    issuer_not_after: Option<Timestamp>,
) -> Result<OwnPair, Obstacle> {
    let (key, subject, now) = (own_key(proxy)?, subject(proxy), crate::clock::now());
    let attempts = proxy.spec.maximum_key_generation_attempts;
    let minutes = Duration::from_secs(60 * u64::from(proxy.spec.maximum_key_generation_minutes));
    let generate = || {
        let subject = subject.clone();
        move || -> Result<OwnPair, IssueError> {
            match (role, issuer_not_after) {
                (OwnKeyRole::Service, Some(issuer_not_after)) => generate_service(&ServiceRequest {
                    subject: &subject,
                    key,
                    years: OWN_YEARS,
                    issuer_not_after,
                    now,
                }),
                _ => {
                    generate_issuer(&IssuerRequest { common_name: None, subject: &subject, key, years: OWN_YEARS, now })
                }
            }
        }
    };
    let made = within_limits(minutes, attempts, generate).await;
    made.map_err(|NoKey { reason, message }| Obstacle {
        reason,
        message: format!("{role:?}: {message}"),
        stalls: false,
    })
}
