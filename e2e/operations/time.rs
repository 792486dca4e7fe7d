//! Time: deadlines under a moved clock, phones that are off for days, keys that take too long.

use std::time::Duration;

use capf::api::{Phase, Reason};
use capf::phone::{AttemptOutcome, Proof};
use capf::wire::{self, Message};
use jiff::{SignedDuration, Timestamp};

use crate::certificates::by_null;
use crate::harness::eventually;
use crate::product::{Options, PATIENCE, Product, phone};
use crate::scripted::Scripted;

const DAY: i64 = 86_400;
/// A deadline is noticed within 50 s; the rest is for a busy machine.
const WITHIN: Duration = Duration::from_secs(75);

/// An installation whose clock can be moved.
async fn with_clock(name: &str) -> Product {
    let mut product = Product::start(name).await;
    product.move_clock(0);
    product.restart_controller();
    product
}

fn in_seconds(seconds: i64) -> Timestamp {
    let at = Timestamp::now().checked_add(SignedDuration::from_secs(seconds)).unwrap();
    Timestamp::from_second(at.as_second()).unwrap()
}

fn completes_by(deadline: Timestamp) -> String {
    by_null("InstallUpgrade", &format!(", operationCompletesBy: \"{deadline}\""))
}

async fn expires(product: &Product, phone: &str) {
    let failed = product.operation_status_within(phone, "Install/Upgrade failed", WITHIN).await.status.unwrap();
    assert_eq!(failed.operation.unwrap().reason, Some(Reason::Expired));
    let operation = product.armed(phone).await;
    let (ended, deadline) =
        (operation.status.clone().unwrap().completed_at.unwrap(), operation.completes_by().unwrap());
    assert!(ended >= deadline, "ended {ended}, not before {deadline}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_deadline_passes_early_and_each_is_noticed_within_a_minute_however_the_clock_is_moved() {
    let mut product = with_clock("deadlines").await;
    let deadline = in_seconds(3_600);
    product.apply(
        &(phone("SEP0000000E1001", &completes_by(deadline)) + &phone("SEP0000000E1002", &completes_by(deadline))),
    );
    product.operation_status("sep0000000e1001", "Install/Upgrade pending").await;
    product.operation_status("sep0000000e1002", "Install/Upgrade pending").await;
    // A day back while it runs, and two minutes before the deadline at the first look of a new controller. (One that is started
    // a day back finds certificates of its own from the future, says so and ends: nothing passes early there either.)
    for (number, (offset, restarted)) in [(-DAY, false), (3_600 - 120, true)].into_iter().enumerate() {
        product.move_clock(offset);
        if restarted {
            product.restart_controller();
        }
        // The loops have had their turn when another phone has had its own.
        let other = format!("SEP0000000E10F{number}");
        product.apply(&phone(&other, &by_null("InstallUpgrade", "")));
        product.operation_status(&other.to_lowercase(), "Install/Upgrade pending").await;
        assert_eq!(product.armed("sep0000000e1001").await.phase(), Phase::Pending, "{offset}");
    }
    // Forward while it runs.
    product.move_clock(DAY);
    expires(&product, "sep0000000e1001").await;
    expires(&product, "sep0000000e1002").await;
    // A restart across the instant.
    product.move_clock(0);
    product.apply(&phone("SEP0000000E1003", &completes_by(in_seconds(3_600))));
    product.operation_status("sep0000000e1003", "Install/Upgrade pending").await;
    product.controllers.clear();
    product.move_clock(3_601);
    product.start_controller(0);
    expires(&product, "sep0000000e1003").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_was_off_for_days_is_served_when_it_comes() {
    let product = with_clock("days-off").await;
    product.apply(&phone("SEP0000000E1010", &by_null("InstallUpgrade", "")));
    product.operation_status("sep0000000e1010", "Install/Upgrade pending").await;
    product.move_clock(9 * DAY);
    product.enrol("SEP0000000E1010", Proof::NullString).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_while_a_session_is_open_ends_it_unless_its_certificate_is_delivered() {
    let product = with_clock("passing").await;
    let deadline = in_seconds(200);
    product.apply(
        &(phone("SEP0000000E1020", &completes_by(deadline)) + &phone("SEP0000000E1021", &completes_by(deadline))),
    );
    product.operation_status("sep0000000e1020", "Install/Upgrade pending").await;
    product.operation_status("sep0000000e1021", "Install/Upgrade pending").await;
    let (mut making, _) = Scripted::open(&product, "SEP0000000E1020").await;
    let (mut holding, _) = Scripted::open(&product, "SEP0000000E1021").await;
    holding.send_key("EC-P256").await;
    assert!(matches!(holding.hear().await, Some(Message::StoreCertReq(_))));
    // Past the deadline, and within the 254 seconds that a delivered certificate may be answered for.
    product.move_clock(210);
    making.send_key("EC-P256").await;
    assert_eq!(making.end().await, Some(wire::Reason::INVALID_ELEMENT));
    holding.say(&Message::StoreCertRes(wire::Reason::OK)).await;
    assert_eq!(holding.end().await, Some(wire::Reason::OK));
    expires(&product, "sep0000000e1020").await;
    product.operation_status("sep0000000e1021", "Install/Upgrade successful").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_take_its_minutes_with_any_number_of_signs_of_life_and_no_longer() {
    let proxy = "  permitNullString: true\n  maximumKeyGenerationMinutes: 1\n  maximumKeyGenerationAttempts: 2";
    let product = Product::start_with("minutes", Options { proxy, ..Options::default() }).await;
    product.apply(&phone("SEP0000000E1030", &by_null("InstallUpgrade", "")));
    product.operation_status("sep0000000e1030", "Install/Upgrade pending").await;
    let (mut slow, _) = Scripted::open(&product, "SEP0000000E1030").await;
    let (lost, _) = Scripted::open(&product, "SEP0000000E1030").await;
    // Its line is cut: no attempt.
    drop(lost);
    let (mut busy, _) = Scripted::open(&product, "SEP0000000E1030").await;
    for _ in 0..100 {
        busy.say(&Message::RequestInProgress).await;
        slow.say(&Message::RequestInProgress).await;
    }
    let told = slow.end().await;
    assert_eq!(told, Some(wire::Reason::INVALID_ELEMENT), "told when its time is over, although it gave signs of life");
    assert_eq!(busy.end().await, told);
    let failed = product.operation_status("sep0000000e1030", "Install/Upgrade failed").await.status.unwrap();
    assert_eq!(failed.operation.unwrap().reason, Some(Reason::KeyGenerationTimeout));
    let attempts = product.armed("sep0000000e1030").await.status.unwrap().attempts.unwrap();
    assert_eq!((attempts.key_generation, attempts.authentication), (2, 0));
    // A new revision has all its attempts again, and signs of life do no harm.
    product.apply(&phone("SEP0000000E1030", &by_null("InstallUpgrade", ", revision: 2")));
    product.operation_status("sep0000000e1030", "Install/Upgrade pending").await;
    let (mut quick, _) = Scripted::open(&product, "SEP0000000E1030").await;
    for _ in 0..50 {
        quick.say(&Message::RequestInProgress).await;
    }
    quick.send_key("EC-P256").await;
    assert!(matches!(quick.hear().await, Some(Message::StoreCertReq(_))));
    quick.say(&Message::StoreCertRes(wire::Reason::OK)).await;
    assert_eq!(quick.end().await, Some(wire::Reason::OK));
    let over = product.attempt("SEP0000000E1030", Proof::NullString).await;
    assert_eq!(over, AttemptOutcome::NothingScheduled);
    eventually("it is rolled up", PATIENCE, || async {
        product.phone("sep0000000e1030").await.status.unwrap().lsc.is_some()
    })
    .await
    .unwrap();
}
