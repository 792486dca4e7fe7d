//! Sessions as they should be, and as the authority would have them.

use std::time::{Duration, Instant};

use capf::wire::{Command, Evidence, Message, PhoneFailure, PhoneState, Reason, Version};

use super::logs::Logs;
use super::phone::{Line, auth_res, certificate, digits, frame, key_response};
use super::support::{CERTIFICATE, LIMITS, Running};

#[tokio::test]
async fn a_phone_of_version_three_gets_its_certificate() {
    let (logs, endpoint) = (Logs::begin(), Running::begin());
    let mut line = Line::connect(endpoint.address).await.unwrap();
    let ended = line.play("sep001", Version::THREE, digits("4711471147")).await;
    assert_eq!(ended, Ok((Reason::OK, Some(CERTIFICATE.to_vec()))));
    assert_eq!(
        endpoint.authority.asked(),
        [
            "open SEP001 version 3 digits Some(10) certificate false",
            "issue 294 octets, ticket of SEP001",
            "complete Stored, receipt of SEP001",
        ]
    );
    let end = logs.end_of(line.address()).await;
    assert!(end.contains("device=\"SEP001\"") && end.contains("it is on record"), "{end}");
    assert!(end.contains("end=\"finished\"") && end.contains("session{id="), "{end}");
    assert!(!logs.text().contains("4711471147"), "the digits are in no line of any level");
}

#[tokio::test]
async fn a_phone_of_version_two_gets_its_certificate_over_tls_12() {
    let endpoint = Running::begin();
    let versions = [&rustls::version::TLS12];
    let mut line = Line::connect_with(endpoint.address, &versions).await.unwrap();
    let ended = line.play("CSFjdoe", Version::TWO, Evidence::Null).await;
    assert_eq!(ended, Ok((Reason::OK, Some(CERTIFICATE.to_vec()))));
    let open = "open CSFJDOE version 2 digits None certificate false";
    assert_eq!(endpoint.authority.asked()[0], open);
}

#[tokio::test]
async fn a_certificate_as_evidence_is_told_to_the_authority_and_an_ec_key_asked_for() {
    let endpoint = Running::begin();
    let mut line = Line::connect(endpoint.address).await.unwrap();
    let ended = line.play("CURVED", Version::THREE, certificate()).await;
    assert_eq!(ended, Ok((Reason::OK, Some(CERTIFICATE.to_vec()))));
    let open = "open CURVED version 3 digits None certificate true";
    assert_eq!(endpoint.authority.asked()[0], open);
}

#[tokio::test]
async fn what_the_authority_answers_decides_what_the_phone_hears_and_the_log_says() {
    let (logs, endpoint) = (Logs::begin(), Running::begin());
    let three = Version::THREE;
    let rows = [
        ("NOBODY", three, Reason::UNKNOWN_DEVICE, "no device of its name"),
        ("IDLE", three, Reason::NO_ACTION, "nothing is scheduled"),
        ("IDLE", Version::TWO, Reason::INVALID_ELEMENT, "nothing is scheduled"),
        ("WRONG", three, Reason::INVALID_ELEMENT, "because=\"InvalidAuthenticationString\""),
        ("BADKEY", three, Reason::INVALID_ELEMENT, "because=\"KeyRejected\""),
        ("CURVED", Version::TWO, Reason::INVALID_ELEMENT, "makes RSA keys only"),
    ];
    for (name, version, reason, text) in rows {
        let mut line = Line::connect(endpoint.address).await.unwrap();
        let ended = line.play(name, version, digits("4711")).await;
        assert_eq!(ended.map(|(reason, _)| reason), Ok(reason), "{name}");
        let end = logs.end_of(line.address()).await;
        assert!(end.contains(text), "{name}: {end}");
    }
}

#[tokio::test]
async fn a_phone_is_left_without_end_session_when_the_authority_cannot_be_asked() {
    let (logs, endpoint) = (Logs::begin(), Running::begin());
    let rows = [
        ("DOWN", PhoneState::AwaitingOperation, "it is being moved"),
        // Refused to be put on record: nothing is told, and the phone comes again to hear how things stand.
        ("NORECORD", PhoneState::AwaitingEnd, "Superseded"),
        ("NOISSUE", PhoneState::AwaitingCertificate, "no replica is ready"),
        ("LOST", PhoneState::AwaitingEnd, "the API does not answer"),
    ];
    for (name, doing, cause) in rows {
        let mut line = Line::connect(endpoint.address).await.unwrap();
        let ended = line.play(name, Version::THREE, Evidence::Null).await;
        assert_eq!(ended, Err(PhoneFailure::HungUp { doing }), "{name}");
        let end = logs.end_of(line.address()).await;
        assert!(end.contains(cause) && end.contains("end=\"unavailable\""), "{end}");
    }
}

#[tokio::test]
async fn a_phone_is_left_without_end_session_when_the_authority_hangs() {
    let logs = Logs::begin();
    let mut limits = LIMITS;
    limits.question = Duration::from_millis(500);
    let endpoint = Running::with(limits, Duration::ZERO);
    let mut line = Line::connect(endpoint.address).await.unwrap();
    line.present("HANGS").await;
    let asked = Instant::now();
    assert_eq!(line.end().await, None);
    let took = asked.elapsed();
    assert!((450..30_000).contains(&took.as_millis()), "{took:?}");
    let end = logs.end_of(line.address()).await;
    assert!(end.contains("the authority's answer to Open did not come in time"), "{end}");
}

#[tokio::test]
async fn a_frame_that_comes_byte_by_byte_is_a_frame() {
    let endpoint = Running::begin();
    let mut line = Line::connect(endpoint.address).await.unwrap();
    let id = line.frame().await.session_id();
    for byte in auth_res(id, 3, "SEP001") {
        line.send(&[byte]).await;
    }
    assert_eq!(line.frame().await.command(), Command::KEY_GENERATE_REQ);
    let progress = frame(17, id, &[]);
    line.send(&[&progress[..3], &[]].concat()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    line.send(&[&progress[3..], &progress, &key_response(id)].concat()).await;
    assert_eq!(line.frame().await.command(), Command::STORE_CERT_REQ);
}

#[tokio::test]
async fn progress_does_not_move_the_deadline_of_the_key() {
    let (logs, endpoint) = (Logs::begin(), Running::begin());
    let mut line = Line::connect(endpoint.address).await.unwrap();
    let id = line.present("SLOW").await;
    assert_eq!(line.frame().await.command(), Command::KEY_GENERATE_REQ);
    // As long as no end comes: with a deadline that moves, none ever would.
    let ends = async {
        loop {
            match tokio::time::timeout(Duration::from_millis(200), line.hear()).await {
                Ok(heard) => return heard.unwrap().expect("a frame"),
                Err(_) => line.send(&frame(17, id, &[])).await,
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(60), ends).await.expect("it ends");
    assert!(matches!(Message::parse(&end).unwrap().message, Message::EndSession(Reason::INVALID_ELEMENT)), "{end:?}");
    let asked = endpoint.authority.asked();
    assert_eq!(asked[1], "complete KeyGenerationTimedOut, ticket of SLOW");
    let end = logs.end_of(line.address()).await;
    assert!(end.contains("did not make a key in time"), "{end}");
}

#[tokio::test]
async fn a_user_who_gives_up_is_put_on_record() {
    let endpoint = Running::begin();
    let mut line = Line::connect(endpoint.address).await.unwrap();
    let id = line.present("SEP001").await;
    assert_eq!(line.frame().await.command(), Command::KEY_GENERATE_REQ);
    line.send(&frame(Command::ABORT_REQ.0, id, &[])).await;
    assert_eq!(line.end().await, Some(Reason::NO_ACTION));
    let asked = endpoint.authority.asked();
    assert_eq!(asked[1], "complete Aborted, ticket of SEP001");
}
