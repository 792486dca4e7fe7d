//! Entry points for fuzzers: any bytes in, nothing out, no panic ever. A panic here is a bug in this ring.
//!
//! They assert the laws that hold for all input, so that a fuzzer finds more than crashes. `tests/corpus/wire/` holds the inputs
//! to begin with, one folder a target; the tests run all of them.
//!
//! The sessions read a script: an opcode, by its remainder of 4, and its operands.
//!
//! | Opcode | Means | Operands |
//! |---|---|---|
//! | 0 | bytes from the other side | length, 2 bytes, big endian, then as many bytes (or what is left) |
//! | 1 | the driver answers | which answer, 1 byte |
//! | 2 | the deadline passes | none |
//! | 3 | a well-formed frame of this session | command, length of the body, 1 byte each, then the body (or what is left) |

use super::{
    Action, Answer, AuthorityTurn, CertType, Certificate, Command, Curve, DeviceName, Evidence, Frame, FrameDecoder,
    FrameError, KeyRequest, Message, Octets, PhoneAction, PhoneConfig, PhoneSession, PhoneState, Question,
    ServerSession, SessionId, Side, Version, Waiting,
};

/// The session number of the fuzzed sessions, that of the first captured one.
pub const SESSION: SessionId = SessionId(1);

/// Bytes as a stream, heard by either side, at once and byte by byte: both ways give the same frames and the same end, and the
/// frames encode to what they were decoded from.
pub fn fuzz_frame(data: &[u8]) {
    for side in [Side::Server, Side::Phone] {
        let (whole, whole_end) = decode_all(side, data, data.len().max(1));
        let (pieces, pieces_end) = decode_all(side, data, 1);
        assert_eq!(whole, pieces, "the pieces a stream comes in change its frames");
        assert_eq!(whole_end, pieces_end, "the pieces a stream comes in change its end");
        let encoded: Vec<u8> = whole.iter().flat_map(|frame| frame.encode().to_vec()).collect();
        assert!(data.starts_with(&encoded), "a frame encodes to other bytes than it came from");
    }
}

/// Bytes as a command and a body: what parses encodes, and the encoding parses and encodes to itself.
pub fn fuzz_message(data: &[u8]) {
    let Some((command, body)) = data.split_first() else {
        return;
    };
    let Ok(frame) = Frame::new(Command(*command), SESSION, body.to_vec()) else {
        return;
    };
    let Ok(parsed) = Message::parse(&frame) else {
        return;
    };
    // The one thing that parses and does not encode: a body too long for phones under a command without a type of its own.
    let Ok(written) = parsed.message.to_frame(SESSION) else {
        return;
    };
    let again = Message::parse(&written).expect("what was written is read");
    assert_eq!(again.skipped.count, 0, "nothing is written that is not read");
    assert_eq!(again.message.to_frame(SESSION).as_ref(), Ok(&written), "a second round changes nothing");
}

/// Bytes as a script for a server's session: it closes at most once, says nothing after it, has one question open at most, and
/// sends frames a phone can read.
pub fn fuzz_server_session(data: &[u8]) {
    let mut script = Script::new(Side::Server, data);
    let (mut session, mut actions) = ServerSession::start(SESSION);
    loop {
        for action in &actions {
            match action {
                Action::Send(frame) => assert_reads(frame, Side::Phone, Some(SESSION)),
                Action::Ask(question) => assert_eq!(session.waiting_for(), turn_of(question)),
                Action::Close(_) => assert_eq!(session.waiting_for(), Waiting::Nothing),
            }
        }
        let closes = actions.iter().filter(|action| matches!(action, Action::Close(_))).count();
        assert_eq!(
            closes,
            usize::from(session.waiting_for() == Waiting::Nothing),
            "closed and not over, or over and not closed"
        );
        if closes > 0 {
            assert!(session.on_deadline().1.is_empty(), "a closed session does something");
            return;
        }
        (session, actions) = match script.next_event() {
            None => return,
            Some(Event::Frame(frame)) => session.on_frame(frame),
            Some(Event::Malformed(error)) => session.on_frame_error(error),
            Some(Event::Answer(number)) => session.on_answer(server_answer(number)),
            Some(Event::Deadline) => session.on_deadline(),
        };
    }
}

/// Bytes as a script for a phone's session, of version 2 if their number is odd: it ends at most once, says nothing after it,
/// and sends frames a server can read.
pub fn fuzz_phone_session(data: &[u8]) {
    let Ok(name) = DeviceName::parse("SEP58971ECC97C1") else {
        return;
    };
    let version = if data.len().is_multiple_of(2) { Version::THREE } else { Version::TWO };
    let mut script = Script::new(Side::Phone, data);
    let (mut session, mut actions) = (PhoneSession::start(PhoneConfig::new(name, version)), Vec::new());
    loop {
        let mut ends = 0;
        for action in &actions {
            match action {
                PhoneAction::Send(frame) => assert_reads(frame, Side::Server, session.id()),
                PhoneAction::Ended { .. } | PhoneAction::Failed(_) => ends += 1,
                _ => assert!(!session.state().awaits_server(), "asked for something, awaits another"),
            }
        }
        assert_eq!(ends, usize::from(session.state() == PhoneState::Over), "ended and not over, or over and not ended");
        if ends > 0 {
            assert!(session.on_closed().1.is_empty(), "a session that is over does something");
            return;
        }
        (session, actions) = match script.next_event() {
            None => return,
            Some(Event::Frame(frame)) => session.on_frame(frame),
            Some(Event::Malformed(error)) => session.on_frame_error(error),
            Some(Event::Answer(number)) => phone_answer(session, number),
            Some(Event::Deadline) => session.on_deadline(),
        };
    }
}

/// What happens to a session by its script.
enum Event {
    Frame(Frame),
    Malformed(FrameError),
    Answer(u8),
    Deadline,
}

/// A script under way.
struct Script<'a> {
    rest: &'a [u8],
    decoder: FrameDecoder,
    stream: &'a [u8],
}

impl<'a> Script<'a> {
    fn new(side: Side, data: &'a [u8]) -> Self {
        Self { rest: data, decoder: FrameDecoder::new(side), stream: &[] }
    }

    fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.decoder.decode(&mut self.stream) {
                Ok(Some(frame)) => return Some(Event::Frame(frame)),
                Ok(None) => {}
                Err(error) => return Some(Event::Malformed(error)),
            }
            match self.byte()? % 4 {
                0 => {
                    let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
                    self.stream = self.take(usize::from(length));
                }
                1 => return self.byte().map(Event::Answer),
                2 => return Some(Event::Deadline),
                _ => {
                    let (command, length) = (self.byte()?, self.byte()?);
                    let body = self.take(usize::from(length)).to_vec();
                    return Frame::new(Command(command), SESSION, body).ok().map(Event::Frame);
                }
            }
        }
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).first().copied()
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (piece, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        piece
    }
}

/// The frames of a stream heard in pieces of this many bytes, and how it ends.
fn decode_all(side: Side, data: &[u8], piece: usize) -> (Vec<Frame>, Result<(), FrameError>) {
    let mut decoder = FrameDecoder::new(side);
    let mut frames = Vec::new();
    for mut chunk in data.chunks(piece) {
        loop {
            match decoder.decode(&mut chunk) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, decoder.finish())
}

/// What is sent can be read, and belongs to the session.
fn assert_reads(frame: &Frame, reader: Side, id: Option<SessionId>) {
    assert_eq!(Some(frame.session_id()), id, "a frame goes to another session");
    assert!(frame.body().len() <= reader.body_limit(frame.command()), "a frame is too long for its reader");
    assert!(Message::parse(frame).is_ok(), "a frame is sent that cannot be read");
}

/// What a session waits for once it has asked this.
fn turn_of(question: &Question) -> Waiting {
    Waiting::Authority(match question {
        Question::Open(_) => AuthorityTurn::Open,
        Question::Issue { .. } => AuthorityTurn::Issue,
        Question::Complete(_) => AuthorityTurn::Complete,
    })
}

/// The answer that opcode 1 gives to a server's session: every one there is, and some that make no sense.
pub fn server_answer(number: u8) -> Answer {
    let install = |key| Answer::Install { key };
    match number % 14 {
        0 => install(KeyRequest::Rsa { bits: 2048 }),
        1 => install(KeyRequest::Ec(Curve::P256)),
        2 => install(KeyRequest::Rsa { bits: 2047 }),
        3 => install(KeyRequest::Ec(Curve(0xff))),
        4 => Answer::Delete,
        5 => Answer::Fetch { certificate: CertType::LSC },
        6 => Answer::Fetch { certificate: CertType::MIC },
        7 => Answer::NothingScheduled,
        8 => Answer::UnknownDevice,
        9 => Answer::Refused,
        10 => Answer::Unavailable,
        11 => Answer::Issued { certificate_der: Octets::from(vec![0x30, 0x00]) },
        12 => Answer::Issued { certificate_der: Octets::from(vec![0x30; 0x1_0000]) },
        _ => Answer::Recorded,
    }
}

/// Everything the driver of a phone can do.
fn phone_answer(session: PhoneSession, number: u8) -> (PhoneSession, Vec<PhoneAction>) {
    match number % 13 {
        0 => session.on_proof(Evidence::Null),
        1 => session.on_proof(Evidence::String("123456".into())),
        2 => session.on_key(vec![0x30, 0x00]),
        3 => session.on_key(vec![0x30; 0x1_0000]),
        4 => session.on_key_failed(),
        5 => session.on_progress(),
        6 => session.on_stored(true),
        7 => session.on_stored(false),
        8 => session.on_deleted(true),
        9 => session.on_deleted(false),
        10 => session.on_fetched(None),
        11 => session.on_fetched(Some(Certificate::new(CertType::MIC, vec![0x30, 0x00]))),
        _ => session.abort(),
    }
}
