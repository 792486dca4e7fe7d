//! Who owns which field: Git the spec, the controllers the status, and neither writes what is the other's.

use std::collections::BTreeSet;

use capf::api::{CertificateAuthorityProxy, Phone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt as _;

use crate::examples::kustomized;
use crate::harness::ControlPlane;
use crate::product::{Options, Product, digits, install_crds};

/// Who Git applies as.
const GIT: &str = "git";

/// What Kustomize makes of a site, as if it had been written for the product's namespace.
fn manifests(product: &Product) -> String {
    kustomized(product.plane, "sites/wellington").replace("voice-wellington", product.ns())
}

/// Applies as whoever applies what stands in Git. No force: a conflict with a field of ours is a fault.
fn apply(product: &Product, manifests: &str) {
    let args = ["apply", "--server-side", "--field-manager", GIT, "-f", "-"];
    product.plane.kubectl_stdin(&args, manifests).unwrap();
}

/// The version of every phone and of the proxy.
async fn versions(product: &Product) -> Vec<String> {
    let phones = product.api::<Phone>().list(&Default::default()).await.unwrap().items;
    let proxy: CertificateAuthorityProxy = product.api().get("main").await.unwrap();
    let versions = phones.iter().map(|phone| phone.name_any() + " " + &phone.resource_version().unwrap());
    versions.chain([proxy.resource_version().unwrap()]).collect()
}

/// Checks that one manager owns the spec and nothing of the status, and that another owns the status and nothing else.
fn check_owners(object: &str, managed: &[ManagedFieldsEntry]) {
    let mut seen = BTreeSet::new();
    for entry in managed {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let fields = &entry.fields_v1.as_ref().unwrap().0;
        let owned: Vec<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        match entry.subresource.as_deref() {
            None => {
                assert_eq!(manager, GIT, "{object}: {entry:?}");
                assert_eq!(owned, ["f:metadata", "f:spec"], "{object}: {entry:?}");
                assert_eq!(fields["f:metadata"], serde_json::json!({"f:labels": {"f:site": {}}}), "{object}");
            }
            Some("status") => {
                assert!(manager.starts_with("capf"), "{object}: {entry:?}");
                assert_eq!(owned, ["f:status"], "{object}: {entry:?}");
            }
            Some(other) => panic!("{object}: {other}"),
        }
        seen.insert(entry.subresource.is_some());
    }
    assert_eq!(seen, BTreeSet::from([false, true]), "{object}: both have written");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_owns_specs_and_the_controllers_own_statuses_and_applying_again_writes_nothing() {
    let mut product = Product::install("drift", Options::default()).await;
    let manifests = manifests(&product);
    apply(&product, &manifests);
    for waiting in ["sep00a1b2c40001", "sep00a1b2c40002"] {
        product.operation_status(waiting, "Install/Upgrade pending").await;
    }
    product.operation_status("sep00a1b2c40003", "No Pending Operation").await;
    product.serve().await;
    // One has been through all of it, the others wait or want nothing.
    let armed = product.phone("sep00a1b2c40001").await.status.unwrap().operation.unwrap();
    let string = product.string(&armed.authentication_string_secret.unwrap()).await.unwrap();
    product.enrol("SEP00A1B2C40001", digits(&string)).await;

    let before = versions(&product).await;
    apply(&product, &manifests);
    apply(&product, &manifests);
    assert_eq!(versions(&product).await, before);
    // Nor do the controllers when they look again at what they know.
    product.restart_controller();
    apply(&product, &manifests);
    product.looked_at_all().await;
    assert_eq!(versions(&product).await, before);

    for phone in product.api::<Phone>().list(&Default::default()).await.unwrap() {
        check_owners(&phone.name_any(), phone.managed_fields());
    }
    let proxy: CertificateAuthorityProxy = product.api().get("main").await.unwrap();
    check_owners("main", proxy.managed_fields());
}

#[test]
fn the_resource_types_applied_again_are_not_written() {
    let plane = ControlPlane::shared();
    install_crds(plane);
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    let versions = || {
        plane.kubectl(&["apply", "--server-side", "-f", crds]).unwrap();
        let version = "jsonpath={.items[*].metadata.resourceVersion}";
        plane.kubectl(&["get", "-f", crds, "-o", version]).unwrap()
    };
    assert_eq!(versions(), versions());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_controllers_make_carries_no_mark_by_which_git_would_prune_it() {
    let product = Product::start("marks").await;
    // Argo CD and Flux know what is theirs by these; the phone carries them as either would write them.
    let marks = "labels: {kustomize.toolkit.fluxcd.io/name: sites, kustomize.toolkit.fluxcd.io/namespace: flux-system, \
                 app.kubernetes.io/instance: sites}, annotations: {argocd.argoproj.io/tracking-id: \"sites:x\"}";
    product.apply(&format!(
        "apiVersion: capf.dev/v1alpha1\nkind: Phone\nmetadata: {{name: sep00a1b2c60001, {marks}}}\nspec: {{deviceName: \
         SEP00A1B2C60001, proxyRef: {{name: main}}, certificateOperation: InstallUpgrade}}\n"
    ));
    product.operation_status("sep00a1b2c60001", "Install/Upgrade pending").await;
    let all = product.kubectl(&["get", "certop,secret,configmap", "-o", "json"]);
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    let items = all["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["kind"] == "CertificateOperation"));
    for item in items {
        let metadata = [item["metadata"]["labels"].to_string(), item["metadata"]["annotations"].to_string()].concat();
        assert!(
            !["toolkit.fluxcd.io", "argocd", "app.kubernetes.io/instance"].iter().any(|m| metadata.contains(m)),
            "{item}"
        );
    }
}
