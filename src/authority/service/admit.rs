//! What a phone that was let in is answered: for each operation its own first step, and the ticket for the next question.

use jiff::{SignedDuration, Timestamp};

use super::super::questions::{OpenAnswer, OpenRequest, Unavailable};
use super::{Changed, Grounds, Next, Service};
use crate::api::{
    CertificateAuthorityProxy, CertificateOperation, CertificateOperationKind, Phase, PhoneCertificate, Reason,
};
use crate::controller::world::ObjectKey;
use crate::domain::ticket::Ticket;
use crate::domain::transition::{Event, NotPossible};

/// How long after the key time limit a ticket serves: the rest of the session.
const TICKET_TAIL: SignedDuration = SignedDuration::from_mins(5);

impl Service {
    /// The answer to a phone that has proved itself.
    pub(super) async fn admit(
        &self,
        proxy: &CertificateAuthorityProxy,
        operation: &CertificateOperation,
        request: &OpenRequest,
        grounds: Grounds,
    ) -> Result<OpenAnswer, Unavailable> {
        let ticket = ticket(proxy, operation, request, grounds);
        let sealed = ticket.seal(&self.credentials.tickets);
        Ok(match operation.spec.certificate_operation {
            CertificateOperationKind::InstallUpgrade => install(proxy, operation, request, sealed),
            CertificateOperationKind::Delete => self.begin_deletion(&ticket, sealed).await?,
            CertificateOperationKind::Troubleshoot => {
                OpenAnswer::Fetch { ticket: sealed, certificate: PhoneCertificate::LSC }
            }
            CertificateOperationKind::NoPendingOperation => OpenAnswer::NothingScheduled,
        })
    }

    /// Record before deliver: DELETE_CERT_REQ goes out only when the deletion is on record as begun.
    ///
    /// A question that is asked again writes again, and records no more than that the session is still young.
    async fn begin_deletion(&self, ticket: &Ticket, sealed: String) -> Result<OpenAnswer, Unavailable> {
        let key = ObjectKey::new(&ticket.namespace, &ticket.operation);
        let begun = Event::Begun {
            authenticated_by: ticket.evidence.clone(),
            evidence: ticket.certificates.clone(),
            spent_string: ticket.spent_string.clone(),
        };
        let changed = self.change(&key, &ticket.operation_uid, |_| Next::make(begun.clone())).await?;
        Ok(match changed {
            Changed::Recorded(operation) if operation.phase() == Phase::InProgress => {
                OpenAnswer::Delete { ticket: sealed }
            }
            Changed::NotPossible(NotPossible::PastDeadline(..)) => OpenAnswer::Refused { reason: Reason::Expired },
            Changed::Recorded(_) | Changed::NotPossible(_) | Changed::Gone => {
                OpenAnswer::Refused { reason: Reason::Superseded }
            }
        })
    }
}

fn install(
    proxy: &CertificateAuthorityProxy,
    operation: &CertificateOperation,
    request: &OpenRequest,
    ticket: String,
) -> OpenAnswer {
    let Ok(key) = crate::api::resolve_key(operation.spec.key_type, operation.spec.key_size) else {
        return OpenAnswer::Refused { reason: Reason::KeyRejected };
    };
    if request.version < 3 && !key.is_rsa() {
        tracing::info!(device = %request.device_name, "phones of protocol version 2 make RSA keys only");
        return OpenAnswer::Refused { reason: Reason::KeyRejected };
    }
    OpenAnswer::Install { ticket, key, key_generation_seconds: key_seconds(proxy) }
}

fn key_seconds(proxy: &CertificateAuthorityProxy) -> u32 {
    u32::from(proxy.spec.maximum_key_generation_minutes) * 60
}

fn ticket(
    proxy: &CertificateAuthorityProxy,
    operation: &CertificateOperation,
    request: &OpenRequest,
    grounds: Grounds,
) -> Ticket {
    let lasts = SignedDuration::from_secs(i64::from(key_seconds(proxy))) + TICKET_TAIL;
    let ObjectKey { namespace, name } = ObjectKey::of(proxy);
    Ticket {
        namespace,
        proxy: name,
        device: request.device_name.clone(),
        operation: operation.metadata.name.clone().unwrap_or_default(),
        operation_uid: operation.metadata.uid.clone().unwrap_or_default(),
        certificate_operation: operation.spec.certificate_operation,
        evidence: grounds.authenticated_by,
        certificates: grounds.certificates,
        session_id: request.session_id,
        spent_string: grounds.spent_string,
        sha256_fingerprint: None,
        expires: crate::clock::now().checked_add(lasts).unwrap_or(Timestamp::MAX),
    }
}
