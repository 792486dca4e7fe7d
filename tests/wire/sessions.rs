//! The server's side by hand: what each answer of the phone and of the authority leads to.

use capf::wire::*;

use crate::support::*;
use secrecy::ExposeSecret;

#[test]
fn a_key_is_asked_for_in_the_words_of_the_phones_version() {
    let asked = |key, version| {
        let (session, _) = ServerSession::start(SessionId(1));
        let (session, _) = session.on_frame(auth_res(version));
        let (_, actions) = session.on_answer(Answer::Install { key });
        sent(&actions)[0].encode().to_vec()
    };
    let rsa = |bits| KeyRequest::Rsa { bits };
    assert_eq!(asked(rsa(2048), 2), hex("5503 00000001 0005 0a 0002 0800"));
    assert_eq!(asked(rsa(1024), 3), hex("5503 00000001 0009 0a 0002 0400 11 0001 00"));
    assert_eq!(asked(rsa(4096), 3), hex("5503 00000001 0009 0a 0002 1000 11 0001 00"));
    assert_eq!(asked(KeyRequest::Ec(Curve::P521), 3), hex("5503 00000001 0008 11 0001 01 12 0001 02"));
    let refused = KeyError::EcForVersionTwo;
    assert_eq!(asked(KeyRequest::Ec(Curve::P256), 2), hex("550f 00000001 0004 01 0001 07"));
    assert!(refused.to_string().contains("RSA keys only"));
}

#[test]
fn a_name_in_lower_case_is_looked_up_in_upper_case_and_kept_as_sent() {
    let body = [element(7, &[3]), element(13, b"sep58971ecc97c1\0")].concat();
    let opening = opening_of(frame(Command::AUTH_RES, &body));
    assert_eq!(opening.device_name.as_str(), "SEP58971ECC97C1");
    assert_eq!(opening.name_as_sent, "sep58971ecc97c1");
    assert!(matches!(opening.evidence, Evidence::Null));
}

#[test]
fn a_certificate_and_a_string_together_are_both_kept() {
    let body = [auth_res(3).body(), &element(11, b"123456\0"), &element(6, &[9])].concat();
    let Evidence::Certificate(evidence) = opening_of(frame(Command::AUTH_RES, &body)).evidence else {
        panic!("an element of a certificate makes it evidence by certificate")
    };
    assert!(evidence.password.is_some_and(|text| text.expose_secret() == "123456"));
    assert!(evidence.certificate.is_none() && evidence.signed_data.is_some());
}

#[test]
fn elements_nobody_knows_are_counted_and_passed_over() {
    let body = [element(0x63, &[1, 2]), auth_res(3).body().to_vec(), element(0x0e, &[]), element(0x63, &[])].concat();
    let (session, _) = ServerSession::start(SessionId(1));
    let (session, actions) = session.on_frame(frame(Command::AUTH_RES, &body));
    assert!(matches!(actions[..], [Action::Ask(Question::Open(_))]));
    assert_eq!((session.skipped().count, session.skipped().first), (3, Some(ElementTag(0x63))));
}

#[test]
fn any_number_of_progress_reports_moves_nothing() {
    let mut session = installing(3);
    for _ in 0..1000 {
        let actions;
        (session, actions) = session.on_frame(frame(Command::REQUEST_IN_PROGRESS, &[]));
        assert!(actions.is_empty());
        assert_eq!(session.waiting_for(), Waiting::Phone(PhoneTurn::Key));
    }
}

#[test]
fn a_key_that_is_not_made_goes_on_record_before_the_session_ends() {
    for (event, outcome) in [
        (
            Event::Frame(frame(Command::KEY_GENERATE_RES, &element(1, &[7]))),
            Outcome::KeyGenerationFailed { reason: Reason::INVALID_ELEMENT },
        ),
        (
            Event::Frame(frame(Command::KEY_GENERATE_RES, &[element(1, &[9]), element(9, &[0x30, 0])].concat())),
            Outcome::KeyGenerationFailed { reason: Reason::UNKNOWN_DEVICE },
        ),
        (Event::Deadline, Outcome::KeyGenerationTimedOut),
        (Event::Frame(frame(Command::ABORT_REQ, &[])), Outcome::Aborted),
    ] {
        let (session, actions) = happen(installing(3), &event);
        assert_completes(&actions, &outcome);
        let (_, actions) = session.on_answer(Answer::Recorded);
        let told = outcome.kind().end_session_reason();
        assert_eq!(sent(&actions), [frame(Command::END_SESSION, &element(1, &[told.0]))]);
        assert_eq!(close_reason(&actions), Some(CloseReason::Finished(outcome.kind())));
    }
}

#[test]
fn what_the_phone_says_of_its_certificate_is_the_outcome() {
    type Row = (Command, [u8; 4], Answer, Outcome, u8);
    let answers: [Row; 7] = [
        (Command::STORE_CERT_RES, [1, 0, 1, 1], issued(), Outcome::Stored, 1),
        (Command::STORE_CERT_RES, [1, 0, 1, 0], issued(), Outcome::StoreRejected { reason: Reason::NO_ACTION }, 7),
        (Command::DELETE_CERT_RES, [1, 0, 1, 1], Answer::Delete, Outcome::Deleted, 1),
        (Command::DELETE_CERT_RES, [1, 0, 1, 7], Answer::Delete, Outcome::NothingToDelete, 1),
        (
            Command::DELETE_CERT_RES,
            [1, 0, 1, 9],
            Answer::Delete,
            Outcome::DeleteRejected { reason: Reason::UNKNOWN_DEVICE },
            7,
        ),
        (
            Command::FETCH_CERT_RES,
            [1, 0, 1, 7],
            fetch(CertType::LSC),
            Outcome::NothingFetched { asked: CertType::LSC },
            0,
        ),
        (
            Command::FETCH_CERT_RES,
            [1, 0, 1, 0],
            fetch(CertType::LSC),
            Outcome::FetchRejected { asked: CertType::LSC, reason: Reason::NO_ACTION },
            0,
        ),
    ];
    for (command, body, answer, outcome, told) in answers {
        let session = match answer {
            Answer::Issued { .. } => installing(3).on_frame(key_response()).0,
            _ => opened(3),
        };
        let (session, _) = session.on_answer(answer);
        let (session, actions) = session.on_frame(frame(command, &body));
        assert_completes(&actions, &outcome);
        let (_, actions) = session.on_answer(Answer::Recorded);
        assert_eq!(close_reason(&actions).and_then(|reason| reason.told()), Some(Reason(told)));
    }
}

#[test]
fn an_outcome_that_is_not_on_record_ends_without_end_session() {
    let (session, _) = installing(3).on_frame(key_response());
    let (session, _) = session.on_answer(issued());
    let (session, _) = session.on_frame(frame(Command::STORE_CERT_RES, &[1, 0, 1, 1]));
    let (_, actions) = session.on_answer(Answer::Unavailable);
    assert!(sent(&actions).is_empty());
    let question = AuthorityTurn::Complete;
    assert_eq!(close_reason(&actions), Some(CloseReason::Unavailable { question }));
}

#[test]
fn a_troubleshooting_session_fetches_both_certificates_one_after_the_other() {
    let (session, actions) = opened(3).on_answer(fetch(CertType::LSC));
    assert_eq!(sent(&actions), [frame(Command::FETCH_CERT_REQ, &[])]);
    let (session, _) = session.on_frame(frame(Command::FETCH_CERT_RES, &[1, 0, 1, 7]));
    let (session, actions) = session.on_answer(fetch(CertType::MIC));
    assert_eq!(sent(&actions), [frame(Command::FETCH_CERT_REQ, &[3, 0, 1, 2])]);
    let body = [element(1, &[1]), element(4, &[1, 0, 4, 0, 1, 0x30, 0])].concat();
    let (session, actions) = session.on_frame(frame(Command::FETCH_CERT_RES, &body));
    let fetched = Outcome::Fetched { asked: CertType::MIC, cert_type: CertType::LSC, certificate_der: some_der() };
    assert_completes(&actions, &fetched);
    let (_, actions) = session.on_answer(Answer::Recorded);
    assert_eq!(close_reason(&actions), Some(CloseReason::Finished(OutcomeKind::Fetched)));
    assert_eq!(sent(&actions), [frame(Command::END_SESSION, &[1, 0, 1, 0])]);
}

#[test]
fn nothing_scheduled_is_said_in_the_words_of_the_phones_version() {
    for (version, told) in [(2, 7), (3, 0)] {
        let (_, actions) = opened(version).on_answer(Answer::NothingScheduled);
        assert_eq!(sent(&actions), [frame(Command::END_SESSION, &[1, 0, 1, told])]);
    }
}

#[test]
fn an_abort_while_the_authority_is_asked_counts_when_it_has_answered() {
    let abort = || frame(Command::ABORT_REQ, &[]);
    for answer in [Answer::Delete, fetch(CertType::LSC), Answer::Install { key: KeyRequest::Rsa { bits: 2048 } }] {
        let (session, actions) = opened(3).on_frame(abort());
        assert!(actions.is_empty());
        let (_, actions) = session.on_answer(answer);
        assert_completes(&actions, &Outcome::Aborted);
    }
    let (session, _) = installing(3).on_frame(key_response());
    let (session, _) = session.on_frame(abort());
    let (session, actions) = session.on_answer(issued());
    assert_completes(&actions, &Outcome::Aborted);
    let (session, actions) = session.on_frame(abort());
    assert!(actions.is_empty());
    let (_, actions) = session.on_answer(Answer::Recorded);
    assert_eq!(close_reason(&actions), Some(CloseReason::Finished(OutcomeKind::Aborted)));
}

#[test]
fn a_certificate_may_exceed_what_jabber_reads_and_that_is_told() {
    let (session, _) = installing(3).on_frame(key_response());
    let (_, actions) = session.on_answer(Answer::Issued { certificate_der: vec![0x30; 4096].into() });
    let frames = sent(&actions);
    assert_eq!(frames.len(), 1);
    assert!(frames[0].exceeds_jabber_read());
    assert_eq!(frames[0].encode().len(), 8 + 4 + 8 + 4096);
}

fn opened(version: u8) -> ServerSession {
    ServerSession::start(SessionId(1)).0.on_frame(auth_res(version)).0
}

fn installing(version: u8) -> ServerSession {
    opened(version).on_answer(install()).0
}

fn assert_completes(actions: &[Action], outcome: &Outcome) {
    match actions {
        [Action::Ask(Question::Complete(asked))] => assert_eq!(asked, outcome),
        other => panic!("{other:?} does not complete with {outcome:?}"),
    }
}
