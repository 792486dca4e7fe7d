//! Where the roots of MICs come from, and what the proxy says when they do not.

use capf::api::{CertificateAuthorityProxy, ConditionStatus, ConditionType};
use capf::phone::AttemptOutcome;

use crate::harness::eventually;
use crate::product::{PATIENCE, Product};
use crate::support::{MIC_FIRST, Manufacturer, arm, holding, patch_proxy, refused};

/// Waits until the proxy says this about its roots; an empty reason for nothing.
async fn roots_are(product: &Product, reason: &str, names: &str) {
    let proxies: kube::Api<CertificateAuthorityProxy> = product.api();
    eventually(&format!("MICRootsUnusable is {reason:?}"), PATIENCE, || async {
        let conditions = proxies.get("main").await.map_err(|e| e.to_string())?.status.unwrap().conditions;
        let found = conditions.iter().find(|one| one.type_ == ConditionType::MICRootsUnusable);
        let told = match found {
            None => reason.is_empty(),
            Some(one) => one.status == ConditionStatus::True && one.reason == reason && one.message.contains(names),
        };
        let ready = conditions.iter().any(|c| c.type_ == ConditionType::Ready && c.status == ConditionStatus::True);
        if told && ready { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_that_cannot_be_used_are_told_and_no_mic_is_believed_until_they_can() {
    let product = Product::start("roots").await;
    let (manufacturer, device) = (Manufacturer::new(), "SEP0000000AC001");
    arm(&product, device, MIC_FIRST, 1).await;
    let mut simulated = holding(&product, device, None, Some(manufacturer.mic(device, 2090))).await;
    refused(&product, device, &mut simulated, "PolicyDenied", "no roots are named").await;

    let map =
        |name: &str| format!(r#"{{"spec":{{"micRoots":{{"configMapRef":{{"name":"{name}"}},"key":"ca.pem"}}}}}}"#);
    let secret = |name: &str| {
        format!(r#"{{"spec":{{"micRoots":{{"configMapRef":null,"secretRef":{{"name":"{name}"}},"key":"ca.pem"}}}}}}"#)
    };
    product.apply(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: broken}\ndata: {ca.pem: nothing}\n---\napiVersion: v1\nkind: \
         ConfigMap\nmetadata: {name: empty}\ndata: {}\n",
    );
    let indented: String = manufacturer.pem.lines().map(|line| format!("    {line}\n")).collect();
    for (name, kind) in [("opaque", "Opaque"), ("right", "capf.dev/mic-roots")] {
        product.apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: {kind}\nstringData:\n  ca.pem: |\n{indented}"
        ));
    }
    for (patch, reason, names) in [
        (map("missing"), "NotFound", "ConfigMap missing"),
        (map("empty"), "KeyMissing", "ca.pem"),
        (map("broken"), "NotRoots", "BEGIN CERTIFICATE"),
        (secret("opaque"), "WrongType", "capf.dev/mic-roots"),
    ] {
        patch_proxy(&product, &patch).await;
        roots_are(&product, reason, names).await;
        refused(&product, device, &mut simulated, "PolicyDenied", reason).await;
    }
    patch_proxy(&product, &secret("right")).await;
    roots_are(&product, "", "").await;
    let outcome = simulated.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{outcome:?}");
}
