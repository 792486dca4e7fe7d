//! The check of authentication strings: count, then answer.
//!
//! Where a string comes from is asked first: from a source block that fails it is answered without a check
//! (`domain::blocks`), and costs no read and no write.
//!
//! A wrong string is written into the operation's status before the phone is told. If that write does not come
//! through, the try is owed: nothing is checked for that operation in this replica until it has been written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret as _, SecretString};

use super::credentials::{Credentials, text};
use super::questions::Unavailable;
use super::service::{Changed, Next, Service};
use crate::api::{
    AUTHENTICATION_STRING_KEY, AUTHENTICATION_STRING_TYPE, CertificateAuthorityProxy, CertificateOperation, Reason,
};
use crate::controller::noticed::Noticer;
use crate::controller::store::{Cause, Store};
use crate::controller::world::{ObjectKey, PhoneView};
use crate::domain::blocks::{Admission, Guesses, SourceBlock};
use crate::domain::phone::generates_string;
use crate::domain::string::AuthenticationString;
use crate::domain::transition::{Event, NotPossible};
use crate::telemetry::controller::metrics;

/// What the check found.
pub(super) enum StringCheck {
    /// The digits are right. A given string's digest goes with the certificate, so that it is used up.
    Right {
        /// Keyed digest of a given string.
        spent: Option<String>,
    },
    /// Not let in; where a try was spent, it is on record.
    Refused(Reason),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Strings {
    store: Store,
    credentials: Arc<Credentials>,
    noticer: Arc<Noticer>,
    state: Mutex<State>,
}

/// What was entered on a phone, in which session, and where from.
pub(super) struct Entered<'a> {
    /// The digits, or what came instead.
    pub(super) digits: &'a SecretString,
    /// Session id on the wire.
    pub(super) session_id: u32,
    /// Where from, if the endpoint says so.
    pub(super) source: Option<SourceBlock>,
}

#[derive(Debug, Default)]
struct State {
    /// Who fails, at each proxy.
    guesses: HashMap<ObjectKey, Guesses>,
    /// Operations with a wrong try that is not on record yet, by UID.
    owed: HashMap<String, (u32, Option<String>)>,
}

/// The Secret does not hold a usable string.
#[derive(Debug)]
pub(crate) enum StringError {
    /// There is none.
    Missing(String),
    /// It is of another type, or malformed.
    Unusable(Reason, String),
    /// The API server did not answer.
    Unavailable(String),
}

/// Reads a string from its Secret. A Secret of another type is never looked into.
pub(crate) async fn read_string(store: &Store, key: &ObjectKey) -> Result<AuthenticationString, StringError> {
    let malformed = |why: String| StringError::Unusable(Reason::AuthenticationStringMalformed, why);
    let secret = match store.get::<Secret>(key).await {
        Ok(secret) => secret.ok_or_else(|| StringError::Missing(format!("there is no Secret {}", key.name)))?,
        Err(error) if matches!(error.cause, Cause::Forbidden(_)) => return Err(malformed(error.to_string())),
        Err(error) => return Err(StringError::Unavailable(error.to_string())),
    };
    if secret.type_.as_deref() != Some(AUTHENTICATION_STRING_TYPE) {
        let why =
            format!("Secret {} is not of type {AUTHENTICATION_STRING_TYPE}; make it anew with that type", key.name);
        return Err(malformed(why));
    }
    let digits = text(&secret.data.unwrap_or_default(), AUTHENTICATION_STRING_KEY)
        .ok_or_else(|| malformed(format!("Secret {} has no key {AUTHENTICATION_STRING_KEY}", key.name)))?;
    AuthenticationString::parse(digits.expose_secret()).map_err(|why| malformed(format!("Secret {} {why}", key.name)))
}

/// Whether a given string was used up by another operation of the phone, one that is pruned by now included.
pub(crate) fn is_spent(digest: &str, view: &PhoneView, except: Option<&str>) -> bool {
    let others = view.operations.iter().filter(|o| except.is_none() || o.metadata.uid.as_deref() != except);
    let mut of_operations = others.filter_map(|o| o.status.as_ref()?.spent_string.as_deref());
    let mut remembered = view.phone.iter().filter_map(|p| p.status.as_ref()).flat_map(|s| &s.spent_strings);
    of_operations.any(|spent| spent == digest)
        || remembered.any(|begins| !begins.is_empty() && digest.starts_with(begins))
}

impl Strings {
    pub(super) fn new(store: Store, credentials: Arc<Credentials>, noticer: Arc<Noticer>) -> Self {
        Self { store, credentials, noticer, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a string from there is not to be checked now; it is answered as a wrong one is.
    pub(super) fn turned_away(&self, proxy: &CertificateAuthorityProxy, source: Option<SourceBlock>) -> Option<Reason> {
        let key = ObjectKey::of(proxy);
        let admission = self.admission(&mut self.state(), proxy, source);
        match (admission, source) {
            (Admission::Check, _) => return None,
            (Admission::Penalised(_), Some(block)) => self.noticer.guessing(&key, block),
            _ => {}
        }
        metrics().strings.with(["unchecked"]).inc();
        Some(Reason::TooManyWrongStrings)
    }

    fn admission(
        &self,
        state: &mut State,
        proxy: &CertificateAuthorityProxy,
        source: Option<SourceBlock>,
    ) -> Admission {
        let guesses = state.guesses.entry(ObjectKey::of(proxy)).or_default();
        guesses.admits(source, &proxy.spec.limits, crate::clock::now())
    }

    /// Checks what was entered on the phone. The caller holds the operation's lock.
    pub(super) async fn check(
        &self,
        service: &Service,
        proxy: &CertificateAuthorityProxy,
        view: &PhoneView,
        operation: &ObjectKey,
        secret: &str,
        entered: Entered<'_>,
    ) -> Result<StringCheck, Unavailable> {
        let known = view.operations.iter().find(|o| ObjectKey::of(o.as_ref()) == *operation);
        let Some(known) = known else { return Ok(StringCheck::Refused(Reason::Superseded)) };
        let uid = known.metadata.uid.clone().unwrap_or_default();
        let limit = proxy.spec.maximum_authentication_attempts;
        // Asked again within a session whose try is on record: answered, and nothing is compared once more.
        if known.status_or_default().attempts.is_some_and(|a| a.last_session == Some(entered.session_id)) {
            return Ok(StringCheck::Refused(Reason::InvalidAuthenticationString));
        }
        let owed = self.state().owed.get(&uid).cloned();
        if let Some((session, spent_string)) = owed
            && let Some(over) = self.spend(service, operation, &uid, limit, session, spent_string).await?
        {
            return Ok(StringCheck::Refused(over));
        }
        let key = ObjectKey::new(&operation.namespace, secret);
        let string = match read_string(&self.store, &key).await {
            Ok(string) => string,
            Err(StringError::Unusable(reason, why)) => {
                tracing::warn!(%operation, %reason, why, "the authentication string cannot be checked");
                return Ok(StringCheck::Refused(reason));
            }
            Err(StringError::Missing(why) | StringError::Unavailable(why)) => return Err(Unavailable(why)),
        };
        let phone = view.phone.as_ref().and_then(|p| p.metadata.name.clone()).unwrap_or_default();
        let spent = (!generates_string(&known.spec)).then(|| string.digest(&self.credentials.strings, &phone));
        if spent.as_deref().is_some_and(|digest| is_spent(digest, view, Some(&uid))) {
            return Ok(StringCheck::Refused(Reason::AuthenticationStringReused));
        }
        let penalised = {
            // In one piece: of many strings that come at once each is counted before the next is compared.
            let mut state = self.state();
            if self.admission(&mut state, proxy, entered.source) != Admission::Check {
                metrics().strings.with(["unchecked"]).inc();
                return Ok(StringCheck::Refused(Reason::TooManyWrongStrings));
            }
            tracing::debug!(%operation, "comparing an authentication string");
            let guesses = state.guesses.entry(ObjectKey::of(proxy)).or_default();
            let right = string.matches(entered.digits);
            metrics().strings.with([if right { "right" } else { "wrong" }]).inc();
            if right {
                guesses.right(entered.source);
                return Ok(StringCheck::Right { spent });
            }
            let penalised = guesses.failed(entered.source, &proxy.spec.limits, crate::clock::now());
            state.owed.insert(uid.clone(), (entered.session_id, spent.clone()));
            entered.source.filter(|_| penalised)
        };
        if let Some(block) = penalised {
            metrics().penalised.value().inc();
            tracing::warn!(%block, "many wrong authentication strings: those from there are not checked for a while");
            self.noticer.guessing(&ObjectKey::of(proxy), block);
        }
        let over = self.spend(service, operation, &uid, limit, entered.session_id, spent).await?;
        Ok(StringCheck::Refused(over.unwrap_or(Reason::InvalidAuthenticationString)))
    }

    /// Puts a wrong try on record; `Some` when the operation is over, by it or otherwise.
    async fn spend(
        &self,
        service: &Service,
        operation: &ObjectKey,
        uid: &str,
        limit: u16,
        session_id: u32,
        spent_string: Option<String>,
    ) -> Result<Option<Reason>, Unavailable> {
        let event = |_: &CertificateOperation| {
            Next::make(Event::WrongString { limit, session_id, spent_string: spent_string.clone() })
        };
        let changed = service.change(operation, uid, event).await?;
        self.state().owed.remove(uid);
        Ok(match changed {
            Changed::Recorded(recorded) => {
                let attempts = recorded.status_or_default().attempts.unwrap_or_default().authentication;
                tracing::info!(%operation, attempts, limit, "wrong authentication string");
                recorded.status_or_default().reason
            }
            Changed::NotPossible(NotPossible::Counted(_)) => None,
            Changed::NotPossible(_) | Changed::Gone => Some(Reason::Superseded),
        })
    }
}
