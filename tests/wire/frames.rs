//! Frames from streams in pieces, cut streams and bodies, and the bounds.

use capf::wire::*;

use crate::support::*;
use secrecy::zeroize::Zeroizing;

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
            assert!(bytes.iter().eq(capture.said_by(speaker)), "{}", capture.name);
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
                assert_eq!(decoder.finish(), Err(FrameError::Truncated { have: length, wanted }));
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
                assert!(parsed.is_err() || ends.contains(&length), "{} cut at {length}", capture.name);
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
        let error = FrameError::BodyTooLong { command, announced: limit + 1, limit };
        assert_eq!(decoder.decode(&mut &header(limit + 1)[..]), Err(error));
        assert_eq!(decoder.decode(&mut &header(0)[..]), Err(error), "a decoder that failed stays so");
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
    assert_eq!(decoder.finish(), Err(FrameError::Truncated { have: 3, wanted: 8 }));
}

#[test]
fn any_other_frame_for_a_phone_must_fit_what_jabber_reads() {
    let body = Zeroizing::new(vec![0; 4089]);
    let other = Other { command: Command::RETRY_LATER, body };
    let error = EncodeError::TooLongForPhone { command: Command::RETRY_LATER, length: 4097 };
    assert_eq!(Message::Other(other).to_frame(SessionId(1)), Err(error));
    let huge = Certificate::new(CertType::LSC, vec![0; 0xffff]);
    let request = StoreCertReq { cert_type: None, certificate: huge };
    let error = EncodeError::ValueTooLong { element: ElementTag::CERTIFICATE, length: 0x1_0001 };
    assert_eq!(Message::StoreCertReq(request).to_frame(SessionId(1)), Err(error));
    let long = Frame::new(Command::AUTH_RES, SessionId(1), vec![0; 0x1_0000]);
    assert_eq!(long, Err(EncodeError::BodyTooLong { command: Command::AUTH_RES, length: 0x1_0000 }));
}

#[test]
fn a_device_name_has_three_to_fifteen_characters_of_the_pattern() {
    for good in ["SEP58971ECC97C1", "CSF", "CSF-jdoe.2", "a12"] {
        let name = DeviceName::parse(good).expect("a good name");
        assert_eq!(name.as_str(), good.to_ascii_uppercase());
        let json = serde_json::to_string(&name).expect("a name serializes");
        assert_eq!(serde_json::from_str::<DeviceName>(&json).expect("and back"), name);
    }
    for bad in ["", "AB", "SEP58971ECC97C12", "1SEP", "-AB", "SEP_1", "SEP 1", "SÉP", "SEP1\n"] {
        let error = DeviceName::parse(bad).expect_err(bad);
        assert!(error.to_string().starts_with("read device name: "), "{error}");
        assert!(serde_json::from_str::<DeviceName>(&format!("{bad:?}")).is_err());
    }
}
