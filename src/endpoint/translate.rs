//! From the words of the wire to those of the authority, and back; and what a session has to present with its next question.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::PhoneCertificate;
use crate::authority::proof::{CertificateProof, HashedSignature, Octets, SudiProof};
use crate::authority::questions::{
    Answered, Authority, CompleteAnswer, CompleteOutcome, CompleteRequest, Digits, IssueAnswer, IssueRequest,
    OpenAnswer, OpenRequest, Unavailable,
};
use crate::logging;
use crate::pki::{Curve, KeyKind};
use crate::telemetry::endpoint::metrics;
use crate::wire::{
    Answer, CertType, CertificateEvidence, Evidence, KeyRequest, Opening, Outcome, Question, SessionId, Signature,
};

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
        let began = Instant::now();
        let outcome = match question {
            Question::Open(opening) => {
                let asked = authority.open(open_request(opening, self.source)).await;
                note("open", &asked, began);
                asked.map(|reply| {
                    if let Some(level) = reply.log_level {
                        logging::raise(&tracing::Span::current(), level);
                    }
                    self.opened(reply.answer)
                })
            }
            Question::Issue { public_key } => {
                let request = IssueRequest {
                    ticket: self.ticket.to_string(),
                    session_id: session.0,
                    public_key: public_key.into_vec(),
                };
                let asked = authority.issue(request).await;
                note("issue", &asked, began);
                asked.map(|answer| self.issued(answer))
            }
            Question::Complete(outcome) => {
                let outcome = complete_outcome(outcome);
                let request = CompleteRequest { ticket: self.ticket.to_string(), session_id: session.0, outcome };
                let asked = authority.complete(request).await;
                note("complete", &asked, began);
                asked.map(|answer| self.completed(answer))
            }
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
            OpenAnswer::Delete { ticket } => {
                self.ticket = ticket.into();
                Answer::Delete
            }
            OpenAnswer::Fetch { ticket, certificate } => {
                self.ticket = ticket.into();
                Answer::Fetch { certificate: cert_type(certificate) }
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
            CompleteAnswer::Fetch { certificate } => Answer::Fetch { certificate: cert_type(certificate) },
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

/// Counts a question.
fn note(question: &'static str, asked: &impl Answered, began: Instant) {
    let (answer, reason) = asked.labels();
    metrics().questions.with([question, answer, reason]).inc();
    metrics().question_seconds.with([question]).observe(began.elapsed().as_secs_f64());
}

fn open_request(opening: Opening, source: Option<IpAddr>) -> OpenRequest {
    let (digits, proof) = match opening.evidence {
        Evidence::Null => (None, None),
        Evidence::String(digits) => (Some(digits), None),
        Evidence::Certificate(evidence) => {
            let CertificateEvidence { password, certificate, signed_data, sha2_signed_data, sudi } = *evidence;
            let proof = CertificateProof {
                name_as_sent: opening.name_as_sent,
                certificate: certificate.map(|certificate| Octets(certificate.der.into_vec())),
                signed_data: signed_data.map(|signature| Octets(signature.into_vec())),
                sha2_signed_data: sha2_signed_data.map(hashed),
                sudi: sudi.map(|sudi| SudiProof {
                    certificate: Octets(sudi.certificate.into_vec()),
                    signatures: sudi.signatures.into_iter().map(hashed).collect(),
                }),
            };
            (password, Some(proof))
        }
    };
    OpenRequest {
        device_name: opening.device_name.into(),
        version: opening.version.0,
        session_id: opening.session_id.0,
        digits: digits.map(Digits),
        certificate: proof.is_some(),
        proof,
        source,
    }
}

fn hashed(signature: Signature) -> HashedSignature {
    HashedSignature { hash: signature.hash.0, signature: Octets(signature.signature.into_vec()) }
}

fn key_request(key: KeyKind) -> KeyRequest {
    match key {
        KeyKind::Rsa(size) => KeyRequest::Rsa { bits: size.bits() },
        KeyKind::Ec(Curve::P256) => KeyRequest::Ec(crate::wire::Curve::P256),
        KeyKind::Ec(Curve::P384) => KeyRequest::Ec(crate::wire::Curve::P384),
        KeyKind::Ec(Curve::P521) => KeyRequest::Ec(crate::wire::Curve::P521),
    }
}

fn cert_type(certificate: PhoneCertificate) -> CertType {
    match certificate {
        PhoneCertificate::LSC => CertType::LSC,
        PhoneCertificate::MIC => CertType::MIC,
    }
}

/// What a phone was asked for: only these two ever are.
fn asked_for(asked: CertType) -> PhoneCertificate {
    if asked == CertType::MIC { PhoneCertificate::MIC } else { PhoneCertificate::LSC }
}

fn complete_outcome(outcome: Outcome) -> CompleteOutcome {
    match outcome {
        Outcome::Stored => CompleteOutcome::Stored,
        Outcome::StoreRejected { reason } => CompleteOutcome::StoreRejected { reason: reason.0 },
        Outcome::KeyGenerationFailed { reason } => CompleteOutcome::KeyGenerationFailed { reason: reason.0 },
        Outcome::KeyGenerationTimedOut => CompleteOutcome::KeyGenerationTimedOut,
        Outcome::Aborted => CompleteOutcome::Aborted,
        Outcome::Deleted => CompleteOutcome::Deleted,
        Outcome::NothingToDelete => CompleteOutcome::NothingToDelete,
        Outcome::DeleteRejected { reason } => CompleteOutcome::DeleteRejected { reason: reason.0 },
        // What the phone calls it is not passed on: it is judged by what it is.
        Outcome::Fetched { asked, cert_type: _, certificate_der } => {
            CompleteOutcome::Fetched { asked: asked_for(asked), certificate: certificate_der.into_vec() }
        }
        Outcome::NothingFetched { asked } => CompleteOutcome::NothingFetched { asked: asked_for(asked) },
        Outcome::FetchRejected { asked, reason } => {
            CompleteOutcome::FetchRejected { asked: asked_for(asked), reason: reason.0 }
        }
    }
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
