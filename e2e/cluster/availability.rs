//! Three hundred enrolments in flight while everything that serves them is restarted, replaced, deleted and killed in turn:
//! no phone fails beyond what its own retries heal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use capf::api::{CertificateOperation, Phase, Phone};
use capf::phone::tls_config;
use capf::pki::CertificateFacts;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use crate::flights::{Board, Flights, Habit, Landed, Line, device, hurry, various};
use crate::harness::{eventually, signal};
use crate::release::{PATIENCE, Release};
use crate::setup::Cluster;

/// In flight at one time.
const AT_ONCE: usize = 300;
/// Phones that arrive after something has happened, before the next does.
const ENOUGH: usize = 60;
/// Phones that show that all is well afterwards.
const FEW: usize = 30;
const CONTROLLERS: &str = "--selector=app.kubernetes.io/component=controller";
const ENDPOINTS: &str = "--selector=app.kubernetes.io/name=capf-endpoint";

const VALUES: &str = "
proxy:
  enabled: true
  spec: {permitNullString: true}
";

#[tokio::test(flavor = "multi_thread")]
async fn phones_in_flight_outlive_whatever_happens_to_what_serves_them() {
    let Some(cluster) = Cluster::shared() else { return };
    // Three hundred phones take what there is of a small machine.
    let _alone = cluster.alone().await;
    let release = Release::prepare(cluster, "flights");
    let phones = format!("proxy: {{namespace: {}}}", release.phones);
    release.install(&cluster.before, &[VALUES, &phones]);
    release.proxy_ready();
    let site = Site { api: Api::namespaced(cluster.node.client(None), &release.phones), release: &release };

    let flights = site.board(1, (AT_ONCE, various)).await;
    flights.go_on(AT_ONCE).await;

    flights.meanwhile("an endpoint was killed");
    let killed = site.endpoints().into_iter().find(|pod| pod.serves).unwrap();
    signal(cluster.node.pod_pid(&release.phones, &killed.name).unwrap(), "KILL").unwrap();
    site.started_again(&killed).await;
    flights.go_on(ENOUGH).await;

    flights.meanwhile("the controllers were restarted");
    site.restart_controllers().await;
    flights.go_on(ENOUGH).await;

    flights.meanwhile("the endpoints were restarted");
    release.in_phones(&["rollout", "restart", "deployment/main-endpoint"]);
    release.in_phones(&["rollout", "status", "deployment/main-endpoint", "--timeout=300s"]);
    flights.go_on(ENOUGH).await;

    flights.meanwhile("Helm upgraded the image and a value");
    release.upgrade(&cluster.now, &[VALUES, &phones, "controller: {leaseSeconds: 12}"]);
    site.run(&cluster.now.image()).await;
    site.two_controllers().await;
    flights.go_on(ENOUGH).await;

    flights.meanwhile("the leader was deleted");
    let (leader, since) = (site.leader(), Instant::now());
    release.in_release(&["delete", "pod", site.pod_of(&leader), "--wait=false"]);
    site.other_leader(&leader, since).await;
    site.two_controllers().await;
    flights.go_on(ENOUGH).await;

    // As one does whose node is gone: it neither answers nor lets its Lease go, and nobody hangs up for it.
    flights.meanwhile("the leader stood still, and was killed");
    let (leader, since) = (site.leader(), Instant::now());
    let process = cluster.node.pod_pid(&release.namespace, site.pod_of(&leader)).unwrap();
    signal(process, "STOP").unwrap();
    site.other_leader(&leader, since).await;
    signal(process, "KILL").unwrap();
    site.two_controllers().await;
    flights.go_on(ENOUGH).await;

    flights.meanwhile("the time for a key was changed");
    site.patch(r#"{"spec":{"maximumKeyGenerationMinutes":29}}"#);
    site.have(29).await;
    flights.go_on(ENOUGH).await;

    // What is in the bundle or in the Service changes no pod. Phones must be told of a new certificate, and of a new port.
    flights.meanwhile("limits, port and certificate were changed");
    flights.last_call();
    let before = site.serving();
    let reloads = site.reloads(&before);
    site.patch(r#"{"spec":{"limits":{"answerSeconds":31},"phonePort":5061,"certificateRevision":1}}"#);
    site.reloaded(&before, &reloads).await;
    flights.meanwhile("nothing more went on");
    let board = flights.land().await;
    board.tallies.iter().for_each(|tally| tell(&tally.to_string()));
    site.verify(&board).await;
    let quiet = &board.tallies[0];
    assert!(quiet.again.is_empty(), "phones came again for nothing: {quiet}");
    for what in ["the endpoints were restarted", "the time for a key was changed"] {
        let tally = board.tallies.iter().find(|tally| tally.what == what).unwrap();
        // Most last from half a minute to a whole one: of three hundred some ninety are left after 30 s, forty after 40 and ten
        // after 50, and how long a roll-out takes is the machine's affair. There would be none if pods took theirs along.
        assert!(tally.outlived >= 10, "sessions do not outlive the pods they began with: {tally}");
    }
    // Those that were replaced end with their last session, not after the half hour that they have.
    eventually("the old endpoints have gone", PATIENCE, || async { site.endpoints().len() == before.len() })
        .await
        .unwrap();
    site.few(1_000_000).await;
    site.serve_still(&before, "a bundle and a port are no reason to restart").await;

    // And what controllers and endpoints know each other by.
    let (reloads, ca) = (site.reloads(&before), site.controller_ca());
    release.in_release(&["delete", "secret/capf-controller"]);
    site.restart_controllers().await;
    eventually("the bundle has the new CA", PATIENCE, || async { site.controller_ca() != ca }).await.unwrap();
    site.reloaded(&before, &reloads).await;
    site.few(2_000_000).await;
    site.serve_still(&before, "new credentials are no reason to restart").await;

    release.in_phones(&["delete", "certificateauthorityproxy/main"]);
    release.uninstall();
    eventually("no endpoint is left", PATIENCE, || async { site.endpoints().is_empty() }).await.unwrap();
}

/// A line of figures, past the test runner's capture.
fn tell(line: &str) {
    use std::io::Write as _;
    // Should stderr be closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The release, as this scenario looks at it.
struct Site<'a> {
    release: &'a Release,
    api: Api<Phone>,
}

/// A pod.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Pod {
    name: String,
    restarts: u64,
    /// Whether it is ready, and not about to go.
    serves: bool,
    /// Seconds that it has to end.
    grace: u64,
    image: String,
}

impl Site<'_> {
    /// Lets phones call the Service as it is now, with the certificate as it is now.
    async fn board(&self, first: usize, how: (usize, Habit)) -> Flights {
        let (node, server) = (self.release.cluster.node, self.release.server());
        // Ready is what pods are; the node hears of it a moment later.
        eventually("the Service leads to an endpoint", PATIENCE, || async { node.reaches(&server).unwrap() })
            .await
            .unwrap();
        let tls = tls_config(&std::fs::read(self.release.certificate()).unwrap()).unwrap();
        Flights::begin(node, self.api.clone(), Line { server: server.parse().unwrap(), tls }, how, first)
    }

    /// A few phones enrol and none has to come again.
    async fn few(&self, first: usize) {
        let flights = self.board(first, (FEW, hurry)).await;
        flights.ended(FEW).await;
        let board = flights.land().await;
        self.verify(&board).await;
        let again: usize = board.tallies.iter().map(|tally| tally.again.len()).sum();
        assert_eq!(again, 0, "{:?}", board.tallies);
    }

    /// A rolling restart, until the old ones have gone.
    async fn restart_controllers(&self) {
        self.release.in_release(&["rollout", "restart", "deployment/capf"]);
        self.release.in_release(&["rollout", "status", "deployment/capf", "--timeout=300s"]);
        self.two_controllers().await;
    }

    /// Waits until there are two controllers, and both are ready.
    async fn two_controllers(&self) {
        eventually("there are two controllers", PATIENCE, || async {
            let pods = self.pods(&self.release.in_release(&["get", "pods", CONTROLLERS, "--output=json"]));
            if pods.len() == 2 && pods.iter().all(|pod| pod.serves) { Ok(()) } else { Err(format!("{pods:?}")) }
        })
        .await
        .unwrap();
    }

    fn patch(&self, patch: &str) {
        self.release.in_phones(&["patch", "certificateauthorityproxy/main", "--type=merge", "-p", patch]);
    }

    /// The controller process that leads, as it calls itself: by its pod and its process id.
    fn leader(&self) -> String {
        self.release.in_release(&["get", "lease/capf-controller", "--output=jsonpath={.spec.holderIdentity}"])
    }

    fn pod_of<'a>(&self, leader: &'a str) -> &'a str {
        leader.rsplit_once('-').map(|(pod, _process)| pod).unwrap()
    }

    /// Waits until another one leads, and tells how long that took.
    async fn other_leader(&self, before: &str, since: Instant) {
        eventually("another controller leads", PATIENCE, || async {
            let leader = self.leader();
            !leader.is_empty() && leader != before
        })
        .await
        .unwrap();
        tell(&format!("in flight: another controller led after {:.1} s", since.elapsed().as_secs_f64()));
    }

    /// The endpoint pods, those that are about to go as well.
    fn endpoints(&self) -> Vec<Pod> {
        self.pods(&self.release.in_phones(&["get", "pods", ENDPOINTS, "--output=json"]))
    }

    fn pods(&self, listed: &str) -> Vec<Pod> {
        let listed: Value = serde_json::from_str(listed).unwrap();
        let pod = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            Pod {
                name: pod["metadata"]["name"].as_str().unwrap().to_owned(),
                restarts: pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0),
                serves: ready && pod["metadata"]["deletionTimestamp"].is_null(),
                grace: pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap(),
                image: pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned(),
            }
        };
        listed["items"].as_array().unwrap().iter().map(pod).collect()
    }

    /// Those that take phones.
    fn serving(&self) -> BTreeSet<Pod> {
        self.endpoints().into_iter().filter(|pod| pod.serves).collect()
    }

    /// That these take phones and no others, and none of them has been started again. One that answers its probe late for once
    /// is taken out for a moment.
    async fn serve_still(&self, before: &BTreeSet<Pod>, why: &str) {
        eventually(why, PATIENCE, || async {
            let serving = self.serving();
            if serving == *before { Ok(()) } else { Err(format!("{serving:?}, before {before:?}")) }
        })
        .await
        .unwrap();
    }

    async fn started_again(&self, killed: &Pod) {
        eventually("the killed endpoint serves again", PATIENCE, || async {
            let found = self.endpoints();
            found.iter().any(|pod| pod.name == killed.name && pod.restarts == killed.restarts + 1 && pod.serves)
        })
        .await
        .unwrap();
    }

    /// Waits until two endpoints take phones, all of which have so many minutes for a key, and one more, to end.
    async fn have(&self, minutes: u64) {
        self.rolled_out(|pod| pod.grace == minutes * 60 + 60).await;
    }

    /// Waits until two endpoints take phones, all of which run this image.
    async fn run(&self, image: &str) {
        self.rolled_out(|pod| pod.image == image).await;
    }

    async fn rolled_out(&self, wanted: impl Fn(&Pod) -> bool) {
        eventually("the endpoints are rolled out", PATIENCE, || async {
            let serving = self.serving();
            if serving.len() == 2 && serving.iter().all(&wanted) { Ok(()) } else { Err(format!("{serving:?}")) }
        })
        .await
        .unwrap();
        self.release.proxy_ready();
    }

    /// How often each of these endpoints has taken up a bundle.
    fn reloads(&self, endpoints: &BTreeSet<Pod>) -> BTreeMap<String, usize> {
        let count = |pod: &Pod| self.release.in_phones(&["logs", &pod.name]).matches("the bundle changed;").count();
        endpoints.iter().map(|pod| (pod.name.clone(), count(pod))).collect()
    }

    /// Waits until each of these endpoints has taken up the bundle as the Secret has it, and once more than `before`.
    async fn reloaded(&self, endpoints: &BTreeSet<Pod>, before: &BTreeMap<String, usize>) {
        for Pod { name, .. } in endpoints {
            // Its kubelet would look within a minute or two; at a pod that has changed it looks at once.
            self.release.in_phones(&["annotate", "pod", name, "--overwrite", &format!("nudged={:?}", Instant::now())]);
        }
        eventually("the endpoints serve by the new bundle", PATIENCE, || async {
            let reloads = self.reloads(endpoints);
            let stale: Vec<&str> = endpoints.iter().map(|pod| &*pod.name).filter(|pod| !self.mounts(pod)).collect();
            let done = stale.is_empty() && reloads.iter().all(|(pod, times)| *times > before[pod]);
            if done { Ok(()) } else { Err(format!("{reloads:?}, not mounted yet by {stale:?}")) }
        })
        .await
        .unwrap();
    }

    /// Whether this pod's files are what is in the Secret now.
    fn mounts(&self, pod: &str) -> bool {
        let secret = self.release.get("secret/main-endpoint");
        let pid = self.release.cluster.node.pod_pid(&self.release.phones, pod).unwrap();
        secret["data"].as_object().unwrap().iter().all(|(file, wanted)| {
            let there = std::fs::read(format!("/proc/{pid}/root/bundle/{file}")).unwrap_or_default();
            STANDARD.encode(there) == wanted.as_str().unwrap_or_default()
        })
    }

    /// The controllers' CA in the bundle.
    fn controller_ca(&self) -> String {
        self.release.get("secret/main-endpoint")["data"]["ca.crt"].to_string()
    }

    /// That every phone of the board enrolled, and that all comes to be on record as the phones have it: once, or once more for
    /// each time that a phone came again with another key.
    async fn verify(&self, board: &Board) {
        assert_eq!(board.lost, [] as [String; 0], "enrolments failed");
        let replaced = eventually("all is on record", PATIENCE, || self.on_record(board)).await.unwrap();
        let (landed, again) = (board.landed.len(), board.landed.values().filter(|landed| landed.attempts > 1).count());
        let most = board.landed.values().map(|landed| landed.attempts - 1).max().unwrap_or_default();
        tell(&format!(
            "in flight: all {landed} enrolled, {again} of them after up to {most} retries; {replaced} certificates were \
             replaced because their phone came again with a new key"
        ));
    }

    /// How many certificates were issued beyond one for each phone, or what is not as it must be.
    async fn on_record(&self, board: &Board) -> Result<usize, String> {
        let client = self.release.cluster.node.client(None);
        let operations: Api<CertificateOperation> = Api::namespaced(client, &self.release.phones);
        let every = ListParams::default();
        let phones = self.api.list(&every).await.map_err(|error| error.to_string())?;
        let phones: BTreeMap<String, Phone> = phones.into_iter().map(|phone| (phone.name_any(), phone)).collect();
        let mut of_phone: BTreeMap<String, Vec<CertificateOperation>> = BTreeMap::new();
        for operation in operations.list(&every).await.map_err(|error| error.to_string())? {
            of_phone.entry(operation.spec.phone_ref.name.clone()).or_default().push(operation);
        }
        let (mut serials, mut superseded) = (BTreeSet::new(), 0);
        for (number, Landed { attempts, lsc }) in &board.landed {
            let name = device(*number).to_lowercase();
            let serial = CertificateFacts::from_der(lsc).unwrap().serial;
            let [operation] = &of_phone[&name][..] else {
                return Err(format!("{name} has {} operations", of_phone[&name].len()));
            };
            let status = operation.status_or_default();
            let certificate = status.certificate.as_ref().map(|certificate| &certificate.summary.serial_number);
            if status.phase != Phase::Successful || certificate != Some(&serial) {
                return Err(format!("{name} holds {serial}, and its operation says {status:?}"));
            }
            let known = phones[&name].status.clone().unwrap_or_default().lsc.map(|lsc| lsc.serial_number);
            if known.as_ref() != Some(&serial) {
                return Err(format!("{name} holds {serial}, and its status says {known:?}"));
            }
            let replaced = status.superseded_serial_numbers;
            if replaced.len() >= usize::try_from(*attempts).unwrap() {
                return Err(format!("{name}: {replaced:?} were replaced in {attempts} attempts"));
            }
            superseded += replaced.len();
            if !replaced.into_iter().chain([serial]).all(|serial| serials.insert(serial)) {
                return Err(format!("{name} has a serial number that there was before"));
            }
        }
        Ok(superseded)
    }
}
