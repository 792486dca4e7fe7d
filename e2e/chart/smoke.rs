//! `capf smoke-test` with the rights that the chart gives it: what it shows, and that nothing is left of it, however it ends.

use std::net::TcpListener;
use std::process::{Command, Output};

use capf::api::{CertificateOperation, Phone};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use crate::harness::{capf_binary, eventually};
use crate::helm::render;
use crate::product::{PATIENCE, Product, string_secret};

/// The user that the test's role is bound to here.
const USER: &str = "capf-reporter";

/// Gives the user the rights of the pod that `helm test` runs.
fn grant(product: &Product) {
    let values = format!("test: {{proxy: main, namespace: {}, deviceName: CAPF-SMOKE-TEST}}", product.ns());
    let role = render(&[&values]).unwrap().get("Role/capf-test").unwrap().clone();
    product.apply(&role.to_string());
    product.kubectl(&["create", "rolebinding", "smoke", "--role=capf-test", &format!("--user={USER}")]);
}

fn smoke_test(product: &Product, server: &str, more: &[&str]) -> Command {
    let mut command = Command::new(capf_binary());
    command.args(["smoke-test", "-n", product.ns(), "--proxy", "main", "--server", server]).args(more);
    command.env("KUBECONFIG", product.plane.kubeconfig(Some(USER)));
    command
}

/// How it ended: whether well, and what it said.
fn ended(output: &Output) -> (bool, String) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// Phones, operations and authentication strings that are there.
async fn traces(product: &Product) -> Vec<String> {
    let phones = product.api::<Phone>().list(&Default::default()).await.unwrap().items;
    let operations = product.api::<CertificateOperation>().list(&Default::default()).await.unwrap().items;
    let secrets = product.api::<Secret>().list(&Default::default()).await.unwrap().items;
    let strings = secrets.iter().filter(|secret| secret.type_.as_deref() == Some("capf.dev/authentication-string"));
    let names = phones.iter().map(Phone::name_any).chain(operations.iter().map(CertificateOperation::name_any));
    names.chain(strings.map(Secret::name_any)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_phone_enrols_and_nothing_is_left_of_it() {
    let product = Product::start("smoke").await;
    grant(&product);
    for _twice in 0..2 {
        let (well, said) = ended(&smoke_test(&product, &product.address, &[]).output().unwrap());
        assert!(well && said.contains("Install/Upgrade successful") && said.contains("nothing is left"), "{said}");
        assert_eq!(traces(&product).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_fails_says_why_and_leaves_nothing() {
    let mut product = Product::start("smoke-fails").await;
    grant(&product);
    let no_one = "127.0.0.1:1";
    let (well, said) = ended(&smoke_test(&product, no_one, &["--timeout-seconds", "15"]).output().unwrap());
    assert!(!well && said.contains("--timeout-seconds 15: not done while talking to the endpoint"), "{said}");
    assert!(said.contains("connect to 127.0.0.1:1"), "{said}");
    assert_eq!(traces(&product).await, Vec::<String>::new());

    let (well, said) = ended(&smoke_test(&product, no_one, &["--proxy", "other"]).output().unwrap());
    assert!(!well && said.contains("cannot be used multiple times"), "{said}");
    let mut other = Command::new(capf_binary());
    other.args(["smoke-test", "-n", product.ns(), "--proxy", "other", "--server", no_one]);
    other.env("KUBECONFIG", product.plane.kubeconfig(None));
    let (well, said) = ended(&other.output().unwrap());
    assert!(
        !well && said.contains("--proxy other: namespace") && said.contains("capf explain --proxy other"),
        "{said}"
    );

    // Nobody takes up the Phone.
    product.controllers[0].terminate().unwrap();
    let (well, said) = ended(&smoke_test(&product, no_one, &["--timeout-seconds", "10"]).output().unwrap());
    assert!(!well && said.contains("waiting for the controller to take up the Phone"), "{said}");
    assert_eq!(traces(&product).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_is_not_touched() {
    let product = Product::start("smoke-taken").await;
    grant(&product);
    product.apply(&string_secret("capf-smoke-test", "47114711"));
    let (well, said) = ended(&smoke_test(&product, &product.address, &[]).output().unwrap());
    assert!(!well && said.contains("--device-name CAPF-SMOKE-TEST: there is a Secret"), "{said}");
    assert_eq!(traces(&product).await, ["capf-smoke-test"], "it is somebody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_is_stopped_leaves_nothing() {
    let product = Product::start("smoke-stopped").await;
    grant(&product);
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = smoke_test(&product, &silent.local_addr().unwrap().to_string(), &[]);
    command.env("KUBECONFIG", product.plane.kubeconfig(Some(USER)));
    let mut process = product.plane.spawn(&format!("{}-smoke", product.ns()), None, &mut command).unwrap();
    process.wait_for_log("the operation waits for its phone", PATIENCE).unwrap();
    assert_eq!(traces(&product).await.len(), 3, "Phone, operation and string");
    assert_eq!(process.terminate().unwrap(), 1);
    assert!(
        process.log().contains("stopped while talking to the endpoint; its traces are removed"),
        "{}",
        process.log()
    );
    eventually("all is gone", PATIENCE, || async {
        let traces = traces(&product).await;
        if traces.is_empty() { Ok(()) } else { Err(format!("{traces:?}")) }
    })
    .await
    .unwrap();
}
