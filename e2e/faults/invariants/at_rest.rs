//! What must hold of a phone at rest: its status agrees with its operations, and with what it holds.

use capf::api::{
    CertificateOperation, CertificateOperationKind, LscState, Phase, Phone, PhoneCertificate, PhoneStatus, TraceVerdict,
};
use jiff::{SignedDuration, Timestamp};

use super::super::disk::PhoneDisk;
use super::{Invariant, Violation, certificate, name_of};

/// How long an operation past its deadline may wait for the phone's answer: `SESSION_TAIL` of the product.
const TAIL: SignedDuration = SignedDuration::from_secs(254);

/// Whether a phone at rest agrees with its operations: those of its name, as they are.
pub fn at_rest(phone: &Phone, operations: &[CertificateOperation], now: Timestamp) -> Vec<Violation> {
    let name = phone.metadata.name.clone().unwrap_or_default();
    let mut found = Vec::new();
    let mut violated = |seen: String| found.push(Violation::new(Invariant::Settled, &name, seen));
    let status = phone.status.clone().unwrap_or_default();
    if Some(status.observed_generation) != phone.metadata.generation {
        violated(format!("observed {} of {:?}", status.observed_generation, phone.metadata.generation));
    }
    let armed = status.operation.as_ref();
    for operation in operations.iter().filter(|o| o.spec.phone_ref.name == name) {
        let phase = operation.phase();
        let is_armed = armed.is_some_and(|armed| armed.name == name_of(operation));
        if !phase.is_terminal() {
            let ends = operation.completes_by().map(|deadline| {
                let issued = certificate(operation).map(|issued| issued.issued_at);
                let begun = operation.status.as_ref().and_then(|status| status.begun_at);
                issued.max(begun).map_or(deadline, |since| deadline.max(since + TAIL))
            });
            match ends {
                None => violated(format!("{} is open without a deadline", name_of(operation))),
                Some(ends) if ends <= now => violated(format!("{} is open past {ends}", name_of(operation))),
                Some(_) if !is_armed => violated(format!("{} is open and not armed", name_of(operation))),
                Some(_) => {}
            }
        }
    }
    if let Some(armed) = armed {
        let Some(operation) = operations.iter().find(|o| name_of(o) == armed.name) else {
            violated(format!("{} is armed and does not exist", armed.name));
            return found;
        };
        let phase = if operation.phase() == Phase::InProgress { Phase::Pending } else { operation.phase() };
        let reason = operation.status.as_ref().and_then(|s| s.reason);
        let words = format!("{} {}", operation.spec.certificate_operation.words(), phase.word());
        if (armed.phase, armed.reason, status.operation_status.as_ref()) != (phase, reason, Some(&words)) {
            let said = (armed.phase, armed.reason, &status.operation_status);
            violated(format!("it says {said:?} of {}, which is {phase:?} {reason:?}", armed.name));
        }
        if phase == Phase::Successful {
            found.extend(lsc_told(&status, operation).map(|seen| Violation::new(Invariant::Settled, &name, seen)));
        }
    }
    found
}

/// What does not agree in what a phone's status says of its LSC after this operation has succeeded.
fn lsc_told(status: &PhoneStatus, operation: &CertificateOperation) -> Option<String> {
    let live = status.lsc.as_ref().map(|lsc| &lsc.sha256_fingerprint);
    let traces = operation.status.as_ref().map_or(&[][..], |status| &status.traces);
    let shown = traces.iter().find(|trace| trace.asked == PhoneCertificate::LSC);
    let agrees = match operation.spec.certificate_operation {
        CertificateOperationKind::InstallUpgrade => {
            let stored = certificate(operation).map(|issued| &issued.summary.sha256_fingerprint);
            status.lsc_state == LscState::Installed && live == stored
        }
        CertificateOperationKind::Delete => status.lsc_state == LscState::NotInstalled && live.is_none(),
        CertificateOperationKind::Troubleshoot => match shown.map(|trace| (trace.kind, trace.verdict)) {
            Some((Some(PhoneCertificate::LSC), _)) => status.lsc_state == LscState::Installed,
            Some((_, Some(TraceVerdict::Missing))) => status.lsc_state == LscState::NotInstalled && live.is_none(),
            _ => true,
        },
        CertificateOperationKind::NoPendingOperation => true,
    };
    let words = operation.spec.certificate_operation.words();
    (!agrees).then(|| format!("its LSC is {:?}, {live:?}, after {words} of {}", status.lsc_state, name_of(operation)))
}

/// Whether a phone at rest whose last operation succeeded holds the LSC that its status speaks of, or none if it speaks of none.
pub fn holds(phone: &Phone, disk: &PhoneDisk) -> Option<Violation> {
    let status = phone.status.as_ref()?;
    status.operation.as_ref().filter(|operation| operation.phase == Phase::Successful)?;
    let held = disk.lsc.as_ref().map(|(facts, _)| &facts.sha256);
    let told = status.lsc.as_ref().map(|lsc| &lsc.sha256_fingerprint);
    let seen = format!("it holds {held:?}, and its status tells of {:?}, {told:?}", status.lsc_state);
    let agrees = match (status.lsc_state, told) {
        (LscState::NotInstalled, None) => held.is_none(),
        // Known from what it showed only.
        (LscState::Installed, None) => held.is_some(),
        (LscState::Installed, told) => held == told,
        _ => false,
    };
    (!agrees).then(|| Violation::new(Invariant::Settled, &disk.device, seen))
}
