//! Two controllers; the one that leads is stopped for twice the Lease and continued, again and again, while phones enrol.
//!
//! What the old leader still writes when it goes on is seen in the API server's audit log, in which each replica has a user of
//! its own. etcd numbers all writes in one sequence: those accepted after the other replica's first write of the Lease are late.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use capf::api::{LOOPS_MANAGER, Phone};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::task::JoinSet;

use crate::Args;
use crate::audit::{Audited, Request, USERS};
use crate::fleet::{self, Enrolled, Line};
use crate::harness::eventually;
use crate::product::{Options, Product};
use crate::verdict::Verdict;

/// How often a phone is applied, and comes once it is waited for.
const EVERY: Duration = Duration::from_millis(250);
/// How long a phone may take from its application to the moment it is waited for: several Leases.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it.
pub async fn run(args: &Args, verdict: &mut Verdict) {
    let audited = Audited::start(true);
    let options = Options {
        log_level: "info",
        proxy: "  permitNullString: true\n  phoneDefaults: {keyType: EC}",
        replicas: 2,
        plane: Some(audited.plane),
        users: &USERS,
        lease_seconds: Some(args.lease_seconds),
        ..Options::default()
    };
    let mut product = Product::start_with("turns", options).await;
    let (leases, began) = (product.api::<Lease>(), Instant::now());
    let load = Load::begin(&product).await;
    let stopped_for = 2 * Duration::from_secs(args.lease_seconds.into());
    let mut taken_over = 0;
    for _ in 0..args.rounds {
        let leader = leader(&leases, None).await;
        product.controllers[leader].stop().unwrap();
        let stopped = Instant::now();
        // Whether the other takes over meanwhile is what the round is about, and no condition of it.
        fleet::sleep_until(stopped + stopped_for).await;
        taken_over += usize::from(holder(&leases).await.is_some_and(|holder| holder != leader));
        product.controllers[leader].cont().unwrap();
        let other = self::leader(&leases, Some(leader)).await;
        assert_ne!(other, leader, "the lease went back at once");
    }
    let lasted = began.elapsed();
    let ended = load.end().await;
    verdict.figure("rounds", args.rounds);
    verdict.figure("seconds", lasted.as_secs());
    verdict.figure("taken_over_while_stopped", taken_over);
    let failed: Vec<&Enrolled> = ended.iter().filter(|e| e.certificate().is_none()).collect();
    let example = failed.first().map(|e| format!("{:?}", e.outcome.last));
    verdict.figure("phones", ended.len());
    verdict.figure("retries", ended.iter().map(|e| e.outcome.attempts - 1).sum::<u32>());
    verdict.require(format!("every phone enrols: {} do not, {example:?}", failed.len()), failed.is_empty());
    let unlike = fleet::unlike_the_record(&product, 0..ended.len(), &ended).await;
    let example = unlike.first();
    let what =
        format!("each is Successful with the certificate its phone holds: {} are not, {example:?}", unlike.len());
    verdict.require(what, unlike.is_empty());
    witness(&audited.since(0), args, verdict);
    product.namespace.delete().await.ok();
}

/// The replica of an identity such as `replica-1-000a12bc`.
fn replica(identity: &str) -> Option<usize> {
    identity.strip_prefix("replica-")?.split('-').next()?.parse().ok()
}

async fn holder(leases: &Api<Lease>) -> Option<usize> {
    replica(&leases.get("capf-controller").await.unwrap().spec?.holder_identity?)
}

/// Who leads; waits until it is not `old`.
async fn leader(leases: &Api<Lease>, old: Option<usize>) -> usize {
    eventually("a replica leads", PATIENCE, || async { holder(leases).await.filter(|leader| Some(*leader) != old) })
        .await
        .unwrap()
}

/// Phones that are applied one after the other and enrol as soon as they are waited for.
struct Load {
    go_on: Arc<AtomicBool>,
    applying: tokio::task::JoinHandle<JoinSet<Enrolled>>,
}

impl Load {
    async fn begin(product: &Product) -> Self {
        let (line, api) = (Line::to(product).await, product.api::<Phone>());
        let go_on = Arc::new(AtomicBool::new(true));
        let going_on = go_on.clone();
        let applying = tokio::spawn(async move {
            let (mut phones, next) = (JoinSet::new(), AtomicUsize::new(0));
            while going_on.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (line, api) = (line.clone(), api.clone());
                phones.spawn(async move {
                    fleet::apply_one(&api, number, &fleet::by_null()).await;
                    let name = fleet::device(number).to_lowercase();
                    eventually("the phone is waited for", PATIENCE, || async {
                        api.get(&name).await.ok().filter(|phone| fleet::phase(phone).is_some())
                    })
                    .await
                    .unwrap();
                    let came = Instant::now();
                    let mut simulated = line.phone(number).retries(3, Duration::from_secs(2));
                    let outcome = Box::pin(simulated.enrol()).await;
                    Enrolled { number, outcome, lsc: simulated.lsc().map(<[u8]>::to_vec), took: came.elapsed() }
                });
                tokio::time::sleep(EVERY).await;
            }
            phones
        });
        Self { go_on, applying }
    }

    /// Applies no more, and waits for those under way.
    async fn end(self) -> Vec<Enrolled> {
        self.go_on.store(false, Ordering::Relaxed);
        self.applying.await.unwrap().join_all().await
    }
}

/// What the audit log tells.
fn witness(requests: &[Request], args: &Args, verdict: &mut Verdict) {
    let mut accepted: Vec<(u64, &Request)> = requests
        .iter()
        .filter(|request| request.is_write() && request.is_accepted())
        .filter_map(|request| Some((request.version_after()?, request)))
        .collect();
    accepted.sort_by_key(|(version, _)| *version);
    let conflicts = requests.iter().filter(|r| r.is_write() && r.is_refused_as_stale()).count();
    let (mut newest, mut leader, mut leaders) = (HashMap::<String, u64>::new(), None, 0);
    let (mut of_leaders, mut late, mut stale) = (0, BTreeMap::<String, usize>::new(), Vec::new());
    let (mut delivered, mut twice) = (HashMap::<String, HashSet<String>>::new(), Vec::new());
    for (version, request) in accepted {
        let object = request.object();
        let before = newest.insert(object.clone(), version);
        if request.resource() == "leases" {
            let holder = request.response_object["spec"]["holderIdentity"].as_str().and_then(replica);
            leaders += usize::from(holder.is_some() && holder != leader);
            leader = holder.or(leader);
        }
        // A create is idempotent by its name, which the API server refuses a second time, and a deletion by its UID; the only
        // harm that an old leader can do is to write over what it has not seen.
        let overwrites = request.verb == "update" || request.verb == "patch";
        if overwrites
            && (request.version_demanded().is_none() || before.is_some_and(|b| request.version_demanded() != Some(b)))
        {
            stale.push(format!("{} {object} as of {:?} after {before:?}", request.what(), request.version_demanded()));
        }
        let of_loops = request.uri.contains(&format!("fieldManager={LOOPS_MANAGER}"));
        let by = USERS.iter().position(|user| *user == request.user());
        if of_loops && request.resource() != "leases" && leader.is_some() {
            match by == leader {
                true => of_leaders += 1,
                false => *late.entry(request.what()).or_default() += 1,
            }
        }
        if request.resource() == "certificateoperations" {
            let status = &request.response_object["status"];
            if let Some(serial) = status["certificate"]["serialNumber"].as_str() {
                let serials = delivered.entry(object.clone()).or_default();
                serials.insert(serial.to_owned());
                if serials.len() == 2 {
                    twice.push(object);
                }
            }
        }
    }
    verdict.figure("changes_of_leader", leaders.saturating_sub(1));
    verdict.figure("writes_refused_as_stale", conflicts);
    verdict.figure("accepted_writes_of_leaders", of_leaders);
    verdict.figure("accepted_late_writes", &late);
    verdict.figure("operations_with_a_certificate", delivered.len());
    let what = format!("the leader changed in each round: {} times", leaders.saturating_sub(1));
    verdict.require(what, leaders > args.rounds);
    verdict.require("the witness tells the loops' writes and their replicas", of_leaders >= delivered.len());
    let what = format!("no write was accepted over something newer: {} were, {:?}", stale.len(), stale.first());
    verdict.require(what, stale.is_empty());
    let what = format!("no operation has had two certificates: {} have, {:?}", twice.len(), twice.first());
    verdict.require(what, twice.is_empty());
}
