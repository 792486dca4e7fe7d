//! What the tests of the wire share: the captured sessions, and frames made by hand.

use capf::wire::{
    Action, Answer, CertType, CloseReason, Command, Frame, FrameDecoder, KeyRequest, Message, Octets, Opening,
    Question, ServerSession, SessionId, Side,
};

/// The captured sessions, as they are in the file.
const CAPTURES: &str = include_str!("../vectors/sessions.txt");

/// One captured session.
pub struct Captured {
    /// The title in the file.
    pub name: &'static str,
    /// Who speaks, and the frame's bytes.
    pub frames: Vec<(Speaker, Vec<u8>)>,
}

/// Who sent a captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    Phone,
    Server,
}

impl Speaker {
    pub fn listener(self) -> Side {
        match self {
            Self::Phone => Side::Server,
            Self::Server => Side::Phone,
        }
    }
}

impl Captured {
    /// The first frame with this command.
    pub fn message(&self, command: Command) -> Option<Message> {
        let (speaker, bytes) = self.frames.iter().find(|(_, bytes)| bytes[1] == command.0)?;
        Some(Message::parse(&decode(*speaker, bytes)).expect("a captured frame is a message").message)
    }

    /// All that one side said, as one stream.
    pub fn stream(&self, speaker: Speaker) -> Vec<u8> {
        self.said_by(speaker).flatten().copied().collect()
    }

    /// What one side said, frame by frame.
    pub fn said_by(&self, speaker: Speaker) -> impl Iterator<Item = &Vec<u8>> {
        self.frames.iter().filter(move |(who, _)| *who == speaker).map(|(_, bytes)| bytes)
    }

    /// The session's number.
    pub fn id(&self) -> SessionId {
        let bytes = &self.frames[0].1;
        SessionId(u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
    }

    /// What the authority must have answered to *open*.
    pub fn opening_answer(&self) -> Answer {
        match self.name {
            "install-none-ec-p256" => Answer::Install { key: KeyRequest::Ec(capf::wire::Curve::P256) },
            name if name.starts_with("install") => Answer::Install { key: KeyRequest::Rsa { bits: 2048 } },
            name if name.starts_with("no-operation") => Answer::NothingScheduled,
            name if name.starts_with("fetch") => Answer::Fetch { certificate: CertType::LSC },
            name if name.starts_with("delete") => Answer::Delete,
            name if name.starts_with("wrong-password") => Answer::Refused,
            name if name.starts_with("unknown-device") => Answer::UnknownDevice,
            name => panic!("no answer is known for the captured session {name:?}"),
        }
    }

    /// What the authority must have answered to a question.
    pub fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Open(_) => self.opening_answer(),
            Question::Issue { .. } => match self.message(Command::STORE_CERT_REQ) {
                Some(Message::StoreCertReq(request)) => Answer::Issued { certificate_der: request.certificate.der },
                _ => panic!("{} has no certificate to issue", self.name),
            },
            Question::Complete(_) => Answer::Recorded,
        }
    }
}

/// All captured sessions.
pub fn captures() -> Vec<Captured> {
    let mut sessions: Vec<Captured> = Vec::new();
    for line in CAPTURES.lines() {
        match line.split_once(' ') {
            Some(("##", name)) => sessions.push(Captured { name, frames: Vec::new() }),
            Some((mark @ ("<" | ">"), digits)) => {
                let speaker = if mark == "<" { Speaker::Server } else { Speaker::Phone };
                let session = sessions.last_mut().expect("a frame stands under a title");
                session.frames.push((speaker, hex(digits)));
            }
            _ => {}
        }
    }
    assert_eq!(sessions.len(), 12, "the file of captures is whole");
    sessions
}

/// Hex digits, with any spaces, as bytes.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_digit(16).expect("a hex digit"))
        .collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// One frame's bytes as a frame.
pub fn decode(speaker: Speaker, bytes: &[u8]) -> Frame {
    let mut input = bytes;
    let mut decoder = FrameDecoder::new(speaker.listener());
    let frame = decoder.decode(&mut input).expect("a good frame").expect("a whole frame");
    assert!(input.is_empty(), "one frame only");
    frame
}

/// A frame of session 1 around these elements.
pub fn frame(command: Command, body: &[u8]) -> Frame {
    Frame::new(command, SessionId(1), body.to_vec()).expect("a body that fits")
}

/// An element.
pub fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a value that fits").to_be_bytes();
    [&[tag][..], &length, value].concat()
}

/// Something for a certificate: an empty SEQUENCE.
pub fn some_der() -> Octets {
    Octets::from(vec![0x30, 0x00])
}

/// AUTH_RES of a phone of this version that presents nothing.
pub fn auth_res(version: u8) -> Frame {
    let body = [element(7, &[version]), element(13, b"SEP58971ECC97C1\0")].concat();
    frame(Command::AUTH_RES, &body)
}

/// KEY_GENERATE_RES with something for a key.
pub fn key_response() -> Frame {
    frame(Command::KEY_GENERATE_RES, &element(9, &some_der()))
}

/// A certificate from the authority.
pub fn issued() -> Answer {
    Answer::Issued { certificate_der: some_der() }
}

/// The authority wants an RSA key.
pub fn install() -> Answer {
    Answer::Install { key: KeyRequest::Rsa { bits: 2048 } }
}

/// The authority wants to see a certificate.
pub fn fetch(certificate: CertType) -> Answer {
    Answer::Fetch { certificate }
}

/// The question this AUTH_RES leads to.
pub fn opening_of(frame: Frame) -> Opening {
    let (session, _) = ServerSession::start(frame.session_id());
    match session.on_frame(frame).1.pop() {
        Some(Action::Ask(Question::Open(opening))) => opening,
        other => panic!("{other:?}"),
    }
}

/// The reason of the close among some actions, if there is one.
pub fn close_reason(actions: &[Action]) -> Option<CloseReason> {
    actions.iter().find_map(|action| match action {
        Action::Close(reason) => Some(*reason),
        _ => None,
    })
}

/// The frames among some actions.
pub fn sent(actions: &[Action]) -> Vec<Frame> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(frame) => Some(frame.clone()),
            _ => None,
        })
        .collect()
}

/// What happens to a server's session.
#[derive(Clone, Debug)]
pub enum Event {
    Frame(Frame),
    Answer(Answer),
    Deadline,
    Bytes(Vec<u8>),
}

/// Does one event to a session.
pub fn happen(session: ServerSession, event: &Event) -> (ServerSession, Vec<Action>) {
    match event {
        Event::Frame(frame) => session.on_frame(frame.clone()),
        Event::Answer(answer) => session.on_answer(answer.clone()),
        Event::Deadline => session.on_deadline(),
        Event::Bytes(bytes) => {
            let mut input = &bytes[..];
            let mut decoder = FrameDecoder::new(Side::Server);
            let (mut session, mut actions) = (session, Vec::new());
            loop {
                let (next, more) = match decoder.decode(&mut input) {
                    Ok(Some(frame)) => session.on_frame(frame),
                    Ok(None) => return (session, actions),
                    Err(error) => {
                        let (session, more) = session.on_frame_error(error);
                        actions.extend(more);
                        return (session, actions);
                    }
                };
                session = next;
                actions.extend(more);
            }
        }
    }
}
