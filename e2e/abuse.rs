//! `make abuse`: the product under kills, stops, crowds and outages, against a real API server with everything on this machine.
//!
//! Each scenario prints its figures as it goes, what is required of it, and as its last line one JSON object. Without `--only`
//! all are run, each in a process and on a control plane of its own, and the last line is one object of all. The exit code is 1
//! when something required did not hold; a goal that was missed is printed and does not change it.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "abuse/fleet.rs"]
mod fleet;
#[path = "abuse/patient.rs"]
mod patient;
#[path = "abuse/proc.rs"]
mod proc;
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
    /// Sessions that wait for their key at one time
    #[arg(long, default_value_t = 10_000)]
    waiting: usize,
}

/// What is done to the product.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Scenario {
    /// 10,000 sessions wait in key generation at once
    Waiting,
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
