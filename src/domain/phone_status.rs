//! The status of a Phone, rolled up from its spec, its armed operation and how the spec fared.

use jiff::Timestamp;

use super::phone::{Verdict, string_secret};
use crate::api::{
    ArmedOperation, CertificateOperation, CertificateOperationKind, ConditionStatus, ConditionType, Conditions,
    LscState, Phase, Phone, PhoneStatus, Reason, Written,
};

/// The status that the record calls for. `accepted` are the settings as written, when they have been acted on.
pub(super) fn roll_up(
    phone: &Phone,
    armed: Option<&CertificateOperation>,
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
        conditions: Vec::new(),
        operation,
    };
    if let Some(installed) = armed.filter(|o| o.phase() == Phase::Successful)
        && installed.spec.certificate_operation == CertificateOperationKind::InstallUpgrade
    {
        let certificate = installed.status.as_ref().and_then(|s| s.certificate.as_ref());
        next.lsc = certificate.map(|c| c.summary.clone());
        next.lsc_state = LscState::Installed;
    }
    let shown = armed.and_then(|o| o.status.as_ref()?.evidence.as_ref()?.mic.as_ref());
    if let Some(verified) = shown.filter(|mic| mic.verified) {
        next.mic = Some(verified.summary.clone());
    }
    next.conditions = conditions(phone, next.operation.as_ref(), verdict, now);
    next
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
