//! `make faults`: an error storm as long as is asked for, with everything on this machine.

#[path = "faults/mod.rs"]
mod faults;
#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use faults::random::Random;
use faults::site::Site;
use faults::storm::Storm;
use product::Options;

/// Lets phones enrol while the API server answers errors and loses replies, and checks what must hold all the same.
#[derive(Debug, Parser)]
struct Args {
    /// How long the storm lasts; a minute of quiet follows
    #[arg(long, default_value_t = 120)]
    seconds: u32,
    /// Phones that enrol in the course of it
    #[arg(long, default_value_t = 60)]
    phones: usize,
    /// Of 100 calls, those that are answered with an error
    #[arg(long, default_value_t = 20)]
    errors: u64,
    /// Of 100 calls, those whose replies are lost
    #[arg(long, default_value_t = 10)]
    lost: u64,
    /// The same seed draws the same weather
    #[arg(long, default_value_t = Random::seed())]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    println!("{args:?}");
    let options = Options { replicas: 2, lease_seconds: Some(5), ..Options::default() };
    let site = Site::start("storm", options).await;
    let storm = Storm {
        lasts: Duration::from_secs(args.seconds.into()),
        phones: args.phones,
        weather: (args.errors, args.lost),
        seed: args.seed,
        quiet: Duration::from_secs(60),
    };
    let aftermath = storm.rage(&site).await;
    aftermath.found.iter().for_each(|found| println!("violation: {found}"));
    println!(
        "{} phones, {} of {} calls were struck, {} violations; seed {}",
        args.phones,
        aftermath.struck,
        aftermath.calls,
        aftermath.found.len(),
        args.seed
    );
    if aftermath.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
