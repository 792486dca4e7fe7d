//! The controller, the endpoint and the API server are killed in the middle of enrolments, and started again at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capf::phone::AttemptOutcome;

use crate::Args;
use crate::fleet::{self, Enrolled, Line};
use crate::harness::eventually;
use crate::product::{Options, Product};
use crate::verdict::Verdict;

/// How often a phone comes: faster than they can enrol, so that each kill meets dozens of sessions.
const EVERY: Duration = Duration::from_millis(4);
/// The phones' retry interval; the source's is 30 s.
const RETRY: Duration = Duration::from_secs(10);
/// The source's number.
const RETRIES: u32 = 3;

/// Runs it.
pub async fn run(args: &Args, verdict: &mut Verdict) {
    let proxy = "  permitNullString: true\n  phoneDefaults: {keyType: EC}";
    let mut product = Product::start_with("kills", Options { log_level: "info", proxy, ..Options::default() }).await;
    let numbers = 0..args.enrolments;
    fleet::arm(&product, numbers.clone()).await;
    let line = Line::to(&product).await;
    let done = AtomicUsize::new(0);
    let phones = fleet::arrive(
        &line,
        numbers.clone(),
        EVERY,
        |phone| phone.retries(RETRIES, RETRY),
        |_| {
            done.fetch_add(1, Ordering::Relaxed);
        },
    );
    let kills = async {
        for (part, after) in [("controller", 1), ("endpoint", 2), ("API server", 3)] {
            let after = args.enrolments * after / 5;
            let reached = || async { done.load(Ordering::Relaxed) >= after };
            eventually("enough have enrolled to kill something", Duration::from_secs(120), reached).await.unwrap();
            let began = std::time::Instant::now();
            tokio::task::block_in_place(|| match part {
                "controller" => {
                    product.controllers[0].kill().unwrap();
                    product.controllers.clear();
                    product.start_controller(0);
                }
                "endpoint" => {
                    product.endpoint.take().unwrap().kill().unwrap();
                    product.start_endpoint();
                }
                _ => {
                    product.plane.control("kill apiserver").unwrap();
                    product.plane.control("restart apiserver").unwrap();
                }
            });
            let seconds = began.elapsed().as_secs_f64();
            println!("   the {part} was killed after {after} enrolments and served again after {seconds:.1} s");
        }
    };
    let (ended, ()) = tokio::join!(phones, kills);
    let retried = |retries: u32| ended.iter().filter(|e| e.outcome.attempts == retries + 1).count();
    verdict.figure("enrolments", ended.len());
    verdict.figure("phones_by_retries_0_to_3", [retried(0), retried(1), retried(2), retried(3)]);
    let unheard = ended.iter().filter(|e| matches!(e.outcome.last, Ok(AttemptOutcome::NothingScheduled)));
    verdict.figure("phones_that_only_missed_the_last_word", unheard.count());
    let longest = ended.iter().map(|e| e.took).max().unwrap_or_default();
    verdict.figure("longest_enrolment_s", longest.as_secs());
    let failed: Vec<&Enrolled> = ended.iter().filter(|e| e.certificate().is_none()).collect();
    let example = failed.first().map(|e| format!("{:?}", e.outcome.last));
    let what = format!("all phones enrol within {RETRIES} retries: {} do not, {example:?}", failed.len());
    verdict.require(what, failed.is_empty());
    verdict.require("the kills met phones", retried(0) < ended.len());
    let unlike = fleet::unlike_the_record(&product, numbers, &ended).await;
    let example = unlike.first();
    let what =
        format!("each is Successful with the certificate its phone holds: {} are not, {example:?}", unlike.len());
    verdict.require(what, unlike.is_empty());
    product.namespace.delete().await.ok();
}
