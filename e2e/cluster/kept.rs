//! What there is: every object of the cluster and of a release's namespaces, before and after.

use std::collections::BTreeSet;

use crate::release::Release;
use crate::setup::TYPES;

/// Kinds whose objects come and go by themselves.
const OF_THE_MOMENT: [&str; 3] = ["events", "events.events.k8s.io", "componentstatuses"];

/// The names of all objects of all kinds: those of no namespace, and those of the release's two.
pub async fn everything(release: &Release) -> BTreeSet<String> {
    let node = release.cluster.node;
    let listed = |args: &[&str]| -> Vec<String> {
        node.kubectl(args).unwrap().lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
    };
    let kinds = |namespaced: &str| {
        let mut kinds = listed(&["api-resources", "--verbs=list", "--output=name", namespaced]);
        kinds.retain(|kind| !OF_THE_MOMENT.contains(&kind.as_str()));
        kinds.join(",")
    };
    let mut all: BTreeSet<String> =
        listed(&["get", &kinds("--namespaced=false"), "--output=name"]).into_iter().collect();
    let of_namespaces = kinds("--namespaced=true");
    for namespace in [&release.namespace, &release.phones] {
        let here = listed(&["get", &of_namespaces, "--namespace", namespace, "--output=name"]);
        all.extend(here.into_iter().map(|object| format!("{namespace}: {object}")));
    }
    all
}

/// Whether of a release whose values keep all, nothing else is left.
///
/// # Errors
/// With what should be gone.
pub fn left_by_a_release_that_keeps_all(release: &Release, left: &[String]) -> Result<(), String> {
    let mut goes: Vec<&String> = left.iter().filter(|object| !may_stay(release, object)).collect();
    goes.sort();
    if goes.is_empty() { Ok(()) } else { Err(format!("{goes:?}")) }
}

fn may_stay(release: &Release, object: &str) -> bool {
    if let Some(object) = object.strip_prefix(&format!("{}: ", release.namespace)) {
        // The controllers' keys (keys.keep) and the reports (report.volume.keep).
        return ["secret/capf-controller", "persistentvolumeclaim/capf-report"].contains(&object);
    }
    if let Some(object) = object.strip_prefix(&format!("{}: ", release.phones)) {
        // What people have applied, the keys of the proxy, and all that is the kept proxy's own: its endpoints stay.
        let kinds = ["certificateauthorityproxy.capf.dev/", "phone.capf.dev/", "certificateoperation.capf.dev/"];
        let (kind, name) = object.split_once('/').unwrap_or_default();
        let of_proxy = name.starts_with("main-endpoint") || name == "main-certificates";
        let keys = ["secret/main-issuer", "secret/main-service", "secret/typed"];
        let pods = ["pod", "replicaset.apps", "deployment.apps", "service", "endpoints", "configmap", "secret"];
        let rest = ["endpointslice.discovery.k8s.io", "poddisruptionbudget.policy", "pod.metrics.k8s.io"];
        return kinds.iter().any(|kind| object.starts_with(kind))
            || keys.contains(&object)
            || of_proxy && (pods.contains(&kind) || rest.contains(&kind));
    }
    // The types, and what a kept Service and a kept claim stand on.
    let (kind, name) = object.split_once('/').unwrap_or_default();
    TYPES.contains(&name)
        || name == "v1alpha1.capf.dev"
        || object == "persistentvolume/reports"
        || kind == "ipaddress.networking.k8s.io"
}

/// What must be there when a release has gone that kept all, and is not.
pub fn missing_of_what_is_kept(release: &Release) -> Vec<String> {
    let mut missing = Vec::new();
    let in_phones = [
        "certificateauthorityproxy/main",
        "phone/sep000000000001",
        "phone/sep000000000004",
        "secret/main-issuer",
        "secret/main-service",
        "secret/typed",
        "service/main-endpoint",
    ];
    let in_release = ["secret/capf-controller", "persistentvolumeclaim/capf-report"];
    for (namespace, objects) in [(&release.phones, &in_phones[..]), (&release.namespace, &in_release[..])] {
        for object in objects {
            let args = ["get", object, "--namespace", namespace, "--ignore-not-found", "--output=name"];
            if release.cluster.node.kubectl(&args).unwrap().is_empty() {
                missing.push(format!("{namespace}: {object}"));
            }
        }
    }
    missing
}
