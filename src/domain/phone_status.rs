//! The status of a Phone, rolled up from its spec, its armed operation and how the spec fared.

use std::sync::Arc;

use jiff::Timestamp;

use super::phone::{Verdict, string_secret};
use super::trace::shows_lsc;
use crate::api::{
    ArmedOperation, CertificateOperation, CertificateOperationKind, ConditionStatus, ConditionType, Conditions,
    LscState, Phase, Phone, PhoneStatus, Reason, Written,
};

/// Digests of used-up strings that a phone remembers besides those of its operations.
const SPENT_KEPT: usize = 8;
/// Digits of a digest that are remembered: 64 bits, for what is compared is a keyed digest and chance is all there is to fear.
const SPENT_DIGITS: usize = 16;

/// The status that the record calls for, with the operation that the status names by now and the one that it is to name. `accepted` are the settings as written, when they have been acted on.
pub(super) fn roll_up(
    phone: &Phone,
    (named, armed): (Option<&CertificateOperation>, Option<&CertificateOperation>),
    operations: &[Arc<CertificateOperation>],
    accepted: Option<Written>,
    verdict: &Verdict,
    now: Timestamp,
) -> PhoneStatus {
    let before = phone.status.clone().unwrap_or_default();
    // A finished operation may be pruned; what is known of it stays.
    let remembered = before.operation.clone().filter(|o| o.phase.is_terminal());
    let operation = armed.map(in_brief).or(remembered);
    let mut next = PhoneStatus {
        observed_generation: phone.metadata.generation.unwrap_or_default(),
        last_handled: accepted.or(before.last_handled),
        operation_status: Some(operation_status(operation.as_ref())),
        lsc_state: before.lsc_state,
        lsc: before.lsc,
        mic: before.mic,
        spent_strings: spent_strings(before.spent_strings, operations),
        conditions: Vec::new(),
        operation,
    };
    // The one that is named gives way to a newer one without having been rolled up, if that was waiting for its end.
    for over in [named, armed].into_iter().flatten().filter(|o| o.phase().is_terminal()) {
        take_certificates(&mut next, over);
    }
    next.conditions = conditions(phone, next.operation.as_ref(), verdict, now);
    next
}

/// What a finished operation tells of the phone's certificates. Only what the phone said to the end counts.
fn take_certificates(next: &mut PhoneStatus, over: &CertificateOperation) {
    let Some(status) = &over.status else { return };
    // A MIC that was shown is known, however the operation ended.
    let known = next.mic.take();
    next.mic = status.mic.clone().map(|shown| shown.remembered_over(known.clone())).or(known);
    if status.phase != Phase::Successful {
        // Told to delete and never heard of again: it may have done so. What was live stays so, for it may not.
        let begun = over.spec.certificate_operation == CertificateOperationKind::Delete && status.begun_at.is_some();
        if begun && status.reason != Some(Reason::PhoneRejected) {
            next.lsc_state = LscState::Unknown;
        }
        return;
    }
    let holds = match over.spec.certificate_operation {
        CertificateOperationKind::InstallUpgrade => {
            next.lsc = status.certificate.as_ref().map(|c| c.summary.clone());
            Some(true)
        }
        CertificateOperationKind::Delete => Some(false),
        CertificateOperationKind::Troubleshoot => shows_lsc(&status.traces),
        CertificateOperationKind::NoPendingOperation => None,
    };
    match holds {
        Some(true) => next.lsc_state = LscState::Installed,
        // What the phone does not hold authenticates nobody.
        Some(false) => (next.lsc_state, next.lsc) = (LscState::NotInstalled, None),
        None => {}
    }
}

/// What is kept of the digests of used-up strings, so that they outlive their operations. Of operations that are over only: before, the
/// operation itself remembers, and a status is not written in the middle of a session.
fn spent_strings(mut known: Vec<String>, operations: &[Arc<CertificateOperation>]) -> Vec<String> {
    let over = operations.iter().filter(|o| o.phase().is_terminal()).filter_map(|o| o.status.as_ref());
    let mut spent: Vec<_> = over.filter_map(|s| Some((s.completed_at, s.spent_string.as_ref()?))).collect();
    // In one order whatever was known before: the list must not go round and round.
    spent.sort();
    for (_, digest) in spent {
        let digest: String = digest.chars().take(SPENT_DIGITS).collect();
        known.retain(|k| *k != digest);
        known.push(digest);
    }
    known.drain(..known.len().saturating_sub(SPENT_KEPT));
    known
}

fn in_brief(operation: &CertificateOperation) -> ArmedOperation {
    let phase = if operation.phase().is_terminal() { operation.phase() } else { Phase::Pending };
    ArmedOperation {
        name: operation.metadata.name.clone().unwrap_or_default(),
        certificate_operation: operation.spec.certificate_operation,
        authentication_mode: operation.spec.authentication_mode,
        requested_by: operation.spec.requested_by,
        phase,
        reason: operation.status.as_ref().and_then(|s| s.reason),
        operation_completes_by: operation.completes_by(),
        authentication_string_secret: string_secret(operation).filter(|_| !phase.is_terminal()),
    }
}

fn operation_status(operation: Option<&ArmedOperation>) -> String {
    operation.map_or_else(
        || CertificateOperationKind::NoPendingOperation.words().to_owned(),
        |o| format!("{} {}", o.certificate_operation.words(), o.phase.word()),
    )
}

fn conditions(
    phone: &Phone,
    operation: Option<&ArmedOperation>,
    verdict: &Verdict,
    now: Timestamp,
) -> Vec<crate::api::Condition> {
    let before = phone.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let said = Conditions::over(before, phone.metadata.generation, now);
    let said = match verdict {
        Verdict::Stalled(reason, message) => said.say(ConditionType::Ready, false, reason.as_str(), message).say(
            ConditionType::Stalled,
            true,
            reason.as_str(),
            message,
        ),
        Verdict::Waiting(reason, message) => said.say(ConditionType::Ready, false, reason, message),
        Verdict::Suspended => {
            said.say(ConditionType::Ready, true, "Suspended", "the proxy is suspended: nothing new is armed")
        }
        Verdict::Accepted => {
            let (reason, message) = match operation {
                None => ("NoPendingOperation", String::new()),
                Some(o) if o.phase.is_terminal() => ("OperationOver", format!("{} is over", o.name)),
                Some(o) => ("OperationPending", format!("{} waits for the phone", o.name)),
            };
            said.say(ConditionType::Ready, true, reason, message)
        }
    };
    let Some(operation) = operation else { return said.done() };
    let succeeded = match operation.phase {
        Phase::Successful => ConditionStatus::True,
        Phase::Failed => ConditionStatus::False,
        Phase::Pending | Phase::InProgress => ConditionStatus::Unknown,
    };
    let reason = operation.reason.map_or_else(|| format!("{:?}", operation.phase), |r| r.to_string());
    let message = operation.reason.map_or("", Reason::meaning);
    said.say(ConditionType::Succeeded, succeeded, reason, message).done()
}
