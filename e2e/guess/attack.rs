//! The devices, the wrong strings, the kills, and the right strings beside them.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capf::api::{CertificateOperation, Phase, Phone, PhoneSpec};
use capf::phone::{AttemptOutcome, Proof, SimulatedPhone, tls_config};
use capf::wire::ClaimedName;
use futures::StreamExt as _;
use kube::api::{ListParams, ObjectMeta, PostParams};
use rustls::ClientConfig;
use serde_json::json;

use crate::harness::eventually;
use crate::product::{Product, string_secret};

const PATIENCE: Duration = Duration::from_secs(300);
/// Eleven digits: no string is so long.
const WRONG: &str = "00000000000";

/// Devices that wait for their string.
pub struct Fleet {
    /// Those that are guessed at. Every other one has a given string, the rest a generated one.
    pub guessed: Vec<String>,
    /// Those that enrol meanwhile, with their strings.
    beside: Vec<(String, String)>,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// What became of a round's sessions.
#[derive(Debug, Default)]
pub struct Tally {
    /// Ended by END_SESSION.
    pub refused: usize,
    /// Ended without an answer, as when no replica is there.
    pub broken: usize,
    /// Given a key to make.
    pub let_in: usize,
    /// Phones with right strings, from another block, that got their LSC.
    pub enrolled: usize,
}

fn guessed_at(number: usize) -> String {
    format!("SEP00000001{number:04X}")
}

fn beside(number: usize) -> String {
    format!("SEP00000002{number:04X}")
}

impl Fleet {
    /// Creates the phones and waits until all of them wait.
    pub async fn create(product: &Product, devices: usize, besides: usize) -> Self {
        product.apply(&string_secret("given", "8675309421"));
        let guessed: Vec<String> = (0..devices).map(guessed_at).collect();
        let others: Vec<String> = (0..besides).map(beside).collect();
        let phones = product.api::<Phone>();
        futures::stream::iter(guessed.iter().enumerate().chain(others.iter().map(|device| (1, device))))
            .for_each_concurrent(32, |(number, device)| {
                let mut spec = json!({
                    "deviceName": device, "proxyRef": {"name": "main"}, "certificateOperation": "InstallUpgrade",
                    "authenticationMode": "ByAuthenticationString",
                });
                if number % 2 == 0 {
                    spec["authenticationString"] = json!({"secretRef": {"name": "given"}});
                }
                let spec: PhoneSpec = serde_json::from_value(spec).unwrap();
                let metadata = ObjectMeta { name: Some(device.to_lowercase()), ..ObjectMeta::default() };
                let (phones, phone) = (phones.clone(), Phone { metadata, spec, status: None });
                async move { drop(phones.create(&PostParams::default(), &phone).await.unwrap()) }
            })
            .await;
        eventually("every phone waits for its string", PATIENCE, || async {
            let all = phones.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
            let waiting = |p: &&Phone| p.status.as_ref().is_some_and(|s| s.operation.is_some());
            let waiting = all.iter().filter(waiting).count();
            if waiting == devices + besides { Ok(()) } else { Err(format!("{waiting} of {}", devices + besides)) }
        })
        .await
        .unwrap();
        let mut with_strings = Vec::new();
        for device in others {
            let status = phones.get(&device.to_lowercase()).await.unwrap().status.unwrap();
            let secret = status.operation.unwrap().authentication_string_secret.unwrap();
            with_strings.push((device, product.string(&secret).await.unwrap()));
        }
        let tls = tls_config(&product.ctl().await).unwrap();
        Self { guessed, beside: with_strings, address: product.address.parse().unwrap(), tls }
    }

    fn phone(&self, device: &str, from: [u8; 4], digits: &str) -> SimulatedPhone {
        SimulatedPhone::new(self.address, ClaimedName::parse(device).unwrap(), self.tls.clone())
            .own_address(IpAddr::from(from))
            .proof(Proof::AuthenticationString(digits.to_owned().into()))
    }

    /// One wrong string from the attacker's block.
    async fn guess(&self, number: usize, tally: &Counts) {
        let from = [127, 0, 1, u8::try_from(number % 250).unwrap_or_default() + 1];
        let outcome = self.phone(&self.guessed[number % self.guessed.len()], from, WRONG).attempt().await;
        let count = match outcome {
            Ok(AttemptOutcome::Refused { .. } | AttemptOutcome::NothingScheduled) => &tally.refused,
            Ok(_) => &tally.let_in,
            Err(_) => &tally.broken,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Counts {
    refused: AtomicUsize,
    broken: AtomicUsize,
    let_in: AtomicUsize,
}

impl Counts {
    fn all(&self) -> usize {
        [&self.refused, &self.broken, &self.let_in].map(|count| count.load(Ordering::Relaxed)).iter().sum()
    }
}

/// So many wrong strings. With kills, each replica is killed so often, in turn, spread over the round; and the phones beside
/// enrol meanwhile.
pub async fn round(product: &mut Product, fleet: &Fleet, strings: usize, concurrency: usize, kills: usize) -> Tally {
    let counts = Counts::default();
    let guessing = async {
        futures::stream::iter(0..strings).for_each_concurrent(concurrency, |n| fleet.guess(n, &counts)).await;
    };
    let reached = async |share: usize, of: usize| {
        while counts.all() < strings * share / of {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let killing = async {
        // Where the process of each replica stands: killed ones stay in the list, with their logs.
        let mut current = [product.controllers.len() - 2, product.controllers.len() - 1];
        for kill in 0..2 * kills {
            reached(kill + 1, 2 * kills + 2).await;
            let replica = kill % 2;
            product.controllers[current[replica]].kill().unwrap();
            product.start_controller(replica);
            current[replica] = product.controllers.len() - 1;
            println!("    after {} strings: replica {replica} was killed and is back", counts.all());
        }
    };
    let enrolling = async {
        let mut enrolled = 0;
        for (number, (device, digits)) in fleet.beside.iter().enumerate().filter(|_| kills > 0) {
            reached(number, fleet.beside.len() + 1).await;
            // As phones do it, but sooner: after a communication failure three more times.
            let mut phone = fleet.phone(device, [127, 0, 2, 1], digits).retries(3, Duration::from_secs(3));
            match phone.enrol().await.last {
                Ok(AttemptOutcome::Installed { .. }) => enrolled += 1,
                other => println!("    {device} with its right string: {other:?}"),
            }
        }
        enrolled
    };
    let ((), (), enrolled) = tokio::join!(guessing, killing, enrolling);
    let [refused, broken, let_in] = [counts.refused, counts.broken, counts.let_in].map(AtomicUsize::into_inner);
    Tally { refused, broken, let_in, enrolled }
}

/// Operations that ended LockedOut.
pub async fn locked_out(product: &Product) -> usize {
    let all = product.api::<CertificateOperation>().list(&ListParams::default()).await.unwrap().items;
    let out = |o: &&CertificateOperation| {
        let status = o.status_or_default();
        status.phase == Phase::Failed && status.reason.is_some_and(|reason| reason.as_str() == "LockedOut")
    };
    all.iter().filter(out).count()
}

/// Checks of strings by device, as every replica that ever ran has logged them.
pub fn checks(product: &Product) -> HashMap<String, usize> {
    let mut checks = HashMap::new();
    for process in &product.controllers {
        let log = BufReader::new(std::fs::File::open(process.log_path()).unwrap());
        for line in log.lines().map(Result::unwrap).filter(|line| line.contains("comparing an authentication string")) {
            let (_, operation) = line.split_once(&format!("{}/", product.ns())).expect("the line names its operation");
            let (device, _) = operation.split_once('-').expect("an operation is named after its phone");
            *checks.entry(device.to_uppercase()).or_default() += 1;
        }
    }
    checks
}
