//! Calls to the API server: each bounded in time, each error told apart by what can be done about it.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, ValidationDirective};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::world::ObjectKey;
use crate::telemetry::controller::metrics;

/// Longest call of the loops.
pub const LOOP_CALL: Duration = Duration::from_secs(10);
/// Longest call inside a question.
pub const QUESTION_CALL: Duration = Duration::from_millis(1500);
/// Calls under way at once by one [`Store`]. An API server on two cores is busy with fewer.
const CALLS_AT_ONCE: usize = 48;
/// Longest life of one watch request, in seconds. A watch that died unnoticed is found out `WATCH_GRACE` later, and what
/// was written meanwhile is acted on then.
pub const WATCH_SECONDS: u32 = 20;
/// How long the API server may be late in ending a watch.
const WATCH_GRACE: Duration = Duration::from_secs(5);

/// Why a call did not do what was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The object was changed in between: look again and decide anew.
    Conflict,
    /// There is no such object.
    NotFound,
    /// There is one of that name.
    AlreadyExists,
    /// The API server does not accept it; waiting does not help.
    Invalid(String),
    /// The controller lacks the right; waiting does not help.
    Forbidden(String),
    /// No answer, or one that says to come again.
    Unavailable(String),
}

impl Cause {
    /// A short fixed name, fit for a metric's label.
    const fn label(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Invalid(_) => "invalid",
            Self::Forbidden(_) => "forbidden",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{verb} {kind} {object}: {}", match .cause {
    Cause::Conflict => "it changed in between",
    Cause::NotFound => "there is none",
    Cause::AlreadyExists => "there is one already",
    Cause::Invalid(why) | Cause::Forbidden(why) | Cause::Unavailable(why) => why.as_str(),
})]
pub struct CallError {
    verb: &'static str,
    kind: String,
    object: ObjectKey,
    /// Why.
    pub cause: Cause,
}

impl CallError {
    /// The error for a call that was given up.
    pub(super) fn no_answer(verb: &'static str, kind: &str, object: ObjectKey) -> Self {
        Self::unavailable(verb, kind, object, "no answer in time".into())
    }

    /// The error for something that was not to be had for now.
    pub(super) fn unavailable(verb: &'static str, kind: &str, object: ObjectKey, why: String) -> Self {
        Self { verb, kind: kind.into(), object, cause: Cause::Unavailable(why) }
    }
}

/// Calls on behalf of one part of the controller, under its own field manager and time limit.
#[derive(Clone)]
pub struct Store {
    client: Client,
    manager: &'static str,
    limit: Duration,
    /// Calls under way at once: more would only wait in the API server, where their time runs out.
    places: Arc<Semaphore>,
}

impl Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("manager", &self.manager).finish_non_exhaustive()
    }
}

/// A kind that [`Store`] can handle.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug
{
}
impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug
{
}

impl Store {
    /// Calls by `client`, each at most `limit` long.
    #[must_use]
    pub fn new(client: Client, manager: &'static str, limit: Duration) -> Self {
        Self { client, manager, limit, places: Arc::new(Semaphore::new(CALLS_AT_ONCE)) }
    }

    fn api<K: Kind>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn post(&self) -> PostParams {
        PostParams { dry_run: false, field_manager: Some(self.manager.into()) }
    }

    async fn bounded<K: Kind, T>(
        &self,
        verb: &'static str,
        object: ObjectKey,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, CallError> {
        let kind = K::kind(&()).into_owned();
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        let began = tokio::time::Instant::now();
        let outcome = match tokio::time::timeout(self.limit, call).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(cause_of(error)),
            Err(_) => Err(Cause::Unavailable(format!("no answer within {:?}", self.limit))),
        };
        note_call(verb, &kind, outcome.as_ref().err(), began.elapsed());
        let cause = match outcome {
            Ok(done) => return Ok(done),
            Err(cause) => cause,
        };
        Err(CallError { verb, kind, object, cause })
    }

    /// Reads an object; `None` when there is none.
    ///
    /// # Errors
    /// When the API server does not answer or refuses.
    pub async fn get<K: Kind>(&self, key: &ObjectKey) -> Result<Option<K>, CallError> {
        let api = self.api::<K>(&key.namespace);
        self.bounded::<K, _>("reading", key.clone(), api.get_opt(&key.name)).await
    }

    /// Creates an object.
    ///
    /// # Errors
    /// [`Cause::AlreadyExists`], or when the API server does not answer or refuses.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<K, CallError> {
        let key = ObjectKey::of(object);
        let api = self.api::<K>(&key.namespace);
        self.bounded::<K, _>("creating", key, api.create(&self.post(), object)).await
    }

    /// Writes an object over the version it was read at.
    ///
    /// # Errors
    /// [`Cause::Conflict`], or when the API server does not answer or refuses.
    pub async fn replace<K: Kind>(&self, object: &K) -> Result<K, CallError> {
        let key = ObjectKey::of(object);
        let api = self.api::<K>(&key.namespace);
        let name = key.name.clone();
        self.bounded::<K, _>("updating", key, api.replace(&name, &self.post(), object)).await
    }

    /// Writes an object's status over the version it was read at.
    ///
    /// # Errors
    /// [`Cause::Conflict`], or when the API server does not answer or refuses.
    pub async fn replace_status<K: Kind>(&self, object: &K) -> Result<K, CallError> {
        let key = ObjectKey::of(object);
        let api = self.api::<K>(&key.namespace);
        let name = key.name.clone();
        self.bounded::<K, _>("updating the status of", key, api.replace_status(&name, &self.post(), object)).await
    }

    /// Applies what an object is to be, server-side. `force` takes over fields that others have set; an object of that name with
    /// another UID than is given is not touched.
    ///
    /// # Errors
    /// [`Cause::Conflict`] over another UID, or without `force` over fields of others; or when the API server does not answer
    /// or refuses.
    pub async fn apply<K: Kind>(&self, key: &ObjectKey, wanted: &Value, force: bool) -> Result<K, CallError> {
        let api = self.api::<K>(&key.namespace);
        let how = PatchParams {
            field_manager: Some(self.manager.into()),
            force,
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        self.bounded::<K, _>("applying", key.clone(), api.patch(&key.name, &how, &Patch::Apply(wanted))).await
    }

    /// Deletes this very object, as it is known here; it is no error when there is none.
    ///
    /// # Errors
    /// [`Cause::Conflict`] when it has changed, or when the API server does not answer or refuses.
    pub async fn delete_known<K: Kind>(&self, object: &K) -> Result<(), CallError> {
        let key = ObjectKey::of(object);
        let api = self.api::<K>(&key.namespace);
        let preconditions =
            Preconditions { uid: object.meta().uid.clone(), resource_version: object.meta().resource_version.clone() };
        let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let name = key.name.clone();
        match self.bounded::<K, _>("deleting", key, api.delete(&name, &how)).await {
            Ok(_) => Ok(()),
            Err(error) if error.cause == Cause::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads what came in the way of a create.
    ///
    /// # Errors
    /// When it is gone again, or the API server does not answer or refuses.
    pub async fn create_or_get<K: Kind>(&self, object: &K) -> Result<K, CallError> {
        let key = ObjectKey::of(object);
        match self.create(object).await {
            Err(CallError { cause: Cause::AlreadyExists, verb, kind, .. }) => {
                self.get(&key).await?.ok_or(CallError { verb, kind, object: key, cause: Cause::Conflict })
            }
            other => other,
        }
    }
}

/// Counts a call. The kinds are those that this program handles.
fn note_call(verb: &'static str, kind: &str, failed: Option<&Cause>, took: Duration) {
    let verb = match verb {
        "reading" => "get",
        "creating" => "create",
        "updating" => "update",
        "updating the status of" => "update_status",
        "applying" => "apply",
        "deleting" => "delete",
        other => other,
    };
    let metrics = metrics();
    metrics.calls.with([verb.to_owned(), kind.to_owned(), failed.map_or("ok", Cause::label).to_owned()]).inc();
    metrics.call_seconds.with([verb]).observe(took.as_secs_f64());
    if !matches!(failed, Some(Cause::Unavailable(_))) {
        metrics.api_answered();
    }
}

fn cause_of(error: kube::Error) -> Cause {
    match error {
        kube::Error::Api(status) if status.is_conflict() && !status.is_already_exists() => Cause::Conflict,
        kube::Error::Api(status) if status.is_already_exists() => Cause::AlreadyExists,
        kube::Error::Api(status) if status.is_not_found() => Cause::NotFound,
        kube::Error::Api(status) if status.is_forbidden() => Cause::Forbidden(status.message),
        kube::Error::Api(status) if status.is_invalid() || status.code == 400 => Cause::Invalid(status.message),
        kube::Error::Api(status) => Cause::Unavailable(status.message),
        other => {
            // The outermost text of a transport error says nothing; the innermost says what happened.
            let mut source: &dyn std::error::Error = &other;
            while let Some(inner) = source.source() {
                source = inner;
            }
            Cause::Unavailable(source.to_string())
        }
    }
}

/// The configuration for requests, and the one for watches, which have a connection of their own.
#[must_use]
pub fn configured(mut config: Config) -> (Config, Config) {
    // Retries are ours: kube's would make up to 15 silent tries of any verb.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    let mut watch = config.clone();
    config.read_timeout = Some(LOOP_CALL);
    config.write_timeout = Some(LOOP_CALL);
    watch.read_timeout = Some(Duration::from_secs(u64::from(WATCH_SECONDS)) + WATCH_GRACE);
    (config, watch)
}
