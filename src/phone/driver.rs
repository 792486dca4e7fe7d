//! One session over TLS: does what the sans-IO session of the wire ring asks for, step by step, and plays the faults.

mod steps;

use std::{collections::VecDeque, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::pki::{CertificateFacts, hex};
use crate::wire::{CertType, Certificate, Command, Frame, FrameDecoder, KeyRequest, PhoneAction, PhoneSession, Side};

use super::connect::connect;
use super::events::Event;
use super::fault::Step;
use super::key::{PhoneKey, kind_asked};
use super::outcome::{AttemptOutcome, CommunicationFailure, Done, PhoneTrouble};
use super::simulated::{SimulatedPhone, blocking};

/// Time for a goodbye nobody waits for.
const GOODBYE: Duration = Duration::from_millis(500);

type Ended = Result<AttemptOutcome, CommunicationFailure>;
type Turn = (PhoneSession, Vec<PhoneAction>);

/// What to do after a step.
enum Next {
    /// Go on with these actions.
    Go(Turn),
    /// The session is over.
    Over(Ended),
}

/// Drives one session from connection to end.
pub(super) async fn session(phone: &mut SimulatedPhone) -> Ended {
    let stream = connect(phone).await?;
    let mut drive = Drive {
        phone,
        stream,
        decoder: FrameDecoder::new(Side::Phone),
        input: Vec::new(),
        key: None,
        done: Done::default(),
    };
    let ended = drive.run().await;
    // A failure is a cut line; only an end in order says goodbye.
    if ended.is_ok() {
        let _ = timeout(GOODBYE, drive.stream.shutdown()).await;
    }
    ended
}

struct Drive<'a> {
    phone: &'a mut SimulatedPhone,
    stream: TlsStream<TcpStream>,
    decoder: FrameDecoder,
    /// Bytes that came after the last whole frame.
    input: Vec<u8>,
    key: Option<PhoneKey>,
    done: Done,
}

impl Drive<'_> {
    async fn run(&mut self) -> Ended {
        let start = PhoneSession::start(self.phone.config.clone());
        let mut turn = match self.reach(Step::Connected, (start, Vec::new())).await {
            Next::Go(turn) => turn,
            Next::Over(ended) => return ended,
        };
        loop {
            let (session, actions) = turn;
            let next = match actions.is_empty() {
                true => self.listen(session).await,
                false => self.perform(session, actions).await,
            };
            turn = match next {
                Next::Go(turn) => turn,
                Next::Over(ended) => return ended,
            };
        }
    }

    /// Waits for a frame; the steps named after requests are reached before anything is done about them.
    async fn listen(&mut self, session: PhoneSession) -> Next {
        let stop = self.phone.stop.clone();
        let heard = tokio::select! {
            heard = timeout(self.phone.patience.answer, self.frame()) => heard,
            () = stop.cancelled() => return self.give_up(session).await,
        };
        let frame = match heard {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return Next::Go(session.on_closed()),
            Ok(Err(error)) => return Next::Go(session.on_frame_error(error)),
            Err(_) => return Next::Go(session.on_deadline()),
        };
        let step = match frame.command() {
            Command::AUTH_REQ => Some(Step::Auth),
            Command::KEY_GENERATE_REQ => Some(Step::Key),
            Command::STORE_CERT_REQ => Some(Step::Certificate),
            Command::DELETE_CERT_REQ => Some(Step::Delete),
            Command::FETCH_CERT_REQ => Some(Step::Fetch),
            _ => None,
        };
        let turn = session.on_frame(frame);
        let broken = matches!(turn.1[..], [PhoneAction::Failed(_)]);
        match step {
            Some(step) if !broken => self.reach(step, turn).await,
            _ => Next::Go(turn),
        }
    }

    /// Does the actions in order; what the last one leads to comes after.
    async fn perform(&mut self, mut session: PhoneSession, actions: Vec<PhoneAction>) -> Next {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let rest = Vec::from(std::mem::take(&mut actions));
            match self.act(session, action, rest).await {
                Next::Go((next, more)) => {
                    session = next;
                    actions = more.into();
                }
                over => return over,
            }
        }
        Next::Go((session, Vec::new()))
    }

    /// Does one action. `rest` are those that follow it, and come back with what it leads to.
    async fn act(&mut self, session: PhoneSession, action: PhoneAction, rest: Vec<PhoneAction>) -> Next {
        let (session, answer) = match action {
            PhoneAction::Send(frame) => return self.send(session, &frame, rest).await,
            PhoneAction::Ended { reason } => {
                self.event(&session, "ended", |event| event.reason = Some(reason.0));
                return Next::Over(Ok(std::mem::take(&mut self.done).outcome(reason)));
            }
            PhoneAction::Failed(failure) => return Next::Over(Err(failure.into())),
            PhoneAction::Prove { session_id, .. } => {
                let evidence = self.phone.evidence(session_id);
                session.on_proof(evidence)
            }
            PhoneAction::MakeKey(request) => match self.make_key(request).await {
                _ if self.phone.stop.is_cancelled() => return self.give_up(session).await,
                Ok(key) => {
                    self.key = Some(key.clone());
                    let next = self.reach(Step::KeyMade, (session, Vec::new())).await;
                    match next {
                        Next::Go((session, answer)) if answer.is_empty() => session.on_key(key.public().spki()),
                        other => return other,
                    }
                }
                Err(why) => {
                    self.trouble(&session, PhoneTrouble::Key(why));
                    session.on_key_failed()
                }
            },
            PhoneAction::Store { certificate_der, cert_type } => {
                match self.store(&session, certificate_der.into_vec(), cert_type).await {
                    Ok(()) => match self.reach(Step::Stored, (session, Vec::new())).await {
                        Next::Go((session, answer)) if answer.is_empty() => session.on_stored(true),
                        other => return other,
                    },
                    Err(why) => {
                        self.trouble(&session, why);
                        session.on_stored(false)
                    }
                }
            }
            PhoneAction::Delete { certificate } => match self.delete(certificate).await {
                Ok(had_one) => {
                    self.done.deleted = Some(had_one);
                    match self.reach(Step::Deleted, (session, Vec::new())).await {
                        Next::Go((session, answer)) if answer.is_empty() => session.on_deleted(had_one),
                        other => return other,
                    }
                }
                Err(why) => {
                    self.trouble(&session, why);
                    session.on_deleted(false)
                }
            },
            PhoneAction::Fetch { certificate } => {
                let shown = self.phone.holdings.show(certificate);
                let list = match shown {
                    Some(_) => &mut self.done.shown,
                    None => &mut self.done.missing,
                };
                list.push(certificate);
                session.on_fetched(shown.map(|der| Certificate::new(certificate, der)))
            }
        };
        Next::Go((session, rest.into_iter().chain(answer).collect()))
    }

    /// Sends a frame in one write. A server that cannot be written to has hung up.
    async fn send(&mut self, session: PhoneSession, frame: &Frame, rest: Vec<PhoneAction>) -> Next {
        if self.write(frame).await.is_err() {
            return Next::Go(session.on_closed());
        }
        let step = match frame.command() {
            Command::AUTH_RES => Step::AuthSent,
            Command::REQUEST_IN_PROGRESS => Step::Progress,
            Command::KEY_GENERATE_RES => Step::KeySent,
            Command::STORE_CERT_RES => Step::Answered,
            Command::DELETE_CERT_RES => Step::DeleteAnswered,
            Command::FETCH_CERT_RES => Step::FetchAnswered,
            _ => return Next::Go((session, rest)),
        };
        self.reach(step, (session, rest)).await
    }

    /// The next frame; `None` when the server closed, in whichever way.
    async fn frame(&mut self) -> Result<Option<Frame>, crate::wire::FrameError> {
        let mut piece = [0; 4096];
        loop {
            let mut rest = &self.input[..];
            let frame = self.decoder.decode(&mut rest)?;
            let used = self.input.len() - rest.len();
            self.input.drain(..used);
            if frame.is_some() {
                return Ok(frame);
            }
            match self.stream.read(&mut piece).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(length) => self.input.extend_from_slice(&piece[..length]),
            }
        }
    }

    async fn write(&mut self, frame: &Frame) -> io::Result<()> {
        let bytes = frame.encode();
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        match timeout(self.phone.patience.answer, write).await {
            Ok(written) => written,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn make_key(&self, request: KeyRequest) -> Result<PhoneKey, String> {
        let Some(kind) = kind_asked(request) else {
            return Err("no phone makes the key that was asked for".to_owned());
        };
        match &self.phone.prepared {
            Some(key) => match key.public().matches(kind) {
                Ok(()) => Ok(key.clone()),
                Err(_) => {
                    let prepared = key.public().kind();
                    Err(format!("the prepared key is {prepared}, {kind} was asked for"))
                }
            },
            // Stopped, the thread goes on for a while and its key is nobody's.
            None => tokio::select! {
                made = blocking(move || PhoneKey::generate(kind)) => made,
                () = self.phone.stop.cancelled() => Err("the user stopped it".to_owned()),
            },
        }
    }

    /// Keeps the certificate, if it is one over the key this session made.
    async fn store(&mut self, session: &PhoneSession, der: Vec<u8>, cert_type: CertType) -> Result<(), PhoneTrouble> {
        if cert_type != CertType::LSC {
            let problem = format!("a phone is given an LSC only, not {cert_type}");
            return Err(PhoneTrouble::Certificate(problem));
        }
        let facts = CertificateFacts::from_der(&der).map_err(|error| PhoneTrouble::Certificate(error.to_string()))?;
        let Some(key) = self.key.take() else {
            let doing = session.state();
            return Err(PhoneTrouble::Certificate(format!("no key was made by a phone {doing}")));
        };
        if facts.spki_sha256 != hex(&key.public().sha256()) {
            return Err(PhoneTrouble::ForeignCertificate);
        }
        let kept = self.phone.holdings.keep(der.clone(), key).await;
        kept.map_err(PhoneTrouble::Store)?;
        self.done.installed = Some(der);
        Ok(())
    }

    async fn delete(&mut self, which: CertType) -> Result<bool, PhoneTrouble> {
        if which != CertType::LSC {
            let problem = format!("a phone deletes its LSC only, not {which}");
            return Err(PhoneTrouble::Certificate(problem));
        }
        self.phone.holdings.delete().await.map_err(PhoneTrouble::Store)
    }

    fn trouble(&mut self, session: &PhoneSession, why: PhoneTrouble) {
        self.event(session, "refused", |event| {
            event.problem = Some(why.to_string());
        });
        self.done.trouble = Some(why);
    }

    fn event(&self, session: &PhoneSession, step: &'static str, more: impl FnOnce(&mut Event)) {
        let mut event = Event { step, session: session.id().map(|id| id.to_string()), ..Event::default() };
        more(&mut event);
        self.phone.log(event);
    }
}
