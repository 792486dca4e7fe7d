//! Every crash point of every scenario: before and after each mutating call that the scenario makes, as counted by a run
//! without faults and beyond that as far as there are any, something goes wrong; and all that must hold holds all the same.

use std::collections::VecDeque;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// How long a point is waited for, after all that people see is over, that the scenario should come to.
const REACHED: Duration = Duration::from_secs(30);
/// And one beyond the last call that was counted, which it should not.
const NOT_REACHED: Duration = Duration::from_secs(3);
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
#[derive(Clone, Copy)]
struct Point {
    number: usize,
    fault: Fault,
    /// Whether a run before has ended without coming to it.
    missed: bool,
}

/// What is to be tried. The count that it begins with is of one run, and another may make a call more or less: an Event, or a
/// second try. So a fault that was not met is tried once more, and the call after the last is tried too.
struct Points {
    /// Mutating calls, as counted.
    calls: usize,
    ahead: VecDeque<Point>,
    tried: usize,
}

impl Points {
    fn new(calls: usize) -> Self {
        let mut points = Self { calls, ahead: VecDeque::new(), tried: 0 };
        // First, so that no lane waits for it at the end.
        points.ahead.push_back(Point { number: calls + 1, fault: Fault::KillBefore, missed: false });
        for number in 1..=calls {
            points.ahead.extend(faults(number).map(|fault| Point { number, fault, missed: false }));
        }
        points
    }

    /// Takes in that a run has come to this point: beyond the count there are more of its kind, and one after it perhaps.
    fn reached(&mut self, Point { number, fault, .. }: Point) {
        self.tried += 1;
        if number > self.calls && fault == Fault::KillBefore {
            let others = faults(number).into_iter().filter(|other| *other != fault);
            self.ahead.extend(others.map(|fault| Point { number, fault, missed: false }));
            self.ahead.push_back(Point { number: number + 1, fault, missed: false });
        }
    }

    /// Takes in that a run, in which nothing went wrong then, has made so many calls and not come to this point: what is wrong
    /// about that.
    fn not_reached(&mut self, point: Point, made: usize) -> Option<String> {
        if point.number > self.calls {
            return None;
        }
        if !point.missed {
            self.ahead.push_back(Point { missed: true, ..point });
            return None;
        }
        // Twice in vain: the count had a call that there is not always, which can only be one.
        let once_too_many = point.number == self.calls && made == self.calls - 1;
        (!once_too_many)
            .then(|| format!("the point was never reached, in two runs of which the last made {made} calls"))
    }
}

/// What goes wrong at each call.
fn faults(number: usize) -> [Fault; 4] {
    let answer = Fault::Answer(ANSWERS[number % ANSWERS.len()]);
    [Fault::KillBefore, Fault::KillAfter, Fault::LoseReply, answer]
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
    let points = Arc::new(Mutex::new(Points::new(calls)));
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
                Box::pin(lane.work(scenario, &points)).await
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
    let tried = lock(&points).tried;
    // Past the capture of the test runner: this figure is what the run is for.
    let _ = writeln!(
        std::io::stderr(),
        "crash points of {scenario:?}: {tried}, {calls} mutating calls with four faults each; {} violations",
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
        self.run(scenario, "without faults", Script::quiet(), Duration::ZERO).await;
        let calls = self.site.proxies[0].calls();
        let counted = calls.iter().filter(|call| call.number.is_some());
        for (number, call) in counted.enumerate() {
            let manager = call.request.manager.as_deref().unwrap_or_default();
            println!("{scenario:?}: call {} is {} by {manager}", number + 1, call.request);
        }
        self.site.proxies[0].counted()
    }

    /// Works off points until there are none left.
    async fn work(mut self, scenario: Scenario, points: &Mutex<Points>) -> Self {
        loop {
            let (point, calls) = {
                let mut points = lock(points);
                (points.ahead.pop_front(), points.calls)
            };
            let Some(point) = point else { return self };
            let Point { number, fault, .. } = point;
            let what = format!("call {number} of {calls}, {fault}");
            let patience = if number > calls { NOT_REACHED } else { REACHED };
            if self.run(scenario, &what, Script::one(fault, number), patience).await {
                lock(points).reached(point);
            } else if let Some(wrong) = lock(points).not_reached(point, self.site.proxies[0].counted()) {
                self.found.push(format!("{scenario:?}, {what}: {wrong}"));
            }
        }
    }

    /// Plays the scenario to its end and waits until all is at rest. Whether the script is through by then.
    async fn run(&mut self, scenario: Scenario, what: &str, script: Script, patience: Duration) -> bool {
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
        let through = eventually("the point is reached", patience, || async { proxy.is_through() }).await.is_ok();
        let hit = proxy.calls().into_iter().find(|call| call.fault.is_some()).map(|call| call.request.to_string());
        println!("{scenario:?}: {what}, {}: {ending}", hit.unwrap_or_default());
        match self.site.settled(&prefix).await {
            Ok(versions) => self.settled.push((prefix, versions)),
            Err(violations) => self.found.extend(violations.iter().map(|v| format!("{scenario:?}, {what}: {v}"))),
        }
        through
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn whatever_was_counted_every_call_that_runs_make_is_tried() {
    // Runs make four calls. How many were counted, and whether all is well.
    for (counted, well) in [(4, true), (3, true), (2, true), (5, true), (6, false)] {
        let (mut points, made) = (Points::new(counted), 4);
        let mut wrong = Vec::new();
        while let Some(point) = points.ahead.pop_front() {
            if point.number <= made {
                points.reached(point);
            } else {
                wrong.extend(points.not_reached(point, made));
            }
        }
        assert_eq!((points.tried, wrong.is_empty()), (4 * made, well), "{counted} counted: {wrong:?}");
    }
}
