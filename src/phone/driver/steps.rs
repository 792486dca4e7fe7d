//! What happens at a step: it goes on the event log, and the session goes on, at once or after a while, or goes wrong.

use std::time::Duration;

use tokio::time::timeout;

use crate::pki::CertificateFacts;
use crate::wire::{Message, PhoneAction, PhoneFailure, PhoneSession, PhoneState, Reason};

use super::super::fault::{Fault, FaultKind, Step};
use super::super::outcome::{AttemptOutcome, CommunicationFailure, PhoneTrouble};
use super::{Drive, Next, Turn};

impl Drive<'_> {
    /// A step is reached: goes on on the event log, and a fault happens if one is due.
    pub(super) async fn reach(&mut self, step: Step, (session, actions): Turn) -> Next {
        let fault = Fault::at(&self.phone.faults, step, self.phone.attempts());
        let about = actions.iter().find_map(|action| match action {
            PhoneAction::Store { certificate_der, .. } => CertificateFacts::from_der(certificate_der).ok(),
            // What it has, if it has any, before it is deleted or shown.
            PhoneAction::Delete { certificate } | PhoneAction::Fetch { certificate } => {
                CertificateFacts::from_der(&self.phone.holdings.show(*certificate)?).ok()
            }
            _ => None,
        });
        let kept = (step == Step::Stored)
            .then(|| self.phone.lsc())
            .flatten()
            .and_then(|der| CertificateFacts::from_der(der).ok());
        self.event(&session, step.name(), |event| {
            event.fault = fault.map(FaultKind::name);
            if let Some(facts) = about.or(kept) {
                event.serial = Some(facts.serial);
                event.sha256 = Some(facts.sha256);
            }
        });
        let Some(kind) = fault else {
            return self.pause(step, (session, actions)).await;
        };
        let failure = CommunicationFailure::Fault { kind, step };
        match kind {
            FaultKind::Drop => Next::Over(Err(failure)),
            FaultKind::Stall => {
                let limit = self.phone.patience.stall;
                Next::Over(match self.hear_end(&session, limit).await {
                    Some(reason) => Ok(AttemptOutcome::Refused { reason }),
                    None => Err(failure),
                })
            }
            FaultKind::Abort => self.give_up(session).await,
            FaultKind::Fail => {
                self.done.trouble = Some(PhoneTrouble::Fault(step));
                Next::Go(refuse(session, actions))
            }
        }
    }

    /// Takes the time that the phone is slow for at this step. The server has nothing to say meanwhile but that it ends.
    async fn pause(&mut self, step: Step, (session, actions): Turn) -> Next {
        let time = self.phone.pauses.iter().find(|(at, _)| *at == step).map(|(_, time)| *time);
        let Some(time) = time else {
            return Next::Go((session, actions));
        };
        let stop = self.phone.stop.clone();
        let heard = tokio::select! {
            heard = timeout(time, self.frame()) => heard,
            () = stop.cancelled() => return self.give_up(session).await,
        };
        match heard {
            Err(_) => Next::Go((session, actions)),
            Ok(Ok(Some(frame))) => Next::Go(session.on_frame(frame)),
            Ok(Ok(None)) => Next::Go(session.on_closed()),
            Ok(Err(error)) => Next::Go(session.on_frame_error(error)),
        }
    }

    /// The user presses Stop: says so and waits for the end.
    pub(super) async fn give_up(&mut self, session: PhoneSession) -> Next {
        let (session, actions) = session.abort();
        let [PhoneAction::Send(frame)] = &actions[..] else {
            return Next::Over(Err(CommunicationFailure::Stopped));
        };
        self.event(&session, "stopped", |_| {});
        if self.write(frame).await.is_err() {
            return Next::Go(session.on_closed());
        }
        let limit = self.phone.patience.answer;
        let doing = PhoneState::AwaitingEnd;
        Next::Over(match self.hear_end(&session, limit).await {
            Some(reason) => Ok(AttemptOutcome::Aborted { reason }),
            None => Err(PhoneFailure::HungUp { doing }.into()),
        })
    }

    /// Says nothing and waits for END_SESSION; `None` when the connection ends without it.
    async fn hear_end(&mut self, session: &PhoneSession, limit: Duration) -> Option<Reason> {
        let heard = timeout(limit, async {
            while let Ok(Some(frame)) = self.frame().await {
                if let Ok(Message::EndSession(reason)) = Message::parse(&frame).map(|it| it.message) {
                    return Some(reason);
                }
            }
            None
        });
        let reason = heard.await.ok().flatten()?;
        self.event(session, "ended", |event| event.reason = Some(reason.0));
        Some(reason)
    }
}

/// Answers with a failure instead of doing `actions`.
fn refuse(session: PhoneSession, actions: Vec<PhoneAction>) -> Turn {
    match session.state() {
        PhoneState::MakingKey => session.on_key_failed(),
        PhoneState::Storing => session.on_stored(false),
        PhoneState::Deleting => session.on_deleted(false),
        PhoneState::Fetching => session.on_fetched(None),
        // Nothing is owed here (`Fault::new` sees to that), except that a key request nobody can serve is answered already.
        _ => (session, actions),
    }
}
