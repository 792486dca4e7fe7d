//! What a kubelet would do with the pods of hooks, where there is no node: run the program with the pod's arguments and the
//! token of the pod's account, and tell the API server how it ended.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::harness::{ControlPlane, Namespace, capf_binary, eventually};
use crate::product::PATIENCE;

/// A kubeconfig with a token of this account, in the control plane's directory.
pub fn kubeconfig_of(plane: &ControlPlane, namespace: &str, account: &str) -> PathBuf {
    let token = plane.kubectl(&["-n", namespace, "create", "token", account]).unwrap();
    let path = plane.dir().join(format!("kubeconfig-{namespace}-{account}"));
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": plane.server(), "certificate-authority": plane.ca_file()}}],
        "users": [{"name": "u", "user": {"token": token.trim()}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        "current-context": "x",
    });
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// Waits for the pod whose name begins so, runs its containers one after the other, and sets its phase. What they printed.
pub async fn play(plane: &ControlPlane, namespace: &Namespace, name: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(plane.client(None), namespace.name());
    let pod = eventually(&format!("there is a pod {name}"), PATIENCE, || async {
        let all = pods.list(&Default::default()).await.map_err(|e| e.to_string())?.items;
        let names: Vec<_> = all.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
        all.into_iter().find(|pod| pod.metadata.name.as_ref().unwrap().starts_with(name)).ok_or(format!("{names:?}"))
    })
    .await
    .unwrap();
    let spec = pod.spec.unwrap();
    let kubeconfig = kubeconfig_of(plane, namespace.name(), spec.service_account_name.as_deref().unwrap());
    let (mut said, mut phase) = (String::new(), "Succeeded");
    for container in spec.containers {
        let mut command = Command::new(capf_binary());
        command.args(container.args.unwrap()).env("KUBECONFIG", &kubeconfig);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        said += &String::from_utf8_lossy(&output.stdout);
        said += &String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            phase = "Failed";
        }
    }
    let status = Patch::Merge(json!({"status": {"phase": phase}}));
    pods.patch_status(&pod.metadata.name.unwrap(), &PatchParams::default(), &status).await.unwrap();
    said
}
