//! The simulated phone when things go wrong, on purpose or not: it does what the fault says, and comes back as phones do.

mod phone_support;

use std::time::{Duration, Instant};

use capf::phone::{AttemptOutcome, CommunicationFailure, Patience, PhoneTrouble, SimulatedPhone, Step, tls_config};
use capf::wire::{DeviceName, PhoneFailure, Question, Reason};
use phone_support::{NAME, Reply, Server, events, install, state};
use tokio_util::sync::CancellationToken;

/// A deadline that is meant to pass, and only where it is waited for: everything else is done in time on a busy machine too.
const SOON: Duration = Duration::from_secs(3);
/// Between two things, on purpose.
const PAUSE: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_phone_lost_with_its_certificate_comes_again_with_a_new_key() {
    let (_dir, state) = state();
    let server = Server::start(|_, question| install(question)).await;
    let mut phone = server.phone().faults(["drop@certificate:1".parse().unwrap()]).state(state.clone()).unwrap();
    let ended = phone.enrol().await;
    assert!(matches!(ended.last, Ok(AttemptOutcome::Installed { .. })), "{ended:?}");
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
    assert_eq!(received, [(Some(1), "drop".into()), (Some(2), serde_json::Value::Null)]);
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
        assert!(matches!(ended.last, Ok(AttemptOutcome::Installed { .. })), "{step}: {ended:?}");
        assert_eq!((ended.attempts, server.connections()), (2, 2), "{step}");
    }
}

#[tokio::test]
async fn a_stalled_phone_waits_until_the_server_ends_it() {
    // Here the server gives up on the phone's key and says so.
    let server = Server::start_patient(SOON, |_, question| install(question)).await;
    let mut phone = server.phone().faults(["stall@progress".parse().unwrap()]);
    let reason = Reason::INVALID_ELEMENT;
    assert_eq!(phone.attempt().await.unwrap(), AttemptOutcome::Refused { reason });
    assert_eq!(server.outcomes(), ["KeyGenerationTimedOut"]);
    // And here it hangs up without a word.
    let mut phone = server.phone().faults(["stall@certificate".parse().unwrap()]);
    let failure = phone.attempt().await.unwrap_err();
    assert!(matches!(failure, CommunicationFailure::Fault { step: Step::Certificate, .. }), "{failure}");
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
    for step in ["auth-sent", "key", "progress", "key-sent", "certificate", "stored"] {
        let server = Server::start(|_, question| install(question)).await;
        let fault = format!("abort@{step}").parse().unwrap();
        let ended = server.phone().faults([fault]).enrol().await;
        let reason = Reason::NO_ACTION;
        assert_eq!(ended.last.unwrap(), AttemptOutcome::Aborted { reason }, "{step}");
        assert_eq!((server.outcomes(), ended.attempts), (vec!["Aborted".to_owned()], 1), "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_can_be_stopped_in_a_session_and_between_two() {
    let stop = CancellationToken::new();
    let pressed = stop.clone();
    let (_dir, state) = state();
    let noted = state.file("events.log");
    let server = Server::start(move |_, question| {
        if let Question::Issue { .. } = question {
            pressed.cancel();
            // The phone must have given up before the certificate is on its way.
            let gave_up = || std::fs::read_to_string(&noted).is_ok_and(|events| events.contains("\"stopped\""));
            let patience = Instant::now() + Duration::from_secs(30);
            while !gave_up() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        install(question)
    })
    .await;
    let ended = server.phone().state(state).unwrap().stop(stop).enrol().await;
    let reason = Reason::NO_ACTION;
    assert_eq!(ended.last.unwrap(), AttemptOutcome::Aborted { reason });
    assert_eq!(server.outcomes(), ["Aborted"]);

    let server = Server::start(|_, _| Reply::HangUp).await;
    let stop = CancellationToken::new();
    let mut phone = server.phone().stop(stop.clone()).retries(3, Duration::from_secs(60));
    let ended = phone.enrol_telling(|_| stop.cancel()).await;
    assert!(matches!(ended.last, Err(CommunicationFailure::Stopped)), "{ended:?}");
    assert_eq!((ended.attempts, server.connections()), (1, 1));
}

#[tokio::test]
async fn a_phone_comes_three_more_times_at_its_interval_and_then_gives_up() {
    let server = Server::start(|_, _| Reply::HangUp).await;
    let mut told = Vec::new();
    let start = Instant::now();
    let ended = server.phone().enrol_telling(|retry| told.push((retry.number, retry.of))).await;
    assert!(matches!(ended.last, Err(CommunicationFailure::Session(PhoneFailure::HungUp { .. }))), "{ended:?}");
    assert_eq!((ended.attempts, server.connections()), (4, 4));
    assert_eq!(told, [(1, 3), (2, 3), (3, 3)]);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(150), "{took:?}");
}

#[tokio::test]
async fn a_slow_phone_takes_its_time_and_notices_when_the_server_does_not_wait() {
    let server = Server::start(|_, question| install(question)).await;
    let mut phone = server.phone().pausing(Step::KeyMade, PAUSE).pausing(Step::Stored, PAUSE);
    let start = Instant::now();
    let ended = phone.enrol().await;
    assert!(matches!(ended.last, Ok(AttemptOutcome::Installed { .. })), "{ended:?}");
    assert_eq!(ended.attempts, 1);
    assert!(start.elapsed() >= 2 * PAUSE, "{:?}", start.elapsed());

    // A server whose patience with the key ends says so, and the phone need not wait for itself to hear it.
    let impatient = Server::start_patient(SOON, |_, question| install(question)).await;
    let mut phone = impatient.phone().pausing(Step::KeyMade, Duration::from_secs(3600));
    let reason = Reason::INVALID_ELEMENT;
    assert_eq!(phone.attempt().await.unwrap(), AttemptOutcome::Refused { reason });

    // One that hangs up is called again.
    let impatient = Server::start_patient(SOON, |_, question| install(question)).await;
    let mut phone = impatient.phone().pausing(Step::Stored, Duration::from_secs(3600)).retries(1, PAUSE);
    let ended = phone.enrol().await;
    assert!(matches!(ended.last, Err(CommunicationFailure::Session(PhoneFailure::HungUp { .. }))), "{ended:?}");
    assert_eq!(ended.attempts, 2);
}

#[tokio::test]
async fn silence_and_a_closed_port_are_communication_failures() {
    let server = Server::start(|_, _| Reply::Silence).await;
    let failure =
        server.phone().patience(Patience { answer: SOON, ..Patience::default() }).attempt().await.unwrap_err();
    assert!(matches!(failure, CommunicationFailure::Session(PhoneFailure::Deadline { .. })), "{failure}");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let tls = tls_config(server.service.certificate.der()).unwrap();
    let mut phone =
        SimulatedPhone::new(address, DeviceName::parse(NAME).unwrap(), tls).retries(1, Duration::from_millis(1));
    let ended = phone.enrol().await;
    assert!(matches!(ended.last, Err(CommunicationFailure::Connect { .. })), "{ended:?}");
    assert_eq!(ended.attempts, 2);
}
