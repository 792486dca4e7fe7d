//! The wire against the captured sessions, and against frames written down byte by byte.
//!
//! Both sides replay every captured session byte for byte. The deliberate differences are none of bytes but of belief: the
//! captured server installs for a MIC that belongs to another device (`install-by-mic`), and takes a wrong deletion for a right
//! one; here the authority judges the former, and a deletion with a reason other than 1 and 7 ends with END_SESSION 7.

mod wire_support;

use std::collections::VecDeque;

use capf::wire::{
    Action, Answer, AuthReq, CertType, Certificate, Command, DeviceName, ElementTag, EncodeError,
    Evidence, Frame, FrameDecoder, FrameError, HashId, Message, Octets, Opening, Other,
    PhoneAction, PhoneConfig, PhoneSession, Reason, ServerSession, SessionId, Side, StoreCertReq,
    Version, Waiting,
};
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use wire_support::{Captured, Speaker, captures, decode, element, frame, hex, opening_of};

#[test]
fn every_captured_frame_decodes_and_encodes_to_the_same_bytes() {
    for session in captures() {
        for (speaker, bytes) in &session.frames {
            let frame = decode(*speaker, bytes);
            assert_eq!(&*frame.encode(), bytes, "{}: frame", session.name);
            let parsed = Message::parse(&frame).expect("a captured frame is a message");
            assert_eq!(
                parsed.skipped.count, 0,
                "{}: all elements are used",
                session.name
            );
            assert!(
                !matches!(parsed.message, Message::Other(_)),
                "{}: its type is known",
                session.name
            );
            let written = parsed
                .message
                .to_frame(session.id())
                .expect("it is written again");
            assert_eq!(
                &*written.encode(),
                bytes,
                "{}: {}",
                session.name,
                frame.command()
            );
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
                    assert_eq!(
                        (*speaker, &*frame.encode()),
                        (Speaker::Server, bytes),
                        "{}",
                        capture.name
                    );
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
                    assert_eq!(
                        *speaker,
                        Speaker::Phone,
                        "{}: whose turn it is",
                        capture.name
                    );
                    let more;
                    (session, more) = session.on_frame(decode(*speaker, bytes));
                    actions.extend(more);
                }
            }
        };
        assert!(
            lines.is_empty() && actions.is_empty(),
            "{}: nothing is left to say",
            capture.name
        );
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
                    assert_eq!(
                        (*speaker, &*frame.encode()),
                        (Speaker::Phone, bytes),
                        "{}",
                        capture.name
                    );
                    continue;
                }
                Some(PhoneAction::Prove {
                    session_id,
                    version,
                    auth_type,
                }) => {
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
                Some(PhoneAction::Store {
                    certificate_der,
                    cert_type,
                }) => {
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
                        Some(Message::FetchCertRes(response)) => {
                            session.on_fetched(response.certificate)
                        }
                        _ => panic!("{}: the phone showed nothing", capture.name),
                    }
                }
                Some(PhoneAction::Ended { reason }) => break reason,
                Some(PhoneAction::Failed(failure)) => panic!("{}: {failure}", capture.name),
                None => {
                    let (speaker, bytes) = lines.pop_front().expect("the server still speaks");
                    assert_eq!(
                        *speaker,
                        Speaker::Server,
                        "{}: whose turn it is",
                        capture.name
                    );
                    assert!(session.state().awaits_server());
                    session.on_frame(decode(*speaker, bytes))
                }
            };
            actions.extend(more);
        };
        assert!(
            lines.is_empty() && actions.is_empty(),
            "{}: nothing is left to say",
            capture.name
        );
        assert_eq!(
            Some(reason),
            capture.frames.last().map(|(_, bytes)| Reason(bytes[11]))
        );
    }
}

#[test]
fn the_evidence_of_a_captured_phone_is_what_it_was_set_to() {
    let by_name = |wanted: &str| {
        let capture = captures()
            .into_iter()
            .find(|capture| capture.name.starts_with(wanted));
        captured_opening(&capture.expect("a captured session of this name"))
    };
    let string = by_name("install-password-rsa2048");
    assert!(matches!(&string.evidence, Evidence::String(text) if text.expose_secret() == "123456"));
    assert_eq!(
        (string.device_name.as_str(), string.version),
        ("SEP58971ECC97C1", Version::THREE)
    );
    assert!(matches!(
        by_name("install-none-ec-p256").evidence,
        Evidence::Null
    ));

    let both = by_name("install-by-lsc-and-sudi-rsa");
    let Evidence::Certificate(evidence) = both.evidence else {
        panic!("a certificate was sent")
    };
    assert!(
        evidence.password.is_none(),
        "the PASSWORD element was empty"
    );
    assert_eq!(both.session_id, SessionId(4));
    let certificate = evidence.certificate.expect("the LSC");
    assert_eq!(
        (certificate.lead, certificate.pad, certificate.cert_type),
        (1, 0, CertType::LSC)
    );
    assert_eq!(certificate.der.len(), 892);
    assert_eq!(
        evidence.signed_data.map(|signature| signature.len()),
        Some(256)
    );
    let sha2 = evidence
        .sha2_signed_data
        .expect("the signature with SHA-512");
    assert_eq!((sha2.hash, sha2.signature.len()), (HashId::SHA512, 256));
    let sudi = evidence.sudi.expect("the MIC");
    assert_eq!(sudi.certificate.len(), 748);
    assert_eq!(
        sudi.signature(HashId::SHA1)
            .map(|signature| signature.len()),
        Some(256)
    );
    assert_eq!(
        sudi.signature(HashId::SHA512)
            .map(|signature| signature.len()),
        Some(256)
    );
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
fn frames_in_one_byte_pieces_are_the_same_frames() {
    for capture in captures() {
        for speaker in [Speaker::Phone, Speaker::Server] {
            let mut decoder = FrameDecoder::new(speaker.listener());
            let mut frames = Vec::new();
            for byte in capture.stream(speaker) {
                frames.extend(decoder.decode(&mut &[byte][..]).expect("a captured stream"));
            }
            assert_eq!(decoder.finish(), Ok(()));
            let bytes: Vec<_> = frames.iter().map(|frame| frame.encode().to_vec()).collect();
            assert!(
                bytes.iter().eq(capture.said_by(speaker)),
                "{}",
                capture.name
            );
        }
    }
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_truncated_at_every_length() {
    for capture in captures() {
        for (speaker, bytes) in &capture.frames {
            for length in 1..bytes.len() {
                let mut decoder = FrameDecoder::new(speaker.listener());
                assert_eq!(decoder.decode(&mut &bytes[..length]), Ok(None));
                let wanted = if length < 8 { 8 } else { bytes.len() };
                assert_eq!(
                    decoder.finish(),
                    Err(FrameError::Truncated {
                        have: length,
                        wanted
                    })
                );
            }
        }
    }
}

#[test]
fn a_body_cut_at_any_length_is_an_error_or_a_message_of_whole_elements() {
    for capture in captures() {
        for (speaker, bytes) in &capture.frames {
            let whole = decode(*speaker, bytes);
            let mut ends = vec![0];
            while let Some(at) = ends.last().copied().filter(|at| *at < whole.body().len()) {
                let length = u16::from_be_bytes([whole.body()[at + 1], whole.body()[at + 2]]);
                ends.push(at + 3 + usize::from(length));
            }
            for length in 0..whole.body().len() {
                let cut = frame(whole.command(), &whole.body()[..length]);
                let parsed = Message::parse(&cut);
                assert!(
                    parsed.is_err() || ends.contains(&length),
                    "{} cut at {length}",
                    capture.name
                );
            }
        }
    }
}

#[test]
fn the_bound_of_a_body_is_checked_before_the_body_comes() {
    for (command, limit) in [
        (Command::AUTH_RES, 16 * 1024),
        (Command::KEY_GENERATE_RES, 8 * 1024),
        (Command::FETCH_CERT_RES, 8 * 1024),
        (Command::STORE_CERT_RES, 256),
        (Command::REQUEST_IN_PROGRESS, 256),
        (Command(0xff), 256),
    ] {
        let header = |length: usize| {
            let [high, low] = u16::try_from(length).expect("a length").to_be_bytes();
            [0x55, command.0, 0, 0, 0, 1, high, low]
        };
        let mut decoder = FrameDecoder::new(Side::Server);
        assert_eq!(decoder.decode(&mut &header(limit)[..]), Ok(None));
        let mut decoder = FrameDecoder::new(Side::Server);
        let error = FrameError::BodyTooLong {
            command,
            announced: limit + 1,
            limit,
        };
        assert_eq!(decoder.decode(&mut &header(limit + 1)[..]), Err(error));
        assert_eq!(
            decoder.decode(&mut &header(0)[..]),
            Err(error),
            "a decoder that failed stays so"
        );
        assert_eq!(decoder.finish(), Err(error));
    }
}

#[test]
fn a_decoder_leaves_what_follows_a_frame_to_its_caller() {
    let bytes = hex("55110000000100005511000000010000551100");
    let mut input = &bytes[..];
    let mut decoder = FrameDecoder::new(Side::Server);
    let progress = frame(Command::REQUEST_IN_PROGRESS, &[]);
    assert_eq!(decoder.decode(&mut input), Ok(Some(progress.clone())));
    assert_eq!(input.len(), 11);
    assert_eq!(decoder.decode(&mut input), Ok(Some(progress)));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(
        decoder.finish(),
        Err(FrameError::Truncated { have: 3, wanted: 8 })
    );
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
    assert_eq!(
        format!("{:?}", ElementTag(0x0e)),
        "ElementTag::unknown(0x0e)"
    );
    let other = Message::parse(&frame(Command::SIGN_CERT_REQ, &[1, 2])).expect("kept as it came");
    let written = other
        .message
        .to_frame(SessionId(1))
        .expect("written as it came");
    assert_eq!(written, frame(Command::SIGN_CERT_REQ, &[1, 2]));
}

#[test]
fn any_other_frame_for_a_phone_must_fit_what_jabber_reads() {
    let body = Zeroizing::new(vec![0; 4089]);
    let other = Other {
        command: Command::RETRY_LATER,
        body,
    };
    let error = EncodeError::TooLongForPhone {
        command: Command::RETRY_LATER,
        length: 4097,
    };
    assert_eq!(Message::Other(other).to_frame(SessionId(1)), Err(error));
    let huge = Certificate::new(CertType::LSC, vec![0; 0xffff]);
    let request = StoreCertReq {
        cert_type: None,
        certificate: huge,
    };
    let error = EncodeError::ValueTooLong {
        element: ElementTag::CERTIFICATE,
        length: 0x1_0001,
    };
    assert_eq!(
        Message::StoreCertReq(request).to_frame(SessionId(1)),
        Err(error)
    );
    let long = Frame::new(Command::AUTH_RES, SessionId(1), vec![0; 0x1_0000]);
    assert_eq!(
        long,
        Err(EncodeError::BodyTooLong {
            command: Command::AUTH_RES,
            length: 0x1_0000
        })
    );
}

#[test]
fn a_device_name_has_three_to_fifteen_characters_of_the_pattern() {
    for good in ["SEP58971ECC97C1", "CSF", "CSF-jdoe.2", "a12"] {
        let name = DeviceName::parse(good).expect("a good name");
        assert_eq!(name.as_str(), good.to_ascii_uppercase());
        let json = serde_json::to_string(&name).expect("a name serializes");
        assert_eq!(
            serde_json::from_str::<DeviceName>(&json).expect("and back"),
            name
        );
    }
    for bad in [
        "",
        "AB",
        "SEP58971ECC97C12",
        "1SEP",
        "-AB",
        "SEP_1",
        "SEP 1",
        "SÉP",
        "SEP1\n",
    ] {
        let error = DeviceName::parse(bad).expect_err(bad);
        assert!(
            error.to_string().starts_with("read device name: "),
            "{error}"
        );
        assert!(serde_json::from_str::<DeviceName>(&format!("{bad:?}")).is_err());
    }
}

#[test]
fn a_greeting_may_leave_the_auth_type_out() {
    let greeting = AuthReq {
        version: Version::THREE,
        auth_type: None,
    };
    let bytes = Message::AuthReq(greeting)
        .to_frame(SessionId(1))
        .expect("a frame");
    assert_eq!(bytes, frame(Command::AUTH_REQ, &[7, 0, 1, 3]));
}

/// The question that a captured phone's AUTH_RES leads to.
fn captured_opening(capture: &Captured) -> Opening {
    let bytes = capture
        .said_by(Speaker::Phone)
        .next()
        .expect("the phone spoke");
    opening_of(decode(Speaker::Phone, bytes))
}
