//! The endpoint, or the controller, dies at each step of a phone's session.

use std::time::Duration;

use capf::phone::{Fault, FaultKind, Proof, Step};
use tokio::time::Instant;

use crate::faults::keeper::Keeper;
use crate::faults::phones::by_null;
use crate::faults::site::Site;
use crate::harness::eventually;
use crate::product::{Options, PATIENCE};

/// Steps of an installation.
const STEPS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn phones_enrol_although_the_endpoint_dies_at_any_step_of_their_sessions() {
    die("endpoint", |site| &site.endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_enrol_although_the_controller_dies_at_any_step_of_their_sessions() {
    die("controller", |site| &site.controllers[0]).await;
}

async fn die(who: &str, victim: impl Fn(&Site) -> &Keeper) {
    let options = Options { lease_seconds: Some(2), ..Options::default() };
    let site = Site::start(&format!("steps-{who}"), options).await;
    for (number, step) in Step::ALL.into_iter().take(STEPS).enumerate() {
        let device = format!("SEP{:012X}", 0x57E_0000 + number);
        site.apply(&device, &by_null()).await;
        site.pending(&device).await;
        let restarts = victim(&site).restarts();
        let stall = Fault::new(FaultKind::Stall, step).unwrap().in_first(1);
        let stalling = async {
            let mut phone = site.simulated(&device, Proof::NullString).faults([stall]).patience(patience());
            // Until it is told something, or that nothing is wanted any more.
            phone.enrol().await
        };
        let killing = async {
            let reached = || async { site.disk(&device).step(step.name()).next().is_some() };
            eventually(&format!("the phone is at {step}"), PATIENCE, reached).await.unwrap();
            victim(&site).with(crate::harness::Process::kill).unwrap();
            eventually(&format!("the {who} is back"), PATIENCE, || async { victim(&site).restarts() > restarts })
                .await
                .unwrap();
        };
        let (ended, ()) = tokio::join!(stalling, killing);
        let over = site.calls_until_over(&device, Proof::NullString, Instant::now() + PATIENCE).await.unwrap();
        println!("{who} died at {step}: {:?} in {} attempts, {:?}", over.phase(), ended.attempts, ended.last.is_ok());
        site.settled(&device.to_lowercase()).await.unwrap();
    }
    assert_eq!(site.violations(), []);
    assert_eq!(site.leaks(), []);
}

/// A phone that was left alone gives the endpoint two seconds to say so.
fn patience() -> capf::phone::Patience {
    capf::phone::Patience { stall: Duration::from_secs(2), ..capf::phone::Patience::default() }
}
