//! The hooks of a release: `helm test` enrols a phone, `helm uninstall` removes keys, each with the rights of its own account
//! only, and neither leaves anything.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Namespace, capf_binary, eventually, free_port};
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

/// Where the product's first controller answers questions.
fn listens_at(product: &Product) -> String {
    let command = product.controller_command(0);
    let mut args = command.get_args().map(|arg| arg.to_str().unwrap().to_owned());
    args.find(|arg| arg == "--listen").expect("--listen is given");
    args.next().unwrap()
}

/// The controller of the release's Deployment, as a process of this machine: only its own ports differ.
fn chart_controller(product: &Product, listen: &str, http: u16) -> Command {
    let deployment = product.kubectl(&["get", "deployment", "capf", "-o", "json"]);
    let deployment: serde_json::Value = serde_json::from_str(&deployment).unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let mut command = Command::new(capf_binary());
    for arg in pod["containers"][0]["args"].as_array().unwrap() {
        command.arg(arg.as_str().unwrap().replace("[::]:8080", &format!("127.0.0.1:{http}")));
    }
    command.args(["--listen", listen]);
    for variable in pod["containers"][0]["env"].as_array().unwrap() {
        let value = match &variable["valueFrom"]["fieldRef"]["fieldPath"] {
            serde_json::Value::Null => variable["value"].as_str().unwrap(),
            field => {
                assert_eq!(field, "metadata.namespace");
                product.ns()
            }
        };
        command.env(variable["name"].as_str().unwrap(), value);
    }
    let account = pod["serviceAccountName"].as_str().unwrap();
    command.env("KUBECONFIG", kubeconfig_of(product.plane, product.ns(), account));
    command
}

/// What the controller's server of probes and metrics says.
async fn answer(port: u16, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_tested_and_uninstalled_without_leaving_anything() {
    let mut product = Product::start("hooks").await;
    let kubeconfig = product.plane.kubeconfig(None);
    let listen = listens_at(&product);
    let values = format!(
        "scope: Namespaced\ncrds: {{enabled: false}}\nkeys: {{keep: false}}\ntest: {{proxy: main, server: '{}'}}\n\
         networkPolicy: {{enabled: true, phoneRanges: [192.0.2.0/24]}}\ncontroller: {{advertise: ['{listen}']}}\n",
        product.address
    );
    let file = values_file(&values);
    let install = ["install", "capf", CHART, "--values", file.path().to_str().unwrap()];
    helm(&kubeconfig, &product.namespace, &install).await.unwrap().unwrap();

    // From here on the controller is the chart's: its arguments, its environment, its rights and no others.
    product.controllers.clear();
    let http = free_port();
    let mut controller = chart_controller(&product, &listen, http);
    let mut controller = product.plane.spawn(&format!("{}-chart", product.ns()), None, &mut controller).unwrap();
    controller.wait_for_log("leading: the loops run here", PATIENCE).unwrap();
    product.controllers.push(controller);
    for path in ["livez", "readyz", "metrics"] {
        let answer = answer(http, path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }

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
    eventually("nothing of the release is left", PATIENCE, || async {
        let left = product.kubectl(&["get", all, "-l", "app.kubernetes.io/instance=capf", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await
    .unwrap();
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
