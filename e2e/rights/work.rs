//! The product with its own account: the controller as the chart starts it, the token of its account, and no other right.
//! It leads, keeps endpoints, enrols a phone by a generated string and removes what it kept, and is refused nothing.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use axum::http::Method;
use capf::api::{CertificateAuthorityProxy, Phone};
use capf::phone::{AttemptOutcome, SimulatedPhone, tls_config};
use capf::wire::ClaimedName;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{Process, capf_binary, eventually, free_port};
use crate::product::{PATIENCE, digits, get, phone};
use crate::release::{Release, Scope};

/// The objects of the proxy `main`'s endpoints.
const ENDPOINTS: [&str; 3] =
    ["deployment.apps/main-endpoint", "poddisruptionbudget.policy/main-endpoint", "service/main-endpoint"];
const DEVICE: &str = "SEP0000000E0001";

/// An API of the watched namespace, as administrator.
fn api<K>(release: &Release) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    Api::namespaced(release.client.clone(), release.watched.name())
}

/// The controller with the arguments that its Deployment has, but for addresses that only pods have. Its addresses for
/// probes and for endpoints stand before it.
fn start_controller(release: &Release) -> (String, Process) {
    let deployment = release.kubectl(&["-n", release.own.name(), "get", "deployment", release.name(), "-o", "json"]);
    let deployment: Value = serde_json::from_str(&deployment).unwrap();
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    let (http, questions) = (format!("127.0.0.1:{}", free_port()), free_port());
    let mut command = Command::new(capf_binary());
    for argument in arguments.iter().map(|argument| argument.as_str().unwrap()) {
        match argument.split_once('=') {
            Some((flag @ "--http-listen", _)) => command.arg(format!("{flag}={http}")),
            Some((flag @ "--advertise-in-cluster", _)) => command.arg(format!("{flag}=localhost:{questions}")),
            _ => command.arg(argument),
        };
    }
    command
        .args(["--listen", &format!("127.0.0.1:{questions}"), "--log-level", "debug"])
        .env("CAPF_NAMESPACE", release.own.name())
        .env("KUBECONFIG", release.kubeconfig("controller"));
    let mut controller = release.plane.spawn(&format!("{}-controller", release.name()), None, &mut command).unwrap();
    controller.wait_for_log("leading: the loops run here", PATIENCE).unwrap();
    (http, controller)
}

/// An endpoint with the files that kubelet mounts in its pod. Where phones connect stands before it.
async fn start_endpoint(release: &Release, folder: &tempfile::TempDir) -> (String, Process) {
    let bundle: Secret = api(release).get("main-endpoint").await.unwrap();
    for (name, octets) in bundle.data.unwrap() {
        fs::write(folder.path().join(name), octets.0).unwrap();
    }
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(capf_binary());
    command.args(["endpoint", "--listen", &address, "--bundle"]).arg(folder.path());
    // It has no cluster to talk to.
    command.env("KUBECONFIG", "/dev/null");
    let mut endpoint = release.plane.spawn(&format!("{}-endpoint", release.name()), None, &mut command).unwrap();
    endpoint.wait_for_log("phones are awaited", PATIENCE).unwrap();
    (address, endpoint)
}

/// Waits until exactly these objects of the endpoints are there.
async fn has(release: &Release, wanted: &[&str]) {
    let kinds = "deployment,poddisruptionbudget,service";
    eventually(&format!("there is {wanted:?}"), PATIENCE, || async {
        let found =
            release.kubectl(&["-n", release.watched.name(), "get", kinds, "-l", "capf.dev/proxy=main", "-o", "name"]);
        if found.lines().eq(wanted.iter().copied()) { Ok(()) } else { Err(found) }
    })
    .await
    .unwrap();
}

/// Waits for the proxy to be Ready; in the kubelet's place says that its pods are.
async fn proxy_ready(release: &Release) {
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    eventually("the proxy is Ready", PATIENCE, || async {
        let pods: Api<Pod> = api(release);
        for pod in
            pods.list(&ListParams::default().labels("capf.dev/proxy=main")).await.map_err(|e| e.to_string())?.items
        {
            let said = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&ready)).await;
            said.map_err(|e| e.to_string())?;
        }
        let proxy: CertificateAuthorityProxy = api(release).get("main").await.map_err(|e| e.to_string())?;
        let status = proxy.status.unwrap_or_default();
        let ready = status.conditions.iter().any(|c| format!("{:?} {:?}", c.type_, c.status) == "Ready True");
        if ready && Some(status.observed_generation) == proxy.metadata.generation {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await
    .unwrap();
}

/// Waits for the phone's Operation Status to read so.
async fn operation_status(release: &Release, wanted: &str) -> Phone {
    let phones: Api<Phone> = api(release);
    eventually(&format!("the phone shows {wanted}"), PATIENCE, || async {
        let phone = phones.get(&DEVICE.to_lowercase()).await.map_err(|e| e.to_string())?;
        let status = phone.status.clone().unwrap_or_default();
        if status.operation_status.as_deref() == Some(wanted) { Ok(phone) } else { Err(format!("{status:?}")) }
    })
    .await
    .unwrap()
}

fn apply(release: &Release, manifest: &str) {
    release.plane.kubectl_stdin(&["apply", "-n", release.watched.name(), "-f", "-"], manifest).unwrap();
}

fn patch_proxy(release: &Release, patch: &str) {
    release.kubectl(&["-n", release.watched.name(), "patch", "capf/main", "--type=merge", "-p", patch]);
}

/// All that a controller does, with what the chart gives it.
async fn works(release: &Release) {
    let (http, controller) = start_controller(release);
    let holder = ["-n", release.own.name(), "get", "lease", "capf-controller", "-o", "jsonpath={.spec.holderIdentity}"];
    assert_ne!(release.kubectl(&holder), "", "nobody leads");
    let main = "apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {name: main}\nspec: {}\n";
    apply(release, main);
    has(release, &ENDPOINTS).await;
    proxy_ready(release).await;

    // A phone, by a generated string.
    let folder = tempfile::tempdir().unwrap();
    let (address, endpoint) = start_endpoint(release, &folder).await;
    apply(release, &phone(DEVICE, "certificateOperation: InstallUpgrade, keyType: EC"));
    let waiting = operation_status(release, "Install/Upgrade pending").await;
    let string = format!("{}-string", waiting.status.unwrap().operation.unwrap().name);
    let secrets: Api<Secret> = api(release);
    let typed = String::from_utf8(secrets.get(&string).await.unwrap().data.unwrap()["authenticationString"].0.clone());
    let certificates: ConfigMap = api(release).get("main-certificates").await.unwrap();
    let tls = tls_config(&certificates.binary_data.unwrap()["CAPF.cer"].0).unwrap();
    let mut caller =
        SimulatedPhone::new(address.parse::<SocketAddr>().unwrap(), ClaimedName::parse(DEVICE).unwrap(), tls)
            .proof(digits(&typed.unwrap()))
            .retries(3, Duration::from_millis(100));
    let outcome = caller.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{outcome:?}");
    operation_status(release, "Install/Upgrade successful").await;
    eventually("the string is deleted", PATIENCE, || async {
        secrets.get_opt(&string).await.is_ok_and(|secret| secret.is_none())
    })
    .await
    .unwrap();

    // New keys, other pods, fewer, and none: each is another right, to update, to patch and to delete.
    let revision = || async { secrets.get("main-service").await.unwrap().metadata.resource_version };
    let before = revision().await;
    patch_proxy(release, r#"{"spec":{"certificateRevision":1,"endpoints":{"replicas":1}}}"#);
    eventually("the service key is new", PATIENCE, || async { revision().await != before }).await.unwrap();
    has(release, &[ENDPOINTS[0], ENDPOINTS[2]]).await;
    patch_proxy(release, r#"{"spec":{"placement":"External","endpoints":null}}"#);
    has(release, &[]).await;
    proxy_ready(release).await;
    // What is in the way of a proxy stands in an Event.
    let taken = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: taken-certificates}\n---\n".to_owned();
    apply(release, &(taken + &main.replace("name: main", "name: taken")));
    eventually("there is an Event", PATIENCE, || async {
        let events = release.kubectl(&["-n", release.watched.name(), "get", "events", "-o", "yaml"]);
        if events.contains("reason: NameTaken") { Ok(()) } else { Err(events) }
    })
    .await
    .unwrap();

    // Nothing was refused: by its own count, and by its log.
    let (status, metrics) = get(&http, "/metrics").unwrap();
    assert!(status == 200 && metrics.contains("capf_controller_api_calls_total{"), "{metrics}");
    let refused: Vec<&str> = metrics.lines().filter(|line| line.contains("\"forbidden\"")).collect();
    assert_eq!(refused, Vec::<&str>::new());
    for log in [controller.log(), endpoint.log()] {
        let refused: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
        assert!(!log.is_empty() && refused.is_empty(), "{refused:#?}");
    }
}

/// Where endpoints outside the cluster would ask.
const ADVERTISE: &str = "controller: {advertise: ['127.0.0.1:8443']}\n";
const ROLES: &str = "clusterrole,clusterrolebinding";

#[tokio::test(flavor = "multi_thread")]
async fn with_scope_cluster_and_policies_in_force_all_work_is_done() {
    let release = Release::install("all", Scope::Cluster, ADVERTISE).await;
    release.await_policies(&release.caller("controller")).await;
    assert!(release.of_the_cluster(ROLES).lines().count() >= 4, "what is looked for is found where it is");
    works(&release).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_scope_namespaced_all_work_is_done_without_any_right_of_the_cluster() {
    let release = Release::install("one", Scope::Namespaced, ADVERTISE).await;
    let of_the_cluster = format!("{ROLES},validatingadmissionpolicy,validatingadmissionpolicybinding");
    assert_eq!(release.of_the_cluster(&of_the_cluster), "");
    // Nor does a binding of another name give its accounts anything.
    let bindings = release.kubectl(&["get", "clusterrolebinding", "-o", "json"]);
    assert!(bindings.contains("system:discovery") && !bindings.contains(release.own.name()), "{bindings}");
    let elsewhere = format!("/apis/capf.dev/v1alpha1/namespaces/{}/phones", release.foreign.name());
    works(&release).await;
    let (status, said) = release.caller("controller").call(Method::GET, &elsewhere, &[], &Value::Null).await;
    assert!(status == 403, "{said}");
}
