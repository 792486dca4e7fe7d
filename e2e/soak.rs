//! `make soak`: everything on, something random goes wrong each minute, memory is measured and all invariants are checked.
//!
//! Two controllers, an endpoint, phones that enrol one after the other by null string and by string, some with wrong ones;
//! phones that have been there for a while are deleted, so that what a process keeps has no reason to grow.

#[path = "faults/mod.rs"]
mod faults;
#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "soak/fleet.rs"]
mod fleet;
#[path = "soak/memory.rs"]
mod memory;
#[path = "soak/mishap.rs"]
mod mishap;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

use faults::invariants::quiet;
use faults::random::Random;
use faults::site::{Site, Versions};
use fleet::Fleet;
use memory::Memory;
use mishap::Mishap;
use product::Options;

/// How often memory is measured.
const MEASURE: Duration = Duration::from_secs(5);
/// How long nothing may be written at the end.
const QUIET: Duration = Duration::from_secs(60);

/// Soaks an installation, prints what each process's memory does, and ends with 1 when something did not hold.
#[derive(Debug, Parser)]
struct Args {
    /// How long; two minutes of settling and quiet follow
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    /// Phones that begin to enrol each second
    #[arg(long, default_value_t = 2.0)]
    rate: f64,
    /// Phones that are there at one time; older ones are deleted
    #[arg(long, default_value_t = 100)]
    population: usize,
    /// The same seed chooses the same mishaps
    #[arg(long, default_value_t = Random::seed())]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    println!("{args:?}");
    let options = Options { replicas: 2, log_level: "info", lease_seconds: Some(5), ..Options::default() };
    let site = Site::start("soak", options).await;
    let start = Instant::now();
    let goes_on = AtomicBool::new(true);
    let fleet = Fleet::new(&site, args.rate, args.population);
    let (enrolled, mut memory) = tokio::join!(fleet.run(&goes_on), course(&site, &args, start, &goes_on));

    let mut found = enrolled.found;
    match site.settled("").await {
        Ok(before) => {
            tokio::time::sleep(QUIET).await;
            let (before, after) = (of_the_living(before), of_the_living(site.versions("").await));
            found.extend(quiet(&before, &after).iter().map(ToString::to_string));
        }
        Err(unsettled) => found.extend(unsettled.iter().map(ToString::to_string)),
    }
    found.extend(site.violations().iter().chain(&site.leaks()).map(ToString::to_string));
    memory.measure(&site, start);
    memory.slopes();
    println!("{} Successful, {} LockedOut in {} min", enrolled.successful, enrolled.locked_out, args.minutes);
    found.iter().for_each(|found| println!("violation: {found}"));
    println!("{} violations; seed {}", found.len(), args.seed);
    if found.is_empty() && enrolled.successful > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Without what belonged to a phone that was deleted: kube-controller-manager takes it away in its own time.
fn of_the_living(versions: Versions) -> Versions {
    let name = |key: &str| key.split(' ').next_back().unwrap_or_default().to_owned();
    let phones: Vec<String> = versions.keys().filter(|key| key.starts_with("Phone ")).map(|key| name(key)).collect();
    let lives = |key: &str| !name(key).starts_with("sep") || phones.iter().any(|phone| name(key).starts_with(phone));
    versions.into_iter().filter(|(key, _)| lives(key)).collect()
}

/// Minute after minute: a mishap at some moment of it, and the memory of every process at its end.
async fn course(site: &Site, args: &Args, start: Instant, goes_on: &AtomicBool) -> Memory {
    let mut random = Random::new(args.seed);
    let mut memory = Memory::default();
    for minute in 1..=args.minutes {
        let begins = Duration::from_secs(5 + random.below(20));
        let mishap = Mishap::draw(&mut random);
        let mishap = async {
            tokio::time::sleep(begins).await;
            println!("minute {minute}, second {}: {mishap}", begins.as_secs());
            mishap.happen(site).await;
        };
        let measuring = async {
            for _ in 0..60 / MEASURE.as_secs() {
                tokio::time::sleep(MEASURE).await;
                memory.measure(site, start);
            }
        };
        tokio::join!(mishap, measuring);
        println!("minute {minute}: {}", memory.last());
    }
    goes_on.store(false, Ordering::SeqCst);
    memory
}
