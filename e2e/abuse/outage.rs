//! etcd stands still for a minute, and with it every call to the API server; phones go on coming.

use std::sync::Arc;
use std::time::{Duration, Instant};

use capf::phone::{AttemptOutcome, EnrolOutcome, Patience};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::Args;
use crate::fleet::{self, Enrolled, Line};
use crate::product::{Options, Product};
use crate::verdict::{Verdict, percentile, round};

/// How often a phone comes, from ten seconds before the outage to well after it.
const EVERY: Duration = Duration::from_millis(500);
/// From the first phone to the outage.
const LEAD: Duration = Duration::from_secs(10);
/// How long a phone waits before it comes again. It does so until it has its certificate: what is measured is the server.
const AGAIN: Duration = Duration::from_secs(5);
/// A phone gives up here; none should.
const MOST_ATTEMPTS: u32 = 40;
/// Known clients wait 8 s for each answer: by then the endpoint has closed the connection.
const ANSWER: Duration = Duration::from_secs(8);
/// A session that meets the outage has one answer that never comes; those before it come at once.
const SESSION: Duration = Duration::from_secs(10);

/// Runs it.
pub async fn run(args: &Args, verdict: &mut Verdict) {
    let proxy = "  permitNullString: true\n  phoneDefaults: {keyType: EC}";
    let mut product = Product::start_with("outage", Options { log_level: "info", proxy, ..Options::default() }).await;
    let outage = Duration::from_secs(args.outage_seconds);
    let count = usize::try_from((outage + 3 * LEAD).as_millis() / EVERY.as_millis()).unwrap();
    fleet::arm(&product, 0..count).await;
    let line = Line::to(&product).await;
    let start = Instant::now();
    let probe = tokio::spawn(probe(line.clone(), start + LEAD, start + LEAD + outage));
    let (attempts, mut heard) = mpsc::unbounded_channel();
    let mut phones = JoinSet::new();
    for (place, number) in (0_u32..).zip(0..count) {
        let (line, attempts) = (line.clone(), attempts.clone());
        phones.spawn(async move {
            fleet::sleep_until(start + EVERY * place).await;
            Box::pin(keep_coming(&line, number, start, &attempts)).await
        });
    }
    drop(attempts);
    fleet::sleep_until(start + LEAD).await;
    product.plane.control("stop etcd").unwrap();
    fleet::sleep_until(start + LEAD + outage).await;
    product.plane.control("cont etcd").unwrap();
    let continued = Instant::now();
    let (mut all, mut seen) = (Vec::new(), Vec::new());
    while let Some(phone) = phones.join_next().await {
        all.push(phone.unwrap());
    }
    let settled = continued.elapsed();
    while let Ok(attempt) = heard.try_recv() {
        seen.push(attempt);
    }
    let answers = probe.await.unwrap();

    let during = |at: &Duration| *at >= LEAD && *at < LEAD + outage;
    let met: Vec<&Attempt> = seen.iter().filter(|attempt| during(&attempt.began)).collect();
    let longest = seen.iter().map(|attempt| attempt.took).max().unwrap_or_default();
    let silent = seen.iter().filter(|attempt| attempt.failure == Some("silence")).count();
    verdict.figure("phones", count);
    verdict.figure("sessions", seen.len());
    verdict.figure("sessions_begun_in_the_outage", met.len());
    verdict.figure("of_those_enrolled", met.iter().filter(|attempt| attempt.failure.is_none()).count());
    verdict.figure("longest_session_s", round(longest.as_secs_f64()));
    let what = format!("no phone waits more than {ANSWER:?} for an answer or the close: {silent} do");
    verdict.require(what, silent == 0);
    verdict.require(format!("no session is longer than {SESSION:?}: {longest:?}"), longest <= SESSION);
    let milliseconds: Vec<f64> = answers.iter().flatten().map(|took| took.as_secs_f64() * 1e3).collect();
    let unanswered = answers.iter().filter(|answer| answer.is_err()).count();
    verdict.figure("greetings_in_the_outage", answers.len());
    verdict.figure("greeting_p50_ms", round(percentile(&milliseconds, 50)));
    verdict.figure("greeting_longest_ms", round(percentile(&milliseconds, 100)));
    let example = answers.iter().find_map(|answer| answer.as_ref().err());
    let what = format!("the port answers with TLS and AUTH_REQ within 1 s all the time: {unanswered} not, {example:?}");
    verdict.require(what, unanswered == 0 && answers.len() as u64 >= args.outage_seconds / 2);

    let lost: Vec<&Enrolled> = all.iter().filter(|phone| phone.certificate().is_none()).collect();
    let example = lost.first().map(|phone| format!("{:?}", phone.outcome.last));
    verdict.figure("seconds_until_all_had_enrolled", settled.as_secs());
    verdict.require(format!("every phone enrols in the end: {} do not, {example:?}", lost.len()), lost.is_empty());
    let unlike = fleet::unlike_the_record(&product, 0..count, &all).await;
    let example = unlike.first();
    let what =
        format!("each is Successful with the certificate its phone holds: {} are not, {example:?}", unlike.len());
    verdict.require(what, unlike.is_empty());
    let log = product.controllers[0].log();
    for text in ["no answer within 1.5s", "no answer within 10s", "no answer in time", "a question was not answered"] {
        verdict.figure(&format!("controller_log_{}", text.replace(' ', "_")), log.matches(text).count());
    }
    let running = product.controllers[0].is_running() && product.endpoint.as_mut().unwrap().is_running();
    verdict.require("controller and endpoint are the processes they were", running);
    product.namespace.delete().await.ok();
}

/// One session of a phone.
struct Attempt {
    /// Since the scenario's start.
    began: Duration,
    took: Duration,
    /// In a word, if it did not enrol.
    failure: Option<&'static str>,
}

/// Comes again until it is enrolled.
async fn keep_coming(line: &Line, number: usize, start: Instant, heard: &mpsc::UnboundedSender<Attempt>) -> Enrolled {
    let patience = Patience { answer: ANSWER, ..Patience::default() };
    let mut phone = line.phone(number).patience(patience);
    let first = Instant::now();
    loop {
        let began = Instant::now();
        let last = phone.attempt().await;
        let session_time = began.elapsed();
        let failure = match &last {
            Ok(AttemptOutcome::Installed { .. }) => None,
            // Only END_SESSION was lost the time before.
            Ok(AttemptOutcome::NothingScheduled) if phone.lsc().is_some() => None,
            Ok(other) => Some(other.kind()),
            Err(failure) => Some(failure.kind()),
        };
        heard.send(Attempt { began: began - start, took: session_time, failure }).unwrap();
        if failure.is_none() || phone.attempts() >= MOST_ATTEMPTS {
            let outcome = EnrolOutcome { last, attempts: phone.attempts(), session_time };
            return Enrolled { number, outcome, lsc: phone.lsc().map(<[u8]>::to_vec), took: first.elapsed() };
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Once a second connects, shakes hands and awaits AUTH_REQ; how long that took, or that it took more than a second.
async fn probe(line: Line, from: Instant, to: Instant) -> Vec<Result<Duration, String>> {
    let line = Arc::new(line);
    let mut answers = Vec::new();
    fleet::sleep_until(from).await;
    while Instant::now() < to {
        let began = Instant::now();
        let greeting = async {
            let tcp = TcpStream::connect(line.address).await?;
            let name = rustls::pki_types::ServerName::try_from("capf").map_err(std::io::Error::other)?;
            let mut stream = TlsConnector::from(line.tls.clone()).connect(name, tcp).await?;
            stream.read_u8().await
        };
        answers.push(match tokio::time::timeout(Duration::from_secs(1), greeting).await {
            Ok(Ok(0x55)) => Ok(began.elapsed()),
            other => Err(format!("{other:?}")),
        });
        fleet::sleep_until(began + Duration::from_secs(1)).await;
    }
    answers
}
