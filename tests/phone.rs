//! The simulated phone against a scripted server over real TLS: what it keeps, what it refuses, and how it comes back.

mod phone_support;

use capf::phone::{AttemptOutcome, CommunicationFailure, PhoneKey, PhoneTrouble, Proof, SimulatedPhone, tls_config};
use capf::pki::{CertificateFacts, Curve, KeyKind, PublicKey, RsaBits};
use capf::wire::{Answer, CertType, DeviceName, Evidence, KeyRequest, Outcome, Question, Reason, Version};
use phone_support::{NAME, Reply, Server, events, install, service, state, steps};
use secrecy::ExposeSecret;

#[tokio::test]
async fn a_certificate_and_its_key_are_on_disk_when_the_server_hears_that_they_are() {
    let (_dir, state) = state();
    let lsc = state.file("lsc.pem");
    let server = Server::start(move |_, question| {
        if let Question::Complete(Outcome::Stored) = question {
            assert!(lsc.exists(), "answered before it was stored");
        }
        install(question)
    })
    .await;
    let mut phone = server.phone().state(state.clone()).unwrap();
    let outcome = phone.attempt().await.unwrap();
    let (der, key) = state.lsc().unwrap().expect("an LSC");
    assert_eq!(outcome, AttemptOutcome::Installed { certificate_der: der.clone() });
    assert_eq!(server.outcomes(), ["Stored"]);
    assert_eq!(server.keys(), [key.public().spki()]);
    let facts = CertificateFacts::from_der(&der).unwrap();
    assert_eq!(facts.subject_common_name.as_deref(), Some(NAME));
    assert_eq!(facts.key_kind, Some(KeyKind::Ec(Curve::P256)));

    let expected = [
        "connected",
        "auth",
        "auth-sent",
        "key",
        "progress",
        "key-made",
        "key-sent",
        "certificate",
        "stored",
        "answered",
        "ended",
    ];
    assert_eq!(steps(&state), expected);
    let events = events(&state);
    for (step, event) in &events[7..9] {
        assert_eq!(event["sha256"], facts.sha256, "{step}");
        assert_eq!(event["serial"], facts.serial, "{step}");
        assert_eq!(event["session"], "00001001", "{step}");
    }
    assert_eq!(events[10].1["reason"], 1);

    // The next phone in this directory is the same one.
    let server = Server::start(|_, question| match question {
        Question::Open(_) => Reply::Answer(Answer::Fetch { certificate: CertType::LSC }),
        other => install(other),
    })
    .await;
    let mut phone = server.phone().state(state.clone()).unwrap();
    assert_eq!(phone.lsc(), Some(&der[..]));
    let outcome = phone.attempt().await.unwrap();
    let shown = vec![CertType::LSC];
    let missing = Vec::new();
    assert_eq!(outcome, AttemptOutcome::Fetched { shown, missing });
    let asked = server.asked();
    let Question::Complete(Outcome::Fetched { certificate_der, .. }) = &asked[1].1 else { panic!("{asked:?}") };
    assert_eq!(certificate_der[..], der[..]);
    let fetch = phone_support::events(&state).into_iter().find(|(step, _)| step == "fetch").unwrap();
    assert_eq!(fetch.1["sha256"], facts.sha256);
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_is_not_in_the_ctl_and_it_is_not_tried_again() {
    let (_dir, state) = state();
    let server = Server::start(|_, question| install(question)).await;
    let other = service();
    let tls = tls_config(other.certificate.der()).unwrap();
    let name = DeviceName::parse(NAME).unwrap();
    let mut phone = SimulatedPhone::new(server.address, name, tls)
        .proof(Proof::AuthenticationString("8246013579".into()))
        .state(state.clone())
        .unwrap();
    let ended = phone.enrol().await;
    assert!(matches!(ended.last, Err(CommunicationFailure::NotInCtl(_))), "{ended:?}");
    assert_eq!((ended.attempts, server.asked().len()), (1, 0));
    assert_eq!(steps(&state), ["broken"]);
}

#[tokio::test]
async fn a_server_with_the_right_certificate_and_the_wrong_key_hears_nothing() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Server::start_impostor(version).await;
        let failure = server.phone().attempt().await.unwrap_err();
        let words = failure.to_string();
        assert!(matches!(failure, CommunicationFailure::Handshake { .. }) && words.contains("BadSignature"), "{words}");
        assert!(server.asked().is_empty());
    }
}

#[tokio::test]
async fn a_certificate_over_another_key_is_not_kept_and_the_server_is_told() {
    let (_dir, state) = state();
    let server = Server::start(|_, question| match question {
        Question::Issue { .. } => Reply::IssueForeign,
        other => install(other),
    })
    .await;
    let mut phone = server.phone().state(state.clone()).unwrap();
    let why = PhoneTrouble::ForeignCertificate;
    let reason = Reason::INVALID_ELEMENT;
    assert_eq!(phone.attempt().await.unwrap(), AttemptOutcome::Failed { why, reason });
    assert!(server.outcomes()[0].starts_with("StoreRejected"));
    assert!(state.lsc().unwrap().is_none());
    assert!(steps(&state).contains(&"refused".to_owned()));
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_old_certificate_in_place() {
    let (_dir, state) = state();
    let server = Server::start(|connection, question| match (connection, question) {
        (2, Question::Issue { .. }) => Reply::IssueForeign,
        (3, Question::Issue { .. }) => Reply::HangUp,
        (_, question) => install(question),
    })
    .await;
    let mut phone = server.phone().state(state.clone()).unwrap();
    phone.attempt().await.unwrap();
    let first = phone.lsc().unwrap().to_vec();
    phone.attempt().await.unwrap();
    phone.attempt().await.unwrap_err();
    assert_eq!(state.lsc().unwrap().unwrap().0, first);
    phone.attempt().await.unwrap();
    assert_ne!(state.lsc().unwrap().unwrap().0, first);
}

#[tokio::test]
async fn the_last_word_of_the_server_is_told_apart_and_never_retried() {
    for (answer, expected) in [
        (Answer::NothingScheduled, AttemptOutcome::NothingScheduled),
        (Answer::UnknownDevice, AttemptOutcome::UnknownDevice),
        (Answer::Refused, AttemptOutcome::Refused { reason: Reason::INVALID_ELEMENT }),
    ] {
        let server = Server::start(move |_, _| Reply::Answer(answer.clone())).await;
        let ended = server.phone().enrol().await;
        assert_eq!(ended.last.unwrap(), expected);
        assert_eq!((ended.attempts, server.connections()), (1, 1));
    }
}

#[tokio::test]
async fn a_deleted_certificate_is_gone_from_disk_and_a_second_deletion_finds_none() {
    let (_dir, state) = state();
    let server = Server::start(|connection, question| match (connection, question) {
        (2.., Question::Open(_)) => Reply::Answer(Answer::Delete),
        (_, question) => install(question),
    })
    .await;
    let mut phone = server.phone().state(state.clone()).unwrap();
    phone.attempt().await.unwrap();
    let facts = CertificateFacts::from_der(phone.lsc().unwrap()).unwrap();
    for had_one in [true, false] {
        let outcome = phone.attempt().await.unwrap();
        assert_eq!(outcome, AttemptOutcome::Deleted { had_one });
        assert!(state.lsc().unwrap().is_none());
    }
    assert_eq!(server.outcomes(), ["Stored", "Deleted", "NothingToDelete"]);
    let events = events(&state);
    let held = events.iter().filter(|(step, _)| step == "delete").map(|(_, event)| event["sha256"].as_str());
    assert_eq!(held.collect::<Vec<_>>(), [Some(facts.sha256.as_str()), None], "what it had when it was told to delete");
}

#[tokio::test]
async fn keys_are_made_as_asked_and_a_prepared_key_of_another_kind_is_not_sent() {
    for (asked, kind) in [
        (KeyRequest::Rsa { bits: 512 }, KeyKind::Rsa(RsaBits::B512)),
        (KeyRequest::Rsa { bits: 1024 }, KeyKind::Rsa(RsaBits::B1024)),
        (KeyRequest::Rsa { bits: 2048 }, KeyKind::Rsa(RsaBits::B2048)),
        (KeyRequest::Ec(capf::wire::Curve::P384), KeyKind::Ec(Curve::P384)),
    ] {
        let server = Server::start(move |_, question| match question {
            Question::Open(_) => Reply::Answer(Answer::Install { key: asked }),
            other => install(other),
        })
        .await;
        // Its own answer limit does not bound the making of a key.
        let outcome = server.phone().attempt().await.unwrap();
        assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{kind}: {outcome:?}");
        let came = PublicKey::from_spki(&server.keys()[0]).unwrap();
        assert_eq!(came.kind(), kind);
    }
    let server = Server::start(|_, question| install(question)).await;
    let prepared = PhoneKey::generate(KeyKind::Ec(Curve::P384)).unwrap();
    let outcome = server.phone().prepared_key(prepared).attempt().await.unwrap();
    let AttemptOutcome::Failed { why, .. } = outcome else { panic!("{outcome:?}") };
    assert!(why.to_string().contains("EC P-384, EC P-256 was asked for"), "{why}");
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn a_prepared_key_is_the_one_that_is_sent_each_time() {
    let server = Server::start(|_, question| install(question)).await;
    let prepared = PhoneKey::generate(KeyKind::Ec(Curve::P256)).unwrap();
    let mut phone = server.phone().prepared_key(prepared.clone()).faults(["drop@certificate:1".parse().unwrap()]);
    phone.enrol().await.last.unwrap();
    let spki = prepared.public().spki().to_vec();
    assert_eq!(server.keys(), [spki.clone(), spki]);
}

#[tokio::test]
async fn a_phone_of_version_two_does_as_one_of_version_three_with_rsa() {
    let server = Server::start(|_, question| match question {
        Question::Open(opening) => {
            assert_eq!(opening.version, Version::TWO);
            Reply::Answer(Answer::Install { key: KeyRequest::Rsa { bits: 2048 } })
        }
        other => install(other),
    })
    .await;
    let outcome = server.phone().version(Version::TWO).attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }));
}

#[tokio::test]
async fn the_digits_reach_the_server_and_nothing_else() {
    const DIGITS: &str = "8246013579";
    let (_dir, state) = state();
    let server = Server::start(|_, question| match question {
        Question::Issue { .. } => Reply::HangUp,
        other => install(other),
    })
    .await;
    let mut phone = server.phone().proof(Proof::AuthenticationString(DIGITS.into())).state(state.clone()).unwrap();
    let ended = phone.enrol().await;
    for (_, question) in server.asked() {
        if let Question::Open(opening) = question {
            let Evidence::String(came) = &opening.evidence else { panic!("{opening:?}") };
            assert_eq!(came.expose_secret(), DIGITS);
        }
    }
    let log = std::fs::read_to_string(state.file("events.log")).unwrap();
    for shown in [format!("{phone:?}"), format!("{ended:?}"), log] {
        assert!(!shown.contains(DIGITS), "{shown}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
