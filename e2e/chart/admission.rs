//! What is rendered is what the API server takes, in a namespace that enforces Pod Security `restricted`.

use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{ControlPlane, Namespace};
use crate::helm::{CHART, KNOWN, Objects, command, run, values_file};
use crate::product::install_crds;
use crate::rendering::{EVERYTHING, NAMESPACED};

/// Kinds of the Prometheus operator, whose types are not here.
const FOREIGN: [&str; 3] = ["ServiceMonitor", "PodMonitor", "PrometheusRule"];

/// A dry run of `kubectl apply`: what it says on both outputs, and whether it took it.
fn dry_run(plane: &ControlPlane, namespace: &str, object: &Value) -> (bool, String) {
    let file = values_file(&object.to_string());
    let mut kubectl = plane.kubectl_command(None);
    kubectl
        .args(["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-n", namespace, "-f"])
        .arg(file.path())
        .stdin(Stdio::null());
    let Output { status, stdout, stderr } = kubectl.output().unwrap();
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// The pods that an object makes, as pods.
fn pods_of(object: &Value) -> Option<Value> {
    let template = match object["kind"].as_str()? {
        "Deployment" | "Job" => &object["spec"]["template"],
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        "Pod" => return Some(object.clone()),
        _ => return None,
    };
    let metadata = json!({"name": format!("{}-pod", object["metadata"]["name"].as_str()?), "labels": template["metadata"]["labels"]});
    Some(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_object_where_restricted_is_enforced() {
    let plane = ControlPlane::shared();
    install_crds(plane);
    let client = plane.client(None);
    let namespace = Namespace::create(&client, "admission").await.unwrap();
    let ns = namespace.name();
    plane.kubectl(&["label", "namespace", ns, "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
    let (mut seen, mut pods) = (0, 0);
    for scope in ["proxy: {spec: {placement: External}}\ntest: {server: '192.0.2.1:3804'}\n", NAMESPACED] {
        let files = [EVERYTHING, "proxy: {spec: {placement: External}}\ntest: {server: '192.0.2.1:3804'}\n", scope]
            .map(values_file);
        let mut helm = command(None);
        helm.args(["template", "capf", CHART, KNOWN, "--namespace", ns]);
        for file in &files {
            helm.arg("--values").arg(file.path());
        }
        let objects = Objects::read(&run(&mut helm).unwrap());
        // Accounts for real: a pod without its account is not admitted.
        for account in objects.of("ServiceAccount") {
            plane.kubectl_stdin(&["apply", "--server-side", "-n", ns, "-f", "-"], &account.to_string()).unwrap();
        }
        for object in objects.0.iter().filter(|object| !FOREIGN.contains(&object["kind"].as_str().unwrap())) {
            let (taken, said) = dry_run(plane, ns, object);
            assert!(taken && !said.contains("Warning"), "{object}: {said}");
            seen += 1;
            let Some(mut pod) = pods_of(object) else { continue };
            let (taken, said) = dry_run(plane, ns, &pod);
            assert!(taken, "{pod}: {said}");
            pods += 1;
            // The namespace does enforce it.
            pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
            let (taken, said) = dry_run(plane, ns, &pod);
            assert!(!taken && said.contains("violates PodSecurity"), "{said}");
        }
    }
    assert!(seen > 40 && pods == 8, "{seen} objects, {pods} pods");
}
