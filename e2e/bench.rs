//! `make bench`: enrolments a second against a real API server, with everything on this machine.
//!
//! For each mode and concurrency it prints a line, and beside it the rate of bare status patches of the same API
//! server in the same run, so that the figures of two machines can be compared by their ratio. The last line is one
//! JSON object. Ratios are of one run; timings of a busy machine say little by themselves.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "bench/calls.rs"]
mod calls;
#[path = "bench/cpu.rs"]
mod cpu;
#[path = "bench/fleet.rs"]
mod fleet;
#[path = "bench/patches.rs"]
mod patches;

use clap::Parser;
use serde_json::{Value, json};

use fleet::{Mode, Run};
use product::{Options, Product};

/// What to measure.
#[derive(Debug, Parser)]
struct Args {
    /// Enrolments of each measured run
    #[arg(long, default_value_t = 1000)]
    enrolments: usize,
    /// Phones under way at one time; a run for each, the first is the one that the summary is of
    #[arg(long, value_delimiter = ',', default_value = "32,256")]
    concurrency: Vec<usize>,
    /// Phones that exist beside those that enrol; runs in null mode at the first concurrency for each
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    existing: Vec<usize>,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    // Fails only when one is installed already, and it is the same one then.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let first = args.concurrency[0];
    let options = Options {
        log_level: "info",
        proxy: "  permitNullString: true\n  phoneDefaults: {keyType: EC}\n  limits: {answerSeconds: 60}",
        ..Options::default()
    };
    let product = Product::start_with("bench", options).await;
    let patches = patches::per_second(&product, first).await;
    println!("bare status patches: {patches:.0}/s at concurrency {first}");
    let mut summaries = Vec::new();
    let mut number = 0;
    for mode in [Mode::Null, Mode::String] {
        for &concurrency in &args.concurrency {
            let run = Run { mode, concurrency, enrolments: args.enrolments, first_number: number };
            number += args.enrolments;
            summaries.push(measured(&product, run, patches).await);
        }
    }
    let mut scale = Vec::new();
    let mut existing = 0;
    for &wanted in &args.existing {
        fleet::add_idle(&product, existing..wanted).await;
        existing = existing.max(wanted);
        let run = Run { mode: Mode::Null, concurrency: first, enrolments: args.enrolments, first_number: number };
        number += args.enrolments;
        let mut summary = measured(&product, run, patches).await;
        summary["existing_phones"] = json!(wanted);
        scale.push(summary);
    }
    let cost = |summary: &Value| 1.0 / summary["enrolments_per_s"].as_f64().unwrap_or(f64::NAN);
    let mut result = summaries[0].clone();
    result["string"] = summaries[args.concurrency.len()].clone();
    result["all"] = json!(summaries);
    if let [small, .., large] = &scale[..] {
        result["cost_at_most_existing_over_least"] = json!(cost(large) / cost(small));
    }
    result["scale"] = json!(scale);
    println!("{result}");
    product.namespace.delete().await.ok();
}

async fn measured(product: &Product, run: Run, patches: f64) -> Value {
    let summary = fleet::run(product, &run).await;
    let calls = summary.calls_from_call / run.enrolments as f64;
    let ratio = summary.settled_per_s / (patches / calls);
    println!(
        "{:?} at concurrency {}: {:.0} enrolments/s to rest ({:.0} sessions/s), p50 {:.0} ms, p99 {:.0} ms, {} failures, \
         {} retries, {:.2} mutating calls before and {calls:.2} from the call, ratio {ratio:.2}",
        run.mode,
        run.concurrency,
        summary.settled_per_s,
        summary.sessions.per_second,
        summary.sessions.p50_ms,
        summary.sessions.p99_ms,
        summary.sessions.failed,
        summary.sessions.retries,
        summary.calls_before / run.enrolments as f64,
    );
    println!("  processor time, ms an enrolment: {}", summary.cpu_ms);
    for (kind, example) in &summary.sessions.examples {
        println!("  {kind}: {example}");
    }
    json!({
        "mode": format!("{:?}", run.mode),
        "enrolments_per_s": summary.settled_per_s,
        "sessions_per_s": summary.sessions.per_second,
        "p50_ms": summary.sessions.p50_ms,
        "p99_ms": summary.sessions.p99_ms,
        "failures": summary.sessions.failed,
        "retries": summary.sessions.retries,
        "mutating_calls_per_enrolment": calls,
        "calls_before": summary.calls_before / run.enrolments as f64,
        "status_patches_per_s": patches,
        "ratio": ratio,
        "cpu_ms_per_enrolment": summary.cpu_ms,
        "concurrency": run.concurrency,
        "enrolments": run.enrolments,
    })
}
