//! A fleet that is applied, waits, enrols and comes to rest.

use std::ops::Range;
use std::time::{Duration, Instant};

use capf::api::{CertificateOperationKind, Phone, PhoneSpec};
use capf::phone::load::{Summary, enrol_all};
use capf::phone::{PhoneKey, Proof, SimulatedPhone, tls_config};
use capf::wire::ClaimedName;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::calls;
use crate::cpu;
use crate::harness::eventually;
use crate::product::Product;

const PATIENCE: Duration = Duration::from_secs(300);

/// How the phones prove themselves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    Null,
    String,
}

/// One measured run.
pub struct Run {
    pub mode: Mode,
    pub concurrency: usize,
    pub enrolments: usize,
    pub first_number: usize,
}

/// What it came to.
pub struct Outcome {
    pub sessions: Summary,
    /// Enrolments a second until every Phone's status tells of them.
    pub settled_per_s: f64,
    pub calls_before: f64,
    pub calls_from_call: f64,
    /// Processor time of each process from the call to rest, in milliseconds an enrolment.
    pub cpu_ms: serde_json::Value,
}

fn device(number: usize) -> String {
    format!("SEP{number:012X}")
}

async fn create(product: &Product, devices: impl Iterator<Item = String>, settings: serde_json::Value) {
    let api: Api<Phone> = product.api();
    futures::stream::iter(devices)
        .for_each_concurrent(32, |device| {
            let mut spec = json!({"deviceName": device, "proxyRef": {"name": "main"}});
            spec.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
            let spec: PhoneSpec = serde_json::from_value(spec).unwrap();
            let metadata = ObjectMeta { name: Some(device.to_lowercase()), ..ObjectMeta::default() };
            let (api, phone) = (api.clone(), Phone { metadata, spec, status: None });
            async move { drop(api.create(&PostParams::default(), &phone).await.unwrap()) }
        })
        .await;
}

/// Phones of which nothing is wanted.
pub async fn add_idle(product: &Product, numbers: Range<usize>) {
    create(product, numbers.map(|n| device(0xA000_0000 + n)), json!({})).await;
    until(product, "the idle phones are looked at", |phone| {
        phone.spec.certificate_operation != CertificateOperationKind::NoPendingOperation
            || phone.status.as_ref().is_some_and(|s| s.observed_generation == 1)
    })
    .await;
}

/// Waits until all phones are so.
async fn until(product: &Product, what: &str, so: impl Fn(&Phone) -> bool) {
    let api: Api<Phone> = product.api();
    eventually(what, PATIENCE, || async {
        let phones = api.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
        let left = phones.iter().filter(|phone| !so(phone)).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} of {} are not", phones.len())) }
    })
    .await
    .unwrap();
}

/// Waits until so many phones have a pending operation, and gives them. Selected by the API server: to list thousands of
/// phones again and again would be a load of its own beside the one that is measured.
async fn until_pending(product: &Product, wanted: usize) -> Vec<Phone> {
    let api: Api<Phone> = product.api();
    let pending = ListParams::default().fields("status.operation.phase=Pending");
    eventually(&format!("{wanted} operations are pending"), PATIENCE, || async {
        let phones = api.list(&pending).await.map_err(|e| e.to_string())?.items;
        if phones.len() == wanted { Ok(phones) } else { Err(format!("{} are", phones.len())) }
    })
    .await
    .unwrap()
}

/// Applies, waits, enrols, and waits for rest.
pub async fn run(product: &Product, run: &Run) -> Outcome {
    let numbers = run.first_number..run.first_number + run.enrolments;
    let keys: Vec<PhoneKey> =
        numbers.clone().map(|_| PhoneKey::generate("EC-P256".parse().unwrap()).unwrap()).collect();
    let mode = match run.mode {
        Mode::Null => "ByNullString",
        Mode::String => "ByAuthenticationString",
    };
    let at_first = calls::mutating(product);
    let settings = json!({"certificateOperation": "InstallUpgrade", "authenticationMode": mode});
    create(product, numbers.clone().map(device), settings).await;
    let waiting = until_pending(product, run.enrolments).await;
    // The creation of the Phones themselves is the applying person's.
    let before = calls::mutating(product) - at_first - run.enrolments as f64;
    let proofs = proofs(product, run.mode, &waiting).await;
    let tls = tls_config(&product.ctl().await).unwrap();
    let address: std::net::SocketAddr = product.address.parse().unwrap();
    let phones: Vec<SimulatedPhone> = proofs
        .into_iter()
        .zip(keys)
        .map(|((device, proof), key)| {
            SimulatedPhone::new(address, ClaimedName::parse(&device).unwrap(), tls.clone())
                .proof(proof)
                .prepared_key(key)
                .retries(3, Duration::from_secs(1))
        })
        .collect();
    assert_eq!(phones.len(), run.enrolments);
    let calls_at_call = calls::mutating(product);
    let cpu_at_call = cpu::used(product);
    let start = Instant::now();
    let outcomes = enrol_all(phones, run.concurrency, |_| {}).await.unwrap();
    let sessions = Summary::of(&outcomes, start.elapsed());
    if sessions.failed == 0 {
        until_pending(product, 0).await;
    }
    let settled = start.elapsed().as_secs_f64();
    let cpu_ms = cpu::per_enrolment(&cpu_at_call, &cpu::used(product), run.enrolments);
    Outcome {
        cpu_ms,
        settled_per_s: sessions.succeeded as f64 / settled,
        calls_before: before,
        calls_from_call: calls::mutating(product) - calls_at_call,
        sessions,
    }
}

async fn proofs(product: &Product, mode: Mode, phones: &[Phone]) -> Vec<(String, Proof)> {
    let secrets: Api<Secret> = product.api();
    let all: std::collections::HashMap<String, Secret> = match mode {
        Mode::Null => Default::default(),
        Mode::String => {
            let listed = secrets.list(&ListParams::default()).await.unwrap().items;
            listed.into_iter().map(|secret| (secret.name_any(), secret)).collect()
        }
    };
    let proof = |phone: &Phone| {
        let named = phone.status.as_ref()?.operation.as_ref()?.authentication_string_secret.clone()?;
        let digits = all.get(&named)?.data.as_ref()?.get("authenticationString")?;
        Some(Proof::AuthenticationString(String::from_utf8(digits.0.clone()).ok()?.into()))
    };
    phones.iter().map(|p| (p.spec.device_name.clone(), proof(p).unwrap_or(Proof::NullString))).collect()
}
