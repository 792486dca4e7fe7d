//! A fleet that is applied, waits, enrols and comes to rest.

use std::ops::Range;
use std::time::{Duration, Instant};

use capf::api::{CertificateOperationKind, Phase, Phone, PhoneSpec};
use capf::phone::load::{Summary, enrol_all};
use capf::phone::{PhoneKey, Proof, SimulatedPhone, tls_config};
use capf::wire::ClaimedName;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::calls;
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
async fn until(product: &Product, what: &str, so: impl Fn(&Phone) -> bool) -> Vec<Phone> {
    let api: Api<Phone> = product.api();
    eventually(what, PATIENCE, || async {
        let phones = api.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
        let left = phones.iter().filter(|phone| !so(phone)).count();
        if left == 0 { Ok(phones) } else { Err(format!("{left} of {} are not", phones.len())) }
    })
    .await
    .unwrap()
}

fn phase(phone: &Phone) -> Option<Phase> {
    Some(phone.status.as_ref()?.operation.as_ref()?.phase)
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
    let of_run = |phone: &Phone| numbers.clone().any(|n| device(n) == phone.spec.device_name);
    let waiting = until(product, "the phones wait", |p| {
        p.spec.certificate_operation == CertificateOperationKind::NoPendingOperation || phase(p).is_some()
    })
    .await;
    // The creation of the Phones themselves is the applying person's.
    let before = calls::mutating(product) - at_first - run.enrolments as f64;
    let proofs = proofs(product, run.mode, waiting.iter().filter(|p| of_run(p)).collect()).await;
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
    let start = Instant::now();
    let outcomes = enrol_all(phones, run.concurrency, |_| {}).await.unwrap();
    let sessions = Summary::of(&outcomes, start.elapsed());
    if sessions.failed == 0 {
        until(product, "the phones are at rest", |p| phase(p).is_none_or(Phase::is_terminal)).await;
    }
    let settled = start.elapsed().as_secs_f64();
    Outcome {
        settled_per_s: sessions.succeeded as f64 / settled,
        calls_before: before,
        calls_from_call: calls::mutating(product) - calls_at_call,
        sessions,
    }
}

async fn proofs(product: &Product, mode: Mode, phones: Vec<&Phone>) -> Vec<(String, Proof)> {
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
    phones.into_iter().map(|p| (p.spec.device_name.clone(), proof(p).unwrap_or(Proof::NullString))).collect()
}
