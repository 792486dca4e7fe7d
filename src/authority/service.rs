//! The answers to the three questions: gather, decide (in `domain`), record, answer. Any replica can answer any
//! of them at any time, because all that is remembered between two questions is in the ticket and in status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

mod change;

pub(super) use change::{Changed, Next};

use super::credentials::Credentials;
use super::issuers::Issuers;
use super::questions::{
    CompleteAnswer, CompleteOutcome, CompleteRequest, IssueAnswer, IssueRequest, OpenAnswer, OpenRequest, Unavailable,
};
use super::strings::{Entered, StringCheck, Strings};
use crate::api::{CertificateAuthorityProxy, CertificateOperation, IssuedCertificateStatus, LscSummary, Phase, Reason};
use crate::controller::noticed::Noticer;
use crate::controller::store::Store;
use crate::controller::world::{ObjectKey, PhoneView, World};
use crate::domain::blocks::SourceBlock;
use crate::domain::question::{self, Verdict};
use crate::domain::ticket::{SigningGrant, Ticket, VerifiedTicket};
use crate::domain::transition::{Event, NotPossible};
use crate::pki::{LscRequest, LscSubject, PublicKey};

/// Characters of a certificate (PEM) that an operation's status holds, as its schema says.
const MAX_PEM: usize = 4096;
/// How long after the key time limit a ticket serves: the rest of the session.
const TICKET_TAIL: SignedDuration = SignedDuration::from_mins(5);

/// See the module.
#[derive(Debug)]
pub struct Service {
    world: Arc<World>,
    store: Store,
    credentials: Arc<Credentials>,
    issuers: Issuers,
    strings: Strings,
    noticer: Arc<Noticer>,
    /// One change of an operation at a time in this replica: conflicts then come from other replicas only.
    locks: Mutex<HashMap<ObjectKey, Arc<tokio::sync::Mutex<()>>>>,
}

/// A phone that presents itself.
struct Found {
    view: PhoneView,
    armed: Option<Arc<CertificateOperation>>,
    verdict: Verdict,
}

impl Service {
    /// A service over what this replica knows.
    #[must_use]
    pub fn new(world: Arc<World>, store: Store, credentials: Arc<Credentials>, noticer: Arc<Noticer>) -> Self {
        Self {
            issuers: Issuers::new(store.clone()),
            strings: Strings::new(store.clone(), Arc::clone(&credentials), Arc::clone(&noticer)),
            noticer,
            world,
            store,
            credentials,
            locks: Mutex::default(),
        }
    }

    /// Answers *open* for an endpoint of `proxy`.
    ///
    /// # Errors
    /// [`Unavailable`] when the phone shall come again.
    pub async fn open(&self, proxy: &ObjectKey, request: OpenRequest) -> Result<OpenAnswer, Unavailable> {
        let proxy = self.proxy(proxy)?;
        let found = self.look(&proxy, &request);
        let Verdict::CheckString { .. } = found.verdict else {
            return Ok(self.without_check(&proxy, &found, &request));
        };
        let Some(operation) = found.armed.as_deref().map(ObjectKey::of) else {
            return Ok(OpenAnswer::NothingScheduled);
        };
        // Before the device is asked about anything: guessing at devices shall not lock them out.
        let source = request.source.map(SourceBlock::of);
        if let Some(reason) = self.strings.turned_away(&proxy, source) {
            return Ok(OpenAnswer::Refused { reason });
        }
        let lock = self.lock(&operation);
        let _one_at_a_time = lock.lock().await;
        // Others had their turn meanwhile, and may have spent the tries that were left: what was found is looked at anew.
        let found = self.look(&proxy, &request);
        let (Verdict::CheckString { secret }, Some(armed), Some(digits)) =
            (&found.verdict, found.armed.as_deref(), &request.digits)
        else {
            return Ok(self.without_check(&proxy, &found, &request));
        };
        if ObjectKey::of(armed) != operation {
            return Err(Unavailable("another operation was armed meanwhile".into()));
        }
        let entered = Entered { digits: &digits.0, session_id: request.session_id, source };
        match self.strings.check(self, &proxy, &found.view, &operation, secret, entered).await? {
            StringCheck::Right { spent } => Ok(self.admit(&proxy, armed, &request, spent)),
            StringCheck::Refused(reason) => Ok(OpenAnswer::Refused { reason }),
        }
    }

    /// What is known of the phone that presents itself, and what the checks say to it.
    fn look(&self, proxy: &CertificateAuthorityProxy, request: &OpenRequest) -> Found {
        let namespace = proxy.metadata.namespace.clone().unwrap_or_default();
        let view = self.world.phone_view(&ObjectKey::new(namespace, request.device_name.to_ascii_lowercase()));
        let named = view.phone.as_ref().and_then(|p| p.status.as_ref()?.operation.as_ref());
        let armed = named.and_then(|n| view.operations.iter().find(|o| o.metadata.name.as_ref() == Some(&n.name)));
        let (armed, now) = (armed.cloned(), crate::clock::now());
        let verdict = question::open(proxy, view.phone.as_deref(), armed.as_deref(), request.evidence(), now);
        Found { view, armed, verdict }
    }

    /// The answer where no string decides.
    fn without_check(&self, proxy: &CertificateAuthorityProxy, found: &Found, request: &OpenRequest) -> OpenAnswer {
        match (&found.verdict, &found.armed) {
            (Verdict::UnknownDevice, _) => {
                let source = request.source.map(SourceBlock::of);
                self.noticer.unknown_caller(&ObjectKey::of(proxy), &request.device_name, source);
                OpenAnswer::UnknownDevice
            }
            (Verdict::Refused(reason, why), _) => {
                tracing::info!(device = %request.device_name, %reason, why, "not let in");
                OpenAnswer::Refused { reason: *reason }
            }
            (Verdict::AdmitByNullString, Some(armed)) => self.admit(proxy, armed, request, None),
            (Verdict::CheckString { .. }, Some(_)) => OpenAnswer::Refused { reason: Reason::InvalidCredentials },
            (Verdict::NothingScheduled | Verdict::AdmitByNullString | Verdict::CheckString { .. }, _) => {
                OpenAnswer::NothingScheduled
            }
        }
    }

    fn admit(
        &self,
        proxy: &CertificateAuthorityProxy,
        operation: &CertificateOperation,
        request: &OpenRequest,
        spent_string: Option<String>,
    ) -> OpenAnswer {
        let Ok(key) = crate::api::resolve_key(operation.spec.key_type, operation.spec.key_size) else {
            return OpenAnswer::Refused { reason: Reason::KeyRejected };
        };
        if request.version < 3 && !key.is_rsa() {
            tracing::info!(device = %request.device_name, "phones of protocol version 2 make RSA keys only");
            return OpenAnswer::Refused { reason: Reason::KeyRejected };
        }
        let seconds = u32::from(proxy.spec.maximum_key_generation_minutes) * 60;
        let lasts = SignedDuration::from_secs(i64::from(seconds)) + TICKET_TAIL;
        let key_of = ObjectKey::of(proxy);
        let ticket = Ticket {
            namespace: key_of.namespace,
            proxy: key_of.name,
            device: request.device_name.clone(),
            operation: operation.metadata.name.clone().unwrap_or_default(),
            operation_uid: operation.metadata.uid.clone().unwrap_or_default(),
            evidence: format!("{:?}", operation.spec.authentication_mode),
            session_id: request.session_id,
            spent_string,
            sha256_fingerprint: None,
            expires: crate::clock::now().checked_add(lasts).unwrap_or(Timestamp::MAX),
        };
        OpenAnswer::Install { ticket: ticket.seal(&self.credentials.tickets), key, key_generation_seconds: seconds }
    }

    /// Answers *issue*.
    ///
    /// # Errors
    /// [`Unavailable`] when the phone shall come again.
    pub async fn issue(&self, proxy: &ObjectKey, request: IssueRequest) -> Result<IssueAnswer, Unavailable> {
        let now = crate::clock::now();
        let refused = |reason| Ok(IssueAnswer::Refused { reason });
        let Some(ticket) = self.believed("issue", proxy, &request.ticket, request.session_id) else {
            return refused(Reason::InvalidCredentials);
        };
        let proxy = self.proxy(proxy)?;
        let key = ObjectKey::new(&ticket.ticket().namespace, &ticket.ticket().operation);
        let uid = ticket.ticket().operation_uid.clone();
        let lock = self.lock(&key);
        let _one_at_a_time = lock.lock().await;
        let Some(operation) = self.operation(&key, &uid).await? else { return refused(Reason::Superseded) };
        let asked = crate::api::resolve_key(operation.spec.key_type, operation.spec.key_size);
        let public_key = PublicKey::from_spki(&request.public_key)
            .map_err(|why| why.to_string())
            .and_then(|made| asked.map_err(|e| e.to_string()).map(|asked| (made, asked)))
            .and_then(|(made, asked)| made.matches(asked).map_err(|e| e.to_string()).map(|()| made));
        let public_key = match public_key {
            Ok(public_key) => public_key,
            Err(message) => {
                let reason = Reason::KeyRejected;
                self.change(&key, &uid, |_| Next::make(Event::Ended { reason, message: message.clone() })).await?;
                return refused(reason);
            }
        };
        let Ok(grant) = ticket.grant(public_key) else { return refused(Reason::InvalidCredentials) };
        self.deliver(&proxy, &operation, &key, &grant, now).await
    }

    /// Puts a certificate for the granted key on record, or finds it there, and answers with it.
    async fn deliver(
        &self,
        proxy: &CertificateAuthorityProxy,
        operation: &CertificateOperation,
        key: &ObjectKey,
        grant: &SigningGrant,
        now: Timestamp,
    ) -> Result<IssueAnswer, Unavailable> {
        let in_time = operation.completes_by().is_none_or(|deadline| now < deadline);
        if let Some(again) = same_key_again(operation, grant).filter(|_| in_time) {
            return self.issued(grant, &again);
        }
        let Some(certificate) = self.sign(proxy, grant, now).await? else {
            return Ok(IssueAnswer::Refused { reason: Reason::CARejected });
        };
        let uid = &grant.ticket().operation_uid;
        let changed = self
            .change(key, uid, |operation| match same_key_again(operation, grant) {
                // A write that was not heard of, or another replica's.
                Some(_) => Next::Done,
                None => Next::make(Event::Issued {
                    certificate: certificate.clone(),
                    authenticated_by: grant.ticket().evidence.clone(),
                    spent_string: grant.ticket().spent_string.clone(),
                }),
            })
            .await?;
        match changed {
            Changed::Recorded(operation) => {
                let recorded = operation.status.and_then(|s| s.certificate).unwrap_or(certificate);
                self.issued(grant, &recorded)
            }
            Changed::NotPossible(NotPossible::PastDeadline(..)) => Ok(IssueAnswer::Refused { reason: Reason::Expired }),
            Changed::NotPossible(_) | Changed::Gone => Ok(IssueAnswer::Refused { reason: Reason::Superseded }),
        }
    }

    fn issued(&self, grant: &SigningGrant, certificate: &IssuedCertificateStatus) -> Result<IssueAnswer, Unavailable> {
        let der = crate::pki::certificate::from_pem(&certificate.pem).map_err(|e| Unavailable(e.to_string()))?;
        let receipt = grant.receipt(certificate.summary.sha256_fingerprint.clone());
        Ok(IssueAnswer::Issued { certificate: der, receipt: receipt.seal(&self.credentials.tickets) })
    }

    /// Signs the granted key: the only place that does. None when that cannot be done as the proxy stands; the
    /// operation waits on, and the phone is told not to try again at once.
    async fn sign(
        &self,
        proxy: &CertificateAuthorityProxy,
        grant: &SigningGrant,
        now: Timestamp,
    ) -> Result<Option<IssuedCertificateStatus>, Unavailable> {
        let issuer = self.issuers.of(proxy).await?;
        let request = LscRequest {
            device_name: &grant.ticket().device,
            public_key: grant.public_key(),
            subject: &subject(proxy),
            years: proxy.spec.certificate_validity_years,
            now,
        };
        let signed = match issuer.sign_lsc(&request) {
            Ok(signed) => signed,
            Err(why) => {
                tracing::error!(proxy = %ObjectKey::of(proxy), %why, "an LSC cannot be signed");
                return Ok(None);
            }
        };
        if signed.pem().len() > MAX_PEM {
            let length = signed.pem().len();
            tracing::error!(proxy = %ObjectKey::of(proxy), length, MAX_PEM, "an LSC is too long: shorten certificateSubject");
            return Ok(None);
        }
        let facts = signed.facts();
        let summary = LscSummary {
            serial_number: facts.serial.clone(),
            sha256_fingerprint: facts.sha256.clone(),
            public_key_sha256: facts.spki_sha256.clone(),
            issuer: facts.issuer.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
        };
        Ok(Some(IssuedCertificateStatus { summary, pem: signed.pem().to_owned(), issued_at: now }))
    }

    /// Answers *complete*.
    ///
    /// # Errors
    /// [`Unavailable`] when the phone shall come again.
    pub async fn complete(&self, proxy: &ObjectKey, request: CompleteRequest) -> Result<CompleteAnswer, Unavailable> {
        let Some(ticket) = self.believed("complete", proxy, &request.ticket, request.session_id) else {
            return Ok(CompleteAnswer::Refused { reason: Reason::InvalidCredentials });
        };
        let ticket = ticket.ticket().clone();
        let proxy = self.proxy(proxy)?;
        let Some(event) = completing(&proxy, &ticket, request.outcome) else {
            return Ok(CompleteAnswer::Refused { reason: Reason::InvalidCredentials });
        };
        let key = ObjectKey::new(&ticket.namespace, &ticket.operation);
        let lock = self.lock(&key);
        let _one_at_a_time = lock.lock().await;
        let next = |operation: &CertificateOperation| match stands_recorded(operation, &ticket, request.outcome) {
            true => Next::Done,
            false => Next::make(event.clone()),
        };
        match self.change(&key, &ticket.operation_uid, next).await? {
            Changed::Recorded(operation) => {
                tracing::info!(operation = %key, phase = ?operation.phase(), outcome = ?request.outcome, "recorded");
                Ok(CompleteAnswer::Recorded)
            }
            Changed::NotPossible(NotPossible::Counted(_)) => Ok(CompleteAnswer::Recorded),
            Changed::NotPossible(why) => {
                tracing::info!(operation = %key, %why, "not recorded");
                Ok(CompleteAnswer::Refused { reason: Reason::Superseded })
            }
            Changed::Gone => Ok(CompleteAnswer::Refused { reason: Reason::Superseded }),
        }
    }

    /// The ticket that came with a question, if it is ours, for this proxy, this session and this time.
    fn believed(&self, question: &str, proxy: &ObjectKey, sealed: &str, session_id: u32) -> Option<VerifiedTicket> {
        let of_proxy = (proxy.namespace.as_str(), proxy.name.as_str());
        Ticket::verify(sealed, &self.credentials.tickets, of_proxy, session_id, crate::clock::now())
            .inspect_err(|why| tracing::warn!(%proxy, question, %why, "a ticket was not believed"))
            .ok()
    }

    fn proxy(&self, key: &ObjectKey) -> Result<Arc<CertificateAuthorityProxy>, Unavailable> {
        self.world.proxy(key).ok_or_else(|| Unavailable(format!("there is no CertificateAuthorityProxy {key}")))
    }
}

/// Whether the record says already what the phone says: the answer to an earlier question was lost.
fn stands_recorded(operation: &CertificateOperation, ticket: &Ticket, outcome: CompleteOutcome) -> bool {
    let status = operation.status_or_default();
    let stored = status.certificate.map(|c| c.summary.sha256_fingerprint);
    outcome == CompleteOutcome::Stored && status.phase == Phase::Successful && stored == ticket.sha256_fingerprint
}

fn same_key_again(operation: &CertificateOperation, grant: &SigningGrant) -> Option<IssuedCertificateStatus> {
    let certificate = operation.status.as_ref().filter(|s| s.phase == Phase::InProgress)?.certificate.clone()?;
    (certificate.summary.public_key_sha256 == crate::pki::hex(&grant.public_key().sha256())).then_some(certificate)
}

/// The event that an outcome stands for; none when the ticket does not fit it.
fn completing(proxy: &CertificateAuthorityProxy, ticket: &Ticket, outcome: CompleteOutcome) -> Option<Event> {
    let (limit, session_id) = (proxy.spec.maximum_key_generation_attempts, ticket.session_id);
    Some(match outcome {
        CompleteOutcome::Stored => Event::Stored { sha256_fingerprint: ticket.sha256_fingerprint.clone()? },
        CompleteOutcome::StoreRejected { reason } => Event::Rejected {
            reason: Reason::StoreRejected,
            message: format!("the phone did not store its certificate and gave reason {reason}"),
            sha256_fingerprint: Some(ticket.sha256_fingerprint.clone()?),
        },
        CompleteOutcome::KeyGenerationFailed { .. } => {
            Event::KeyGeneration { reason: Reason::KeyGenerationFailed, limit, session_id }
        }
        CompleteOutcome::KeyGenerationTimedOut => {
            Event::KeyGeneration { reason: Reason::KeyGenerationTimeout, limit, session_id }
        }
        CompleteOutcome::Aborted => Event::Rejected {
            reason: Reason::UserAborted,
            message: "the phone's user stopped the operation; set a new revision to run again".into(),
            sha256_fingerprint: ticket.sha256_fingerprint.clone(),
        },
    })
}

/// The names in LSCs and in CAPF's own certificates.
#[must_use]
pub fn subject(proxy: &CertificateAuthorityProxy) -> LscSubject {
    let names = proxy.spec.certificate_subject.clone().unwrap_or_default();
    LscSubject {
        organization: names.organization,
        organizational_unit: names.organizational_unit,
        locality: names.locality,
        state: names.state,
        country: names.country,
    }
}
