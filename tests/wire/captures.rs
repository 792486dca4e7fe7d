//! The wire against the captured sessions, and against frames written down byte by byte.
//!
//! Both sides replay every captured session byte for byte. The deliberate differences are none of bytes but of belief: the
//! captured server installs for a MIC that belongs to another device (`install-by-mic`), and takes a wrong deletion for a right
//! one; here the authority judges the former, and a deletion with a reason other than 1 and 7 ends with END_SESSION 7.

use capf::wire::*;

use crate::support::*;
use secrecy::ExposeSecret;
use std::collections::VecDeque;

#[test]
fn every_captured_frame_decodes_and_encodes_to_the_same_bytes() {
    for session in captures() {
        for (speaker, bytes) in &session.frames {
            let frame = decode(*speaker, bytes);
            assert_eq!(&*frame.encode(), bytes, "{}: frame", session.name);
            let parsed = Message::parse(&frame).expect("a captured frame is a message");
            assert_eq!(parsed.skipped.count, 0, "{}: all elements are used", session.name);
            assert!(!matches!(parsed.message, Message::Other(_)), "{}: its type is known", session.name);
            let written = parsed.message.to_frame(session.id()).expect("it is written again");
            assert_eq!(&*written.encode(), bytes, "{}: {}", session.name, frame.command());
        }
    }
}

#[test]
fn the_server_replays_every_captured_session_byte_for_byte() {
    for capture in captures() {
        let mut lines: VecDeque<_> = capture.frames.iter().collect();
        let (mut session, actions) = ServerSession::start(capture.id());
        let mut actions = VecDeque::from(actions);
        let closed = loop {
            match actions.pop_front() {
                Some(Action::Send(frame)) => {
                    let (speaker, bytes) = lines.pop_front().expect("the server still speaks");
                    assert_eq!((*speaker, &*frame.encode()), (Speaker::Server, bytes), "{}", capture.name);
                    assert!(!frame.exceeds_jabber_read());
                }
                Some(Action::Ask(question)) => {
                    let more;
                    (session, more) = session.on_answer(capture.answer(&question));
                    actions.extend(more);
                }
                Some(Action::Close(reason)) => break reason,
                None => {
                    let (speaker, bytes) = lines.pop_front().expect("the phone still speaks");
                    assert_eq!(*speaker, Speaker::Phone, "{}: whose turn it is", capture.name);
                    let more;
                    (session, more) = session.on_frame(decode(*speaker, bytes));
                    actions.extend(more);
                }
            }
        };
        assert!(lines.is_empty() && actions.is_empty(), "{}: nothing is left to say", capture.name);
        assert_eq!(session.waiting_for(), Waiting::Nothing);
        let last = capture.frames.last().map(|(_, bytes)| Reason(bytes[11]));
        assert_eq!(closed.told(), last, "{}: {closed}", capture.name);
    }
}

#[test]
fn the_phone_replays_every_captured_session_byte_for_byte() {
    for capture in captures() {
        let mut lines: VecDeque<_> = capture.frames.iter().collect();
        let opening = captured_opening(&capture);
        let config = PhoneConfig::new(opening.device_name, Version::THREE);
        let mut session = PhoneSession::start(config);
        let mut actions = VecDeque::new();
        let reason = loop {
            let more;
            (session, more) = match actions.pop_front() {
                Some(PhoneAction::Send(frame)) => {
                    let (speaker, bytes) = lines.pop_front().expect("the phone still speaks");
                    assert_eq!((*speaker, &*frame.encode()), (Speaker::Phone, bytes), "{}", capture.name);
                    continue;
                }
                Some(PhoneAction::Prove { session_id, version, auth_type }) => {
                    assert_eq!((session_id, version.0), (capture.id(), 3));
                    assert_eq!(auth_type.map(|code| code.0), Some(0));
                    session.on_proof(opening.evidence.clone())
                }
                Some(PhoneAction::MakeKey(key)) => {
                    assert_eq!(capture.opening_answer(), Answer::Install { key });
                    match capture.message(Command::KEY_GENERATE_RES) {
                        Some(Message::KeyGenerateRes(response)) => {
                            session.on_key(response.public_key.expect("a captured key"))
                        }
                        _ => panic!("{}: the phone made no key", capture.name),
                    }
                }
                Some(PhoneAction::Store { certificate_der, cert_type }) => {
                    assert_eq!((certificate_der[0], cert_type), (0x30, CertType::LSC));
                    session.on_stored(true)
                }
                Some(PhoneAction::Delete { certificate }) => {
                    assert_eq!(certificate, CertType::LSC);
                    session.on_deleted(!capture.name.starts_with("delete-none"))
                }
                Some(PhoneAction::Fetch { certificate }) => {
                    assert_eq!(certificate, CertType::LSC);
                    match capture.message(Command::FETCH_CERT_RES) {
                        Some(Message::FetchCertRes(response)) => session.on_fetched(response.certificate),
                        _ => panic!("{}: the phone showed nothing", capture.name),
                    }
                }
                Some(PhoneAction::Ended { reason }) => break reason,
                Some(PhoneAction::Failed(failure)) => panic!("{}: {failure}", capture.name),
                None => {
                    let (speaker, bytes) = lines.pop_front().expect("the server still speaks");
                    assert_eq!(*speaker, Speaker::Server, "{}: whose turn it is", capture.name);
                    assert!(session.state().awaits_server());
                    session.on_frame(decode(*speaker, bytes))
                }
            };
            actions.extend(more);
        };
        assert!(lines.is_empty() && actions.is_empty(), "{}: nothing is left to say", capture.name);
        assert_eq!(Some(reason), capture.frames.last().map(|(_, bytes)| Reason(bytes[11])));
    }
}

#[test]
fn the_evidence_of_a_captured_phone_is_what_it_was_set_to() {
    let by_name = |wanted: &str| {
        let capture = captures().into_iter().find(|capture| capture.name.starts_with(wanted));
        captured_opening(&capture.expect("a captured session of this name"))
    };
    let string = by_name("install-password-rsa2048");
    assert!(matches!(&string.evidence, Evidence::String(text) if text.expose_secret() == "123456"));
    assert_eq!((string.device_name.as_str(), string.version), ("SEP58971ECC97C1", Version::THREE));
    assert!(matches!(by_name("install-none-ec-p256").evidence, Evidence::Null));

    let both = by_name("install-by-lsc-and-sudi-rsa");
    let Evidence::Certificate(evidence) = both.evidence else { panic!("a certificate was sent") };
    assert!(evidence.password.is_none(), "the PASSWORD element was empty");
    assert_eq!(both.session_id, SessionId(4));
    let certificate = evidence.certificate.expect("the LSC");
    assert_eq!((certificate.lead, certificate.pad, certificate.cert_type), (1, 0, CertType::LSC));
    assert_eq!(certificate.der.len(), 892);
    assert_eq!(evidence.signed_data.map(|signature| signature.len()), Some(256));
    let sha2 = evidence.sha2_signed_data.expect("the signature with SHA-512");
    assert_eq!((sha2.hash, sha2.signature.len()), (HashId::SHA512, 256));
    let sudi = evidence.sudi.expect("the MIC");
    assert_eq!(sudi.certificate.len(), 748);
    assert_eq!(sudi.signature(HashId::SHA1).map(|signature| signature.len()), Some(256));
    assert_eq!(sudi.signature(HashId::SHA512).map(|signature| signature.len()), Some(256));
    assert_eq!(sudi.signature(HashId::SHA256), None);
}

#[test]
fn nothing_shows_a_secret_or_a_signature() {
    for capture in captures() {
        for (speaker, bytes) in &capture.frames {
            let frame = decode(*speaker, bytes);
            let parsed = Message::parse(&frame).expect("a captured frame is a message");
            let opening = captured_opening(&capture);
            let mut decoder = FrameDecoder::new(speaker.listener());
            assert_eq!(decoder.decode(&mut &bytes[..bytes.len() - 1]), Ok(None));
            let shown = format!("{frame:?} {parsed:?} {opening:?} {decoder:?}");
            for secret in ["123456", "999999", "49, 50, 51", "[48, 130", "3082"] {
                assert!(!shown.contains(secret), "{}: {shown}", capture.name);
            }
        }
    }
    let empty: Octets = vec![1, 2, 3].into();
    assert_eq!(format!("{empty:?}"), "[3 bytes]");
}

#[test]
fn unknown_numbers_survive_a_round_trip_and_say_that_they_are_unknown() {
    for number in 0..=u8::MAX {
        let body = element(number, &[1, 2, 3]);
        let frame = frame(Command(number), &body);
        let again = decode(Speaker::Phone, &frame.encode());
        assert_eq!(again, frame);
    }
    assert_eq!(Command(0x63).to_string(), "unknown (99)");
    assert_eq!(Command::AUTH_REQ.to_string(), "AUTH_REQ (1)");
    assert_eq!(format!("{:?}", ElementTag(0x0e)), "ElementTag::unknown(0x0e)");
    let other = Message::parse(&frame(Command::SIGN_CERT_REQ, &[1, 2])).expect("kept as it came");
    let written = other.message.to_frame(SessionId(1)).expect("written as it came");
    assert_eq!(written, frame(Command::SIGN_CERT_REQ, &[1, 2]));
}

#[test]
fn a_greeting_may_leave_the_auth_type_out() {
    let greeting = AuthReq { version: Version::THREE, auth_type: None };
    let bytes = Message::AuthReq(greeting).to_frame(SessionId(1)).expect("a frame");
    assert_eq!(bytes, frame(Command::AUTH_REQ, &[7, 0, 1, 3]));
}

/// The question that a captured phone's AUTH_RES leads to.
fn captured_opening(capture: &Captured) -> Opening {
    let bytes = capture.said_by(Speaker::Phone).next().expect("the phone spoke");
    opening_of(decode(Speaker::Phone, bytes))
}
