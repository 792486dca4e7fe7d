//! Endings: users who stop, newer requests, phones and proxies that go while a session is open.

use capf::api::{Phase, Reason};
use capf::phone::{AttemptOutcome, Proof};
use capf::wire::{self, Message};

use crate::certificates::{by_null, enrolled};
use crate::harness::eventually;
use crate::product::{PATIENCE, Product, phone};
use crate::scripted::Scripted;

const STORED: Message = Message::StoreCertRes(wire::Reason::OK);
/// END_SESSION 1, 7 and 9.
const DONE: Option<wire::Reason> = Some(wire::Reason::OK);
const REFUSED: Option<wire::Reason> = Some(wire::Reason::INVALID_ELEMENT);

/// A phone that waits for its LSC, and its session: asked for a key.
async fn asked_for_key(product: &Product, device: &str) -> Scripted {
    product.apply(&phone(device, &by_null("InstallUpgrade", "")));
    product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
    let (session, request) = Scripted::open(product, device).await;
    assert!(matches!(request, Message::KeyGenerateReq(_)), "{request:?}");
    session
}

/// The same, with its certificate delivered and not answered for.
async fn holding_certificate(product: &Product, device: &str) -> Scripted {
    let mut session = asked_for_key(product, device).await;
    session.send_key("EC-P256").await;
    let request = session.hear().await;
    assert!(matches!(request, Some(Message::StoreCertReq(_))), "{request:?}");
    session
}

/// Waits until the operation that the phone names is in this phase, and was made for this revision.
async fn armed_in(product: &Product, phone: &str, other_than: &str, phase: Phase) {
    eventually("a newer operation is armed", PATIENCE, || async {
        let armed = product.armed(phone).await;
        let name = armed.metadata.name.clone().unwrap();
        if name != other_than && armed.phase() == phase { Ok(()) } else { Err(format!("{armed:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_stops_ends_the_operation_wherever_it_stands() {
    let product = Product::start("abort").await;
    for (number, (operation, words, step)) in [
        ("InstallUpgrade", "Install/Upgrade", "key"),
        ("InstallUpgrade", "Install/Upgrade", "certificate"),
        ("Delete", "Delete", "delete"),
        ("Troubleshoot", "Troubleshoot", "fetch"),
    ]
    .into_iter()
    .enumerate()
    {
        let device = format!("SEP0000000D000{number}");
        let name = device.to_lowercase();
        product.apply(&phone(&device, &by_null(operation, ", deviceSecurityMode: NonSecure")));
        product.operation_status(&name, &format!("{words} pending")).await;
        let simulated = product.simulated(&device, Proof::NullString).await;
        let outcome = simulated.faults([format!("abort@{step}").parse().unwrap()]).attempt().await.unwrap();
        assert!(matches!(outcome, AttemptOutcome::Aborted { .. }), "{step}: {outcome:?}");
        let failed = product.operation_status(&name, &format!("{words} failed")).await.status.unwrap();
        assert_eq!(failed.operation.unwrap().reason, Some(Reason::UserAborted), "{step}");
        assert_eq!(failed.lsc, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_refuses_to_delete_or_to_show_fails_with_its_own_reason_and_loses_nothing() {
    let product = Product::start("unwilling").await;
    let (simulated, _dir) = enrolled(&product, "SEP0000000D0010").await;
    let mut simulated = simulated.faults(["fail@delete".parse().unwrap()]);
    product.apply(&phone("SEP0000000D0010", &by_null("Delete", ", deviceSecurityMode: NonSecure")));
    product.operation_status("sep0000000d0010", "Delete pending").await;
    let (mut session, request) = Scripted::open(&product, "SEP0000000D0010").await;
    assert!(matches!(request, Message::DeleteCertReq(None)), "{request:?}");
    session.say(&Message::DeleteCertRes(wire::Reason(3))).await;
    assert_eq!(session.end().await, REFUSED);
    let failed = product.operation_status("sep0000000d0010", "Delete failed").await.status.unwrap();
    assert_eq!(failed.operation.unwrap().reason, Some(Reason::PhoneRejected));
    assert!(failed.lsc.is_some(), "the LSC is there and goes on");
    assert_eq!(simulated.attempt().await.unwrap(), AttemptOutcome::NothingScheduled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_replaced_while_the_key_is_made_ends_at_once_and_the_newer_one_is_answered_next() {
    let product = Product::start("replaced").await;
    let mut session = asked_for_key(&product, "SEP0000000D0020").await;
    let old = product.armed("sep0000000d0020").await.metadata.name.unwrap();
    product.apply(&phone("SEP0000000D0020", &by_null("InstallUpgrade", ", revision: 2")));
    armed_in(&product, "sep0000000d0020", &old, Phase::Pending).await;
    session.send_key("EC-P256").await;
    assert_eq!(session.end().await, REFUSED);
    let operations = product.operations().await;
    let ended = operations.iter().find(|o| o.metadata.name.as_deref() == Some(&old)).unwrap().status_or_default();
    assert_eq!((ended.reason, ended.certificate), (Some(Reason::Superseded), None), "nothing was signed for it");
    product.enrol("SEP0000000D0020", Proof::NullString).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_replaced_while_its_certificate_is_delivered_ends_by_the_phones_answer() {
    let product = Product::start("tail").await;
    let mut session = holding_certificate(&product, "SEP0000000D0021").await;
    let old = product.armed("sep0000000d0021").await;
    let generation = product.phone("sep0000000d0021").await.metadata.generation;
    // In the middle of a session no status says which spec was looked at. The log does that there was a look, and by the time
    // that a phone has been armed which came later the leader has heard of both.
    let looks = || {
        let log = product.controllers[0].log();
        log.lines().filter(|line| line.contains("sep0000000d0021") && line.contains("decided")).count()
    };
    let before = looks();
    product.apply(&phone("SEP0000000D0021", &by_null("InstallUpgrade", ", revision: 2")));
    product.apply(&phone("SEP0000000D0022", &by_null("InstallUpgrade", "")));
    product.operation_status("sep0000000d0022", "Install/Upgrade pending").await;
    eventually("the leader has looked at it", PATIENCE, || async { looks() > before }).await.unwrap();
    assert_ne!(product.phone("sep0000000d0021").await.metadata.generation, generation);
    let name = old.metadata.name.clone().unwrap();
    assert_eq!(product.armed("sep0000000d0021").await.metadata.name.as_deref(), Some(name.as_str()));
    session.say(&STORED).await;
    assert_eq!(session.end().await, DONE);
    armed_in(&product, "sep0000000d0021", &name, Phase::Pending).await;
    let fingerprint = old.status.unwrap().certificate.unwrap().summary.sha256_fingerprint;
    let live = product.phone("sep0000000d0021").await.status.unwrap().lsc;
    assert_eq!(live.unwrap().sha256_fingerprint, fingerprint, "what the phone stored is the live LSC");
    product.enrol("SEP0000000D0021", Proof::NullString).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_while_the_key_is_made_leaves_the_phone_as_it_was() {
    let product = Product::start("cancelled").await;
    let mut session = asked_for_key(&product, "SEP0000000D0023").await;
    product.apply(&phone("SEP0000000D0023", &by_null("NoPendingOperation", "")));
    product.operation_status("sep0000000d0023", "Install/Upgrade failed").await;
    session.send_key("EC-P256").await;
    assert_eq!(session.end().await, REFUSED);
    assert_eq!(product.attempt("SEP0000000D0023", Proof::NullString).await, AttemptOutcome::NothingScheduled);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_for_a_phone_that_was_deleted_while_it_made_its_key() {
    let product = Product::start("gone").await;
    let mut session = asked_for_key(&product, "SEP0000000D0024").await;
    let holding = holding_certificate(&product, "SEP0000000D0025").await;
    product.kubectl(&["delete", "ph", "--all", "--wait=true"]);
    eventually("the phone is unknown", PATIENCE, || async {
        product.attempt("SEP0000000D0024", Proof::NullString).await == AttemptOutcome::UnknownDevice
    })
    .await
    .unwrap();
    session.send_key("EC-P256").await;
    assert_eq!(session.end().await, REFUSED);
    // One that holds its certificate already keeps it. Whether its word is still put on record depends on whether its
    // operation has been collected; either way the next call finds no device.
    let mut holding = holding;
    holding.say(&STORED).await;
    let end = holding.end().await;
    assert!(end == DONE || end.is_none(), "{end:?}");
    assert_eq!(product.attempt("SEP0000000D0025", Proof::NullString).await, AttemptOutcome::UnknownDevice);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_suspended_lets_open_sessions_finish_and_one_that_is_deleted_sends_them_home() {
    let product = Product::start("proxygone").await;
    let mut session = asked_for_key(&product, "SEP0000000D0026").await;
    product.suspend();
    session.send_key("EC-P256").await;
    assert!(matches!(session.hear().await, Some(Message::StoreCertReq(_))));
    session.say(&STORED).await;
    assert_eq!(session.end().await, DONE);
    product.operation_status("sep0000000d0026", "Install/Upgrade successful").await;

    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    let mut session = asked_for_key(&product, "SEP0000000D0027").await;
    product.kubectl(&["delete", "capf/main", "--wait=true"]);
    eventually("the proxy is gone for the controller too", PATIENCE, || async {
        product.simulated("SEP0000000D0027", Proof::NullString).await.attempt().await.is_err()
    })
    .await
    .unwrap();
    session.send_key("EC-P256").await;
    assert_eq!(session.end().await, None, "without END_SESSION the phone comes again by itself");
    let operation = product.armed("sep0000000d0027").await;
    assert_eq!(operation.phase(), Phase::Pending, "it waits for a proxy of the same name");
}
