//! The hooks of a release: `helm test` enrols a phone, `helm uninstall` removes keys, each with the rights of its own account
//! only, and neither leaves anything.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use crate::harness::{Namespace, capf_binary};
use crate::helm::{CHART, command, run, values_file};
use crate::pods::{kubeconfig_of, play};
use crate::product::{PATIENCE, Product, phone, string_secret};

/// Runs Helm in a thread of its own, because something else must happen for it to end.
fn helm(kubeconfig: &Path, namespace: &Namespace, args: &[&str]) -> tokio::task::JoinHandle<Result<String, String>> {
    let mut command: Command = command(Some(kubeconfig));
    command.args(args).args(["--namespace", namespace.name()]);
    tokio::task::spawn_blocking(move || run(&mut command))
}

/// Names of the Secrets of our types.
async fn secrets(product: &Product) -> Vec<String> {
    let all = product.api::<Secret>().list(&Default::default()).await.unwrap().items;
    let ours = all.iter().filter(|secret| secret.type_.as_deref().is_some_and(|kind| kind.starts_with("capf.dev/")));
    ours.map(Secret::name_any).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_tested_and_uninstalled_without_leaving_anything() {
    let mut product = Product::start("hooks").await;
    let kubeconfig = product.plane.kubeconfig(None);
    let values = format!(
        "scope: Namespaced\ncrds: {{enabled: false}}\nkeys: {{keep: false}}\ntest: {{proxy: main, server: '{}'}}\n\
         networkPolicy: {{enabled: true, phoneRanges: [192.0.2.0/24]}}\n",
        product.address
    );
    let file = values_file(&values);
    let install = ["install", "capf", CHART, "--values", file.path().to_str().unwrap()];
    helm(&kubeconfig, &product.namespace, &install).await.unwrap().unwrap();

    // From here on the controller has the rights that the chart gives it, and no others.
    product.controllers.clear();
    let mut controller = product.controller_command(0);
    controller.env("KUBECONFIG", kubeconfig_of(product.plane, product.ns(), "capf"));
    let mut controller = product.plane.spawn(&format!("{}-chart", product.ns()), None, &mut controller).unwrap();
    controller.wait_for_log("leading: the loops run here", PATIENCE).unwrap();
    product.controllers.push(controller);

    let test = helm(&kubeconfig, &product.namespace, &["test", "capf", "--timeout=120s"]);
    let said = play(product.plane, &product.namespace, "capf-test").await;
    assert!(said.contains("nothing is left of it"), "{said}");
    let result = test.await.unwrap().unwrap();
    assert!(result.contains("Phase:          Succeeded"), "{result}");
    let hooks = ["get", "pod,serviceaccount,role,rolebinding,networkpolicy", "--no-headers", "-o", "name"];
    let left = product.kubectl(&hooks);
    assert!(!left.contains("capf-test"), "{left}");

    // A string of somebody's is no key.
    product.apply(&string_secret("given", "47114711"));
    let before = secrets(&product).await;
    assert_eq!(before, ["capf-controller", "given", "main-endpoint", "main-issuer", "main-service"]);
    let said = product.plane.kubectl(&["-n", product.ns(), "get", "ph,certop", "-o", "name"]).unwrap();
    assert_eq!(said, "", "the test has left something");
    product.controllers.clear();
    let uninstall = helm(&kubeconfig, &product.namespace, &["uninstall", "capf", "--timeout=120s"]);
    let said = play(product.plane, &product.namespace, "capf-remove-keys").await;
    assert!(said.contains("main-issuer (capf.dev/issuer) deleted"), "{said}");
    uninstall.await.unwrap().unwrap();
    assert_eq!(secrets(&product).await, ["given"]);
    let all = "deployment,service,poddisruptionbudget,job,pod,serviceaccount,role,rolebinding,networkpolicy";
    let left = product.kubectl(&["get", all, "-l", "app.kubernetes.io/instance=capf", "-o", "name"]);
    assert_eq!(left, "", "the release has left something");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_not_removed_unless_one_says_yes() {
    let product = Product::start("keys").await;
    let mut command = Command::new(capf_binary());
    command.args(["remove-keys", "-n", product.ns()]).env("KUBECONFIG", product.plane.kubeconfig(None));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("4 Secrets would be deleted") && said.contains("--yes"),
        "{said}"
    );
    assert_eq!(secrets(&product).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_is_written_with_the_rights_of_its_own_account() {
    let product = Product::start("report").await;
    product.apply(&phone("SEP0000000D0001", "certificateOperation: InstallUpgrade"));
    product.operation_status("sep0000000d0001", "Install/Upgrade pending").await;
    let file = values_file("{scope: Namespaced, crds: {enabled: false}, report: {enabled: true}}");
    let install = ["install", "capf", CHART, "--values", file.path().to_str().unwrap()];
    helm(&product.plane.kubeconfig(None), &product.namespace, &install).await.unwrap().unwrap();
    let cron = product.kubectl(&["get", "cronjob", "capf-report", "-o", "json"]);
    let cron: serde_json::Value = serde_json::from_str(&cron).unwrap();
    let pod = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let folder = tempfile::tempdir().unwrap();
    let args = pod["containers"][0]["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    // As kubelet does: the variable, and the volume where it is mounted.
    let args = args.map(|arg| arg.replace("$(JOB_NAME)", "run-1").replace("/reports", folder.path().to_str().unwrap()));
    let mut report = Command::new(capf_binary());
    report.args(args).env("KUBECONFIG", kubeconfig_of(product.plane, product.ns(), "capf-report"));
    let output = report.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let written = std::fs::read_to_string(folder.path().join("run-1.csv")).unwrap();
    assert!(written.contains("SEP0000000D0001") && written.contains("Install/Upgrade pending"), "{written}");
    let string =
        product.string(&format!("{}-string", product.armed("sep0000000d0001").await.name_any())).await.unwrap();
    assert!(!written.contains(&string), "{written}");
}
