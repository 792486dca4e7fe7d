//! Ten thousand phones and nothing to do: what the product asks of the API server and of the cores all the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use capf::api::CertificateOperationKind;
use serde_json::json;

use crate::audit::{Audited, Request};
use crate::fleet::{self, Line, Times};
use crate::harness::eventually;
use crate::product::{Options, Product};
use crate::verdict::{Verdict, round};
use crate::{Args, proc};

/// Phones that have enrolled, and as many that wait to, among those of which nothing is wanted.
const OTHERS: usize = 100;
/// The product has settled when it has written nothing but Leases for so long.
const SETTLED: Duration = Duration::from_secs(20);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs it.
pub async fn run(args: &Args, verdict: &mut Verdict) {
    let audited = Audited::start(false);
    let options = Options {
        log_level: "info",
        proxy: "  permitNullString: true\n  phoneDefaults: {keyType: EC}",
        plane: Some(audited.plane),
        ..Options::default()
    };
    let product = Product::start_with("idle", options).await;
    let pids = [product.controllers[0].pid(), product.endpoint.as_ref().unwrap().pid()];
    fleet::arm(&product, 0..2 * OTHERS).await;
    let line = Line::to(&product).await;
    let every = Duration::from_millis(50);
    let enrolled = fleet::arrive(&line, 0..OTHERS, every, |phone| phone, |_| {}).await;
    assert_eq!(Times::of(&enrolled).failures, [""; 0]);
    let rest = 2 * OTHERS..args.idle;
    fleet::apply(&product, rest.clone(), json!({})).await;
    fleet::until(&product, rest, "the phones are looked at", |phone| {
        phone.spec.certificate_operation == CertificateOperationKind::NoPendingOperation
            && phone.status.as_ref().is_some_and(|status| status.observed_generation == 1)
    })
    .await;
    settle(&audited).await;

    let before = audited.mark();
    let (cpu, began) = (pids.map(proc::cpu), Instant::now());
    tokio::time::sleep(Duration::from_secs(args.idle_seconds)).await;
    let (lasted, now) = (began.elapsed().as_secs_f64(), pids.map(proc::cpu));
    let requests = audited.since(before);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for request in &requests {
        *counts.entry(request.what()).or_default() += 1;
    }
    let percent = [0, 1].map(|at| (now[at] - cpu[at]).as_secs_f64() / lasted * 100.0);
    let rate = requests.len() as f64 / lasted;
    verdict.figure("phones", args.idle);
    verdict.figure("of_those_waiting_and_enrolled", [OTHERS, OTHERS]);
    verdict.figure("seconds", lasted.round());
    verdict.figure("requests", &counts);
    verdict.figure("requests_per_s", round(rate));
    verdict.figure("controller_percent_of_a_core", round(percent[0]));
    verdict.figure("endpoint_percent_of_a_core", round(percent[1]));
    verdict.figure("controller_mib", round(proc::resident_kib(pids[0]) as f64 / 1024.0));
    let writes: Vec<String> = requests.iter().filter(|r| is_work(r)).map(Request::what).collect();
    verdict.require(format!("nothing is written but Leases: {writes:?}"), writes.is_empty());
    verdict.require("the log is not empty: the Lease is renewed", counts.keys().any(|what| what.contains("leases")));
    verdict.goal(format!("at most 0.5 requests a second: {rate:.2}"), rate <= 0.5);
    let sum = percent[0] + percent[1];
    verdict.goal(format!("controller and endpoint take at most 0.5 % of a core: {sum:.2} %"), sum <= 0.5);
    product.namespace.delete().await.ok();
}

/// Whether something was written that is not the election.
fn is_work(request: &Request) -> bool {
    request.is_write() && request.resource() != "leases"
}

async fn settle(audited: &Audited) {
    let (mut mark, mut since) = (audited.mark(), Instant::now());
    eventually("nothing but Leases is written", PATIENCE, || {
        if audited.since(mark).iter().any(is_work) {
            (mark, since) = (audited.mark(), Instant::now());
        }
        std::future::ready(since.elapsed() >= SETTLED)
    })
    .await
    .unwrap();
}
