//! The one function that makes every transition of a `CertificateOperation`'s status.
//!
//! ```text
//!             Armed, WrongString, KeyGeneration (limit not reached)
//!            ┌──┐
//!            ▼  │
//!          Pending ──Issued──▶ InProgress ──Stored──▶ Successful         an install
//!          Pending ──Begun───▶ InProgress ──Deleted─▶ Successful         a deletion
//!          Pending ──Fetched─▶ InProgress ──Fetched─▶ Successful         Troubleshoot: the LSC, then the MIC
//!            │                  │  ▲   │ Issued again (new key), Begun or Fetched again, WrongString, KeyGeneration
//!            │                  │  └───┘
//!            └──── Ended, limit reached ──▶ Failed
//! ```
//! The CRD refuses to leave `Successful` and `Failed` as well, so that a stale writer cannot either.

use jiff::Timestamp;

use super::existing::Proven;
use super::trace::is_answered;
use crate::api::{
    Attempts, CertificateOperation, CertificateOperationKind, CertificateOperationStatus, CertificateTrace,
    ConditionStatus, ConditionType, Conditions, IssuedCertificateStatus, MicSummary, Phase, Reason,
};

/// Replaced serial numbers that an operation remembers.
const SUPERSEDED_KEPT: usize = 16;

/// Something that happened to an operation.
#[derive(Clone, Debug)]
pub enum Event {
    /// It was named as the one its phone is answered with, and its deadline resolved.
    Armed {
        /// The deadline.
        completes_by: Timestamp,
    },
    /// A certificate was made and is about to be delivered.
    Issued {
        /// The certificate.
        certificate: IssuedCertificateStatus,
        /// The evidence that let the phone in, for people.
        authenticated_by: String,
        /// The certificates it offered, where it was let in by one.
        evidence: Option<Proven>,
        /// Keyed digest of the given string that was used, if one was.
        spent_string: Option<String>,
    },
    /// The phone was let in and is about to be told to delete its LSC.
    Begun {
        /// The evidence that let the phone in, for people.
        authenticated_by: String,
        /// The certificates it offered, where it was let in by one.
        evidence: Option<Proven>,
        /// Keyed digest of the given string that was used, if one was.
        spent_string: Option<String>,
    },
    /// The phone answered that it holds no LSC any more.
    Deleted {
        /// Whether it held one until then.
        had_one: bool,
    },
    /// The phone answered what certificate it holds.
    Fetched {
        /// What it showed.
        trace: Box<CertificateTrace>,
        /// The MIC, if that is what it showed.
        mic: Option<MicSummary>,
        /// Whether nothing more is asked for.
        last: bool,
        /// The evidence that let the phone in, for people.
        authenticated_by: String,
        /// The certificates it offered, where it was let in by one.
        evidence: Option<Proven>,
        /// Keyed digest of the given string that was used, if one was.
        spent_string: Option<String>,
    },
    /// The phone answered that it stored the certificate with this fingerprint.
    Stored {
        /// SHA-256 of the certificate the phone was given in that session.
        sha256_fingerprint: String,
    },
    /// A wrong authentication string was checked.
    WrongString {
        /// Wrong strings after which the operation is locked out.
        limit: u16,
        /// The session it was entered in.
        session_id: u32,
        /// Keyed digest of the given string, which a lock-out uses up.
        spent_string: Option<String>,
    },
    /// The phone failed to make a key, or did not in time.
    KeyGeneration {
        /// `KeyGenerationFailed` or `KeyGenerationTimeout`.
        reason: Reason,
        /// Attempts after which the operation fails.
        limit: u16,
        /// The session it happened in.
        session_id: u32,
    },
    /// The phone says that it will not have the certificate, or its user stops.
    Rejected {
        /// Why.
        reason: Reason,
        /// The cause and the remedy, for people.
        message: String,
        /// The certificate that was delivered in that session, if one was; it must be the one on record.
        sha256_fingerprint: Option<String>,
    },
    /// It is over without success.
    Ended {
        /// Why.
        reason: Reason,
        /// The cause and the remedy, for people.
        message: String,
    },
}

/// An event that cannot happen to the operation as it stands. Nothing is written; waiting does not help.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotPossible {
    /// The operation is over.
    #[error("operation {0} is over")]
    Over(String),
    /// Its deadline has passed.
    #[error("operation {0} had to be completed by {1}")]
    PastDeadline(String, Timestamp),
    /// The try of this session is on record already: the answer to an earlier question was lost.
    #[error("operation {0} has this session's try on record")]
    Counted(String),
    /// The event is of another kind of operation.
    #[error("operation {0} is of another kind")]
    OtherKind(String),
    /// The phone answers for a certificate that is not the one on record.
    #[error("operation {0} has another certificate on record than the one the phone answers for")]
    OtherCertificate(String),
}

/// The status after `event`.
///
/// # Errors
/// [`NotPossible`] when the operation is over, past its deadline (for what spends it), or the answer is for a
/// certificate that has been replaced.
pub fn advance(
    operation: &CertificateOperation,
    event: Event,
    now: Timestamp,
) -> Result<CertificateOperationStatus, NotPossible> {
    let name = || operation.metadata.name.clone().unwrap_or_default();
    let mut status = operation.status_or_default();
    if status.phase.is_terminal() {
        return Err(NotPossible::Over(name()));
    }
    let deadline = operation.completes_by();
    let in_time = || match deadline {
        Some(deadline) if deadline <= now => Err(NotPossible::PastDeadline(name(), deadline)),
        _ => Ok(()),
    };
    let of_kind = |kind| match operation.spec.certificate_operation == kind {
        true => Ok(()),
        false => Err(NotPossible::OtherKind(name())),
    };
    match event {
        Event::Armed { completes_by } => status.operation_completes_by = Some(completes_by),
        Event::Begun { authenticated_by, evidence, spent_string } => {
            of_kind(CertificateOperationKind::Delete)?;
            in_time()?;
            status.begun_at = Some(now);
            status.authenticated_by = Some(authenticated_by);
            prove(&mut status, evidence);
            status.spent_string = spent_string;
            status.phase = Phase::InProgress;
        }
        Event::Deleted { had_one } => {
            // As with a stored certificate: past the deadline it is deleted all the same.
            of_kind(CertificateOperationKind::Delete)?;
            if status.phase != Phase::InProgress {
                return Err(NotPossible::OtherKind(name()));
            }
            status.reason = (!had_one).then_some(Reason::NothingToDelete);
            status.message = status.reason.map(|reason| reason.meaning().to_owned());
            status.phase = Phase::Successful;
        }
        Event::Fetched { trace, mic, last, authenticated_by, evidence, spent_string } => {
            of_kind(CertificateOperationKind::Troubleshoot)?;
            if status.phase == Phase::Pending {
                in_time()?;
            }
            status.begun_at = Some(now);
            status.authenticated_by = Some(authenticated_by);
            prove(&mut status, evidence);
            status.spent_string = spent_string;
            status.mic = mic.map(|mic| mic.remembered_over(status.mic.clone())).or(status.mic);
            // A phone that comes again shows everything again.
            status.traces.retain(|t| t.asked != trace.asked);
            status.traces.push(*trace);
            status.phase = Phase::InProgress;
            match (last, status.traces.iter().any(is_answered)) {
                (false, _) => {}
                (true, true) => status.phase = Phase::Successful,
                (true, false) => fail(&mut status, Reason::PhoneRejected, Reason::PhoneRejected.meaning().to_owned()),
            }
        }
        Event::Issued { certificate, authenticated_by, evidence, spent_string } => {
            of_kind(CertificateOperationKind::InstallUpgrade)?;
            in_time()?;
            if let Some(replaced) = status.certificate.take() {
                status.superseded_serial_numbers.push(replaced.summary.serial_number);
                let excess = status.superseded_serial_numbers.len().saturating_sub(SUPERSEDED_KEPT);
                status.superseded_serial_numbers.drain(..excess);
            }
            status.certificate = Some(certificate);
            status.authenticated_by = Some(authenticated_by);
            prove(&mut status, evidence);
            status.spent_string = spent_string;
            status.phase = Phase::InProgress;
        }
        Event::Stored { sha256_fingerprint } => {
            // Past the deadline this still holds: the phone has the certificate, and saying otherwise would lie.
            let ours = status.certificate.as_ref().map(|c| &c.summary.sha256_fingerprint);
            if status.phase != Phase::InProgress || ours != Some(&sha256_fingerprint) {
                return Err(NotPossible::OtherCertificate(name()));
            }
            status.phase = Phase::Successful;
        }
        Event::WrongString { limit, session_id, spent_string } => {
            in_time()?;
            let attempts = counted(&mut status, session_id).ok_or_else(|| NotPossible::Counted(name()))?;
            attempts.authentication = attempts.authentication.saturating_add(1);
            if attempts.authentication >= limit {
                let message =
                    format!("{limit} wrong authentication strings; set a new revision and a new string to run again");
                fail(&mut status, Reason::LockedOut, message);
                status.spent_string = spent_string;
            }
        }
        Event::KeyGeneration { reason, limit, session_id } => {
            in_time()?;
            let attempts = counted(&mut status, session_id).ok_or_else(|| NotPossible::Counted(name()))?;
            attempts.key_generation = attempts.key_generation.saturating_add(1);
            if attempts.key_generation >= limit {
                let message = format!("{} This was attempt {limit} of {limit}.", reason.meaning());
                fail(&mut status, reason, message);
            }
        }
        Event::Rejected { reason, message, sha256_fingerprint } => {
            // What an older session says of a certificate that was replaced is not said of this one.
            let ours = status.certificate.as_ref().map(|c| c.summary.sha256_fingerprint.clone());
            if sha256_fingerprint != ours {
                return Err(NotPossible::OtherCertificate(name()));
            }
            fail(&mut status, reason, message);
        }
        Event::Ended { reason, message } => fail(&mut status, reason, message),
    }
    if status.phase != Phase::Pending {
        status.operation_status =
            Some(format!("{} {}", operation.spec.certificate_operation.words(), status.phase.word()));
    }
    if status.phase.is_terminal() {
        status.completed_at = Some(now);
        status.conditions = ending_conditions(&status, operation.metadata.generation, now);
    }
    Ok(status)
}

/// The counters, for the first try of a session only.
fn counted(status: &mut CertificateOperationStatus, session_id: u32) -> Option<&mut Attempts> {
    let attempts = status.attempts.get_or_insert_default();
    (attempts.last_session.replace(session_id) != Some(session_id)).then_some(attempts)
}

/// Keeps what the phone was let in by this time.
fn prove(status: &mut CertificateOperationStatus, proven: Option<Proven>) {
    status.mic = proven.as_ref().and_then(|proven| proven.mic.clone()).or(status.mic.take());
    status.evidence = proven.map(|proven| proven.evidence);
}

fn fail(status: &mut CertificateOperationStatus, reason: Reason, message: String) {
    status.phase = Phase::Failed;
    status.reason = Some(reason);
    status.message = Some(crate::api::bounded(message, 512));
}

fn ending_conditions(
    status: &CertificateOperationStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<crate::api::Condition> {
    let reason = status.reason.map_or("Successful", Reason::as_str);
    let message = status.message.clone().unwrap_or_default();
    Conditions::over(&status.conditions, generation, now)
        .say(ConditionType::Ready, true, reason, "the operation is over")
        .say(ConditionType::Succeeded, ConditionStatus::from(status.phase == Phase::Successful), reason, message)
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{at, issued, operation};

    fn in_progress() -> CertificateOperation {
        let mut operation = operation("sep001-1", at(1_000));
        operation.status = Some(advance(&operation, issue("aa"), at(10)).unwrap());
        operation
    }

    fn issue(fingerprint: &str) -> Event {
        Event::Issued {
            certificate: issued(fingerprint, at(10)),
            authenticated_by: "String".into(),
            evidence: None,
            spent_string: None,
        }
    }

    #[test]
    fn only_the_answer_for_the_certificate_on_record_makes_an_operation_successful() {
        let operation = in_progress();
        let other = advance(&operation, Event::Stored { sha256_fingerprint: "bb".into() }, at(20));
        assert!(matches!(other, Err(NotPossible::OtherCertificate(_))));
        let status = advance(&operation, Event::Stored { sha256_fingerprint: "aa".into() }, at(20)).unwrap();
        assert_eq!(status.phase, Phase::Successful);
        assert_eq!(status.operation_status.as_deref(), Some("Install/Upgrade successful"));
        assert_eq!(status.completed_at, Some(at(20)));
    }

    #[test]
    fn an_older_session_cannot_end_what_a_newer_one_is_about() {
        let operation = in_progress();
        let rejected = |sha256_fingerprint| Event::Rejected {
            reason: Reason::StoreRejected,
            message: "no".into(),
            sha256_fingerprint,
        };
        for older in [Some("zz".to_owned()), None] {
            assert!(matches!(advance(&operation, rejected(older), at(20)), Err(NotPossible::OtherCertificate(_))));
        }
        let status = advance(&operation, rejected(Some("aa".into())), at(20)).unwrap();
        assert_eq!(status.reason, Some(Reason::StoreRejected));
    }

    #[test]
    fn a_new_key_supersedes_the_certificate_that_was_never_answered_for() {
        let mut operation = in_progress();
        operation.status = Some(advance(&operation, issue("cc"), at(30)).unwrap());
        let status = operation.status_or_default();
        assert_eq!(status.superseded_serial_numbers, ["serial-aa"]);
        assert!(advance(&operation, Event::Stored { sha256_fingerprint: "aa".into() }, at(40)).is_err());
    }

    #[test]
    fn the_last_allowed_wrong_string_locks_out_and_uses_the_string_up() {
        let mut operation = operation("sep001-1", at(1_000));
        let wrong = |session_id| Event::WrongString { limit: 3, session_id, spent_string: Some("digest".into()) };
        for (session, expected) in [(1, Phase::Pending), (2, Phase::Pending), (3, Phase::Failed)] {
            operation.status = Some(advance(&operation, wrong(session), at(10)).unwrap());
            assert_eq!(operation.phase(), expected);
        }
        let status = operation.status_or_default();
        assert_eq!((status.reason, status.spent_string.as_deref()), (Some(Reason::LockedOut), Some("digest")));
        assert!(matches!(advance(&operation, wrong(4), at(11)), Err(NotPossible::Over(_))));
    }

    #[test]
    fn a_question_asked_again_within_its_session_counts_no_second_try() {
        let mut operation = operation("sep001-1", at(1_000));
        let wrong = || Event::WrongString { limit: 3, session_id: 7, spent_string: None };
        operation.status = Some(advance(&operation, wrong(), at(10)).unwrap());
        assert!(matches!(advance(&operation, wrong(), at(11)), Err(NotPossible::Counted(_))));
        let failed = Event::KeyGeneration { reason: Reason::KeyGenerationFailed, limit: 3, session_id: 8 };
        assert!(advance(&operation, failed, at(12)).is_ok());
    }

    #[test]
    fn nothing_is_issued_or_tried_after_the_deadline_but_a_stored_certificate_is_still_told_truthfully() {
        let operation = in_progress();
        let late = at(1_000);
        assert!(matches!(advance(&operation, issue("dd"), late), Err(NotPossible::PastDeadline(..))));
        let wrong = Event::WrongString { limit: 3, session_id: 1, spent_string: None };
        assert!(matches!(advance(&operation, wrong, late), Err(NotPossible::PastDeadline(..))));
        let stored = Event::Stored { sha256_fingerprint: "aa".into() };
        assert_eq!(advance(&operation, stored, late).unwrap().phase, Phase::Successful);
    }

    #[test]
    fn key_generation_fails_the_operation_at_its_limit_only() {
        let mut operation = operation("sep001-1", at(1_000));
        let failed = |session_id| Event::KeyGeneration { reason: Reason::KeyGenerationTimeout, limit: 2, session_id };
        operation.status = Some(advance(&operation, failed(1), at(1)).unwrap());
        assert_eq!(operation.phase(), Phase::Pending);
        operation.status = Some(advance(&operation, failed(2), at(2)).unwrap());
        assert_eq!(operation.status_or_default().reason, Some(Reason::KeyGenerationTimeout));
    }

    #[test]
    fn no_event_moves_a_finished_operation() {
        let mut operation = operation("sep001-1", at(1_000));
        let ended = || Event::Ended { reason: Reason::Expired, message: "late".into() };
        operation.status = Some(advance(&operation, ended(), at(1)).unwrap());
        for event in [
            Event::Armed { completes_by: at(5) },
            issue("aa"),
            Event::Stored { sha256_fingerprint: "aa".into() },
            Event::WrongString { limit: 3, session_id: 1, spent_string: None },
            Event::KeyGeneration { reason: Reason::KeyGenerationFailed, limit: 1, session_id: 1 },
            ended(),
        ] {
            assert!(matches!(advance(&operation, event, at(2)), Err(NotPossible::Over(_))));
        }
    }
}
