//! Commits that add, change and remove phones, through Flux's own controller.

use std::collections::BTreeMap;

use capf::api::{AuthenticationMode, CertificateAuthorityProxy, CertificateOperation, Phase, Phone};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{Api, ResourceExt as _};

use crate::flux::Flux;
use crate::harness::eventually;
use crate::product::{Options, PATIENCE, Product, digits};

const SITE: &str = "sites/wellington";

/// A product without a proxy, and Flux beside it.
async fn installed(name: &str) -> (Product, Flux) {
    let product = Product::install(name, Options::default()).await;
    let flux = Flux::start(&product).await;
    (product, flux)
}

/// Kind and name of everything in the namespace that is of interest, and its version.
async fn versions(product: &Product) -> BTreeMap<String, String> {
    async fn of<K>(product: &Product, found: &mut BTreeMap<String, String>)
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        for object in product.api::<K>().list(&Default::default()).await.unwrap() {
            found.insert(format!("{}/{}", K::kind(&()), object.name_any()), object.resource_version().unwrap());
        }
    }
    let mut found = BTreeMap::new();
    of::<CertificateAuthorityProxy>(product, &mut found).await;
    of::<Phone>(product, &mut found).await;
    of::<CertificateOperation>(product, &mut found).await;
    of::<Secret>(product, &mut found).await;
    of::<ConfigMap>(product, &mut found).await;
    found
}

/// The operations of a phone: how each stands, oldest first.
async fn runs(product: &Product, phone: &str) -> Vec<CertificateOperation> {
    let mut runs = product.operations().await;
    runs.retain(|operation| operation.spec.phone_ref.name == phone);
    runs.sort_by_key(|operation| operation.metadata.creation_timestamp.clone());
    runs.sort_by_key(|operation| !operation.phase().is_terminal());
    runs
}

/// The phases of a phone's operations, those that are over first.
async fn phases(product: &Product, phone: &str) -> Vec<Phase> {
    runs(product, phone).await.iter().map(CertificateOperation::phase).collect()
}

/// The user of a phone types the string that CAPF made.
async fn type_string(product: &Product, device: &str) {
    let armed = product.phone(&device.to_lowercase()).await.status.unwrap().operation.unwrap();
    let string = product.string(&armed.authentication_string_secret.unwrap()).await.unwrap();
    product.enrol(device, digits(&string)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_commits_add_change_and_remove_phones() {
    let (mut product, flux) = installed("commits").await;
    let [one, two, three, four] = [1, 2, 3, 4].map(|n| format!("sep00a1b2c4000{n}"));

    // Phones are added, and wait for their users: healthy all the same, for Flux and for kubectl.
    let first = flux.commit();
    flux.follow("wellington");
    flux.healthy("wellington", &first).await;
    product.kubectl(&["wait", "--for=condition=Ready", "--timeout=30s", "phones", "--all"]);
    for waiting in [&one, &two] {
        product.operation_status(waiting, "Install/Upgrade pending").await;
    }
    product.serve().await;
    type_string(&product, "SEP00A1B2C40001").await;

    // Reconciled again, nothing is written.
    let before = versions(&product).await;
    assert!(before.len() > 8, "{before:?}");
    flux.reconcile("wellington", "again").await;
    assert_eq!(versions(&product).await, before);

    // The enrolled one runs again by its revision, a waiting one by another mode, and one is new.
    flux.edit(&format!("{SITE}/phones/{one}.yaml"), "InstallUpgrade\n", "InstallUpgrade\n  revision: 1\n");
    let by_certificate = "InstallUpgrade\n  authenticationMode: ByExistingCertificatePrecedenceToMIC\n";
    flux.edit(&format!("{SITE}/phones/{two}.yaml"), "InstallUpgrade\n", by_certificate);
    flux.edit(&format!("{SITE}/phones/{three}.yaml"), "NoPendingOperation", "InstallUpgrade");
    flux.write(&format!("{SITE}/phones/{four}.yaml"), &new_phone("SEP00A1B2C40004"));
    let list = format!("{SITE}/phones/kustomization.yaml");
    flux.edit(&list, &format!("  - {three}.yaml\n"), &format!("  - {three}.yaml\n  - {four}.yaml\n"));
    let second = flux.commit();
    flux.healthy("wellington", &second).await;
    assert_eq!(phases(&product, &one).await, [Phase::Successful, Phase::Pending]);
    assert_eq!(phases(&product, &two).await, [Phase::Failed, Phase::Pending]);
    let [replaced, armed] = runs(&product, &two).await.try_into().unwrap();
    assert_eq!(replaced.status.unwrap().reason, Some(capf::api::Reason::Superseded));
    assert_eq!(armed.spec.authentication_mode, AuthenticationMode::ByExistingCertificatePrecedenceToMIC);
    assert_eq!(phases(&product, &three).await, [Phase::Pending]);
    assert_eq!(phases(&product, &four).await, [Phase::Pending]);
    type_string(&product, "SEP00A1B2C40004").await;

    // One goes, with its operations and its string; nothing else is touched.
    let string = runs(&product, &three).await[0].name_any() + "-string";
    assert!(product.string(&string).await.is_some());
    let before = versions(&product).await;
    flux.remove(&format!("{SITE}/phones/{three}.yaml"));
    flux.edit(&list, &format!("  - {three}.yaml\n"), "");
    let third = flux.commit();
    flux.healthy("wellington", &third).await;
    let expected: BTreeMap<_, _> = before.into_iter().filter(|(object, _)| !object.contains(&three)).collect();
    eventually("nothing is left of the phone, and all else as it was", PATIENCE, || async {
        let now = versions(&product).await;
        if now == expected { Ok(()) } else { Err(format!("{now:?} instead of {expected:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_changes_beside_git_is_undone_once_and_commands_change_nothing_that_git_has() {
    let (product, flux) = installed("beside").await;
    let first = flux.commit();
    flux.follow("wellington");
    flux.healthy("wellington", &first).await;
    let waiting = "sep00a1b2c40002";
    product.operation_status(waiting, "Install/Upgrade pending").await;

    let before = versions(&product).await;
    let printed = product.capf(None, &["renew-string", "SEP00A1B2C40002", "-n", product.ns()]);
    assert!(printed.contains("revision: 1"), "{printed}");
    assert_eq!(versions(&product).await, before);

    let nothing = r#"{"spec":{"certificateOperation":"NoPendingOperation"}}"#;
    product.kubectl(&["patch", &format!("ph/{waiting}"), "--type=merge", "-p", nothing]);
    product.operation_status(waiting, "Install/Upgrade failed").await;
    flux.reconcile("wellington", "heal").await;
    product.operation_status(waiting, "Install/Upgrade pending").await;
    assert_eq!(phases(&product, waiting).await, [Phase::Failed, Phase::Pending]);

    let before = versions(&product).await;
    flux.reconcile("wellington", "again").await;
    assert_eq!(versions(&product).await, before);
}

/// The manifest of a phone as the examples write them.
fn new_phone(device: &str) -> String {
    format!(
        "apiVersion: capf.dev/v1alpha1\nkind: Phone\nmetadata:\n  name: {}\nspec:\n  deviceName: {device}\n  proxyRef: {{ \
         name: main }}\n  certificateOperation: InstallUpgrade\n",
        device.to_lowercase()
    )
}

/// Fingerprints of issuer and service certificate.
async fn certificates(product: &Product) -> [String; 2] {
    let proxy: CertificateAuthorityProxy = product.api().get("main").await.unwrap();
    let status = proxy.status.unwrap();
    [status.issuer_certificate, status.service_certificate].map(|c| c.unwrap().sha256_fingerprint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_pruned_and_comes_back_keeps_its_issuer() {
    let (product, flux) = installed("pruned").await;
    let first = flux.commit();
    flux.follow("wellington");
    flux.healthy("wellington", &first).await;
    let before = certificates(&product).await;

    // All but the namespace is taken out of Git.
    flux.edit("base/kustomization.yaml", "  - proxy.yaml\n", "");
    flux.edit(&format!("{SITE}/kustomization.yaml"), "  - phones\n", "");
    flux.edit(&format!("{SITE}/kustomization.yaml"), "patches:\n  - path: proxy.yaml\n", "");
    let second = flux.commit();
    flux.healthy("wellington", &second).await;
    eventually("what the proxy owned is gone, and its key pairs stay", PATIENCE, || async {
        let found: Vec<_> = versions(&product).await.into_keys().filter(|o| !o.ends_with("kube-root-ca.crt")).collect();
        let kept = ["Secret/capf-controller", "Secret/main-issuer", "Secret/main-service"];
        if found == kept { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await
    .unwrap();

    flux.edit("base/kustomization.yaml", "  - namespace.yaml\n", "  - namespace.yaml\n  - proxy.yaml\n");
    flux.edit(&format!("{SITE}/kustomization.yaml"), "  - ../../base\n", "  - ../../base\n  - phones\n");
    let third = flux.commit();
    flux.healthy("wellington", &third).await;
    assert_eq!(certificates(&product).await, before);

    // Even a whole site that is given up leaves its namespace, and the keys in it.
    flux.forget("wellington");
    eventually("the proxy is pruned", PATIENCE, || async {
        product.api::<CertificateAuthorityProxy>().get_opt("main").await.unwrap().is_none()
    })
    .await
    .unwrap();
    let namespace = Api::<Namespace>::all(product.client.clone()).get(product.ns()).await.unwrap();
    assert_eq!(namespace.metadata.deletion_timestamp, None);
    assert_eq!(namespace.labels()["site"], "wellington", "Flux has had it");
    assert!(product.api::<Secret>().get_opt("main-issuer").await.unwrap().is_some());
}
