//! Safe under GitOps: whatever is applied again, restarted, upgraded or restored, nothing is issued again.

use std::collections::BTreeMap;

use capf::phone::{AttemptOutcome, Proof};
use futures::StreamExt as _;
use kube::ResourceExt as _;

use crate::harness::eventually;
use crate::product::{BY_NULL, LAST, PATIENCE, Product, phone};

const FLEET: usize = 50;

fn device(number: usize) -> String {
    format!("SEP0000000A{number:04}")
}

fn fleet(settings: &str) -> String {
    (0..FLEET).map(|number| phone(&device(number), settings)).collect()
}

/// What must not change: each operation's version, and the serial number in it.
async fn record(product: &Product) -> BTreeMap<String, (String, String)> {
    let mut operations = product.operations().await;
    operations.retain(|o| !o.spec.phone_ref.name.eq_ignore_ascii_case(LAST));
    let serial = |o: &capf::api::CertificateOperation| Some(o.status.clone()?.certificate?.summary.serial_number);
    operations.iter().map(|o| (o.name_any(), (o.resource_version().unwrap(), serial(o).unwrap_or_default()))).collect()
}

/// Waits until the controller has looked at every phone, and acted on its newest spec.
async fn acted_on(product: &Product) {
    product.looked_at_all().await;
    eventually("every phone's newest spec is acted on", PATIENCE, || async {
        let phones: Vec<capf::api::Phone> = product.api().list(&Default::default()).await.unwrap().items;
        let behind =
            phones.iter().filter(|p| p.status.as_ref().map(|s| s.observed_generation) != p.metadata.generation);
        let behind: Vec<_> = behind.map(kube::ResourceExt::name_any).collect();
        if phones.len() == FLEET && behind.is_empty() { Ok(()) } else { Err(format!("{behind:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_issued_again_whatever_is_applied_restarted_or_upgraded() {
    let mut product = Product::start("gitops").await;
    let manifest = fleet(&format!("{BY_NULL}, keyType: EC"));
    product.apply(&manifest);
    for number in 0..FLEET {
        product.operation_status(&device(number).to_lowercase(), "Install/Upgrade pending").await;
    }
    let devices: Vec<String> = (0..FLEET).map(device).collect();
    let product_ref = &product;
    futures::stream::iter(&devices)
        .for_each_concurrent(8, |device| async move { drop(product_ref.enrol(device, Proof::NullString).await) })
        .await;
    let before = record(&product).await;
    assert_eq!(before.len(), FLEET);
    let same = |after, what: &str| assert_eq!(before, after, "after {what}");

    product.apply(&manifest);
    product.apply(&manifest);
    acted_on(&product).await;
    same(record(&product).await, "two more applies");

    product.restart_controller();
    acted_on(&product).await;
    same(record(&product).await, "a restart of the controller");

    let defaults =
        r#"{"spec":{"phoneDefaults":{"keySize":4096},"operationExpiresInDays":3,"certificateValidityYears":1}}"#;
    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", defaults]);
    acted_on(&product).await;
    same(record(&product).await, "changed proxy defaults");

    product.apply(&fleet(&format!("{BY_NULL}, keyType: EC, operationCompletesBy: \"2099-01-01T00:00:00Z\"")));
    acted_on(&product).await;
    same(record(&product).await, "a later completes-by");

    let field = r#"[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/inventoryNumber","value":{"type":"string","maxLength":32}}]"#;
    product.plane.kubectl(&["patch", "crd", "phones.capf.dev", "--type=json", "-p", field]).unwrap();
    eventually("the new field is served", PATIENCE, || async {
        let patch = r#"{"spec":{"inventoryNumber":"4711"}}"#;
        product.kubectl(&["patch", &format!("ph/{}", devices[0].to_lowercase()), "--type=merge", "-p", patch]);
        product.kubectl(&["get", "ph", &devices[0].to_lowercase(), "-o", "jsonpath={.spec.inventoryNumber}"]) == "4711"
    })
    .await
    .unwrap();
    product.restart_controller();
    acted_on(&product).await;
    same(record(&product).await, "a new optional field in the CRD");

    // And the phones themselves: nothing is wanted of them.
    for device in devices.iter().step_by(10) {
        assert_eq!(product.attempt(device, Proof::NullString).await, AttemptOutcome::NothingScheduled);
    }
    same(record(&product).await, "phones that called again");
}

#[tokio::test(flavor = "multi_thread")]
async fn specs_and_statuses_restored_into_an_empty_namespace_start_nothing() {
    let product = Product::start("restore-from").await;
    product.apply(&phone("SEP0000000B0001", BY_NULL));
    product.operation_status("sep0000000b0001", "Install/Upgrade pending").await;
    product.enrol("SEP0000000B0001", Proof::NullString).await;
    let saved = product.phone("sep0000000b0001").await;

    // As a backup tool does it: suspend, create, write statuses, resume.
    let restored = Product::start("restore-to").await;
    restored.suspend();
    restored.apply(&phone("SEP0000000B0001", BY_NULL));
    let patch = serde_json::json!({ "status": saved.status }).to_string();
    restored.kubectl(&["patch", "ph/sep0000000b0001", "--subresource=status", "--type=merge", "-p", &patch]);
    restored.kubectl(&["patch", "capf/main", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    restored.apply(&phone("SEP0000000B0002", BY_NULL));
    restored.operation_status("sep0000000b0002", "Install/Upgrade pending").await;
    let phones: Vec<String> = restored.operations().await.iter().map(|o| o.spec.phone_ref.name.clone()).collect();
    assert_eq!(phones, ["sep0000000b0002"], "the restored phone has no new run");
    let status = restored.phone("sep0000000b0001").await.status.unwrap();
    assert_eq!((status.lsc, status.operation_status), {
        let saved = saved.status.unwrap();
        (saved.lsc, saved.operation_status)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_deleted_and_made_again_keeps_its_keys_and_one_of_another_owner_stalls() {
    let product = Product::start("adopt").await;
    let before = product.ctl().await;
    product.kubectl(&["delete", "capf/main"]);
    product.apply("apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {name: main}\nspec: {placement: External}\n");
    product.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "capf/main"]);
    assert_eq!(product.ctl().await, before);

    // Keys that were published are not made anew because their Secret is gone.
    let saved = product.kubectl(&["get", "secret", "main-issuer", "-o", "yaml"]);
    product.kubectl(&["delete", "secret", "main-issuer"]);
    product.kubectl(&["annotate", "capf", "main", "looked=again", "--overwrite"]);
    product.kubectl(&["wait", "--for=condition=Stalled", "--timeout=60s", "capf/main"]);
    product.apply(&saved);
    product.kubectl(&["annotate", "capf", "main", "looked=once-more", "--overwrite"]);
    product.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "capf/main"]);
    assert_eq!(product.ctl().await, before);

    product.kubectl(&["create", "secret", "generic", "taken-issuer", "--from-literal=tls.key=x"]);
    product.apply("apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {name: taken}\nspec: {placement: External}\n");
    product.kubectl(&["wait", "--for=condition=Stalled", "--timeout=60s", "capf/taken"]);
    let reason = "jsonpath={.status.conditions[?(@.type==\"Stalled\")].reason}";
    assert_eq!(product.kubectl(&["get", "capf", "taken", "-o", reason]), "NameTaken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_revision_makes_the_keys_anew_and_asks_for_a_ctl_update() {
    let product = Product::start("revision").await;
    let before = product.ctl().await;
    let status = "jsonpath={.status.conditions[?(@.type==\"CTLUpdateRequired\")].status}";
    let name = product.kubectl(&["get", "capf", "main", "-o", "jsonpath={.status.serviceCertificate.commonName}"]);
    let patch = format!(r#"{{"spec":{{"ctlCertificate":"{name}"}}}}"#);
    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", &patch]);
    product.kubectl(&["wait", "--for=condition=CTLUpdateRequired=False", "--timeout=60s", "capf/main"]);
    // A changed size alone makes nothing anew.
    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", r#"{"spec":{"keyType":"EC","keySize":384}}"#]);
    product.kubectl(&["wait", "--for=condition=KeySizeDiffers", "--timeout=60s", "capf/main"]);
    assert_eq!(product.ctl().await, before);
    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", r#"{"spec":{"certificateRevision":1}}"#]);
    product.kubectl(&["wait", "--for=condition=CTLUpdateRequired", "--timeout=60s", "capf/main"]);
    assert_ne!(product.ctl().await, before);
    assert_eq!(product.kubectl(&["get", "capf", "main", "-o", status]), "True");
}

/// `examples/`, as if they had been written for this namespace.
fn examples(namespace: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    let kept = texts.filter(|text| !text.contains("kind: Namespace"));
    kept.map(|text| format!("---\n{}", text.replace("namespace: voice", &format!("namespace: {namespace}")))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_applied_twice_more_start_nothing() {
    let product = Product::start("examples").await;
    let manifest = examples(product.ns());
    product.apply(&manifest);
    let phones: Vec<capf::api::Phone> = product.api().list(&Default::default()).await.unwrap().items;
    assert_eq!(phones.len(), 5);
    for phone in phones.iter().filter(|p| p.spec.certificate_operation != Default::default()) {
        let waiting = product.operation_status(&phone.name_any(), "Install/Upgrade pending").await;
        let secret = waiting.status.unwrap().operation.unwrap().authentication_string_secret;
        let proof = match secret {
            Some(secret) => crate::product::digits(&product.string(&secret).await.unwrap()),
            None => Proof::NullString,
        };
        product.enrol(&phone.spec.device_name, proof).await;
    }
    let before = record(&product).await;
    assert_eq!(before.len(), 4);
    for _ in 0..2 {
        let applied = product.apply(&manifest);
        // A Secret that is written as text always counts as configured: kubectl cannot compare it.
        let changed = applied.lines().filter(|line| !line.starts_with("secret/") && !line.ends_with(" unchanged"));
        assert_eq!(changed.count(), 0, "{applied}");
    }
    eventually("every phone is acted on", PATIENCE, || async {
        let phones: Vec<capf::api::Phone> = product.api().list(&Default::default()).await.unwrap().items;
        phones.iter().all(|p| p.status.as_ref().map(|s| s.observed_generation) == p.metadata.generation)
    })
    .await
    .unwrap();
    assert_eq!(record(&product).await, before);
}
