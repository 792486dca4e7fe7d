//! The server's side of a session, without sockets, clock or keys.
//!
//! ```text
//! AwaitAuth ─AUTH_RES→ AwaitOpen ─Install→ AwaitKey ─KEY_GENERATE_RES→ AwaitIssue ─Issued→ AwaitStore ─STORE_CERT_RES→┐
//!                          ├─Delete→ AwaitDelete ─DELETE_CERT_RES→───────────────────────────────────────────────────┤
//!                          └─Fetch→ AwaitFetch ─FETCH_CERT_RES→ AwaitComplete ─Recorded→ Ended       AwaitComplete ←─┘
//!                                       ↑────────────Fetch──────────┘
//! ```
//!
//! Whatever is not in the picture ends the session: a frame with END_SESSION 7, a passed deadline and an authority out of reach
//! without END_SESSION, so that the phone comes again by itself. The exceptions: any number of REQUEST_IN_PROGRESS while the key
//! is awaited, which move nothing and no deadline; the passed deadline of the key, which is an outcome and goes on record; and
//! ABORT_REQ once the phone has presented itself, which ends the operation as given up by its user (a guess, the command is
//! known by name only). An ABORT_REQ that comes while the authority is being asked counts when the answer is there.

use super::auth::AuthReq;
use super::close::{AuthorityTurn, CloseReason, PhoneTurn, Waiting};
use super::codes::{AuthType, CertType, Command, Reason, Version};
use super::element::Skipped;
use super::error::FrameError;
use super::frame::{Frame, SessionId};
use super::key::{KeyGenerateReq, KeyRequest};
use super::message::{FetchCertRes, KeyGenerateRes, Message, StoreCertReq};
use super::octets::Octets;
use super::proof::Certificate;
use super::question::{Answer, Outcome, OutcomeKind, Question};

/// Certificates one session may fetch: the LSC and the MIC.
const MAX_FETCHES: usize = 2;

/// A session as its server sees it. Each event consumes it and returns the next, with what is to be done, in order.
#[derive(Debug)]
#[must_use = "a session that is not kept is lost"]
pub struct ServerSession {
    id: SessionId,
    state: State,
    /// An ABORT_REQ came while the authority was being asked.
    aborted: bool,
    fetched: Vec<CertType>,
    skipped: Skipped,
}

/// What the driver of a session is to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send this frame, in one write.
    Send(Frame),
    /// Ask the authority and give the answer to [`ServerSession::on_answer`]. Do not read from the phone meanwhile.
    Ask(Question),
    /// Close the connection. Whether END_SESSION went out before is said by [`CloseReason::told`].
    Close(CloseReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitAuth,
    AwaitOpen { version: Version },
    AwaitKey,
    AwaitIssue,
    AwaitStore,
    AwaitDelete,
    AwaitFetch { asked: CertType },
    AwaitComplete { outcome: OutcomeKind },
    Ended,
}

/// The next session and what is to be done.
type Step = (ServerSession, Vec<Action>);

impl ServerSession {
    /// Begins a session with AUTH_REQ. The number must be random, and unlike that of any other open session.
    pub fn start(id: SessionId) -> (Self, Vec<Action>) {
        let session =
            Self { id, state: State::AwaitAuth, aborted: false, fetched: Vec::new(), skipped: Skipped::default() };
        let greeting = AuthReq { version: Version::THREE, auth_type: Some(AuthType::NONE) };
        session.send(Message::AuthReq(greeting), State::AwaitAuth)
    }

    /// A frame came from the phone.
    pub fn on_frame(mut self, frame: Frame) -> (Self, Vec<Action>) {
        let (command, found) = (frame.command(), frame.session_id());
        if self.state == State::Ended {
            return (self, Vec::new());
        }
        if found != self.id {
            let expected = self.id;
            return self.end(CloseReason::WrongSession { expected, found });
        }
        if command == Command::ABORT_REQ {
            return self.on_abort();
        }
        if !self.state.takes(command) {
            return self.unexpected(command);
        }
        match Message::parse(&frame) {
            Ok(parsed) => {
                self.skipped.count += parsed.skipped.count;
                self.skipped.first = self.skipped.first.or(parsed.skipped.first);
                self.on_message(parsed.message)
            }
            Err(error) => self.end(CloseReason::Message(error)),
        }
    }

    /// What came from the phone is no frame; give here what the decoder said.
    pub fn on_frame_error(self, error: FrameError) -> (Self, Vec<Action>) {
        match self.state {
            State::Ended => (self, Vec::new()),
            _ => self.end(CloseReason::Frame(error)),
        }
    }

    /// The authority answered the last question.
    pub fn on_answer(self, answer: Answer) -> (Self, Vec<Action>) {
        let waiting = self.waiting_for();
        match (self.state, answer) {
            (State::Ended, _) => (self, Vec::new()),
            (State::AwaitOpen { version }, Answer::Install { key }) => self.ask_for_key(key, version),
            (State::AwaitOpen { .. }, Answer::Delete) => self.send(Message::DeleteCertReq(None), State::AwaitDelete),
            (State::AwaitOpen { .. }, Answer::Fetch { certificate }) => self.fetch(certificate),
            (State::AwaitComplete { outcome }, Answer::Fetch { certificate })
                if outcome.is_of_fetch() && self.may_fetch(certificate) =>
            {
                self.fetch(certificate)
            }
            (State::AwaitOpen { version }, Answer::NothingScheduled) => {
                self.end(CloseReason::NothingScheduled { version })
            }
            (State::AwaitOpen { .. }, Answer::UnknownDevice) => self.end(CloseReason::UnknownDevice),
            (State::AwaitIssue, Answer::Issued { certificate_der }) => self.deliver(certificate_der),
            (State::AwaitComplete { outcome }, Answer::Recorded) => self.end(CloseReason::Finished(outcome)),
            (state, answer) => match (state.question(), answer) {
                (Some(question), Answer::Refused) => self.end(CloseReason::Refused { question }),
                (Some(question), Answer::Unavailable) => self.end(CloseReason::Unavailable { question }),
                (_, answer) => self.end(CloseReason::UnexpectedAnswer { answer: answer.name(), waiting }),
            },
        }
    }

    /// The deadline of what the session waits for has passed.
    pub fn on_deadline(self) -> (Self, Vec<Action>) {
        match self.state {
            State::Ended => (self, Vec::new()),
            State::AwaitKey => self.complete(Outcome::KeyGenerationTimedOut),
            _ => {
                let waiting = self.waiting_for();
                self.end(CloseReason::Deadline { waiting })
            }
        }
    }

    /// What the session waits for.
    pub fn waiting_for(&self) -> Waiting {
        match (self.state.turn(), self.state.question()) {
            (Some(turn), _) => Waiting::Phone(turn),
            (None, Some(question)) => Waiting::Authority(question),
            (None, None) => Waiting::Nothing,
        }
    }

    /// The session's number.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Elements passed over so far, for the debug log.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    fn on_message(self, message: Message) -> Step {
        match (self.state, message) {
            (State::AwaitAuth, Message::AuthRes(response)) => {
                let version = response.version;
                if !version.is_supported() {
                    return self.end(CloseReason::UnsupportedVersion { version });
                }
                let opening = response.into_opening(self.id);
                self.ask(Question::Open(opening), State::AwaitOpen { version })
            }
            (State::AwaitKey, Message::RequestInProgress) => (self, Vec::new()),
            (State::AwaitKey, Message::KeyGenerateRes(response)) => self.on_key(response),
            (State::AwaitStore, Message::StoreCertRes(reason)) => self.complete(match reason {
                Reason::OK => Outcome::Stored,
                reason => Outcome::StoreRejected { reason },
            }),
            (State::AwaitDelete, Message::DeleteCertRes(reason)) => self.complete(match reason {
                Reason::OK => Outcome::Deleted,
                Reason::INVALID_ELEMENT => Outcome::NothingToDelete,
                reason => Outcome::DeleteRejected { reason },
            }),
            (State::AwaitFetch { asked }, Message::FetchCertRes(response)) => self.complete(fetched(asked, response)),
            (_, message) => self.unexpected(message.command()),
        }
    }

    /// A key counts only if nothing in the same breath says that it failed.
    fn on_key(self, response: KeyGenerateRes) -> Step {
        match (response.reason, response.public_key) {
            (None | Some(Reason::OK), Some(public_key)) => self.ask(Question::Issue { public_key }, State::AwaitIssue),
            (reason, _) => {
                let reason = reason.unwrap_or(Reason::INVALID_ELEMENT);
                self.complete(Outcome::KeyGenerationFailed { reason })
            }
        }
    }

    fn on_abort(mut self) -> Step {
        match self.waiting_for() {
            Waiting::Phone(PhoneTurn::Auth) | Waiting::Nothing => self.unexpected(Command::ABORT_REQ),
            Waiting::Phone(_) => self.complete(Outcome::Aborted),
            Waiting::Authority(_) => {
                self.aborted = true;
                (self, Vec::new())
            }
        }
    }

    fn ask_for_key(self, key: KeyRequest, version: Version) -> Step {
        match KeyGenerateReq::for_phone(key, version) {
            Ok(request) => self.send(Message::KeyGenerateReq(request), State::AwaitKey),
            Err(error) => self.end(CloseReason::Unsendable(error.into())),
        }
    }

    fn deliver(self, certificate_der: Octets) -> Step {
        let certificate = Certificate::new(CertType::LSC, certificate_der);
        let request = StoreCertReq { cert_type: Some(CertType::LSC), certificate };
        self.send(Message::StoreCertReq(request), State::AwaitStore)
    }

    fn may_fetch(&self, certificate: CertType) -> bool {
        self.fetched.len() < MAX_FETCHES && !self.fetched.contains(&certificate)
    }

    fn fetch(mut self, asked: CertType) -> Step {
        self.fetched.push(asked);
        let named = (asked != CertType::LSC).then_some(asked);
        self.send(Message::FetchCertReq(named), State::AwaitFetch { asked })
    }

    /// Goes on with the operation, unless its user gave it up in the meantime.
    fn send(mut self, message: Message, next: State) -> Step {
        if self.aborted {
            return self.complete(Outcome::Aborted);
        }
        match message.to_frame(self.id) {
            Ok(frame) => {
                self.state = next;
                (self, vec![Action::Send(frame)])
            }
            Err(error) => self.end(CloseReason::Unsendable(error)),
        }
    }

    fn ask(mut self, question: Question, next: State) -> Step {
        self.state = next;
        (self, vec![Action::Ask(question)])
    }

    fn complete(self, outcome: Outcome) -> Step {
        let next = State::AwaitComplete { outcome: outcome.kind() };
        self.ask(Question::Complete(outcome), next)
    }

    fn unexpected(self, command: Command) -> Step {
        let waiting = self.waiting_for();
        self.end(CloseReason::UnexpectedCommand { command, waiting })
    }

    fn end(mut self, why: CloseReason) -> Step {
        self.state = State::Ended;
        let goodbye = why.told().and_then(|reason| Message::EndSession(reason).to_frame(self.id).ok());
        let actions = goodbye.map(Action::Send).into_iter().chain([Action::Close(why)]).collect();
        (self, actions)
    }
}

impl State {
    /// The phone's turn, if it is the phone's.
    fn turn(self) -> Option<PhoneTurn> {
        match self {
            Self::AwaitAuth => Some(PhoneTurn::Auth),
            Self::AwaitKey => Some(PhoneTurn::Key),
            Self::AwaitStore => Some(PhoneTurn::Store),
            Self::AwaitDelete => Some(PhoneTurn::Delete),
            Self::AwaitFetch { .. } => Some(PhoneTurn::Fetch),
            Self::AwaitOpen { .. } | Self::AwaitIssue | Self::AwaitComplete { .. } | Self::Ended => None,
        }
    }

    /// The question that is open, if one is.
    fn question(self) -> Option<AuthorityTurn> {
        match self {
            Self::AwaitOpen { .. } => Some(AuthorityTurn::Open),
            Self::AwaitIssue => Some(AuthorityTurn::Issue),
            Self::AwaitComplete { .. } => Some(AuthorityTurn::Complete),
            _ => None,
        }
    }

    /// Whether a frame with this command is even read now. ABORT_REQ is not here: it is not a message anyone can read.
    fn takes(self, command: Command) -> bool {
        let answer = self.turn().map(PhoneTurn::command);
        answer == Some(command) || (self == Self::AwaitKey && command == Command::REQUEST_IN_PROGRESS)
    }
}

/// What a phone's FETCH_CERT_RES comes to. A certificate with a reason other than 1 is a contradiction and not taken.
fn fetched(asked: CertType, response: FetchCertRes) -> Outcome {
    match (response.reason, response.certificate) {
        (None | Some(Reason::OK), Some(Certificate { cert_type, der, .. })) => {
            Outcome::Fetched { asked, cert_type, certificate_der: der }
        }
        (Some(Reason::INVALID_ELEMENT), None) => Outcome::NothingFetched { asked },
        (reason, _) => {
            let reason = reason.unwrap_or(Reason::INVALID_ELEMENT);
            Outcome::FetchRejected { asked, reason }
        }
    }
}
