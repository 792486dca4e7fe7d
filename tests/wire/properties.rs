//! What holds for all messages and all streams, over generated ones.

use capf::wire::*;

use crate::support::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use secrecy::{ExposeSecret, SecretString};

proptest! {
    #[test]
    fn a_message_survives_a_round_trip(message in any_message(), id in any::<u32>()) {
        let written = message.to_frame(SessionId(id)).expect("it is written");
        prop_assert_eq!(written.session_id(), SessionId(id));
        let read = Message::parse(&written).expect("what was written is read");
        prop_assert_eq!(read.skipped.count, 0);
        prop_assert!(same(&read.message, &message), "{:?} became {:?}", message, read.message);
        prop_assert_eq!(read.message.to_frame(SessionId(id)).expect("written again"), written);
    }

    #[test]
    fn elements_in_any_order_with_unknown_ones_among_them_say_the_same(
        message in any_message(),
        unknown in vec((0x15u8.., vec(any::<u8>(), 0..20)), 0..4),
        seed in any::<u64>(),
    ) {
        let written = message.to_frame(SessionId(1)).expect("it is written");
        let mut pieces = split(written.body());
        pieces.extend(unknown.iter().map(|(tag, value)| element(*tag, value)));
        shuffle(&mut pieces, seed);
        let read = Message::parse(&frame(written.command(), &pieces.concat())).expect("it is read");
        prop_assert_eq!(read.skipped.count, unknown.len());
        prop_assert!(same(&read.message, &message), "{:?} became {:?}", message, read.message);
    }

    #[test]
    fn an_element_that_is_used_may_stand_once_only(message in any_message(), which in any::<prop::sample::Index>()) {
        let written = message.to_frame(SessionId(1)).expect("it is written");
        let pieces = split(written.body());
        if !pieces.is_empty() {
            let twice = [written.body(), &pieces[which.index(pieces.len())]].concat();
            prop_assert!(Message::parse(&frame(written.command(), &twice)).is_err());
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error_and_no_panic(message in any_message(), at in any::<prop::sample::Index>()) {
        let bytes = message.to_frame(SessionId(1)).expect("it is written").encode();
        let length = at.index(bytes.len());
        let side = if message.command().is_from_server() { Side::Phone } else { Side::Server };
        let mut decoder = FrameDecoder::new(side);
        prop_assert_eq!(decoder.decode(&mut &bytes[..length]).expect("no fault so far"), None);
        prop_assert_eq!(decoder.finish().is_err(), length > 0);
        fuzz::fuzz_frame(&bytes[..length]);
    }

    #[test]
    fn the_pieces_of_a_stream_do_not_matter(
        messages in vec(any_message(), 1..6),
        cuts in vec(1usize..40, 1..20),
    ) {
        let frames: Vec<Frame> = messages
            .iter()
            .filter(|message| !message.command().is_from_server())
            .map(|message| message.to_frame(SessionId(1)).expect("it is written"))
            .collect();
        let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().to_vec()).collect();
        let mut decoder = FrameDecoder::new(Side::Server);
        let mut heard = Vec::new();
        let (mut rest, mut cuts) = (&stream[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at(rest.len().min(*cuts.next().expect("endless")));
            while let Some(frame) = decoder.decode(&mut piece).expect("a good stream") {
                heard.push(frame);
            }
            rest = after;
        }
        prop_assert_eq!(heard, frames);
    }

    #[test]
    fn no_bytes_make_the_wire_panic(data in vec(any::<u8>(), 0..600)) {
        fuzz::fuzz_frame(&data);
        fuzz::fuzz_message(&data);
        fuzz::fuzz_server_session(&data);
        fuzz::fuzz_phone_session(&data);
    }

    #[test]
    fn no_script_of_frames_makes_a_session_panic(
        steps in vec((any::<bool>(), 0u8..26, vec(any::<u8>(), 0..8)), 0..12),
    ) {
        let script: Vec<u8> = steps
            .iter()
            .flat_map(|(answers, number, body)| match answers {
                true => vec![1, *number],
                false => [&[3, *number, body.len() as u8][..], body].concat(),
            })
            .collect();
        fuzz::fuzz_server_session(&script);
        fuzz::fuzz_phone_session(&script);
    }
}

fn octets() -> impl Strategy<Value = Octets> {
    vec(any::<u8>(), 1..600).prop_map(Octets::from)
}

fn certificate() -> impl Strategy<Value = Certificate> {
    (any::<u8>(), any::<u8>(), any::<u8>(), octets()).prop_map(|(lead, pad, kind, der)| Certificate {
        lead,
        pad,
        cert_type: CertType(kind),
        der,
    })
}

fn signature() -> impl Strategy<Value = Signature> {
    (1u8.., octets()).prop_map(|(hash, signature)| Signature { hash: HashId(hash), signature })
}

fn sudi() -> impl Strategy<Value = SudiData> {
    (octets(), vec(octets(), 0..4), 1u8..250).prop_map(|(certificate, signatures, first)| SudiData {
        certificate,
        signatures: (first..)
            .zip(signatures)
            .map(|(hash, signature)| Signature { hash: HashId(hash), signature })
            .collect(),
    })
}

fn any_auth_res() -> impl Strategy<Value = AuthRes> {
    let texts = ("[A-Za-z][A-Za-z0-9.-]{2,14}", of("[0-9a-zA-Z ü]{0,32}"));
    let proofs = (of(certificate()), of(octets()), of(signature()), of(sudi()));
    (of(any::<u8>()), 2u8..=3, texts, proofs).prop_map(|(reason, version, (name, password), proofs)| AuthRes {
        reason: reason.map(Reason),
        version: Version(version),
        device_name: ClaimedName::parse(&name).expect("a name of the pattern"),
        password: password.map(SecretString::from),
        certificate: proofs.0,
        signed_data: proofs.1,
        sha2_signed_data: proofs.2,
        sudi: proofs.3,
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let number = any::<u8>;
    let key = (of(any::<u16>()), of(number()), of(number()));
    let others = prop_oneof![
        (number(), of(number())).prop_map(|(version, kind)| Message::AuthReq(AuthReq {
            version: Version(version),
            auth_type: kind.map(AuthType),
        })),
        key.prop_map(|(key_size, kind, curve)| Message::KeyGenerateReq(KeyGenerateReq {
            key_size,
            key_type: kind.map(KeyType),
            curve: curve.map(Curve),
        })),
        (number(), of(octets())).prop_map(|(reason, public_key)| Message::KeyGenerateRes(KeyGenerateRes {
            reason: Some(Reason(reason)),
            public_key
        })),
        octets().prop_map(|key| Message::KeyGenerateRes(KeyGenerateRes { reason: None, public_key: Some(key) })),
        (of(number()), certificate()).prop_map(|(kind, certificate)| Message::StoreCertReq(StoreCertReq {
            cert_type: kind.map(CertType),
            certificate
        })),
        (of(number()), certificate()).prop_map(|(reason, certificate)| Message::FetchCertRes(FetchCertRes {
            reason: reason.map(Reason),
            certificate: Some(certificate)
        })),
        (2u8..)
            .prop_map(|reason| Message::FetchCertRes(FetchCertRes { reason: Some(Reason(reason)), certificate: None })),
        number().prop_map(|reason| Message::StoreCertRes(Reason(reason))),
        number().prop_map(|reason| Message::DeleteCertRes(Reason(reason))),
        number().prop_map(|reason| Message::EndSession(Reason(reason))),
        of(number()).prop_map(|kind| Message::FetchCertReq(kind.map(CertType))),
        of(number()).prop_map(|kind| Message::DeleteCertReq(kind.map(CertType))),
        Just(Message::RequestInProgress),
    ];
    let auth = any_auth_res().prop_map(|response| Message::AuthRes(Box::new(response)));
    // AUTH_RES has more forms than all others together.
    prop_oneof![auth, others]
}

/// Whether two messages say the same, the hidden parts included.
fn same(one: &Message, other: &Message) -> bool {
    let hidden = |message: &Message| match message {
        Message::AuthRes(response) => Some((
            response.password.as_ref().map(|text| text.expose_secret().to_owned()),
            response.certificate.clone(),
            response.signed_data.clone(),
            response.sha2_signed_data.clone(),
            response.sudi.clone(),
        )),
        _ => None,
    };
    let certificates = |message: &Message| match message {
        Message::StoreCertReq(request) => Some(request.certificate.clone()),
        Message::FetchCertRes(response) => response.certificate.clone(),
        _ => None,
    };
    let key = |message: &Message| match message {
        Message::KeyGenerateRes(response) => response.public_key.clone(),
        _ => None,
    };
    // What is not hidden from Debug is compared by it.
    format!("{one:?}") == format!("{other:?}")
        && hidden(one) == hidden(other)
        && certificates(one) == certificates(other)
        && key(one) == key(other)
}

/// The elements of a good body, each in its bytes.
fn split(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while let [_, high, low, ..] = body {
        let (piece, rest) = body.split_at(3 + usize::from(u16::from_be_bytes([*high, *low])));
        pieces.push(piece.to_vec());
        body = rest;
    }
    pieces
}

/// A shuffle that only the seed decides.
fn shuffle(pieces: &mut [Vec<u8>], mut seed: u64) {
    for last in (1..pieces.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pieces.swap(last, (seed >> 33) as usize % (last + 1));
    }
}

#[test]
fn a_tag_that_a_message_has_no_use_for_is_passed_over_even_twice() {
    let body = [element(1, &[1]), element(10, &[8, 0]), element(10, &[8, 0])].concat();
    let parsed = Message::parse(&frame(Command::STORE_CERT_RES, &body)).expect("it is read");
    assert_eq!((parsed.skipped.count, parsed.skipped.first), (2, Some(ElementTag::KEY_SIZE)));
}
