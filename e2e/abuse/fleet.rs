//! Phones that are applied, wait, enrol and come to rest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capf::api::{CertificateOperation, Phase, Phone, PhoneSpec};
use capf::phone::{AttemptOutcome, EnrolOutcome, PhoneKey, SimulatedPhone, tls_config};
use capf::pki::CertificateFacts;
use capf::wire::ClaimedName;
use futures::StreamExt as _;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt as _};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::eventually;
use crate::product::Product;
use crate::verdict::percentile;

/// How long a fleet is waited for.
const PATIENCE: Duration = Duration::from_secs(300);
/// Phones created at one time.
const AT_ONCE: usize = 32;

/// The device of this number.
pub fn device(number: usize) -> String {
    format!("SEP{number:012X}")
}

/// Applies a phone of this number with these settings.
pub async fn apply_one(api: &Api<Phone>, number: usize, settings: &Value) {
    let mut spec = json!({"deviceName": device(number), "proxyRef": {"name": "main"}});
    spec.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let spec: PhoneSpec = serde_json::from_value(spec).unwrap();
    let metadata = ObjectMeta { name: Some(device(number).to_lowercase()), ..ObjectMeta::default() };
    api.create(&PostParams::default(), &Phone { metadata, spec, status: None }).await.unwrap();
}

/// Applies phones of these numbers with these settings.
pub async fn apply(product: &Product, numbers: Range<usize>, settings: Value) {
    let api = product.api::<Phone>();
    let (api, settings) = (&api, &settings);
    futures::stream::iter(numbers).for_each_concurrent(AT_ONCE, |number| apply_one(api, number, settings)).await;
}

/// Applies phones that are to enrol By Null String, and waits until each is waited for.
pub async fn arm(product: &Product, numbers: Range<usize>) {
    apply(product, numbers.clone(), by_null()).await;
    until(product, numbers, "the phones are waited for", |phone| phase(phone).is_some()).await;
}

/// The settings of such phones.
pub fn by_null() -> Value {
    json!({"certificateOperation": "InstallUpgrade", "authenticationMode": "ByNullString"})
}

/// Waits until all phones of these numbers are so.
pub async fn until(product: &Product, numbers: Range<usize>, what: &str, so: impl Fn(&Phone) -> bool) {
    let api = product.api::<Phone>();
    eventually(what, PATIENCE, || async {
        let phones = api.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
        let ours = |phone: &&Phone| number(&phone.spec.device_name).is_some_and(|n| numbers.contains(&n));
        let done = phones.iter().filter(ours).filter(|phone| so(phone)).count();
        if done == numbers.len() { Ok(()) } else { Err(format!("{done} of {} are", numbers.len())) }
    })
    .await
    .unwrap();
}

fn number(device: &str) -> Option<usize> {
    usize::from_str_radix(device.strip_prefix("SEP")?, 16).ok()
}

/// The phase of the phone's operation as its own status tells it.
pub fn phase(phone: &Phone) -> Option<Phase> {
    Some(phone.status.as_ref()?.operation.as_ref()?.phase)
}

/// What phones need to connect.
#[derive(Clone)]
pub struct Line {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
}

impl Line {
    /// To this installation.
    pub async fn to(product: &Product) -> Self {
        Self { address: product.address.parse().unwrap(), tls: tls_config(&product.ctl().await).unwrap() }
    }

    /// A phone with a key that is made already.
    pub fn phone(&self, number: usize) -> SimulatedPhone {
        let name = ClaimedName::parse(&device(number)).unwrap();
        SimulatedPhone::new(self.address, name, self.tls.clone())
            .prepared_key(PhoneKey::generate("EC-P256".parse().unwrap()).unwrap())
    }
}

/// How one phone's enrolment ended.
pub struct Enrolled {
    pub number: usize,
    pub outcome: EnrolOutcome,
    /// The LSC that the phone holds now.
    pub lsc: Option<Vec<u8>>,
    /// From the moment the phone wanted to connect, retries and all.
    pub took: Duration,
}

impl Enrolled {
    /// The LSC, if the phone's last word to its user is not a failure. When only END_SESSION was lost the phone comes again, and
    /// hears that nothing is wanted of it any more: the server has had its answer.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.lsc.as_deref().filter(|_| self.outcome.last.as_ref().is_ok_and(AttemptOutcome::is_fine))
    }
}

/// Lets phones come one after the other, `every` so often, whether those before are done or not, and waits for all. `done`
/// hears of each.
pub async fn arrive(
    line: &Line,
    numbers: Range<usize>,
    every: Duration,
    make: impl Fn(SimulatedPhone) -> SimulatedPhone,
    mut done: impl FnMut(&Enrolled),
) -> Vec<Enrolled> {
    let (mut tasks, start) = (JoinSet::new(), tokio::time::Instant::now());
    for (place, number) in (0_u32..).zip(numbers) {
        let (mut phone, due) = (make(line.phone(number)), start + every * place);
        tasks.spawn(async move {
            tokio::time::sleep_until(due).await;
            // Not from when the task was run: a machine that is late makes phones wait, too.
            let outcome = phone.enrol().await;
            Enrolled { number, outcome, lsc: phone.lsc().map(<[u8]>::to_vec), took: due.elapsed() }
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.unwrap();
        done(&ended);
        all.push(ended);
    }
    all
}

/// Times of phones that enrolled in milliseconds, their retries, and the failures of the others in words.
pub struct Times {
    pub ms: Vec<f64>,
    pub retries: u32,
    pub failures: Vec<String>,
}

impl Times {
    /// Of these.
    pub fn of<'a>(all: impl IntoIterator<Item = &'a Enrolled>) -> Self {
        let mut times = Self { ms: Vec::new(), retries: 0, failures: Vec::new() };
        for enrolled in all {
            times.retries += enrolled.outcome.attempts - 1;
            match enrolled.certificate() {
                Some(_) => times.ms.push(enrolled.took.as_secs_f64() * 1e3),
                None => times.failures.push(format!("{}: {:?}", device(enrolled.number), enrolled.outcome.last)),
            }
        }
        times
    }

    /// The time so many of a hundred stayed under.
    pub fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.ms, percent)
    }

    /// For the summary.
    pub fn json(&self) -> Value {
        json!({
            "enrolled": self.ms.len(),
            "p50_ms": self.percentile(50).round(),
            "p99_ms": self.percentile(99).round(),
            "longest_ms": self.percentile(100).round(),
            "retries": self.retries,
            "failures": self.failures.len(),
            "failure": self.failures.first(),
        })
    }
}

/// Phones whose operation is not Successful, or whose certificate is not the one on record, each with what is wrong. Waits
/// until every Phone's status tells of an end first, if all have a certificate.
pub async fn unlike_the_record(product: &Product, numbers: Range<usize>, held: &[Enrolled]) -> Vec<String> {
    if let Some(without) = held.iter().find(|enrolled| enrolled.certificate().is_none()) {
        return vec![format!("{} has no certificate", device(without.number))];
    }
    until(product, numbers, "the phones are at rest", |phone| phase(phone).is_some_and(Phase::is_terminal)).await;
    let operations = product.operations().await;
    let mut of_phone: HashMap<String, Vec<&CertificateOperation>> = HashMap::new();
    for operation in &operations {
        of_phone.entry(operation.spec.phone_ref.name.clone()).or_default().push(operation);
    }
    let wrong = |enrolled: &Enrolled| {
        let name = device(enrolled.number).to_lowercase();
        let Some([operation]) = of_phone.get(&name).map(Vec::as_slice) else {
            return Some(format!("{name} has not one operation"));
        };
        let status = operation.status.clone().unwrap_or_default();
        if status.phase != Phase::Successful {
            return Some(format!("{} is {:?}", operation.name_any(), status.phase));
        }
        let recorded = status.certificate.map(|certificate| certificate.summary.sha256_fingerprint);
        let held = enrolled.certificate().map(|der| CertificateFacts::from_der(der).unwrap().sha256);
        (recorded != held || held.is_none()).then(|| format!("{name} holds {held:?}, on record is {recorded:?}"))
    };
    held.iter().filter_map(wrong).collect()
}

/// Waits until a moment.
pub async fn sleep_until(moment: Instant) {
    tokio::time::sleep_until(moment.into()).await;
}
