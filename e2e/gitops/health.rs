//! What Argo CD says of objects in each state that the product brings them into on a real API server.

use std::time::Duration;

use capf::api::{CertificateAuthorityProxy, CertificateOperation, Phone};
use capf::phone::Proof;
use kube::api::{ApiResource, DynamicObject};

use crate::harness::eventually;
use crate::lua::{Health, health};
use crate::product::{BY_NULL, Options, PATIENCE, Product, phone};

const DEVICE: &str = "SEP0000000D0001";
const NAME: &str = "sep0000000d0001";

/// The object as the API server has it, with its kind.
async fn object<K>(product: &Product, name: &str) -> DynamicObject
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    let kind = ApiResource::erase::<K>(&());
    kube::Api::namespaced_with(product.client.clone(), product.ns(), &kind).get(name).await.unwrap()
}

async fn health_of<K>(product: &Product, name: &str) -> Health
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    health(&object::<K>(product, name).await)
}

/// Waits until Argo CD would say so of an object, and of its message contain so.
async fn becomes<K>(product: &Product, name: &str, status: &str, message: &str)
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    eventually(&format!("{name} is {status}: {message}"), PATIENCE, || async {
        let health = health_of::<K>(product, name).await;
        let so = health.status == status && health.message.contains(message);
        if so { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await
    .unwrap();
}

/// Deletes an object that something holds on to, looks at it, and lets it go.
async fn while_deleted<K>(product: &Product, name: &str)
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    let object = format!("{}.capf.dev/{name}", K::plural(&()));
    let finalizers = |list: &str| {
        let patch = format!(r#"{{"metadata":{{"finalizers":{list}}}}}"#);
        product.kubectl(&["patch", &object, "--type=merge", "-p", &patch]);
    };
    finalizers(r#"["example.net/held"]"#);
    product.kubectl(&["delete", &object, "--wait=false"]);
    let health = health_of::<K>(product, name).await;
    assert_eq!((health.status.as_str(), health.message.as_str()), ("Progressing", "being deleted"));
    finalizers("[]");
}

fn said(status: &str, message: &str) -> Health {
    Health { status: status.to_owned(), message: message.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_is_healthy_when_its_manifest_is_acted_on_whatever_its_run_does() {
    let mut product = Product::start("health").await;
    product.apply(&phone(DEVICE, BY_NULL));
    product.operation_status(NAME, "Install/Upgrade pending").await;
    // It may wait for days.
    assert_eq!(health_of::<Phone>(&product, NAME).await, said("Healthy", "Install/Upgrade pending"));
    product.enrol(DEVICE, Proof::NullString).await;
    assert_eq!(health_of::<Phone>(&product, NAME).await, said("Healthy", "Install/Upgrade successful"));

    let late = format!("{BY_NULL}, revision: 1, operationCompletesBy: \"2020-01-01T00:00:00Z\"");
    product.apply(&phone(DEVICE, &late));
    product.operation_status(NAME, "Install/Upgrade failed").await;
    assert_eq!(health_of::<Phone>(&product, NAME).await, said("Healthy", "Install/Upgrade failed: Expired"));

    // A manifest that nobody has looked at yet.
    for mut controller in product.controllers.drain(..) {
        controller.terminate().unwrap();
    }
    product.apply(&phone(DEVICE, &format!("{BY_NULL}, revision: 2")));
    product.apply(&phone("SEP0000000D0002", BY_NULL));
    for behind in [NAME, "sep0000000d0002"] {
        let health = health_of::<Phone>(&product, behind).await;
        assert_eq!(health, said("Progressing", "waiting for the controller"), "{behind}");
    }
    product.start_controller(0);
    becomes::<Phone>(&product, NAME, "Healthy", "Install/Upgrade pending").await;
    while_deleted::<Phone>(&product, NAME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_cannot_be_acted_on_is_degraded_and_one_that_misses_something_progresses() {
    let product = Product::start_with("degraded", Options { proxy: "", ..Options::default() }).await;
    product.apply(&phone(DEVICE, BY_NULL));
    becomes::<Phone>(&product, NAME, "Degraded", "PolicyDenied").await;

    product
        .apply(&phone("SEP0000000D0002", "certificateOperation: InstallUpgrade").replace("name: main", "name: other"));
    becomes::<Phone>(&product, "sep0000000d0002", "Progressing", "ProxyNotFound").await;
    let missing = "certificateOperation: InstallUpgrade, authenticationString: {secretRef: {name: later}}";
    product.apply(&phone("SEP0000000D0003", missing));
    becomes::<Phone>(&product, "sep0000000d0003", "Progressing", "SecretNotFound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_healthy_when_it_serves_and_a_suspended_one_is_suspended() {
    let product = Product::start("proxy-health").await;
    // What else people should know is told.
    becomes::<CertificateAuthorityProxy>(&product, "main", "Healthy", "CTLUpdateRequired: ").await;
    let name = product.kubectl(&["get", "capf", "main", "-o", "jsonpath={.status.serviceCertificate.commonName}"]);
    let ctl = format!(r#"{{"spec":{{"ctlCertificate":"{name}"}}}}"#);
    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", &ctl]);
    product.kubectl(&["wait", "--for=condition=CTLUpdateRequired=False", "--timeout=60s", "capf/main"]);
    assert_eq!(health_of::<CertificateAuthorityProxy>(&product, "main").await, said("Healthy", ""));

    // There is no node here, so pods of endpoints do not come.
    let pods = "apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {name: pods}\nspec: {}\n";
    product.apply(pods);
    becomes::<CertificateAuthorityProxy>(&product, "pods", "Progressing", "EndpointsUnavailable: ").await;

    product.suspend();
    becomes::<CertificateAuthorityProxy>(&product, "main", "Suspended", "").await;
    product.apply(&phone(DEVICE, BY_NULL));
    becomes::<Phone>(&product, NAME, "Suspended", "nothing new is armed").await;

    product.kubectl(&["create", "secret", "generic", "taken-issuer", "--from-literal=tls.key=x"]);
    let taken = "apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {name: taken}\nspec: {placement: External}\n";
    product.apply(taken);
    becomes::<CertificateAuthorityProxy>(&product, "taken", "Degraded", "NameTaken").await;
    while_deleted::<CertificateAuthorityProxy>(&product, "taken").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_run_is_healthy_until_it_fails() {
    let product = Product::start("run-health").await;
    product.apply(&phone(DEVICE, "certificateOperation: NoPendingOperation"));
    let run = |name: &str, settings: &str| {
        product.apply(&format!(
            "apiVersion: capf.dev/v1alpha1\nkind: CertificateOperation\nmetadata: {{name: {name}}}\nspec: {{phoneRef: {{name: \
             {NAME}}}, certificateOperation: InstallUpgrade, authenticationMode: ByNullString, requestedBy: Person{settings}}}\n"
        ));
    };
    run("first", "");
    assert_eq!(health_of::<CertificateOperation>(&product, "first").await, said("Healthy", "Pending"));
    product.operation_status(NAME, "Install/Upgrade pending").await;
    run("second", "");
    becomes::<CertificateOperation>(&product, "first", "Healthy", "Failed: Superseded").await;
    product.operation_status_within(NAME, "Install/Upgrade pending", Duration::from_secs(30)).await;
    product.enrol(DEVICE, Proof::NullString).await;
    becomes::<CertificateOperation>(&product, "second", "Healthy", "Successful").await;
    run("third", ", operationCompletesBy: \"2020-01-01T00:00:00Z\"");
    becomes::<CertificateOperation>(&product, "third", "Degraded", "Failed: Expired").await;
    while_deleted::<CertificateOperation>(&product, "third").await;
}
