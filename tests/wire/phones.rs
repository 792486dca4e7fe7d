//! The phone's side by hand.

use capf::wire::*;

use crate::support::*;

#[test]
fn a_phone_of_version_two_speaks_like_jabber() {
    let name = ClaimedName::parse("csfjdoe").expect("a name");
    let session = PhoneSession::start(PhoneConfig::new(name.clone(), Version::TWO));
    let greeting = frame(Command::AUTH_REQ, &element(7, &[3]));
    let (session, actions) = session.on_frame(greeting);
    assert!(matches!(actions[..], [PhoneAction::Prove { auth_type: None, .. }]));
    let (session, actions) = session.on_proof(Evidence::Null);
    let expected = hex("5502 00000001 0013 07 0001 02 0d 0008 6373666a646f6500 01 0001 01");
    assert_eq!(phone_sent(&actions), [expected]);
    let (session, actions) = session.on_frame(frame(Command::KEY_GENERATE_REQ, &hex("0a00020800")));
    assert!(matches!(actions[..], [PhoneAction::MakeKey(KeyRequest::Rsa { bits: 2048 })]));
    assert_eq!(session.state(), PhoneState::MakingKey);
    assert_eq!((name.name().as_str(), name.as_sent()), ("CSFJDOE", "csfjdoe"));
}

#[test]
fn a_phone_that_cannot_make_a_key_says_so() {
    let fail = hex("5504 00000001 0004 01 0001 07");
    let (session, _) = asked_phone(3).on_frame(frame(Command::KEY_GENERATE_REQ, &hex("0a000207ff110001 00")));
    assert_eq!(session.state(), PhoneState::AwaitingEnd, "2047 bits are nobody's size");
    let (_, actions) = asked_phone(2).on_frame(frame(Command::KEY_GENERATE_REQ, &hex("11000101120001 00")));
    assert_eq!(phone_sent(&actions), std::slice::from_ref(&fail));
    let (session, _) = asked_phone(3).on_frame(frame(Command::KEY_GENERATE_REQ, &hex("0a00020800110001 00")));
    let (session, actions) = session.on_progress();
    assert_eq!(phone_sent(&actions), [hex("5511000000010000")]);
    let (_, actions) = session.on_key_failed();
    assert_eq!(phone_sent(&actions), [fail]);
}

#[test]
fn a_phone_refuses_what_a_server_must_not_say() {
    let failure = |session: PhoneSession, frame: Frame| match session.on_frame(frame).1[..] {
        [PhoneAction::Failed(failure)] => failure,
        ref other => panic!("{other:?}"),
    };
    let doing = PhoneState::AwaitingOperation;
    let store = [element(3, &[1]), element(4, &[1, 0, 4, 0, 1, 0x30, 0])].concat();
    let command = Command::STORE_CERT_REQ;
    let got = failure(asked_phone(3), frame(command, &store));
    assert_eq!(got, PhoneFailure::UnexpectedCommand { command, doing }, "a certificate without a key");
    let foreign = Frame::new(Command::DELETE_CERT_REQ, SessionId(2), Vec::new()).expect("a frame");
    let (expected, found) = (SessionId(1), SessionId(2));
    assert_eq!(failure(asked_phone(3), foreign), PhoneFailure::WrongSession { expected, found });
    let broken = failure(asked_phone(3), frame(Command::END_SESSION, &[]));
    assert!(matches!(broken, PhoneFailure::Message(_)));
    assert_eq!(asked_phone(3).on_closed().1.len(), 1);
    assert!(matches!(asked_phone(3).on_stored(true).1[..], [PhoneAction::Failed(PhoneFailure::OutOfTurn { .. })]));
    let (session, actions) = asked_phone(3).abort();
    assert_eq!(phone_sent(&actions), [hex("5514000000010000")]);
    let (session, actions) = session.on_frame(frame(Command::END_SESSION, &[1, 0, 1, 0]));
    assert!(matches!(actions[..], [PhoneAction::Ended { reason: Reason::NO_ACTION }]));
    assert!(session.on_closed().1.is_empty());
}

/// A phone that has presented itself.
fn asked_phone(version: u8) -> PhoneSession {
    let name = DeviceName::parse("SEP58971ECC97C1").expect("a name");
    let session = PhoneSession::start(PhoneConfig::new(name, Version(version)));
    let (session, _) = session.on_frame(frame(Command::AUTH_REQ, &[7, 0, 1, 3]));
    session.on_proof(Evidence::Null).0
}

fn phone_sent(actions: &[PhoneAction]) -> Vec<Vec<u8>> {
    actions
        .iter()
        .filter_map(|action| match action {
            PhoneAction::Send(frame) => Some(frame.encode().to_vec()),
            _ => None,
        })
        .collect()
}
