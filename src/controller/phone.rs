//! Phones: gather, ask `domain::phone` what is next, do it, until there is nothing left to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::ObjectMeta;
use secrecy::ExposeSecret as _;

use super::events::Reporter;
use super::store::{CallError, Cause, Store};
use super::world::{ObjectKey, PhoneView, World};
use crate::api::{
    AUTHENTICATION_STRING_KEY, AUTHENTICATION_STRING_TYPE, CertificateOperation, CertificateOperationSpec, PROXY_LABEL,
    Phone, PhoneStatus, Reason,
};
use crate::authority::credentials::Credentials;
use crate::authority::strings::{StringError, is_spent, read_string};
use crate::domain::phone::{Observed, Step, StringFact, decide, generated_secret, generates_string};
use crate::domain::string::AuthenticationString;
use crate::domain::transition::{Event, advance};
use crate::telemetry::controller::metrics;

/// Steps in a row that one phone may take; more would mean that the decision does not settle.
const MOST_STEPS: usize = 12;

/// The loop of phones.
#[derive(Debug)]
pub struct Phones {
    /// What is known.
    pub world: Arc<World>,
    /// How it is written.
    pub store: Store,
    /// The keyed digests of used-up strings.
    pub credentials: Arc<Credentials>,
    /// Events on what goes wrong.
    pub reporter: Reporter,
}

/// Why a phone could not be brought forward; tried again with a growing pause.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The Secret with a given string could not be read.
    #[error("reading the authentication string: {0}")]
    String(String),
    /// No random octets.
    #[error("making an authentication string: the system gives no random octets")]
    Random,
    /// A transition that the record does not allow, because what is known here is stale.
    #[error("what is known of {0} is stale")]
    Stale(ObjectKey),
    /// A mistake in this program.
    #[error("the decision about {0} does not settle; last step: {1}")]
    Unsettled(ObjectKey, String),
}

impl Phones {
    /// Brings one phone forward; returns when to look again.
    ///
    /// # Errors
    /// [`PhoneError`]; whatever was done before it is on record and is not done again.
    pub async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Timestamp>, PhoneError> {
        let mut strings = BTreeMap::new();
        let mut last = String::new();
        for _ in 0..MOST_STEPS {
            let view = self.world.phone_view(key);
            let observed = Observed {
                phone: view.phone.as_deref().filter(|p| p.metadata.deletion_timestamp.is_none()),
                operations: &view.operations,
                proxy: view.proxy.as_deref(),
                strings: &strings,
            };
            let step = decide(&observed, crate::clock::now());
            tracing::debug!(phone = %key, ?step, "decided");
            last = format!("{step:?}");
            match step {
                Step::Rest { wake } => return Ok(wake),
                Step::LookAtString { secret } => {
                    let fact = self.look_at(key, &view, &secret).await?;
                    strings.insert(secret, fact);
                }
                Step::Create { name, spec } => self.create(key, &view, name, *spec).await?,
                Step::ResolveDeadline { operation, completes_by } => {
                    self.advance(key, &view, &operation, Event::Armed { completes_by }).await?;
                }
                Step::End { operation, reason, message } => {
                    let ended = view.operations.iter().find(|o| o.metadata.name.as_deref() == Some(&operation));
                    let named = view.phone.as_ref().and_then(|p| p.status.as_ref()?.operation.as_ref());
                    // That of the operation that the phone's status names is discarded when the status is written.
                    if named.is_none_or(|armed| armed.name != operation)
                        && ended.is_some_and(|o| generates_string(&o.spec))
                    {
                        self.discard_string(key, &operation).await?;
                    }
                    self.advance(key, &view, &operation, Event::Ended { reason, message }).await?;
                }
                Step::Prune { operations } => {
                    self.prune(&view, &operations).await?;
                    return Ok(Some(crate::clock::now()));
                }
                Step::WriteStatus { status, make_string_for, discard_strings_of } => {
                    if let Some(operation) = make_string_for {
                        self.make_string(key, &view, &operation).await?;
                    }
                    for operation in discard_strings_of {
                        self.discard_string(key, &operation).await?;
                    }
                    self.write_status(key, &view, *status).await?;
                }
            }
        }
        Err(PhoneError::Unsettled(key.clone(), last))
    }

    async fn look_at(&self, phone: &ObjectKey, view: &PhoneView, secret: &str) -> Result<StringFact, PhoneError> {
        let key = ObjectKey::new(&phone.namespace, secret);
        match read_string(&self.store, &key).await {
            Ok(string) => {
                let digest = string.digest(&self.credentials.strings, &phone.name);
                if is_spent(&digest, view, None) {
                    let message = format!("the string in Secret {secret} was used before; write a new one into it");
                    return Ok(StringFact::Unusable(Reason::AuthenticationStringReused, message));
                }
                Ok(StringFact::Usable)
            }
            Err(StringError::Missing(why)) => Ok(StringFact::Missing(why)),
            Err(StringError::Unusable(reason, why)) => Ok(StringFact::Unusable(reason, why)),
            Err(StringError::Unavailable(why)) => Err(PhoneError::String(why)),
        }
    }

    async fn create(
        &self,
        key: &ObjectKey,
        view: &PhoneView,
        name: String,
        spec: CertificateOperationSpec,
    ) -> Result<(), PhoneError> {
        let Some(phone) = &view.phone else { return Err(PhoneError::Stale(key.clone())) };
        let operation = CertificateOperation {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(key.namespace.clone()),
                owner_references: Some(vec![owned_by(phone.as_ref())]),
                labels: Some([(PROXY_LABEL.to_owned(), phone.spec.proxy_ref.name.clone())].into()),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        };
        let made = self.store.create_or_get(&operation).await?;
        let owners = made.metadata.owner_references.iter().flatten();
        if !owners.into_iter().any(|owner| Some(&owner.uid) == phone.metadata.uid.as_ref()) {
            // Deterministic names make this somebody's deliberate doing; the phone cannot be served beside it.
            let why = format!(
                "CertificateOperation {} exists and is not of this phone",
                made.metadata.name.unwrap_or_default()
            );
            return Err(PhoneError::String(why));
        }
        self.world.learn(&made);
        Ok(())
    }

    async fn advance(&self, key: &ObjectKey, view: &PhoneView, name: &str, event: Event) -> Result<(), PhoneError> {
        let known = view.operations.iter().find(|o| o.metadata.name.as_deref() == Some(name));
        let Some(known) = known else { return Err(PhoneError::Stale(key.clone())) };
        let mut operation = known.as_ref().clone();
        let status = advance(&operation, event, crate::clock::now());
        operation.status = Some(status.map_err(|_| PhoneError::Stale(key.clone()))?);
        self.recorded(ObjectKey::of(&operation), self.store.replace_status(&operation).await).await?;
        metrics().operation_written(&operation);
        self.reporter.operation_ended(&operation);
        Ok(())
    }

    async fn write_status(&self, key: &ObjectKey, view: &PhoneView, status: PhoneStatus) -> Result<(), PhoneError> {
        let Some(known) = &view.phone else { return Err(PhoneError::Stale(key.clone())) };
        let mut phone: Phone = known.as_ref().clone();
        let before = phone.status.replace(status);
        self.recorded(key.clone(), self.store.replace_status(&phone).await).await?;
        self.reporter.phone_changed(&phone, before.as_ref(), &view.operations).await;
        Ok(())
    }

    /// Learns what was written; after a conflict learns what is there instead, so that the next try decides anew.
    async fn recorded<K>(&self, key: ObjectKey, written: Result<K, CallError>) -> Result<(), PhoneError>
    where
        K: super::store::Kind + super::world::Known,
    {
        match written {
            Ok(object) => self.world.learn(&object),
            Err(error) if matches!(error.cause, Cause::Conflict | Cause::Invalid(_)) => {
                if let Some(object) = self.store.get::<K>(&key).await? {
                    self.world.learn(&object);
                }
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Deletes finished operations, each only as it is known here.
    async fn prune(&self, view: &PhoneView, names: &[String]) -> Result<(), PhoneError> {
        let named = |o: &&Arc<CertificateOperation>| o.metadata.name.as_ref().is_some_and(|name| names.contains(name));
        for operation in view.operations.iter().filter(named) {
            self.store.delete_known(operation.as_ref()).await?;
            self.world.forget(operation.as_ref());
            tracing::info!(operation = %ObjectKey::of(operation.as_ref()), "deleted: it has outlived its use");
        }
        Ok(())
    }

    async fn make_string(&self, key: &ObjectKey, view: &PhoneView, operation: &str) -> Result<(), PhoneError> {
        let owner = view.operations.iter().find(|o| o.metadata.name.as_deref() == Some(operation));
        let Some(owner) = owner else { return Err(PhoneError::Stale(key.clone())) };
        let mut octets = [0; 16];
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| PhoneError::Random)?;
        let string = AuthenticationString::from_random(octets);
        let digits = ByteString(string.digits().expose_secret().as_bytes().to_vec());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(generated_secret(operation)),
                namespace: Some(key.namespace.clone()),
                owner_references: Some(vec![owned_by(owner.as_ref())]),
                ..ObjectMeta::default()
            },
            type_: Some(AUTHENTICATION_STRING_TYPE.into()),
            data: Some([(AUTHENTICATION_STRING_KEY.to_owned(), digits)].into()),
            ..Secret::default()
        };
        match self.store.create(&secret).await {
            Ok(_) => Ok(()),
            // Made before a crash. Somebody else's of the same name shows when the phone's digits are compared.
            Err(error) if error.cause == Cause::AlreadyExists => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the string that was made for an operation, and nothing else that somebody put under its name.
    async fn discard_string(&self, key: &ObjectKey, operation: &str) -> Result<(), PhoneError> {
        let name = ObjectKey::new(&key.namespace, generated_secret(operation));
        let Some(found) = self.store.get::<Secret>(&name).await? else { return Ok(()) };
        let mut owners = found.metadata.owner_references.iter().flatten();
        let made_here = found.type_.as_deref() == Some(AUTHENTICATION_STRING_TYPE)
            && owners.any(|owner| owner.kind == CertificateOperation::kind(&()) && owner.name == operation);
        match made_here {
            true => Ok(self.store.delete_known(&found).await?),
            false => Ok(()),
        }
    }
}

/// A reference by which `owner` takes its objects along when it goes.
pub(super) fn owned_by<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
