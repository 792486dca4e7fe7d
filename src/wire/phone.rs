//! The phone's side of a session, without sockets, clock or keys: what the simulated phone and the tests of the server speak.
//!
//! Everything the phone says comes out as [`PhoneAction::Send`], one frame each, and everything it does is asked for and waited
//! for. So a driver can play any fault around a session that is right: drop a frame, stall before it, change it, say it twice.
//!
//! It speaks like the known clients: in version 3 like the phone of the captures, in version 2 like Jabber.

use super::auth::{AuthRes, Evidence};
use super::codes::{CertType, Command, Reason, Version};
use super::device_name::ClaimedName;
use super::error::{FrameError, KeyError};
use super::frame::{Frame, SessionId};
use super::key::{KeyGenerateReq, KeyRequest};
use super::message::{FetchCertRes, KeyGenerateRes, Message};
use super::octets::Octets;
use super::phone_action::{PhoneAction, PhoneFailure, PhoneState};
use super::proof::Certificate;

/// Who a phone is and how it speaks.
#[derive(Clone, Debug)]
pub struct PhoneConfig {
    /// The name it claims, in the case it claims it in.
    pub device_name: ClaimedName,
    /// The version it speaks, 2 or 3.
    pub version: Version,
    /// Whether it says REQUEST_IN_PROGRESS once before it makes a key. The phone of the captures does, Jabber does not.
    pub announces_key: bool,
}

impl PhoneConfig {
    /// A phone that speaks like the known client of its version.
    pub fn new(device_name: impl Into<ClaimedName>, version: Version) -> Self {
        Self { device_name: device_name.into(), version, announces_key: version != Version::TWO }
    }
}

/// A session as its phone sees it. Each event consumes it and returns the next, with what is to be done, in order.
#[derive(Debug)]
#[must_use = "a session that is not kept is lost"]
pub struct PhoneSession {
    config: PhoneConfig,
    id: Option<SessionId>,
    state: PhoneState,
}

/// The next session and what is to be done.
type Step = (PhoneSession, Vec<PhoneAction>);

impl PhoneSession {
    /// Begins a session: the server speaks first.
    pub fn start(config: PhoneConfig) -> Self {
        Self { config, id: None, state: PhoneState::AwaitingGreeting }
    }

    /// A frame came from the server.
    pub fn on_frame(self, frame: Frame) -> (Self, Vec<PhoneAction>) {
        if self.state == PhoneState::Over {
            return (self, Vec::new());
        }
        let found = frame.session_id();
        match self.id {
            Some(expected) if expected != found => self.fail(PhoneFailure::WrongSession { expected, found }),
            _ => match Message::parse(&frame) {
                Ok(parsed) => self.on_message(found, parsed.message),
                Err(error) => self.fail(PhoneFailure::Message(error)),
            },
        }
    }

    /// What came from the server is no frame; give here what the decoder said.
    pub fn on_frame_error(self, error: FrameError) -> (Self, Vec<PhoneAction>) {
        self.fail(PhoneFailure::Frame(error))
    }

    /// The server was silent for too long.
    pub fn on_deadline(self) -> (Self, Vec<PhoneAction>) {
        let doing = self.state;
        self.fail(PhoneFailure::Deadline { doing })
    }

    /// The server closed the connection; after its END_SESSION that is nothing.
    pub fn on_closed(self) -> (Self, Vec<PhoneAction>) {
        let doing = self.state;
        self.fail(PhoneFailure::HungUp { doing })
    }

    /// The proof, in answer to [`PhoneAction::Prove`].
    pub fn on_proof(self, evidence: Evidence) -> (Self, Vec<PhoneAction>) {
        let name = self.config.device_name.clone();
        let response = AuthRes::new(self.config.version, name, evidence);
        let message = Message::AuthRes(Box::new(response));
        self.answer("on_proof", PhoneState::Proving, message, PhoneState::AwaitingOperation)
    }

    /// The public key, a SubjectPublicKeyInfo in DER, in answer to [`PhoneAction::MakeKey`].
    pub fn on_key(self, public_key: impl Into<Octets>) -> (Self, Vec<PhoneAction>) {
        let response = KeyGenerateRes { reason: None, public_key: Some(public_key.into()) };
        let message = Message::KeyGenerateRes(response);
        self.answer("on_key", PhoneState::MakingKey, message, PhoneState::AwaitingCertificate)
    }

    /// No key could be made.
    pub fn on_key_failed(self) -> (Self, Vec<PhoneAction>) {
        self.answer("on_key_failed", PhoneState::MakingKey, no_key(), PhoneState::AwaitingEnd)
    }

    /// The key is still being made: says so to the server.
    pub fn on_progress(self) -> (Self, Vec<PhoneAction>) {
        let making = PhoneState::MakingKey;
        self.answer("on_progress", making, Message::RequestInProgress, making)
    }

    /// Whether the certificate is kept, in answer to [`PhoneAction::Store`].
    pub fn on_stored(self, stored: bool) -> (Self, Vec<PhoneAction>) {
        let message = Message::StoreCertRes(done(stored));
        self.answer("on_stored", PhoneState::Storing, message, PhoneState::AwaitingEnd)
    }

    /// Whether there was a certificate and it is deleted, in answer to [`PhoneAction::Delete`].
    pub fn on_deleted(self, deleted: bool) -> (Self, Vec<PhoneAction>) {
        let message = Message::DeleteCertRes(done(deleted));
        self.answer("on_deleted", PhoneState::Deleting, message, PhoneState::AwaitingEnd)
    }

    /// The certificate if there is one, in answer to [`PhoneAction::Fetch`].
    pub fn on_fetched(self, certificate: Option<Certificate>) -> (Self, Vec<PhoneAction>) {
        let reason = Some(done(certificate.is_some()));
        let message = Message::FetchCertRes(FetchCertRes { reason, certificate });
        self.answer("on_fetched", PhoneState::Fetching, message, PhoneState::AwaitingFetchOrEnd)
    }

    /// The user gives up: sends an empty ABORT_REQ, which is a guess, and awaits the end. Before AUTH_REQ there is no session to
    /// give up, so nothing is sent.
    pub fn abort(mut self) -> (Self, Vec<PhoneAction>) {
        let Some(id) = self.id.filter(|_| self.state != PhoneState::Over) else {
            return (self, Vec::new());
        };
        match Frame::new(Command::ABORT_REQ, id, Vec::new()) {
            Ok(frame) => {
                self.state = PhoneState::AwaitingEnd;
                (self, vec![PhoneAction::Send(frame)])
            }
            Err(error) => self.fail(error.into()),
        }
    }

    /// What the phone is doing.
    pub fn state(&self) -> PhoneState {
        self.state
    }

    /// The session's number, once AUTH_REQ has said it.
    pub fn id(&self) -> Option<SessionId> {
        self.id
    }

    fn on_message(mut self, id: SessionId, message: Message) -> Step {
        use PhoneState::{AwaitingCertificate, AwaitingFetchOrEnd, AwaitingGreeting, AwaitingOperation};
        match (self.state, message) {
            (_, Message::EndSession(reason)) => {
                self.state = PhoneState::Over;
                (self, vec![PhoneAction::Ended { reason }])
            }
            (AwaitingGreeting, Message::AuthReq(greeting)) => {
                self.id = Some(id);
                self.act(
                    PhoneState::Proving,
                    PhoneAction::Prove { session_id: id, version: greeting.version, auth_type: greeting.auth_type },
                )
            }
            (AwaitingOperation, Message::KeyGenerateReq(request)) => self.on_key_request(request),
            (AwaitingOperation, Message::DeleteCertReq(named)) => {
                let certificate = named.unwrap_or(CertType::LSC);
                self.act(PhoneState::Deleting, PhoneAction::Delete { certificate })
            }
            (AwaitingOperation | AwaitingFetchOrEnd, Message::FetchCertReq(named)) => {
                let certificate = named.unwrap_or(CertType::LSC);
                self.act(PhoneState::Fetching, PhoneAction::Fetch { certificate })
            }
            (AwaitingCertificate, Message::StoreCertReq(request)) => {
                let Certificate { cert_type, der, .. } = request.certificate;
                let cert_type = request.cert_type.unwrap_or(cert_type);
                self.act(PhoneState::Storing, PhoneAction::Store { certificate_der: der, cert_type })
            }
            (doing, message) => {
                let command = message.command();
                self.fail(PhoneFailure::UnexpectedCommand { command, doing })
            }
        }
    }

    /// A key that cannot be made is answered at once, as a failure.
    fn on_key_request(self, request: KeyGenerateReq) -> Step {
        let key = match request.key() {
            Ok(KeyRequest::Ec(_)) if self.config.version == Version::TWO => Err(KeyError::EcForVersionTwo),
            key => key,
        };
        let awaiting = PhoneState::AwaitingOperation;
        let Ok(key) = key else {
            return self.answer("on_frame", awaiting, no_key(), PhoneState::AwaitingEnd);
        };
        if !self.config.announces_key {
            return self.act(PhoneState::MakingKey, PhoneAction::MakeKey(key));
        }
        let announced = Message::RequestInProgress;
        let (session, mut actions) = self.answer("on_frame", awaiting, announced, PhoneState::MakingKey);
        actions.push(PhoneAction::MakeKey(key));
        (session, actions)
    }

    /// Sends the answer to what the driver was asked for, if it was asked.
    fn answer(mut self, call: &'static str, from: PhoneState, message: Message, next: PhoneState) -> Step {
        let doing = self.state;
        let Some(id) = self.id.filter(|_| doing == from) else {
            return self.fail(PhoneFailure::OutOfTurn { call, doing });
        };
        match message.to_frame(id) {
            Ok(frame) => {
                self.state = next;
                (self, vec![PhoneAction::Send(frame)])
            }
            Err(error) => self.fail(error.into()),
        }
    }

    fn act(mut self, next: PhoneState, action: PhoneAction) -> Step {
        self.state = next;
        (self, vec![action])
    }

    /// Ends the session; one that is over stays as it is.
    fn fail(mut self, failure: PhoneFailure) -> Step {
        if self.state == PhoneState::Over {
            return (self, Vec::new());
        }
        self.state = PhoneState::Over;
        (self, vec![PhoneAction::Failed(failure)])
    }
}

/// KEY_GENERATE_RES without a key. Observed.
fn no_key() -> Message {
    let reason = Some(Reason::INVALID_ELEMENT);
    Message::KeyGenerateRes(KeyGenerateRes { reason, public_key: None })
}

/// 1 for done, 7 for not. Captured.
fn done(done: bool) -> Reason {
    if done { Reason::OK } else { Reason::INVALID_ELEMENT }
}
