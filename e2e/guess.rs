//! `make guess`: wrong strings in great number, from one source block, while two controller replicas are each killed twice and
//! right strings come from another block. Says what it cost, and fails if it cost more than it may.
//!
//! It is played with the limits as they are, where the block is stopped early, and with those of blocks and budgets out of the
//! way, where every device is locked out: what then holds is the count of the device alone.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "guess/attack.rs"]
mod attack;
#[path = "guess/writes.rs"]
mod writes;

use std::time::Instant;

use clap::Parser;

use attack::{Fleet, Tally};
use product::{Options, Product};
use writes::Writes;

/// What to play.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Wrong strings in each of the two rounds
    #[arg(long, default_value_t = 100_000)]
    strings: usize,
    /// Devices that are guessed at
    #[arg(long, default_value_t = 1_000)]
    devices: usize,
    /// Sessions at a time
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Phones that enrol from another block meanwhile
    #[arg(long, default_value_t = 20)]
    beside: usize,
    /// Play one part only
    #[arg(long, value_enum)]
    only: Option<Part>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Part {
    /// The limits as they are by default
    Default,
    /// Those of blocks and budgets out of the way
    Raised,
}

/// Kills of each of the two replicas, all in the first round.
const KILLS: usize = 2;
/// API writes that a device may cost, the deletion of its generated string aside.
const MOST_WRITES: usize = 5;

#[tokio::main]
async fn main() {
    let args = Args::parse();
    // Fails only when one is installed already, and it is the same one then.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    for part in [Part::Default, Part::Raised] {
        if args.only.is_none_or(|only| only == part) {
            play(&args, part).await;
        }
    }
}

async fn play(args: &Args, part: Part) {
    let proxy = match part {
        Part::Default => "  phoneDefaults: {keyType: EC}",
        Part::Raised => {
            "  phoneDefaults: {keyType: EC}\n  limits: {wrongStringsPerBlock: 10000, wrongStringsPerSecond: 100, \
             wrongStringsPerHour: 100000}"
        }
    };
    // A short Lease, for the leader is among the killed.
    let options = Options { proxy, replicas: 2, lease_seconds: Some(3), ..Options::default() };
    let mut product = Product::start_with("guess", options).await;
    let fleet = Fleet::create(&product, args.devices, args.beside).await;
    let writes = Writes::watch(&product).await;
    let began = Instant::now();
    let first = attack::round(&mut product, &fleet, args.strings, args.concurrency, KILLS).await;
    let settled = writes.settled(&product).await;
    let locked_out = attack::locked_out(&product).await;
    let after_first = began.elapsed();
    let second = attack::round(&mut product, &fleet, args.strings, args.concurrency, 0).await;
    let after_second = writes.settled(&product).await;
    let checks = attack::checks(&product);
    let most_checks = fleet.guessed.iter().filter_map(|device| checks.get(device)).max().copied().unwrap_or(0);
    let all_checks: usize = fleet.guessed.iter().filter_map(|device| checks.get(device)).sum();
    let (most_writes, all_writes) = settled.of(&fleet.guessed);
    let (_, all_writes_later) = after_second.of(&fleet.guessed);

    println!("limits {part:?}: {} wrong strings over {} devices from one /24, twice", args.strings, args.devices);
    println!(
        "  first round {:.0} s, then {:.0} s",
        after_first.as_secs_f32(),
        (began.elapsed() - after_first).as_secs_f32()
    );
    println!("  {} | {}", first.line(), second.line());
    println!("  strings checked: {all_checks}, at most {most_checks} of one device; devices locked out: {locked_out}");
    println!(
        "  API writes for the devices: {all_writes} in the first round, at most {most_writes} for one; {} in the second",
        all_writes_later - all_writes
    );
    println!("  API writes of the proxy's status: {}", after_second.proxy);
    println!("  right strings from another block: {} of {} phones enrolled meanwhile", first.enrolled, args.beside);

    let kills = 2 * KILLS;
    assert!(most_checks <= 3 + kills, "a device was checked {most_checks} times");
    assert!(most_writes <= MOST_WRITES, "a device cost {most_writes} writes");
    assert_eq!(all_writes_later, all_writes, "the second round wrote something");
    assert_eq!((first.let_in, second.let_in), (0, 0), "a wrong string let somebody in");
    assert_eq!(first.enrolled, args.beside, "right strings from another block");
    if part == Part::Raised {
        assert_eq!(locked_out, args.devices, "not every device was locked out, so the count proves little");
    }
    product.namespace.delete().await.ok();
}

impl Tally {
    fn line(&self) -> String {
        format!("{} answered, {} without an answer", self.refused, self.broken)
    }
}
