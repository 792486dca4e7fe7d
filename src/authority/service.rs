//! The answers to the three questions: gather, decide (in `domain`), record, answer. Any replica can answer any
//! of them at any time, because all that is remembered between two questions is in the ticket and in status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

mod admit;
mod certificates;
mod change;
mod complete;
mod doubt;

pub(super) use change::{Changed, Next};

use super::anchors::AnchorCache;
use super::credentials::Credentials;
use super::issuers::Issuers;
use super::questions::{IssueAnswer, IssueRequest, OpenAnswer, OpenReply, OpenRequest, Unavailable};
use super::strings::{Entered, StringCheck, Strings};
use crate::api::{
    CertificateAuthorityProxy, CertificateOperation, CertificateOperationKind, IssuedCertificateStatus, LogLevel,
    LscSummary, Phase, Reason,
};
use crate::controller::log_level::level_of;
use crate::controller::noticed::Noticer;
use crate::controller::store::Store;
use crate::controller::world::{ObjectKey, PhoneView, World};
use crate::domain::blocks::SourceBlock;
use crate::domain::budget::Budget;
use crate::domain::existing::Proven;
use crate::domain::question::{self, Verdict};
use crate::domain::ticket::{SigningGrant, Ticket, VerifiedTicket};
use crate::domain::transition::{Event, NotPossible};
use crate::logging;
use crate::pki::{LscRequest, LscSubject, PublicKey};

/// Characters of a certificate (PEM) that an operation's status holds, as its schema says.
const MAX_PEM: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Service {
    world: Arc<World>,
    store: Store,
    credentials: Arc<Credentials>,
    issuers: Issuers,
    anchors: AnchorCache,
    strings: Strings,
    noticer: Arc<Noticer>,
    /// One change of an operation at a time in this replica: conflicts then come from other replicas only.
    locks: Mutex<HashMap<ObjectKey, Arc<tokio::sync::Mutex<()>>>>,
    second_looks: Mutex<Budget>,
}

/// A phone that presents itself.
struct Found {
    view: PhoneView,
    armed: Option<Arc<CertificateOperation>>,
    verdict: Verdict,
}

/// What a phone was let in by.
#[derive(Default)]
struct Grounds {
    /// In a word, for people.
    authenticated_by: String,
    /// The certificates it offered.
    certificates: Option<Proven>,
    /// Keyed digest of the given string that it entered.
    spent_string: Option<String>,
}

impl Grounds {
    fn of(authenticated_by: impl Into<String>) -> Self {
        Self { authenticated_by: authenticated_by.into(), ..Self::default() }
    }

    fn mode(operation: &CertificateOperation) -> Self {
        Self::of(format!("{:?}", operation.spec.authentication_mode))
    }
}

impl Service {
    /// A service over what this replica knows.
    #[must_use]
    pub fn new(world: Arc<World>, store: Store, credentials: Arc<Credentials>, noticer: Arc<Noticer>) -> Self {
        Self {
            issuers: Issuers::new(store.clone()),
            anchors: AnchorCache::new(store.clone()),
            strings: Strings::new(store.clone(), Arc::clone(&credentials), Arc::clone(&noticer)),
            noticer,
            world,
            store,
            credentials,
            locks: Mutex::default(),
            second_looks: Mutex::default(),
        }
    }

    /// Answers *open*, and says at which level the session is to be logged.
    ///
    /// # Errors
    /// [`Unavailable`] when the phone shall come again.
    pub async fn open_reply(&self, proxy: &ObjectKey, request: OpenRequest) -> Result<OpenReply, Unavailable> {
        let phone = ObjectKey::new(&proxy.namespace, request.device_name.to_ascii_lowercase());
        let before = self.watch_closely(proxy, &phone);
        let answer = self.open(proxy, request).await?;
        // What was not known before may be by now.
        let log_level = before.or_else(|| self.watch_closely(proxy, &phone));
        Ok(OpenReply { answer, log_level })
    }

    /// Writes the phone into the question's span, and raises that to the level that the phone's annotation asks for.
    fn watch_closely(&self, proxy: &ObjectKey, phone: &ObjectKey) -> Option<LogLevel> {
        let phone = self.world.phone_view(phone).phone.filter(|phone| phone.spec.proxy_ref.name == proxy.name)?;
        let span = tracing::Span::current();
        span.record("device", phone.spec.device_name.as_str());
        let level = level_of(&phone);
        if let Some(level) = level {
            logging::raise(&span, level);
        }
        level
    }

    /// Answers *open* for an endpoint of `proxy`.
    ///
    /// # Errors
    /// [`Unavailable`] when the phone shall come again.
    pub async fn open(&self, proxy: &ObjectKey, request: OpenRequest) -> Result<OpenAnswer, Unavailable> {
        let proxy = self.proxy(proxy)?;
        let mut found = self.look(&proxy, &request);
        if matches!(found.verdict, Verdict::UnknownDevice | Verdict::NothingScheduled) {
            self.learn_anew(&proxy, &request).await?;
            found = self.look(&proxy, &request);
        }
        if found.verdict == Verdict::CheckCertificates {
            return self.by_certificate(&proxy, &request).await;
        }
        let Verdict::CheckString { .. } = found.verdict else {
            return self.without_check(&proxy, &found, &request).await;
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
            return self.without_check(&proxy, &found, &request).await;
        };
        if ObjectKey::of(armed) != operation {
            return Err(Unavailable("another operation was armed meanwhile".into()));
        }
        let entered = Entered { digits: &digits.0, session_id: request.session_id, source };
        match self.strings.check(self, &proxy, &found.view, &operation, secret, entered).await? {
            StringCheck::Right { spent } => {
                let grounds = Grounds { spent_string: spent, ..Grounds::mode(armed) };
                self.admit(&proxy, armed, &request, grounds).await
            }
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
    async fn without_check(
        &self,
        proxy: &CertificateAuthorityProxy,
        found: &Found,
        request: &OpenRequest,
    ) -> Result<OpenAnswer, Unavailable> {
        Ok(match (&found.verdict, &found.armed) {
            (Verdict::UnknownDevice, _) => {
                let source = request.source.map(SourceBlock::of);
                self.noticer.unknown_caller(&ObjectKey::of(proxy), &request.device_name, source);
                OpenAnswer::UnknownDevice
            }
            (Verdict::Refused(reason, why), _) => {
                tracing::info!(device = %request.device_name, %reason, why, "not let in");
                OpenAnswer::Refused { reason: *reason }
            }
            (Verdict::AdmitByNullString, Some(armed)) => {
                return self.admit(proxy, armed, request, Grounds::mode(armed)).await;
            }
            (Verdict::CheckString { .. } | Verdict::CheckCertificates, Some(_)) => {
                OpenAnswer::Refused { reason: Reason::InvalidCredentials }
            }
            (_, _) => OpenAnswer::NothingScheduled,
        })
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
        // A key that comes with the ticket of a deletion ends nothing: it is the endpoint that is wrong, not the phone.
        if ticket.ticket().certificate_operation != CertificateOperationKind::InstallUpgrade {
            return refused(Reason::InvalidCredentials);
        }
        let lock = self.lock(&key);
        let _one_at_a_time = lock.lock().await;
        let Some(operation) = self.operation(&key, &uid).await? else { return refused(Reason::Superseded) };
        // Its operation outlives a deleted Phone until it is collected; nothing is signed for it meanwhile.
        let phone = ObjectKey::new(&key.namespace, &operation.spec.phone_ref.name);
        if !self.still_exists(&phone).await? {
            return refused(Reason::Superseded);
        }
        let asked = crate::api::resolve_key(operation.spec.key_type, operation.spec.key_size);
        let public_key = PublicKey::from_spki(&request.public_key)
            .map_err(|why| why.to_string())
            .and_then(|made| asked.map_err(|e| e.to_string()).map(|asked| (made, asked)))
            .and_then(|(made, asked)| made.matches(asked).map_err(|e| e.to_string()).map(|()| made))
            .and_then(|made| made.check_strength().map_err(|e| e.to_string()).map(|()| made))
            .and_then(|made| self.not_in_use(&key.namespace, &operation, made));
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

    /// The key, if no other phone has it: two devices with one key are one device, or one key that is no secret.
    fn not_in_use(
        &self,
        namespace: &str,
        operation: &CertificateOperation,
        key: PublicKey,
    ) -> Result<PublicKey, String> {
        let phone = ObjectKey::new(namespace, &operation.spec.phone_ref.name);
        match self.world.other_holder(&crate::pki::hex(&key.sha256()), &phone) {
            None => Ok(key),
            Some(other) => {
                Err(format!("cannot accept the public key: it is the one of {other}; each phone needs its own"))
            }
        }
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
                    evidence: grant.ticket().certificates.clone(),
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

    /// The ticket that came with a question, if it is ours, for this proxy, this session and this time.
    fn believed(&self, question: &str, proxy: &ObjectKey, sealed: &str, session_id: u32) -> Option<VerifiedTicket> {
        let of_proxy = (proxy.namespace.as_str(), proxy.name.as_str());
        let ticket = Ticket::verify(sealed, &self.credentials.tickets, of_proxy, session_id, crate::clock::now())
            .inspect_err(|why| tracing::warn!(%proxy, question, %why, "a ticket was not believed"))
            .ok()?;
        let device = ticket.ticket().device.to_ascii_lowercase();
        self.watch_closely(proxy, &ObjectKey::new(&proxy.namespace, device));
        Some(ticket)
    }

    fn proxy(&self, key: &ObjectKey) -> Result<Arc<CertificateAuthorityProxy>, Unavailable> {
        self.world.proxy(key).ok_or_else(|| Unavailable(format!("there is no CertificateAuthorityProxy {key}")))
    }
}

fn same_key_again(operation: &CertificateOperation, grant: &SigningGrant) -> Option<IssuedCertificateStatus> {
    let certificate = operation.status.as_ref().filter(|s| s.phase == Phase::InProgress)?.certificate.clone()?;
    (certificate.summary.public_key_sha256 == crate::pki::hex(&grant.public_key().sha256())).then_some(certificate)
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
