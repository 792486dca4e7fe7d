//! Everything a phone must not do, and the reason that goes into the log for it: a table of whole sessions.

use crate::support::{
    Event, auth_res, close_reason, element, fetch, frame, happen, hex, install, issued, key_response, sent,
};
use capf::wire::{
    Answer, AuthorityTurn, CertType, CloseReason, Command, Curve, DeviceNameError, ElementTag, EncodeError, FrameError,
    HashId, KeyError, KeyRequest, OutcomeKind, ParseError, PhoneTurn, Problem, ServerSession, SessionId, Version,
    Waiting,
};

/// One row: what happens after the session has started, and why it ends at the last event and not before.
type Row = (&'static str, Vec<Event>, CloseReason);

#[test]
fn every_malformed_frame_and_session_ends_for_its_own_reason() {
    let rows: Vec<Row> = [streams(), elements(), proofs(), turns(), answers()].concat();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    for (name, events, expected) in rows {
        let (mut session, _) = ServerSession::start(SessionId(1));
        let (last, before) = events.split_last().expect("something happens");
        for event in before {
            let actions;
            (session, actions) = happen(session, event);
            assert_eq!(close_reason(&actions), None, "{name}: {event:?} ends it too early");
        }
        let (session, actions) = happen(session, last);
        assert_eq!(close_reason(&actions), Some(expected), "{name}");
        assert_eq!(session.waiting_for(), Waiting::Nothing, "{name}");
        let goodbye = expected.told().map(|reason| frame(Command::END_SESSION, &element(1, &[reason.0])));
        assert_eq!(sent(&actions), Vec::from_iter(goodbye), "{name}: END_SESSION as the table of reasons says");
        let line = expected.to_string();
        assert!(!line.contains("123456") && line.len() < 400, "{name}: {line}");
        assert!(happen(session, &Event::Deadline).1.is_empty(), "{name}: nothing after the end");
    }
}

/// Bytes that are no frame.
#[rustfmt::skip] // one row a line
fn streams() -> Vec<Row> {
    let magic = |found| CloseReason::Frame(FrameError::Magic { found });
    let long = |command, announced, limit| {
        CloseReason::Frame(FrameError::BodyTooLong { command, announced, limit })
    };
    let foreign = |id: u32| {
        let (expected, found) = (SessionId(1), SessionId(id));
        CloseReason::WrongSession { expected, found }
    };
    let bytes = |digits: &str| vec![Event::Bytes(hex(digits))];
    vec![
        ("an HTTP request", vec![Event::Bytes(b"GET / HTTP/1.1\r\n".to_vec())], magic(b'G')),
        ("one wrong byte", bytes("54"), magic(0x54)),
        ("a TLS record inside TLS", bytes("1603010200"), magic(0x16)),
        ("only zeros", bytes("0000000000000000"), magic(0)),
        ("a frame whose first byte is lost", bytes("0200000001002501"), magic(2)),
        ("an endless AUTH_RES", bytes("550200000001ffff"), long(Command::AUTH_RES, 65535, 16384)),
        ("an AUTH_RES one byte too long", bytes("5502000000014001"), long(Command::AUTH_RES, 16385, 16384)),
        ("a key one byte too long", bytes("5504000000012001"), long(Command::KEY_GENERATE_RES, 8193, 8192)),
        ("a long answer of one number", bytes("550a000000010101"), long(Command::STORE_CERT_RES, 257, 256)),
        ("a long progress report", bytes("5511000000010101"), long(Command::REQUEST_IN_PROGRESS, 257, 256)),
        ("a long unknown command", bytes("55ff000000010101"), long(Command(255), 257, 256)),
        ("another session's frame", bytes("5502000000020000"), foreign(2)),
        ("a session id in little endian", bytes("5502010000000000"), foreign(0x0100_0000)),
        ("a session id of zero", bytes("5502000000000000"), foreign(0)),
        (
            "another session's frame in the middle",
            after(installing(), Event::Bytes(hex("550400000007000401000107"))),
            foreign(7),
        ),
        ("noise after a good frame", after(installing(), Event::Bytes(hex("00"))), magic(0)),
        (
            "a second AUTH_RES in the same write",
            vec![Event::Bytes([auth_res(3).encode().to_vec(), auth_res(3).encode().to_vec()].concat())],
            unexpected(Command::AUTH_RES, authority(AuthorityTurn::Open)),
        ),
    ]
}

/// Frames that are no message, for their elements.
#[rustfmt::skip] // one row a line
fn elements() -> Vec<Row> {
    let (name, version) = (element(13, b"SEP58971ECC97C1\0"), element(7, &[3]));
    let auth = |parts: &[&[u8]]| vec![Event::Frame(frame(Command::AUTH_RES, &parts.concat()))];
    let with = |part: &[u8]| auth(&[&version, &name, part]);
    let wrong = |tag, offset, problem| malformed(Command::AUTH_RES, Some(ElementTag(tag)), offset, problem);
    let cut = |wanted, left| Problem::BreaksOff { wanted, left };
    let character = |position, character| Problem::Name(DeviceNameError::Character { position, character });
    let missing = Problem::Missing;
    let store = |body: &[u8]| after(storing(), Event::Frame(frame(Command::STORE_CERT_RES, body)));
    let reason = |offset, problem| malformed(Command::STORE_CERT_RES, Some(ElementTag::REASON), offset, problem);
    let key = |body: &[u8]| after(installing(), Event::Frame(frame(Command::KEY_GENERATE_RES, body)));
    let of_key = |tag, offset, problem| malformed(Command::KEY_GENERATE_RES, Some(ElementTag(tag)), offset, problem);
    vec![
        ("an empty AUTH_RES", auth(&[]), wrong(7, 8, missing)),
        ("no version", auth(&[&name]), wrong(7, 27, missing)),
        ("no name", auth(&[&version]), wrong(13, 12, missing)),
        ("a tag alone", with(&[1]), wrong(1, 32, cut(2, 0))),
        ("half a length", with(&[1, 0]), wrong(1, 32, cut(2, 1))),
        ("a value cut short", with(&[1, 0, 2, 1]), wrong(1, 34, cut(2, 1))),
        ("an unknown element cut short", with(&[99, 255, 255, 1]), wrong(99, 34, cut(65535, 1))),
        ("a little-endian length", with(&[1, 1, 0, 1]), wrong(1, 34, cut(256, 1))),
        ("an empty version", auth(&[&name, &element(7, &[])]), wrong(7, 30, cut(1, 0))),
        ("a version of two bytes", auth(&[&name, &element(7, &[0, 3])]), wrong(7, 31, Problem::LeftOver { left: 1 })),
        ("a reason of four bytes", with(&element(1, &[0, 0, 0, 1])), wrong(1, 35, Problem::LeftOver { left: 3 })),
        ("two versions", with(&version), wrong(7, 31, Problem::Duplicate)),
        ("two names", with(&name), wrong(13, 31, Problem::Duplicate)),
        ("two strings", with(&[element(11, b"1\0"), element(11, b"2\0")].concat()), wrong(11, 36, Problem::Duplicate)),
        ("a name without NUL", auth(&[&version, &element(13, b"SEP58971ECC97C1")]), wrong(13, 15, Problem::NoNul)),
        ("an empty element for a name", auth(&[&version, &element(13, b"")]), wrong(13, 15, Problem::NoNul)),
        ("a name of its NUL alone", auth(&[&version, &element(13, b"\0")]), wrong(13, 15, Problem::Name(DeviceNameError::Length { length: 0 }))),
        ("a name with two NULs", auth(&[&version, &element(13, b"SEP1\0\0")]), wrong(13, 15, Problem::InnerNul)),
        ("a name in UTF-16", auth(&[&version, &element(13, b"S\0E\0P\0")]), wrong(13, 15, Problem::InnerNul)),
        ("a name that is no text", auth(&[&version, &element(13, b"SEP\xff\0")]), wrong(13, 15, Problem::NotText)),
        ("a long name", auth(&[&version, &element(13, b"SEP58971ECC97C12\0")]), wrong(13, 15, Problem::Name(DeviceNameError::Length { length: 16 }))),
        ("an endless name", auth(&[&version, &element(13, &[&[b'A'; 9000][..], b"\0"].concat())]), wrong(13, 15, Problem::Name(DeviceNameError::Length { length: 9000 }))),
        ("a name that is a path", auth(&[&version, &element(13, b"../secret\0")]), wrong(13, 15, character(1, '.'))),
        ("a name with a line break", auth(&[&version, &element(13, b"SEP\nok\0")]), wrong(13, 15, character(4, '\n'))),
        ("a string without NUL", with(&element(11, b"123456")), wrong(11, 34, Problem::NoNul)),
        ("a string element without a byte", with(&element(11, b"")), wrong(11, 34, Problem::NoNul)),
        ("a string with a NUL inside", with(&element(11, b"123456\0x\0")), wrong(11, 34, Problem::InnerNul)),
        ("a string that is no text", with(&element(11, b"\xc3\x28\0")), wrong(11, 34, Problem::NotText)),
        ("an endless string", with(&element(11, &[&[b'1'; 65][..], b"\0"].concat())), wrong(11, 34, Problem::TooLong { length: 65, limit: 64 })),
        ("an empty STORE_CERT_RES", store(&[]), reason(8, missing)),
        ("a STORE_CERT_RES with an empty reason", store(&[1, 0, 0]), reason(11, cut(1, 0))),
        ("two reasons", store(&hex("0100010101000107")), reason(12, Problem::Duplicate)),
        ("neither key nor reason", key(&[]), of_key(9, 8, missing)),
        ("an empty key", key(&element(9, &[])), of_key(9, 11, Problem::Empty)),
        ("two keys", key(&[element(9, &[1]), element(9, &[2])].concat()), of_key(9, 12, Problem::Duplicate)),
        (
            "progress with half an element",
            after(installing(), Event::Frame(frame(Command::REQUEST_IN_PROGRESS, &[1, 0, 1]))),
            malformed(Command::REQUEST_IN_PROGRESS, Some(ElementTag(1)), 11, cut(1, 0)),
        ),
        (
            "a fetched certificate that is not there",
            after(fetching(), Event::Frame(frame(Command::FETCH_CERT_RES, &[1, 0, 1, 1]))),
            malformed(Command::FETCH_CERT_RES, Some(ElementTag::CERTIFICATE), 12, missing),
        ),
        (
            "a deletion answered with nothing",
            after(deleting(), Event::Frame(frame(Command::DELETE_CERT_RES, &[]))),
            malformed(Command::DELETE_CERT_RES, Some(ElementTag::REASON), 8, missing),
        ),
    ]
}

/// Proofs that are wrongly encoded. The element's value begins at byte 34.
#[rustfmt::skip] // one row a line
fn proofs() -> Vec<Row> {
    let with = |tag, value: &[u8]| {
        let parts = [element(7, &[3]), element(13, b"SEP58971ECC97C1\0"), element(tag, value)];
        vec![Event::Frame(frame(Command::AUTH_RES, &parts.concat()))]
    };
    let wrong = |tag, offset, problem| malformed(Command::AUTH_RES, Some(ElementTag(tag)), offset, problem);
    let cut = |wanted, left| Problem::BreaksOff { wanted, left };
    let over = |left| Problem::LeftOver { left };
    let four: Vec<u8> = [element(0, &[9]), (4..=8).flat_map(|hash| element(hash, &[9])).collect()].concat();
    vec![
        ("an empty certificate element", with(4, &[]), wrong(4, 34, cut(1, 0))),
        ("a certificate of its head alone", with(4, &[1, 0, 2, 0, 1]), wrong(4, 39, Problem::Empty)),
        ("a certificate without its type", with(4, &[1, 0, 1, 0]), wrong(4, 38, cut(1, 0))),
        ("a certificate longer than its element", with(4, &[1, 0, 9, 0, 1, 0x30]), wrong(4, 37, cut(9, 3))),
        ("a certificate shorter than its element", with(4, &[1, 0, 3, 0, 1, 0x30, 0]), wrong(4, 40, over(1))),
        ("an empty signature", with(6, &[]), wrong(6, 34, Problem::Empty)),
        ("a SHA-2 signature without a length", with(20, &[3, 0]), wrong(20, 35, cut(2, 1))),
        ("an empty SHA-2 signature", with(20, &[3, 0, 0]), wrong(20, 37, Problem::Empty)),
        ("a SHA-2 signature and more", with(20, &[3, 0, 1, 9, 9]), wrong(20, 38, over(1))),
        ("empty SUDI data", with(16, &[]), wrong(16, 34, Problem::SudiCertificateMissing)),
        ("SUDI signatures without a certificate", with(16, &[1, 0, 1, 9]), wrong(16, 38, Problem::SudiCertificateMissing)),
        ("two SUDI certificates", with(16, &[0, 0, 1, 9, 0, 0, 1, 9]), wrong(16, 38, Problem::SudiCertificateTwice)),
        ("an empty SUDI certificate", with(16, &[0, 0, 0]), wrong(16, 37, Problem::Empty)),
        ("a SUDI signature cut short", with(16, &[0, 0, 1, 9, 1, 1, 0, 9]), wrong(16, 41, cut(256, 1))),
        ("two SUDI signatures of one hash", with(16, &[1, 0, 1, 9, 1, 0, 1, 9]), wrong(16, 38, Problem::SudiSignatureTwice(HashId::SHA1))),
        ("five SUDI signatures", with(16, &four), wrong(16, 54, Problem::SudiSignatures { limit: 4 })),
    ]
}

/// Frames that are well formed and out of turn.
#[rustfmt::skip] // one row a line
fn turns() -> Vec<Row> {
    let phone = |turn| Waiting::Phone(turn);
    let sends = |session: Vec<Event>, command, waiting| {
        (after(session, Event::Frame(frame(command, &[1, 0, 1, 1]))), unexpected(command, waiting))
    };
    let late = |turn| CloseReason::Deadline { waiting: turn };
    let row = |name, (events, reason): (Vec<Event>, CloseReason)| (name, events, reason);
    vec![
        row("a key before AUTH_RES", sends(vec![], Command::KEY_GENERATE_RES, phone(PhoneTurn::Auth))),
        row("progress before AUTH_RES", sends(vec![], Command::REQUEST_IN_PROGRESS, phone(PhoneTurn::Auth))),
        row("an abort before AUTH_RES", sends(vec![], Command::ABORT_REQ, phone(PhoneTurn::Auth))),
        row("a greeting from a phone", sends(vec![], Command::AUTH_REQ, phone(PhoneTurn::Auth))),
        row("an end from a phone", sends(vec![], Command::END_SESSION, phone(PhoneTurn::Auth))),
        row("a command nobody knows", sends(vec![], Command(0xee), phone(PhoneTurn::Auth))),
        row("AUTH_RES where a key is awaited", sends(installing(), Command::AUTH_RES, phone(PhoneTurn::Key))),
        row("STORE_CERT_RES where a key is awaited", sends(installing(), Command::STORE_CERT_RES, phone(PhoneTurn::Key))),
        row("an end where a key is awaited", sends(installing(), Command::END_SESSION, phone(PhoneTurn::Key))),
        row("a second key while the first is certified", sends(issuing(), Command::KEY_GENERATE_RES, authority(AuthorityTurn::Issue))),
        row("progress after the key", sends(issuing(), Command::REQUEST_IN_PROGRESS, authority(AuthorityTurn::Issue))),
        row("stored before there is a certificate", sends(issuing(), Command::STORE_CERT_RES, authority(AuthorityTurn::Issue))),
        row("a key where the certificate's fate is awaited", sends(storing(), Command::KEY_GENERATE_RES, phone(PhoneTurn::Store))),
        row("progress while storing", sends(storing(), Command::REQUEST_IN_PROGRESS, phone(PhoneTurn::Store))),
        row("deleted where stored is awaited", sends(storing(), Command::DELETE_CERT_RES, phone(PhoneTurn::Store))),
        row("stored where deleted is awaited", sends(deleting(), Command::STORE_CERT_RES, phone(PhoneTurn::Delete))),
        row("deleted where a certificate is awaited", sends(fetching(), Command::DELETE_CERT_RES, phone(PhoneTurn::Fetch))),
        row("a signing request where a certificate is awaited", sends(fetching(), Command::SIGN_CERT_REQ, phone(PhoneTurn::Fetch))),
        row("stored again while that is recorded", sends(completing(), Command::STORE_CERT_RES, authority(AuthorityTurn::Complete))),
        (
            "a malformed frame out of turn, which is not read",
            vec![Event::Frame(frame(Command::STORE_CERT_RES, &[1]))],
            unexpected(Command::STORE_CERT_RES, phone(PhoneTurn::Auth)),
        ),
        ("a version of the future", vec![auth_of(4)], CloseReason::UnsupportedVersion { version: Version(4) }),
        ("a version of the past", vec![auth_of(1)], CloseReason::UnsupportedVersion { version: Version(1) }),
        ("no AUTH_RES in time", vec![Event::Deadline], late(phone(PhoneTurn::Auth))),
        ("no answer to open in time", after(opened(), Event::Deadline), late(authority(AuthorityTurn::Open))),
        ("no certificate in time", after(issuing(), Event::Deadline), late(authority(AuthorityTurn::Issue))),
        ("no STORE_CERT_RES in time", after(storing(), Event::Deadline), late(phone(PhoneTurn::Store))),
        ("no DELETE_CERT_RES in time", after(deleting(), Event::Deadline), late(phone(PhoneTurn::Delete))),
        ("no FETCH_CERT_RES in time", after(fetching(), Event::Deadline), late(phone(PhoneTurn::Fetch))),
        ("no record in time", after(completing(), Event::Deadline), late(authority(AuthorityTurn::Complete))),
    ]
}

/// What the authority can say to end it.
#[rustfmt::skip] // one row a line
fn answers() -> Vec<Row> {
    let told = |session: Vec<Event>, answer| after(session, Event::Answer(answer));
    let stray = |answer, waiting| CloseReason::UnexpectedAnswer { answer, waiting };
    let rsa = |bits| Answer::Install { key: KeyRequest::Rsa { bits } };
    let unsendable = |error| CloseReason::Unsendable(EncodeError::Key(error));
    let huge = Answer::Issued { certificate_der: vec![0x30; 0x1_0000].into() };
    let (open, issue, complete) = (AuthorityTurn::Open, AuthorityTurn::Issue, AuthorityTurn::Complete);
    let fetched = || after(fetching(), Event::Frame(frame(Command::FETCH_CERT_RES, &[1, 0, 1, 7])));
    let version = Version::THREE;
    vec![
        ("nothing is scheduled", told(opened(), Answer::NothingScheduled), CloseReason::NothingScheduled { version }),
        ("no such device", told(opened(), Answer::UnknownDevice), CloseReason::UnknownDevice),
        ("a wrong string", told(opened(), Answer::Refused), CloseReason::Refused { question: open }),
        ("a key that is refused", told(issuing(), Answer::Refused), CloseReason::Refused { question: issue }),
        ("an outcome that is refused", told(completing(), Answer::Refused), CloseReason::Refused { question: complete }),
        ("nobody to open", told(opened(), Answer::Unavailable), CloseReason::Unavailable { question: open }),
        ("nobody to issue", told(issuing(), Answer::Unavailable), CloseReason::Unavailable { question: issue }),
        ("nobody to record", told(completing(), Answer::Unavailable), CloseReason::Unavailable { question: complete }),
        ("recorded", told(completing(), Answer::Recorded), CloseReason::Finished(OutcomeKind::Stored)),
        ("a size nobody has", told(opened(), rsa(2047)), unsendable(KeyError::RsaBits { bits: 2047 })),
        ("a curve nobody has", told(opened(), Answer::Install { key: KeyRequest::Ec(Curve(9)) }), unsendable(KeyError::Curve(Curve(9)))),
        ("an EC key for version 2", told(vec![auth_of(2)], Answer::Install { key: KeyRequest::Ec(Curve::P256) }), unsendable(KeyError::EcForVersionTwo)),
        ("a certificate that fits no frame", told(issuing(), huge), CloseReason::Unsendable(EncodeError::ValueTooLong { element: ElementTag::CERTIFICATE, length: 0x1_0002 })),
        ("a certificate nobody asked for", told(opened(), issued()), stray("Issued", authority(open))),
        ("a certificate before the key", told(installing(), issued()), stray("Issued", Waiting::Phone(PhoneTurn::Key))),
        ("an operation where a certificate is due", told(issuing(), Answer::Delete), stray("Delete", authority(issue))),
        ("a record of nothing", told(opened(), Answer::Recorded), stray("Recorded", authority(open))),
        ("an answer before a question", told(vec![], Answer::Refused), stray("Refused", Waiting::Phone(PhoneTurn::Auth))),
        ("a fetch after an install", told(completing(), fetch(CertType::LSC)), stray("Fetch", authority(complete))),
        ("the same fetch twice", told(fetched(), fetch(CertType::LSC)), stray("Fetch", authority(complete))),
    ]
}

fn after(mut events: Vec<Event>, event: Event) -> Vec<Event> {
    events.push(event);
    events
}

fn auth_of(version: u8) -> Event {
    Event::Frame(auth_res(version))
}

fn opened() -> Vec<Event> {
    vec![auth_of(3)]
}

fn installing() -> Vec<Event> {
    after(opened(), Event::Answer(install()))
}

fn issuing() -> Vec<Event> {
    after(installing(), Event::Frame(key_response()))
}

fn storing() -> Vec<Event> {
    after(issuing(), Event::Answer(issued()))
}

fn completing() -> Vec<Event> {
    after(storing(), Event::Frame(frame(Command::STORE_CERT_RES, &[1, 0, 1, 1])))
}

fn deleting() -> Vec<Event> {
    after(opened(), Event::Answer(Answer::Delete))
}

fn fetching() -> Vec<Event> {
    after(opened(), Event::Answer(fetch(CertType::LSC)))
}

fn authority(turn: AuthorityTurn) -> Waiting {
    Waiting::Authority(turn)
}

fn unexpected(command: Command, waiting: Waiting) -> CloseReason {
    CloseReason::UnexpectedCommand { command, waiting }
}

fn malformed(command: Command, element: Option<ElementTag>, offset: usize, problem: Problem) -> CloseReason {
    CloseReason::Message(ParseError { command, element, offset, problem })
}
