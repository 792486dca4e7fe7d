//! Power failures: at each step of each operation, every phone completes at its next try and nothing is done twice.

use capf::api::{LscState, Phase, Reason};
use capf::phone::{AttemptOutcome, Fault, Proof, Step};
use capf::pki::CertificateFacts;
use capf::wire::{self, CertType, FetchCertRes, Message};

use crate::certificates::{by_null, enrolled, with_state};
use crate::harness::eventually;
use crate::product::{PATIENCE, Product, phone};
use crate::scripted::Scripted;

const OPERATIONS: [(&str, &str); 3] =
    [("InstallUpgrade", "Install/Upgrade"), ("Delete", "Delete"), ("Troubleshoot", "Troubleshoot")];

/// A phone with an LSC whose operation waits for it.
async fn waiting(product: &Product, device: &str, (operation, words): (&str, &str)) {
    enrolled(product, device).await;
    let settings = by_null(operation, ", deviceSecurityMode: NonSecure, revision: 2");
    product.apply(&phone(device, &settings));
    product.operation_status(&device.to_lowercase(), &format!("{words} pending")).await;
}

/// The steps that an undisturbed session comes by: where its power can fail.
async fn cut_points(product: &Product, device: &str, operation: (&str, &str)) -> Vec<Step> {
    waiting(product, device, operation).await;
    let (mut simulated, dir) = with_state(product, device).await;
    let known = std::fs::read_to_string(dir.file("events.log")).unwrap().lines().count();
    assert!(simulated.attempt().await.unwrap().is_fine());
    let log = std::fs::read_to_string(dir.file("events.log")).unwrap();
    let mut passed = Vec::new();
    for line in log.lines().skip(known) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let step = Step::ALL.into_iter().find(|step| event["step"] == step.name());
        passed.extend(step.filter(|step| !passed.contains(step)));
    }
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn power_that_fails_at_any_step_of_any_operation_costs_one_more_try_and_doubles_nothing() {
    let product = Product::start("power").await;
    let mut endings = Vec::new();
    for (number, operation) in OPERATIONS.into_iter().enumerate() {
        let steps = cut_points(&product, &format!("SEP0000000C{number}000"), operation).await;
        // Connected, AUTH_REQ, AUTH_RES, and at least the request and its answer.
        assert!(steps.len() >= 5, "{operation:?} has no steps to be cut at: {steps:?}");
        for (at, step) in steps.iter().enumerate() {
            let device = format!("SEP0000000C{number}{:03}", at + 1);
            let ending = cut(&product, &device, operation, *step).await;
            endings.push(format!("{:<16}{:<16}{ending}", operation.1, step.name()));
        }
    }
    let table = endings.join("\n");
    println!("{table}");
    assert_eq!(endings.len(), 10 + 6 + 5, "{table}");
}

/// Cuts one session of the waiting operation at this step; says how it ends at the next.
async fn cut(product: &Product, device: &str, operation: (&str, &str), step: Step) -> String {
    waiting(product, device, operation).await;
    let name = device.to_lowercase();
    let (simulated, dir) = with_state(product, device).await;
    let fault: Fault = format!("drop@{step}:1").parse().unwrap();
    let mut simulated = simulated.faults([fault]);
    simulated.attempt().await.unwrap_err();
    // What the phone has said arrives; whether it is put on record before the next try is a race, so it is waited for.
    let said = |phase: Phase, traces: usize| match step {
        Step::KeySent => phase == Phase::InProgress,
        Step::Answered | Step::DeleteAnswered => phase == Phase::Successful,
        Step::FetchAnswered => traces == 1,
        _ => true,
    };
    eventually("what the phone said is on record", PATIENCE, || async {
        let status = product.armed(&name).await.status.unwrap();
        if said(status.phase, status.traces.len()) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await
    .unwrap();
    let next = simulated.attempt().await.unwrap();
    assert!(next.is_fine(), "{operation:?} cut at {step}: {next:?}");
    let words = format!("{} successful", operation.1);
    let rolled_up = product.operation_status(&name, &words).await.status.unwrap();
    let done = product.armed(&name).await.status.unwrap();
    let of_phone = product.operations().await.into_iter().filter(|o| o.spec.phone_ref.name == name).count();
    assert_eq!((of_phone, done.attempts), (2, None), "{device} cut at {step}: one operation, no try spent");
    let held = dir.lsc().unwrap().map(|(der, _)| CertificateFacts::from_der(&der).unwrap().sha256);
    assert_eq!(
        held,
        rolled_up.lsc.map(|lsc| lsc.sha256_fingerprint),
        "{device} cut at {step}: the record is the truth"
    );
    match operation.0 {
        "Delete" => assert_eq!(rolled_up.lsc_state, LscState::NotInstalled),
        _ => assert_eq!(rolled_up.lsc_state, LscState::Installed),
    }
    assert!(done.superseded_serial_numbers.len() <= 1, "{done:?}");
    // Its operation is over: another call finds nothing to do.
    let after = product.attempt(device, Proof::NullString).await;
    assert_eq!(after, AttemptOutcome::NothingScheduled);
    let reason = done.reason.map(Reason::as_str).unwrap_or_default();
    format!(
        "{words} {reason}; next try: {}; certificates given up: {}",
        next.kind(),
        done.superseded_serial_numbers.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn power_that_fails_between_the_two_certificates_costs_one_more_try_too() {
    let product = Product::start("between").await;
    let (device, name) = ("SEP0000000C9001", "sep0000000c9001");
    waiting(&product, device, OPERATIONS[2]).await;
    for answered in [false, true] {
        let (mut session, request) = Scripted::open(&product, device).await;
        assert!(matches!(request, Message::FetchCertReq(None)), "{request:?}");
        let none =
            || Message::FetchCertRes(FetchCertRes { reason: Some(wire::Reason::INVALID_ELEMENT), certificate: None });
        session.say(&none()).await;
        let request = session.hear().await;
        assert!(matches!(request, Some(Message::FetchCertReq(Some(CertType::MIC)))), "{request:?}");
        let status = product.armed(name).await.status.unwrap();
        assert_eq!(
            (status.phase, status.traces.len()),
            (Phase::InProgress, 1),
            "on record before the next is asked for"
        );
        if answered {
            session.say(&none()).await;
            assert_eq!(session.end().await, Some(wire::Reason::NO_ACTION));
        }
    }
    let over = product.operation_status(name, "Troubleshoot successful").await.status.unwrap();
    assert_eq!(over.lsc_state, LscState::NotInstalled, "by the phone's own word, although it was given one");
    assert_eq!(product.armed(name).await.status.unwrap().traces.len(), 2);
}
