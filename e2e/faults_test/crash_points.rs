//! Every crash point of every scenario: before and after each mutating call that the scenario makes, as counted by a run
//! without faults, something goes wrong; and all that must hold holds all the same.

use std::collections::VecDeque;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;

use crate::faults::invariants::Violation;
use crate::faults::script::{Fault, Script};
use crate::faults::site::{Site, Versions};
use crate::harness::eventually;
use crate::product::Options;

use super::scenario::Scenario;

/// Installations that work off the points of one scenario side by side.
const LANES: usize = 3;
/// One of these is the answer at each point.
const ANSWERS: [u16; 4] = [409, 429, 503, 504];
/// What is not written to in this time after it has settled is at rest. Most subjects are left alone much longer.
const QUIET: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_an_activation() {
    enumerate(Scenario::Activation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_an_installation_by_null_string() {
    enumerate(Scenario::InstallByNull).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_an_installation_by_authentication_string() {
    enumerate(Scenario::InstallByString).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_wrong_strings_to_the_lock_out() {
    enumerate(Scenario::LockOut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_an_expiry() {
    enumerate(Scenario::Expiry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_a_supersession_while_pending() {
    enumerate(Scenario::SupersedePending).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_a_supersession_in_progress() {
    enumerate(Scenario::SupersedeInProgress).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_a_deletion() {
    enumerate(Scenario::Delete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_troubleshooting() {
    enumerate(Scenario::Troubleshoot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_an_installation_by_the_lsc() {
    enumerate(Scenario::InstallByLsc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_an_installation_by_the_mic() {
    enumerate(Scenario::InstallByMic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_an_installation_that_supersedes_a_deletion() {
    enumerate(Scenario::SupersedeDelete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_of_an_installation_that_supersedes_a_deletion_in_progress() {
    enumerate(Scenario::SupersedeDeleteInProgress).await;
}

/// A place where something goes wrong.
struct Point {
    number: usize,
    fault: Fault,
}

/// An installation, and what has come to rest in it.
struct Lane {
    site: Site,
    /// Subjects are numbered from here on.
    base: usize,
    runs: usize,
    settled: Vec<(String, Versions)>,
    found: Vec<String>,
}

async fn enumerate(scenario: Scenario) {
    let mut first = Box::pin(Lane::start(scenario, 0)).await;
    let calls = Box::pin(first.count(scenario)).await;
    assert!(calls > 1, "{scenario:?} makes {calls} mutating calls: is the proxy in the way?");
    let mut points = VecDeque::new();
    for number in 1..=calls {
        let answer = Fault::Answer(ANSWERS[number % ANSWERS.len()]);
        let faults = [Fault::KillBefore, Fault::KillAfter, Fault::LoseReply, answer];
        points.extend(faults.map(|fault| Point { number, fault }));
    }
    let total = points.len();
    let points = Arc::new(Mutex::new(points));
    // Threads of their own: what blocks in one does not hold up the others.
    let runtime = tokio::runtime::Handle::current();
    let mut lanes = Vec::new();
    let mut first = Some(first);
    for number in 0..LANES {
        let (points, runtime, counted) = (Arc::clone(&points), runtime.clone(), first.take());
        lanes.push(tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                let lane = match counted {
                    Some(lane) => lane,
                    None => Box::pin(Lane::start(scenario, number * 1000)).await,
                };
                Box::pin(lane.work(scenario, calls, &points)).await
            })
        }));
    }
    let lanes = futures::future::try_join_all(lanes).await.unwrap();
    // Whatever settled last is looked at as long as this.
    tokio::time::sleep(QUIET).await;
    let mut found = Vec::new();
    for lane in lanes {
        found.extend(lane.checked().await);
    }
    // Past the capture of the test runner: this figure is what the run is for.
    let _ = writeln!(
        std::io::stderr(),
        "crash points of {scenario:?}: {total}, {calls} mutating calls with {} faults each; {} violations",
        total / calls,
        found.len()
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

impl Lane {
    async fn start(scenario: Scenario, base: usize) -> Self {
        let name = format!("{scenario:?}").to_lowercase();
        let options = Options { lease_seconds: Some(2), moving_clock: true, ..Options::default() };
        let site = Site::start(&name, options).await;
        scenario.equip(&site).await;
        Self { site, base, runs: 0, settled: Vec::new(), found: Vec::new() }
    }

    /// Plays the scenario without faults and returns how many mutating calls it makes.
    async fn count(&mut self, scenario: Scenario) -> usize {
        self.run(scenario, "without faults", Script::quiet()).await;
        let calls = self.site.proxies[0].calls();
        let counted = calls.iter().filter(|call| call.number.is_some());
        for (number, call) in counted.enumerate() {
            let manager = call.request.manager.as_deref().unwrap_or_default();
            println!("{scenario:?}: call {} is {} by {manager}", number + 1, call.request);
        }
        self.site.proxies[0].counted()
    }

    /// Works off points until there are none left.
    async fn work(mut self, scenario: Scenario, calls: usize, points: &Mutex<VecDeque<Point>>) -> Self {
        loop {
            let point = points.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(Point { number, fault }) = point else { return self };
            let script = Script::one(fault, number);
            self.run(scenario, &format!("call {number} of {calls}, {fault}"), script).await;
        }
    }

    async fn run(&mut self, scenario: Scenario, what: &str, script: Script) {
        self.runs += 1;
        let subject = scenario.subject(self.base + self.runs);
        let prefix = subject.to_lowercase();
        let whole = async {
            scenario.prepare(&self.site, &subject).await;
            let rest = self.site.settled(&prefix).await;
            assert!(rest.is_ok(), "before it began: {rest:?}");
            self.site.proxies[0].forget();
            self.site.proxies[0].play(script);
            scenario.play(&self.site, &subject).await
        };
        let played = AssertUnwindSafe(whole).catch_unwind().await;
        let ending = played.unwrap_or_else(|panic| {
            let why = panic.downcast_ref::<String>().map_or("it panicked", String::as_str);
            self.found.push(format!("{scenario:?}, {what}: {why}"));
            "it did not end".into()
        });
        let proxy = &self.site.proxies[0];
        // The last calls come when everything that people see is over.
        let through = eventually("the point is reached", Duration::from_secs(5), || async { proxy.is_through() }).await;
        let hit = proxy.calls().into_iter().find(|call| call.fault.is_some()).map(|call| call.request.to_string());
        println!("{scenario:?}: {what}, {}: {ending}", hit.unwrap_or_default());
        if through.is_err() {
            self.found.push(format!("{scenario:?}, {what}: the point was never reached"));
        }
        match self.site.settled(&prefix).await {
            Ok(versions) => self.settled.push((prefix, versions)),
            Err(violations) => self.found.extend(violations.iter().map(|v| format!("{scenario:?}, {what}: {v}"))),
        }
    }

    /// Everything that does not hold in this installation.
    async fn checked(self) -> Vec<String> {
        let mut found = self.found;
        let mut violations: Vec<Violation> = self.site.violations();
        for (prefix, before) in &self.settled {
            violations.extend(crate::faults::invariants::quiet(before, &self.site.versions(prefix).await));
        }
        violations.extend(self.site.leaks());
        found.extend(violations.iter().map(ToString::to_string));
        found
    }
}
