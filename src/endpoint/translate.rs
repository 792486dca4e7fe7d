//! From the words of the wire to those of the authority, and back; and what a session has to present with its next question.

use std::net::IpAddr;
use std::time::Duration;

use crate::authority::questions::{
    Authority, CompleteAnswer, CompleteOutcome, CompleteRequest, Digits, IssueAnswer, IssueRequest, OpenAnswer,
    OpenRequest, Unavailable,
};
use crate::pki::{Curve, KeyKind};
use crate::wire::{Answer, Evidence, KeyRequest, Opening, Outcome, Question, SessionId};

/// What one session and the authority have agreed on so far.
#[derive(Default)]
pub(super) struct Dealings {
    /// Where the phone connects from.
    source: Option<IpAddr>,
    /// The ticket of *open*, later the receipt of *issue*; goes with the next question.
    ticket: Box<str>,
    key_time: Duration,
    note: Option<Box<str>>,
}

impl Dealings {
    /// Those of a phone that connects from there.
    pub(super) fn of(source: Option<IpAddr>) -> Self {
        Self { source, ..Self::default() }
    }

    /// How long the phone may take for its key. Zero before the authority has asked for one.
    pub(super) fn key_time(&self) -> Duration {
        self.key_time
    }

    /// Why the authority refused or could not be asked, for the log; the session itself is not told.
    pub(super) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Asks, and keeps what the next question needs.
    pub(super) async fn ask<A: Authority>(&mut self, authority: &A, session: SessionId, question: Question) -> Answer {
        let outcome = match question {
            Question::Open(opening) => {
                let asked = authority.open(open_request(opening, self.source)).await;
                asked.map(|answer| self.opened(answer))
            }
            Question::Issue { public_key } => {
                let request = IssueRequest {
                    ticket: self.ticket.to_string(),
                    session_id: session.0,
                    public_key: public_key.into_vec(),
                };
                let asked = authority.issue(request).await;
                asked.map(|answer| self.issued(answer))
            }
            Question::Complete(outcome) => match complete_outcome(&outcome) {
                Some(outcome) => {
                    let request = CompleteRequest { ticket: self.ticket.to_string(), session_id: session.0, outcome };
                    let asked = authority.complete(request).await;
                    asked.map(|answer| self.completed(answer))
                }
                None => Err(Unavailable(format!(
                    "there is no word for the outcome {:?}; report this fault",
                    outcome.kind()
                ))),
            },
        };
        outcome.unwrap_or_else(|Unavailable(cause)| {
            self.note = Some(cause.into());
            Answer::Unavailable
        })
    }

    fn opened(&mut self, answer: OpenAnswer) -> Answer {
        tracing::debug!(%answer, "the authority answered");
        match answer {
            OpenAnswer::Install { ticket, key, key_generation_seconds } => {
                self.ticket = ticket.into();
                self.key_time = Duration::from_secs(key_generation_seconds.into());
                let key = key_request(key);
                Answer::Install { key }
            }
            OpenAnswer::NothingScheduled => Answer::NothingScheduled,
            OpenAnswer::UnknownDevice => Answer::UnknownDevice,
            OpenAnswer::Refused { reason } => self.refused(reason.as_str()),
        }
    }

    fn issued(&mut self, answer: IssueAnswer) -> Answer {
        match answer {
            IssueAnswer::Issued { certificate, receipt } => {
                self.ticket = receipt.into();
                let certificate_der = certificate.into();
                Answer::Issued { certificate_der }
            }
            IssueAnswer::Refused { reason } => self.refused(reason.as_str()),
        }
    }

    fn completed(&mut self, answer: CompleteAnswer) -> Answer {
        match answer {
            CompleteAnswer::Recorded => Answer::Recorded,
            // Nothing is on record, so nothing is told: the phone comes again and hears how things stand by then.
            CompleteAnswer::Refused { reason } => {
                self.note = Some(reason.as_str().into());
                Answer::Unavailable
            }
        }
    }

    fn refused(&mut self, reason: &'static str) -> Answer {
        self.note = Some(reason.into());
        Answer::Refused
    }
}

fn open_request(opening: Opening, source: Option<IpAddr>) -> OpenRequest {
    let (digits, certificate) = match opening.evidence {
        Evidence::Null => (None, false),
        Evidence::String(digits) => (Some(digits), false),
        Evidence::Certificate(evidence) => (evidence.password, true),
    };
    OpenRequest {
        device_name: opening.device_name.into(),
        version: opening.version.0,
        session_id: opening.session_id.0,
        digits: digits.map(Digits),
        certificate,
        source,
    }
}

fn key_request(key: KeyKind) -> KeyRequest {
    match key {
        KeyKind::Rsa(size) => KeyRequest::Rsa { bits: size.bits() },
        KeyKind::Ec(Curve::P256) => KeyRequest::Ec(crate::wire::Curve::P256),
        KeyKind::Ec(Curve::P384) => KeyRequest::Ec(crate::wire::Curve::P384),
        KeyKind::Ec(Curve::P521) => KeyRequest::Ec(crate::wire::Curve::P521),
    }
}

/// None for outcomes of operations that no answer to *open* starts yet.
fn complete_outcome(outcome: &Outcome) -> Option<CompleteOutcome> {
    Some(match outcome {
        Outcome::Stored => CompleteOutcome::Stored,
        Outcome::StoreRejected { reason } => CompleteOutcome::StoreRejected { reason: reason.0 },
        Outcome::KeyGenerationFailed { reason } => CompleteOutcome::KeyGenerationFailed { reason: reason.0 },
        Outcome::KeyGenerationTimedOut => CompleteOutcome::KeyGenerationTimedOut,
        Outcome::Aborted => CompleteOutcome::Aborted,
        Outcome::Deleted
        | Outcome::NothingToDelete
        | Outcome::DeleteRejected { .. }
        | Outcome::Fetched { .. }
        | Outcome::NothingFetched { .. }
        | Outcome::FetchRejected { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_can_be_asked_for() {
        for kind in KeyKind::ALL {
            assert_eq!(key_request(kind).check(), Ok(()), "{kind}");
        }
    }
}
