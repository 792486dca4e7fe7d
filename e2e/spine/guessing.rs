//! Who guesses strings, and who calls without being known: what it costs the devices, the API server and everybody else.

use std::net::IpAddr;

use capf::api::{CertificateAuthorityProxy, CertificateOperation, Phone};
use capf::phone::{AttemptOutcome, Proof};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Event;
use kube::api::{WatchEvent, WatchParams};
use kube::{Resource, ResourceExt as _};

use crate::harness::eventually;
use crate::product::{PATIENCE, Product, digits, phone};

const GUESSED: usize = 30;
const BY_STRING: &str = "certificateOperation: InstallUpgrade, keyType: EC";

fn device(number: usize) -> String {
    format!("SEP0000000F{number:04}")
}

/// One session from an address of the loopback network.
async fn attempt_from(product: &Product, from: [u8; 4], device: &str, proof: Proof) -> AttemptOutcome {
    let mut phone = product.simulated(device, proof).await.own_address(IpAddr::from(from));
    phone.attempt().await.unwrap()
}

async fn generated(product: &Product, device: &str) -> String {
    let phone = product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
    product.string(&phone.status.unwrap().operation.unwrap().authentication_string_secret.unwrap()).await.unwrap()
}

/// So many wrong strings, ten at a time, over all the devices, from one block. None lets anybody in.
async fn guess(product: &Product, strings: usize) {
    futures::stream::iter(0..strings)
        .for_each_concurrent(10, |n| async move {
            let from = [127, 0, 1, u8::try_from(n % 200).unwrap() + 1];
            // Eleven digits: never the right ones.
            let outcome = attempt_from(product, from, &device(n % GUESSED), digits("00000000000")).await;
            assert!(matches!(outcome, AttemptOutcome::Refused { .. }), "{outcome:?}");
        })
        .await;
}

/// The version of every object of a kind, by name.
async fn versions<K>(product: &Product) -> Vec<(String, Option<String>)>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: serde::de::DeserializeOwned,
{
    let all = product.api::<K>().list(&Default::default()).await.unwrap();
    all.items.iter().map(|object| (object.name_any(), object.resource_version())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_from_one_block_costs_all_devices_together_ten_tries_and_another_block_nothing() {
    let product = Product::start("guessing").await;
    product.apply(&(0..=GUESSED + 1).map(|n| phone(&device(n), BY_STRING)).collect::<String>());
    let (right, other) = (generated(&product, &device(GUESSED)).await, generated(&product, &device(GUESSED + 1)).await);
    for n in 0..GUESSED {
        product.operation_status(&device(n).to_lowercase(), "Install/Upgrade pending").await;
    }

    let between = async {
        let outcome = attempt_from(&product, [127, 0, 2, 1], &device(GUESSED), digits(&right)).await;
        assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "a right string from another block: {outcome:?}");
    };
    tokio::join!(guess(&product, 300), between);
    let wrong = |operations: Vec<CertificateOperation>| -> u16 {
        operations.iter().filter_map(|o| Some(o.status.as_ref()?.attempts?.authentication)).sum()
    };
    assert_eq!(wrong(product.operations().await), 10, "tries on record");
    let checks = product.logs().matches("comparing an authentication string").count();
    assert_eq!(checks, 11, "ten wrong strings were checked, and the right one");
    product.operation_status(&device(GUESSED).to_lowercase(), "Install/Upgrade successful").await;

    let proxies = product.api::<CertificateAuthorityProxy>();
    eventually("the proxy says who is guessing", PATIENCE, || async {
        let status = proxies.get("main").await.map_err(|e| e.to_string())?.status.unwrap_or_default();
        let said = status.conditions.iter().any(|c| {
            format!("{:?} {:?}", c.type_, c.status) == "GuessingSuspected True" && c.message.contains("127.0.1.0/24")
        });
        if said { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
    })
    .await
    .unwrap();
    let events = product.api::<Event>();
    eventually("an Event names the block", PATIENCE, || async {
        let events = events.list(&Default::default()).await.map_err(|e| e.to_string())?.items;
        let named = |e: &&Event| e.reason.as_deref() == Some("GuessingSuspected");
        let found: Vec<_> = events.iter().filter(named).filter_map(|e| e.message.clone()).collect();
        if found.len() == 1 && found[0].contains("127.0.1.0/24") { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await
    .unwrap();

    let before = (versions::<Phone>(&product).await, versions::<CertificateOperation>(&product).await);
    let proxy = proxies.get("main").await.unwrap().resource_version();
    guess(&product, 300).await;
    let refused = attempt_from(&product, [127, 0, 1, 7], &device(GUESSED + 1), digits(&other)).await;
    assert!(matches!(refused, AttemptOutcome::Refused { .. }), "a right string from there is not checked: {refused:?}");
    let after = (versions::<Phone>(&product).await, versions::<CertificateOperation>(&product).await);
    assert_eq!(before, after, "not one write");
    assert_eq!(proxies.get("main").await.unwrap().resource_version(), proxy);
    let outcome = attempt_from(&product, [127, 0, 2, 9], &device(GUESSED + 1), digits(&other)).await;
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "and from another block it is: {outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_callers_are_listed_in_one_write_and_adopted_by_one_command() {
    let product = Product::start("unknown").await;
    let names = ["SEP0000000A9001", "SEP0000000A9002", "CSFADA"];
    let proxies = product.api::<CertificateAuthorityProxy>();
    let before = proxies.get("main").await.unwrap().resource_version().unwrap();
    futures::stream::iter(0..30)
        .for_each_concurrent(10, |n| {
            let product = &product;
            async move {
                let outcome = attempt_from(product, [127, 0, 3, 1], names[n % 3], Proof::NullString).await;
                assert!(matches!(outcome, AttemptOutcome::UnknownDevice), "{outcome:?}");
            }
        })
        .await;
    let listed = || async { product.capf(None, &["find", "--unknown", "-n", product.ns()]) };
    // What comes within a second goes into one write, and the next one is a minute later.
    let gathered = PATIENCE + std::time::Duration::from_secs(60);
    eventually("the unknown callers are listed", gathered, || async {
        let text = listed().await;
        if names.iter().all(|name| text.contains(name)) { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();
    let text = listed().await;
    assert!(text.contains("127.0.3.0/24"), "{text}");
    let writes = writes_since(&product, &before).await;
    assert!((1..=2).contains(&writes), "{writes} writes for thirty calls");

    let explained = product.capf(None, &["explain", "-n", product.ns(), names[0]]);
    assert!(explained.contains("Last hop: TLS") && explained.contains("capf adopt SEP0000000A9001"), "{explained}");
    let manifest = product.capf(None, &["adopt", "-n", product.ns(), "sep0000000a9001"]);
    assert!(product.api::<Phone>().get_opt("sep0000000a9001").await.unwrap().is_none(), "printing applies nothing");
    product.apply(&manifest);
    product.capf(None, &["adopt", "-n", product.ns(), "CSFADA", "--install", "--apply"]);
    let waits = generated(&product, "CSFADA").await;
    product.enrol("CSFADA", digits(&waits)).await;
    let text = listed().await;
    assert!(text.contains(names[1]) && !text.contains(names[0]) && !text.contains("CSFADA"), "{text}");
    let found = product.capf(None, &["find", "-n", product.ns(), "--lsc-status", "installed"]);
    assert!(found.contains("CSFADA") && !found.contains(names[0]), "{found}");
}

/// Writes of the proxy since this version, as its watch tells them.
async fn writes_since(product: &Product, version: &str) -> usize {
    let proxies = product.api::<CertificateAuthorityProxy>();
    let newest = proxies.get("main").await.unwrap().resource_version().unwrap();
    if newest == version {
        return 0;
    }
    let only = WatchParams::default().fields("metadata.name=main");
    let mut events = proxies.watch(&only, version).await.unwrap().boxed();
    let mut writes = 0;
    while let Some(event) = events.next().await {
        if let WatchEvent::Modified(proxy) = event.unwrap() {
            writes += 1;
            if proxy.resource_version().as_ref() == Some(&newest) {
                break;
            }
        }
    }
    writes
}
