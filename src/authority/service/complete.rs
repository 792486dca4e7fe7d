//! The answer to *complete*: how it went, by the phone's own word, put on record before END_SESSION goes out.

use super::super::questions::{CompleteAnswer, CompleteOutcome, CompleteRequest, Unavailable};
use super::{Changed, Next, Service};
use crate::api::{
    CertificateAuthorityProxy, CertificateOperation, CertificateOperationKind, CertificateTrace, Phase,
    PhoneCertificate, Reason,
};
use crate::controller::world::ObjectKey;
use crate::domain::ticket::Ticket;
use crate::domain::trace::{Record, Shown, trace};
use crate::domain::transition::{Event, NotPossible};

impl Service {
    /// Answers *complete*.
    ///
    /// # Errors
    /// [`Unavailable`] when the phone shall come again.
    pub async fn complete(&self, proxy: &ObjectKey, request: CompleteRequest) -> Result<CompleteAnswer, Unavailable> {
        let refused = |reason| Ok(CompleteAnswer::Refused { reason });
        let Some(ticket) = self.believed("complete", proxy, &request.ticket, request.session_id) else {
            return refused(Reason::InvalidCredentials);
        };
        let ticket = ticket.ticket().clone();
        let proxy = self.proxy(proxy)?;
        if !fits(&ticket, &request.outcome) {
            tracing::warn!(operation = ticket.operation, outcome = name_of(&request.outcome), "not of this operation");
            return refused(Reason::InvalidCredentials);
        }
        let view = self.world.phone_view(&ObjectKey::new(&ticket.namespace, ticket.device.to_ascii_lowercase()));
        let key = ObjectKey::new(&ticket.namespace, &ticket.operation);
        let lock = self.lock(&key);
        let _one_at_a_time = lock.lock().await;
        let next = |operation: &CertificateOperation| {
            if stands_recorded(operation, &ticket, &request.outcome) {
                return Next::Done;
            }
            let traced = operation.status.as_ref().map_or(&[][..], |s| &s.traces);
            let known = view.phone.as_ref().and_then(|p| p.status.as_ref());
            let (device, operations) = (ticket.device.as_str(), view.operations.as_slice());
            let record = Record { device, known, operations, proxy: &proxy, traced };
            Next::make(event_of(&record, &ticket, &request.outcome))
        };
        match self.change(&key, &ticket.operation_uid, next).await? {
            Changed::Recorded(operation) => {
                let outcome = name_of(&request.outcome);
                tracing::info!(operation = %key, phase = ?operation.phase(), outcome, "recorded");
                let more = asked_for(&request.outcome).and_then(|asked| next_to_fetch(&proxy, asked));
                Ok(more.map_or(CompleteAnswer::Recorded, |certificate| CompleteAnswer::Fetch { certificate }))
            }
            Changed::NotPossible(NotPossible::Counted(_)) => Ok(CompleteAnswer::Recorded),
            Changed::NotPossible(why) => {
                tracing::info!(operation = %key, %why, "not recorded");
                refused(Reason::Superseded)
            }
            Changed::Gone => refused(Reason::Superseded),
        }
    }
}

/// Whether what the ticket is for can end so. Only a receipt speaks for a certificate.
fn fits(ticket: &Ticket, outcome: &CompleteOutcome) -> bool {
    use CompleteOutcome as O;
    let is = |kind| ticket.certificate_operation == kind;
    match outcome {
        O::Stored | O::StoreRejected { .. } => {
            is(CertificateOperationKind::InstallUpgrade) && ticket.sha256_fingerprint.is_some()
        }
        O::KeyGenerationFailed { .. } | O::KeyGenerationTimedOut => is(CertificateOperationKind::InstallUpgrade),
        O::Deleted | O::NothingToDelete | O::DeleteRejected { .. } => is(CertificateOperationKind::Delete),
        O::Fetched { .. } | O::NothingFetched { .. } | O::FetchRejected { .. } => {
            is(CertificateOperationKind::Troubleshoot)
        }
        O::Aborted => true,
    }
}

/// The outcome without what came with it, for the log.
fn name_of(outcome: &CompleteOutcome) -> &'static str {
    match outcome {
        CompleteOutcome::Stored => "Stored",
        CompleteOutcome::StoreRejected { .. } => "StoreRejected",
        CompleteOutcome::KeyGenerationFailed { .. } => "KeyGenerationFailed",
        CompleteOutcome::KeyGenerationTimedOut => "KeyGenerationTimedOut",
        CompleteOutcome::Aborted => "Aborted",
        CompleteOutcome::Deleted => "Deleted",
        CompleteOutcome::NothingToDelete => "NothingToDelete",
        CompleteOutcome::DeleteRejected { .. } => "DeleteRejected",
        CompleteOutcome::Fetched { .. } => "Fetched",
        CompleteOutcome::NothingFetched { .. } => "NothingFetched",
        CompleteOutcome::FetchRejected { .. } => "FetchRejected",
    }
}

/// What the phone was asked to show, if it is that.
fn asked_for(outcome: &CompleteOutcome) -> Option<PhoneCertificate> {
    match outcome {
        CompleteOutcome::Fetched { asked, .. }
        | CompleteOutcome::NothingFetched { asked }
        | CompleteOutcome::FetchRejected { asked, .. } => Some(*asked),
        _ => None,
    }
}

/// What the phone is asked to show after this.
fn next_to_fetch(proxy: &CertificateAuthorityProxy, asked: PhoneCertificate) -> Option<PhoneCertificate> {
    let both = proxy.spec.fetch_mic.unwrap_or(true);
    (both && asked == PhoneCertificate::LSC).then_some(PhoneCertificate::MIC)
}

/// Whether the record says already what the phone says: the answer to an earlier question was lost.
fn stands_recorded(operation: &CertificateOperation, ticket: &Ticket, outcome: &CompleteOutcome) -> bool {
    let status = operation.status_or_default();
    let successful = status.phase == Phase::Successful;
    match outcome {
        CompleteOutcome::Stored => {
            let stored = status.certificate.map(|c| c.summary.sha256_fingerprint);
            successful && stored == ticket.sha256_fingerprint
        }
        CompleteOutcome::Deleted => successful && status.reason.is_none(),
        CompleteOutcome::NothingToDelete => successful && status.reason == Some(Reason::NothingToDelete),
        CompleteOutcome::Fetched { .. }
        | CompleteOutcome::NothingFetched { .. }
        | CompleteOutcome::FetchRejected { .. } => {
            let of_it = |t: &CertificateTrace| Some(t.asked) == asked_for(outcome);
            successful && status.traces.iter().any(of_it)
        }
        _ => false,
    }
}

/// The event that an outcome stands for.
fn event_of(record: &Record<'_>, ticket: &Ticket, outcome: &CompleteOutcome) -> Event {
    let (limit, session_id) = (record.proxy.spec.maximum_key_generation_attempts, ticket.session_id);
    let key = |reason| Event::KeyGeneration { reason, limit, session_id };
    let rejected =
        |reason, message| Event::Rejected { reason, message, sha256_fingerprint: ticket.sha256_fingerprint.clone() };
    let fetched = |asked, shown| {
        let (trace, mic) = trace(asked, shown, record, crate::clock::now());
        Event::Fetched {
            trace: Box::new(trace),
            mic,
            last: next_to_fetch(record.proxy, asked).is_none(),
            authenticated_by: ticket.evidence.clone(),
            evidence: ticket.certificates.clone(),
            spent_string: ticket.spent_string.clone(),
        }
    };
    match outcome {
        CompleteOutcome::Stored => {
            Event::Stored { sha256_fingerprint: ticket.sha256_fingerprint.clone().unwrap_or_default() }
        }
        CompleteOutcome::StoreRejected { reason } => {
            let message = format!("the phone did not store its certificate and gave reason {reason}");
            rejected(Reason::StoreRejected, message)
        }
        CompleteOutcome::KeyGenerationFailed { .. } => key(Reason::KeyGenerationFailed),
        CompleteOutcome::KeyGenerationTimedOut => key(Reason::KeyGenerationTimeout),
        CompleteOutcome::Aborted => {
            let message = "the phone's user stopped the operation; set a new revision to run again";
            rejected(Reason::UserAborted, message.into())
        }
        CompleteOutcome::Deleted => Event::Deleted { had_one: true },
        CompleteOutcome::NothingToDelete => Event::Deleted { had_one: false },
        CompleteOutcome::DeleteRejected { reason } => {
            let message = format!("the phone did not delete its LSC and gave reason {reason}");
            rejected(Reason::PhoneRejected, message)
        }
        CompleteOutcome::Fetched { asked, certificate } => fetched(*asked, Shown::Certificate(certificate)),
        CompleteOutcome::NothingFetched { asked } => fetched(*asked, Shown::Nothing),
        CompleteOutcome::FetchRejected { asked, reason } => fetched(*asked, Shown::Rejected(*reason)),
    }
}
