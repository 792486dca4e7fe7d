//! The simulated phone against a scripted server over real TLS: what it keeps, what it refuses, and how it comes back.

mod phone_support;

use std::time::{Duration, Instant};

use capf::phone::{
    AttemptOutcome, CommunicationFailure, PhoneKey, PhoneTrouble, Proof, SimulatedPhone, StateDir,
    Step, tls_config,
};
use capf::pki::{CertificateFacts, Curve, KeyKind, PublicKey, RsaBits};
use capf::wire::{
    Answer, CertType, DeviceName, Evidence, KeyRequest, Outcome, PhoneFailure, Question, Reason,
    Version,
};
use phone_support::{NAME, Reply, Server, install, service};
use secrecy::ExposeSecret;

/// The events of a phone: step, and the whole line.
fn events(state: &StateDir) -> Vec<(String, serde_json::Value)> {
    let text = std::fs::read_to_string(state.file("events.log")).expect("events");
    let lines = text.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (event["step"].as_str().expect("a step").to_owned(), event)
    });
    lines.collect()
}

fn steps(state: &StateDir) -> Vec<String> {
    events(state).into_iter().map(|(step, _)| step).collect()
}

fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateDir::open(&dir.path().join("phone")).expect("a state");
    (dir, state)
}

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
    assert_eq!(
        outcome,
        AttemptOutcome::Installed {
            certificate_der: der.clone()
        }
    );
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
        Question::Open(_) => Reply::Answer(Answer::Fetch {
            certificate: CertType::LSC,
        }),
        other => install(other),
    })
    .await;
    let mut phone = server.phone().state(state).unwrap();
    assert_eq!(phone.lsc(), Some(&der[..]));
    let outcome = phone.attempt().await.unwrap();
    let shown = vec![CertType::LSC];
    let missing = Vec::new();
    assert_eq!(outcome, AttemptOutcome::Fetched { shown, missing });
    let asked = server.asked();
    let Question::Complete(Outcome::Fetched {
        certificate_der, ..
    }) = &asked[1].1
    else {
        panic!("{asked:?}")
    };
    assert_eq!(certificate_der[..], der[..]);
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
    assert!(
        matches!(ended.last, Err(CommunicationFailure::NotInCtl(_))),
        "{ended:?}"
    );
    assert_eq!((ended.attempts, server.asked().len()), (1, 0));
    assert_eq!(steps(&state), ["broken"]);
}

#[tokio::test]
async fn a_server_with_the_right_certificate_and_the_wrong_key_hears_nothing() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Server::start_impostor(version).await;
        let failure = server.phone().attempt().await.unwrap_err();
        let words = failure.to_string();
        assert!(
            matches!(failure, CommunicationFailure::Handshake { .. })
                && words.contains("BadSignature"),
            "{words}"
        );
        assert!(server.asked().is_empty());
    }
}

#[tokio::test]
async fn a_phone_lost_with_its_certificate_comes_again_with_a_new_key() {
    let (_dir, state) = state();
    let server = Server::start(|_, question| install(question)).await;
    let mut phone = server
        .phone()
        .faults(["drop@certificate:1".parse().unwrap()])
        .state(state.clone())
        .unwrap();
    let ended = phone.enrol().await;
    assert!(
        matches!(ended.last, Ok(AttemptOutcome::Installed { .. })),
        "{ended:?}"
    );
    assert_eq!(ended.attempts, 2);
    let keys = server.keys();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
    assert_eq!(state.lsc().unwrap().unwrap().1.public().spki(), keys[1]);
    assert_eq!(server.outcomes(), ["Stored"]);
    let received: Vec<_> = events(&state)
        .into_iter()
        .filter(|(step, _)| step == "certificate")
        .map(|(_, event)| (event["attempt"].as_u64(), event["fault"].clone()))
        .collect();
    assert_eq!(
        received,
        [(Some(1), "drop".into()), (Some(2), serde_json::Value::Null)]
    );
}

#[tokio::test]
async fn a_dropped_line_at_any_step_of_an_installation_is_followed_by_a_whole_one() {
    for step in Step::ALL {
        if matches!(step, Step::Delete | Step::Deleted | Step::DeleteAnswered)
            || matches!(step, Step::Fetch | Step::FetchAnswered)
        {
            continue;
        }
        let server = Server::start(|_, question| install(question)).await;
        let fault = format!("drop@{step}:1").parse().unwrap();
        let ended = server.phone().faults([fault]).enrol().await;
        assert!(
            matches!(ended.last, Ok(AttemptOutcome::Installed { .. })),
            "{step}: {ended:?}"
        );
        assert_eq!((ended.attempts, server.connections()), (2, 2), "{step}");
    }
}

#[tokio::test]
async fn a_stalled_phone_waits_until_the_server_ends_it() {
    // Here the server gives up on the phone's key and says so.
    let server = Server::start(|_, question| install(question)).await;
    let mut phone = server.phone().faults(["stall@progress".parse().unwrap()]);
    let reason = Reason::INVALID_ELEMENT;
    assert_eq!(
        phone.attempt().await.unwrap(),
        AttemptOutcome::Refused { reason }
    );
    assert_eq!(server.outcomes(), ["KeyGenerationTimedOut"]);
    // And here it hangs up without a word.
    let mut phone = server
        .phone()
        .faults(["stall@certificate".parse().unwrap()]);
    let failure = phone.attempt().await.unwrap_err();
    assert!(
        matches!(
            failure,
            CommunicationFailure::Fault {
                step: Step::Certificate,
                ..
            }
        ),
        "{failure}"
    );
    assert!(phone.lsc().is_none());
}

#[tokio::test]
async fn a_failing_phone_answers_that_it_failed() {
    let reason = Reason::INVALID_ELEMENT;
    for (step, outcome, keeps) in [
        (Step::Key, "KeyGenerationFailed", false),
        (Step::Progress, "KeyGenerationFailed", false),
        (Step::KeyMade, "KeyGenerationFailed", false),
        (Step::Certificate, "StoreRejected", false),
        (Step::Stored, "StoreRejected", true),
    ] {
        let server = Server::start(|_, question| install(question)).await;
        let fault = format!("fail@{step}").parse().unwrap();
        let mut phone = server.phone().faults([fault]);
        let why = PhoneTrouble::Fault(step);
        let ended = phone.enrol().await;
        assert_eq!(ended.last.unwrap(), AttemptOutcome::Failed { why, reason });
        assert_eq!(ended.attempts, 1, "a refusal is not retried");
        assert!(server.outcomes()[0].starts_with(outcome), "{step}");
        assert_eq!(phone.lsc().is_some(), keeps, "{step}");
    }
}

#[tokio::test]
async fn a_user_who_stops_the_phone_makes_it_send_abort() {
    for step in [
        "auth-sent",
        "key",
        "progress",
        "key-sent",
        "certificate",
        "stored",
    ] {
        let server = Server::start(|_, question| install(question)).await;
        let fault = format!("abort@{step}").parse().unwrap();
        let ended = server.phone().faults([fault]).enrol().await;
        let reason = Reason::NO_ACTION;
        assert_eq!(
            ended.last.unwrap(),
            AttemptOutcome::Aborted { reason },
            "{step}"
        );
        assert_eq!(
            (server.outcomes(), ended.attempts),
            (vec!["Aborted".to_owned()], 1),
            "{step}"
        );
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
    assert_eq!(
        phone.attempt().await.unwrap(),
        AttemptOutcome::Failed { why, reason }
    );
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
async fn a_phone_comes_three_more_times_at_its_interval_and_then_gives_up() {
    let server = Server::start(|_, _| Reply::HangUp).await;
    let mut told = Vec::new();
    let start = Instant::now();
    let ended = server
        .phone()
        .enrol_telling(|retry| told.push((retry.number, retry.of)))
        .await;
    assert!(
        matches!(
            ended.last,
            Err(CommunicationFailure::Session(PhoneFailure::HungUp { .. }))
        ),
        "{ended:?}"
    );
    assert_eq!((ended.attempts, server.connections()), (4, 4));
    assert_eq!(told, [(1, 3), (2, 3), (3, 3)]);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(150), "{took:?}");
}

#[tokio::test]
async fn silence_and_a_closed_port_are_communication_failures() {
    let server = Server::start(|_, _| Reply::Silence).await;
    let failure = server.phone().attempt().await.unwrap_err();
    assert!(
        matches!(
            failure,
            CommunicationFailure::Session(PhoneFailure::Deadline { .. })
        ),
        "{failure}"
    );
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let tls = tls_config(server.service.certificate.der()).unwrap();
    let mut phone = SimulatedPhone::new(address, DeviceName::parse(NAME).unwrap(), tls)
        .retries(1, Duration::from_millis(1));
    let ended = phone.enrol().await;
    assert!(
        matches!(ended.last, Err(CommunicationFailure::Connect { .. })),
        "{ended:?}"
    );
    assert_eq!(ended.attempts, 2);
}

#[tokio::test]
async fn the_last_word_of_the_server_is_told_apart_and_never_retried() {
    for (answer, expected) in [
        (Answer::NothingScheduled, AttemptOutcome::NothingScheduled),
        (Answer::UnknownDevice, AttemptOutcome::UnknownDevice),
        (
            Answer::Refused,
            AttemptOutcome::Refused {
                reason: Reason::INVALID_ELEMENT,
            },
        ),
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
    for had_one in [true, false] {
        let outcome = phone.attempt().await.unwrap();
        assert_eq!(outcome, AttemptOutcome::Deleted { had_one });
        assert!(state.lsc().unwrap().is_none());
    }
    assert_eq!(server.outcomes(), ["Stored", "Deleted", "NothingToDelete"]);
}

#[tokio::test]
async fn keys_are_made_as_asked_and_a_prepared_key_of_another_kind_is_not_sent() {
    for (asked, kind) in [
        (KeyRequest::Rsa { bits: 512 }, KeyKind::Rsa(RsaBits::B512)),
        (KeyRequest::Rsa { bits: 1024 }, KeyKind::Rsa(RsaBits::B1024)),
        (KeyRequest::Rsa { bits: 2048 }, KeyKind::Rsa(RsaBits::B2048)),
        (
            KeyRequest::Ec(capf::wire::Curve::P384),
            KeyKind::Ec(Curve::P384),
        ),
    ] {
        let server = Server::start(move |_, question| match question {
            Question::Open(_) => Reply::Answer(Answer::Install { key: asked }),
            other => install(other),
        })
        .await;
        // Its own answer limit does not bound the making of a key.
        let outcome = server.phone().attempt().await.unwrap();
        assert!(
            matches!(outcome, AttemptOutcome::Installed { .. }),
            "{kind}: {outcome:?}"
        );
        let came = PublicKey::from_spki(&server.keys()[0]).unwrap();
        assert_eq!(came.kind(), kind);
    }
    let server = Server::start(|_, question| install(question)).await;
    let prepared = PhoneKey::generate(KeyKind::Ec(Curve::P384)).unwrap();
    let outcome = server
        .phone()
        .prepared_key(prepared)
        .attempt()
        .await
        .unwrap();
    let AttemptOutcome::Failed { why, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        why.to_string().contains("EC P-384, EC P-256 was asked for"),
        "{why}"
    );
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn a_prepared_key_is_the_one_that_is_sent_each_time() {
    let server = Server::start(|_, question| install(question)).await;
    let prepared = PhoneKey::generate(KeyKind::Ec(Curve::P256)).unwrap();
    let mut phone = server
        .phone()
        .prepared_key(prepared.clone())
        .faults(["drop@certificate:1".parse().unwrap()]);
    phone.enrol().await.last.unwrap();
    let spki = prepared.public().spki().to_vec();
    assert_eq!(server.keys(), [spki.clone(), spki]);
}

#[tokio::test]
async fn a_phone_of_version_two_does_as_one_of_version_three_with_rsa() {
    let server = Server::start(|_, question| match question {
        Question::Open(opening) => {
            assert_eq!(opening.version, Version::TWO);
            Reply::Answer(Answer::Install {
                key: KeyRequest::Rsa { bits: 2048 },
            })
        }
        other => install(other),
    })
    .await;
    let outcome = server
        .phone()
        .version(Version::TWO)
        .attempt()
        .await
        .unwrap();
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
    let mut phone = server
        .phone()
        .proof(Proof::AuthenticationString(DIGITS.into()))
        .state(state.clone())
        .unwrap();
    let ended = phone.enrol().await;
    for (_, question) in server.asked() {
        if let Question::Open(opening) = question {
            let Evidence::String(came) = &opening.evidence else {
                panic!("{opening:?}")
            };
            assert_eq!(came.expose_secret(), DIGITS);
        }
    }
    let log = std::fs::read_to_string(state.file("events.log")).unwrap();
    for shown in [format!("{phone:?}"), format!("{ended:?}"), log] {
        assert!(!shown.contains(DIGITS), "{shown}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
