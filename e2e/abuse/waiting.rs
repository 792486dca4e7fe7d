//! Ten thousand sessions wait for their phones' keys at once, while other phones enrol.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capf::wire::Reason;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::fleet::{self, Line, Times};
use crate::product::{Options, Product};
use crate::verdict::{Verdict, round};
use crate::{Args, patient, proc};

/// Phones that enrol before the others come, and as many while they wait.
const HONEST: usize = 300;
/// How often one of them comes.
const EVERY: Duration = Duration::from_millis(50);
/// Connections being made at one time.
const AT_ONCE: usize = 64;
/// Of those that wait, how many are let go on at the end.
const LET_GO_ON: usize = 200;

/// Runs it.
pub async fn run(args: &Args, verdict: &mut Verdict) {
    let proxy = "  permitNullString: true\n  phoneDefaults: {keyType: EC}";
    let product = Product::start_with("waiting", Options { log_level: "info", proxy, ..Options::default() }).await;
    let endpoint = product.endpoint.as_ref().unwrap().pid();
    let controller = product.controllers[0].pid();
    fleet::arm(&product, 0..args.waiting + 2 * HONEST).await;
    let line = Line::to(&product).await;
    let (before, meanwhile) = (args.waiting..args.waiting + HONEST, args.waiting + HONEST..args.waiting + 2 * HONEST);
    let alone = honest(&line, before).await;
    verdict.figure("honest_phones_alone", alone.json());
    let (at_first, controller_at_first) = (proc::resident_kib(endpoint), proc::resident_kib(controller));

    let mut waiting = Waiting::begin(&line, args.waiting).await;
    let now = proc::resident_kib(endpoint);
    let each = now.saturating_sub(at_first) as f64 / args.waiting as f64;
    verdict.figure("sessions_waiting", waiting.asked);
    verdict.figure("seconds_until_all_waited", waiting.took.as_secs());
    verdict.figure("endpoint_open_files", proc::open_files(endpoint));
    verdict.figure("endpoint_kib_before", at_first);
    verdict.figure("endpoint_kib_with_all_waiting", now);
    verdict.figure("endpoint_kib_per_session", round(each));
    let controller_now = proc::resident_kib(controller);
    verdict.figure("controller_kib", [controller_at_first, controller_now]);
    verdict.require(format!("all {} wait for their keys at once", args.waiting), waiting.asked == args.waiting);
    verdict.goal(format!("a waiting session takes at most 40 KiB: {each:.1}"), each <= 40.0);

    let beside = honest(&line, meanwhile).await;
    verdict.figure("honest_phones_meanwhile", beside.json());
    verdict.require("every honest phone enrols meanwhile", beside.failures.is_empty() && alone.failures.is_empty());
    let lost = waiting.ended();
    verdict.require(format!("no waiting session was lost: {lost:?}"), lost.is_empty());

    let let_go_on = LET_GO_ON.min(args.waiting);
    let done = waiting.go_on(let_go_on).await;
    verdict.figure("let_go_on", let_go_on);
    verdict.require(format!("those that are let go on enrol: {} do, {:?}", done.enrolled, done.failed), {
        done.enrolled == let_go_on
    });
    drop(waiting);
    product.namespace.delete().await.ok();
}

async fn honest(line: &Line, numbers: Range<usize>) -> Times {
    Times::of(&fleet::arrive(line, numbers, EVERY, |phone| phone.retries(0, EVERY), |_| {}).await)
}

/// Sessions that wait for a word.
struct Waiting {
    sessions: JoinSet<Result<Reason, String>>,
    words: Vec<oneshot::Sender<()>>,
    asked: usize,
    took: Duration,
}

struct Done {
    enrolled: usize,
    failed: Option<String>,
}

impl Waiting {
    /// Connects phones, and waits until each was asked for its key or is lost.
    async fn begin(line: &Line, count: usize) -> Self {
        let (mut sessions, mut words, start) = (JoinSet::new(), Vec::new(), Instant::now());
        let (heard, mut news) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        for number in 0..count {
            let (word, wait) = oneshot::channel();
            words.push(word);
            let (line, heard) = (line.clone(), heard.clone());
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await.unwrap();
            sessions.spawn(async move {
                let asked = move || {
                    heard.send(()).unwrap();
                    drop(place);
                };
                Box::pin(patient::enrol(&line, number, asked, wait)).await
            });
        }
        drop(heard);
        let mut asked = 0;
        // Ends when the last has been asked, or has given up and dropped its end.
        while news.recv().await.is_some() {
            asked += 1;
        }
        Self { sessions, words, asked, took: start.elapsed() }
    }

    /// How sessions ended that should wait.
    fn ended(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(ended) = self.sessions.try_join_next() {
            all.push(format!("{:?}", ended.unwrap()));
        }
        all
    }

    /// Lets so many go on, one after the other as fast as phones of a building would make their keys, and waits for them.
    async fn go_on(&mut self, count: usize) -> Done {
        for word in self.words.drain(..count) {
            // One that has failed meanwhile hears nothing, and is counted below.
            let _ = word.send(());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut done = Done { enrolled: 0, failed: None };
        for _ in 0..count {
            match self.sessions.join_next().await.unwrap().unwrap() {
                Ok(Reason::OK) => done.enrolled += 1,
                other => done.failed = Some(format!("{other:?}")),
            }
        }
        done
    }
}
