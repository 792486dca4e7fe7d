//! Errors and lost replies all over, and an API server that says nothing for longer than the Lease.

use std::io::Write as _;
use std::time::Duration;

use capf::phone::Proof;

use crate::faults::phones::{by_null, says};
use crate::faults::random::Random;
use crate::faults::site::{SETTLES, Site};
use crate::faults::storm::Storm;
use crate::harness::eventually;
use crate::product::{Options, PATIENCE};

const LEASE: Duration = Duration::from_secs(2);

async fn site(name: &str, replicas: usize) -> Site {
    let options = Options { replicas, lease_seconds: Some(2), ..Options::default() };
    Site::start(name, options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_phones_enrol_while_every_fifth_call_fails_and_every_tenth_reply_is_lost() {
    let site = site("storm", 2).await;
    let storm = Storm {
        lasts: Duration::from_secs(15),
        phones: 16,
        weather: (20, 10),
        seed: Random::seed(),
        quiet: Duration::from_secs(60),
    };
    println!("{storm:?}");
    let aftermath = storm.rage(&site).await;
    let _ = writeln!(
        std::io::stderr(),
        "storm of seed {}: {} of {} calls were struck; {} violations",
        storm.seed,
        aftermath.struck,
        aftermath.calls,
        aftermath.found.len()
    );
    assert!(aftermath.struck > 10, "there was no storm: {aftermath:?}");
    assert!(aftermath.found.is_empty(), "seed {}: {}", storm.seed, aftermath.found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_leads_again_after_an_api_server_that_was_silent_for_longer_than_the_lease() {
    let site = site("silent", 1).await;
    let log = |text: &str| site.controllers[0].log().matches(text).count();
    for (number, silence) in ["held", "in a black hole"].into_iter().enumerate() {
        let (led, lost) = (log("leading: the loops run here"), log("no longer leading"));
        match silence {
            "held" => site.proxies[0].hold(true),
            _ => site.proxies[0].black_hole(true),
        }
        // The silence itself is what is tested; a second more than the belief lasts.
        tokio::time::sleep(LEASE + Duration::from_secs(3)).await;
        let device = format!("SEP{:012X}", 0x51E_0000 + number);
        site.apply(&device, &by_null()).await;
        assert_eq!(log("no longer leading"), lost + 1, "{silence}: its belief ended");
        assert_eq!(says(&site.phone(&device).await), None, "{silence}: nobody can have armed it");
        site.proxies[0].hold(false);
        site.proxies[0].black_hole(false);
        eventually("it leads again", PATIENCE, || async { log("leading: the loops run here") > led }).await.unwrap();
        // Watches that fell into the hole are found to be dead in time, too.
        let pending = || async { says(&site.phone(&device).await) == Some("Install/Upgrade pending") };
        eventually("the phone is armed", SETTLES, pending).await.unwrap();
        let until = tokio::time::Instant::now() + PATIENCE;
        site.calls_until_over(&device, Proof::NullString, until).await.unwrap();
        site.settled(&device.to_lowercase()).await.unwrap();
    }
    assert_eq!(site.controllers[0].restarts(), 0, "it is the same process");
    assert_eq!(site.violations(), []);
}
