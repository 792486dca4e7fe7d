//! `make abuse`: the product under kills, stops, crowds and outages, against a real API server with everything on this machine.
//!
//! Each scenario prints its figures as it goes, what is required of it, and as its last line one JSON object. Without `--only`
//! all are run, each in a process and on a control plane of its own, and the last line is one object of all. The exit code is 1
//! when something required did not hold; a goal that was missed is printed and does not change it.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "abuse/audit.rs"]
mod audit;
#[path = "abuse/crowd.rs"]
mod crowd;
#[path = "abuse/fleet.rs"]
mod fleet;
#[path = "abuse/idle.rs"]
mod idle;
#[path = "abuse/kills.rs"]
mod kills;
#[path = "abuse/outage.rs"]
mod outage;
#[path = "abuse/patient.rs"]
mod patient;
#[path = "abuse/proc.rs"]
mod proc;
#[path = "abuse/turns.rs"]
mod turns;
#[path = "abuse/verdict.rs"]
mod verdict;
#[path = "abuse/waiting.rs"]
mod waiting;

use std::process::{Command, ExitCode, Stdio};

use clap::{Parser, ValueEnum};
use serde_json::{Map, Value};

use verdict::Verdict;

/// What to run, and how much of it. The defaults are what is required.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Run this scenario alone, in this process
    #[arg(long, value_enum)]
    only: Option<Scenario>,
    /// kills: phones that enrol meanwhile
    #[arg(long, default_value_t = 200)]
    enrolments: usize,
    /// turns: how often the leader is stopped
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// turns: seconds of the Lease; it is stopped for twice as long
    #[arg(long, default_value_t = 2)]
    lease_seconds: u16,
    /// waiting: sessions that wait for their key at one time
    #[arg(long, default_value_t = 10_000)]
    waiting: usize,
    /// crowd: connections that say nothing
    #[arg(long, default_value_t = 2000)]
    silent: usize,
    /// crowd: connections with half a ClientHello
    #[arg(long, default_value_t = 2000)]
    half: usize,
    /// crowd: connections that send a byte a second, half of them a ClientHello, half after the handshake
    #[arg(long, default_value_t = 500)]
    trickling: usize,
    /// crowd: honest phones before, beside and after the crowd, each
    #[arg(long, default_value_t = 600)]
    honest: usize,
    /// outage: seconds that etcd stands still
    #[arg(long, default_value_t = 60)]
    outage_seconds: u64,
    /// idle: phones at rest
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// idle: seconds that are measured
    #[arg(long, default_value_t = 150)]
    idle_seconds: u64,
}

/// What is done to the product.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Scenario {
    /// Controller, endpoint and API server are killed in the middle of enrolments
    Kills,
    /// The leader of two controllers is stopped for twice the Lease and continued, again and again under load
    Turns,
    /// Thousands of sessions wait in key generation at once
    Waiting,
    /// A crowd of connections that never become phones, from one address block
    Crowd,
    /// etcd stands still for a minute
    Outage,
    /// Nothing happens, with thousands of phones
    Idle,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Fails only when one is installed already, and it is the same one then.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    capf::open_files::raise_limit();
    let Some(scenario) = args.only else { return each_in_its_own_process() };
    let mut verdict = Verdict::of(&name(scenario));
    match scenario {
        Scenario::Kills => kills::run(&args, &mut verdict).await,
        Scenario::Turns => turns::run(&args, &mut verdict).await,
        Scenario::Crowd => crowd::run(&args, &mut verdict).await,
        Scenario::Outage => outage::run(&args, &mut verdict).await,
        Scenario::Idle => idle::run(&args, &mut verdict).await,
        Scenario::Waiting => waiting::run(&args, &mut verdict).await,
    }
    verdict.close()
}

fn name(scenario: Scenario) -> String {
    scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Runs this program once for each scenario, with the other arguments as they are.
fn each_in_its_own_process() -> ExitCode {
    let own = std::env::current_exe().unwrap();
    let (mut all, mut failed) = (Map::new(), false);
    for scenario in Scenario::value_variants() {
        let mut command = Command::new(&own);
        command.args(std::env::args_os().skip(1)).args(["--only", &name(*scenario)]);
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}");
        let last = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        failed |= !output.status.success() || last.is_none();
        all.insert(name(*scenario), last.unwrap_or_else(|| output.status.to_string().into()));
    }
    println!("{}", Value::Object(all));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
