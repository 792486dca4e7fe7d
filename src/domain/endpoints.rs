//! Endpoints as pods: which objects a proxy's endpoints run by, and what those tell of them.
//!
//! What stands in the pod template rolls the pods out one by one when it changes: image, time to drain, resources, scheduling.
//! What stands in the bundle does not, because endpoints read that again: certificates, limits, the controllers' addresses. The
//! phone port stands in the Service alone.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Resource as _;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::proxy::{Obstacle, endpoint_secret};
use crate::api::{
    CertificateAuthorityProxy, Endpoints, EndpointsStatus, GROUP, PROXY_LABEL, Placement, ServiceType, bounded,
};

/// Where phones are awaited in a pod, whatever the proxy's phone port is: that one is the Service's.
pub const PHONES: u16 = 3804;
/// Where a pod answers probes and shows its metrics.
pub const OPERATIONS: u16 = 8080;
/// User and group of the process; the image's own.
const USER: u32 = 65_532;
/// Seconds that a pod goes on taking phones once it is to end: until everybody has heard of it.
const LINGER: u32 = 5;
/// Seconds beyond the time for a key that a pod has to end.
const GRACE: u32 = 60;
/// Of those, seconds that open sessions have: the rest is for `LINGER`, and for the process to end by itself.
const DRAIN: u32 = 50;
/// What the kubelet's cache and the API server call every object of this part.
const APP: &str = "capf-endpoint";
/// Label that says what keeps an object.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
const OPERATOR: &str = "capf-operator";
/// Selects the Deployments of all proxies.
pub const SELECTOR: &str = "app.kubernetes.io/managed-by=capf-operator,app.kubernetes.io/name=capf-endpoint";

/// What the controller's flags say of every endpoint pod, and no proxy may.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PodFlags {
    /// The image.
    pub image: String,
    /// When it is pulled; the cluster's default when absent.
    pub pull_policy: Option<String>,
    /// Secrets to pull it with, in the proxy's namespace.
    pub pull_secrets: Vec<String>,
    /// Service account, in the proxy's namespace. Its token is not mounted.
    pub service_account: String,
}

/// The objects, as they are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The Deployment.
    pub deployment: Value,
    /// The Service.
    pub service: Value,
    /// The PodDisruptionBudget; none for a single pod, which it would nail to its node.
    pub budget: Option<Value>,
}

/// Name of all three.
#[must_use]
pub fn object_name(proxy: &str) -> String {
    endpoint_secret(proxy)
}

/// Whether the controller keeps endpoints for this proxy.
#[must_use]
pub fn in_cluster(proxy: &CertificateAuthorityProxy) -> bool {
    proxy.spec.placement == Placement::InCluster
}

/// The objects that this proxy's endpoints run by.
#[must_use]
pub fn wanted(proxy: &CertificateAuthorityProxy, flags: &PodFlags) -> Wanted {
    let settings = proxy.spec.endpoints.clone().unwrap_or_default();
    Wanted {
        deployment: deployment(proxy, &settings, flags),
        service: service(proxy, &settings),
        budget: (settings.replicas() > 1).then(|| budget(proxy)),
    }
}

fn deployment(proxy: &CertificateAuthorityProxy, settings: &Endpoints, flags: &PodFlags) -> Value {
    let mut deployment = object(proxy, "apps/v1", "Deployment");
    deployment["spec"] = json!({
        "replicas": settings.replicas(),
        "revisionHistoryLimit": 2,
        "selector": selector(proxy),
        // One more, then one less: phones find as many as before at any moment.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels(proxy)}, "spec": pod(proxy, settings, flags)},
    });
    deployment
}

fn pod(proxy: &CertificateAuthorityProxy, settings: &Endpoints, flags: &PodFlags) -> Value {
    let key_seconds = u32::from(proxy.spec.maximum_key_generation_minutes) * 60;
    let drain = (key_seconds + DRAIN).to_string();
    let (phones, operations) = (PHONES.to_string(), format!("[::]:{OPERATIONS}"));
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": "http"},
            "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures,
        })
    };
    let container = json!({
        "name": "endpoint",
        "image": flags.image,
        "imagePullPolicy": flags.pull_policy,
        "args": [
            "endpoint", "--bundle", "/bundle", "--port", phones, "--http-listen", operations, "--drain-seconds", drain,
        ],
        "ports": [
            {"name": "capf", "containerPort": PHONES, "protocol": "TCP"},
            {"name": "http", "containerPort": OPERATIONS, "protocol": "TCP"},
        ],
        "livenessProbe": probe("/livez", 10, 6),
        "readinessProbe": probe("/readyz", 5, 2),
        "lifecycle": {"preStop": {"sleep": {"seconds": LINGER}}},
        "resources": resources(settings),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [{"name": "bundle", "mountPath": "/bundle", "readOnly": true}],
    });
    let apart = json!({"labelSelector": selector(proxy), "topologyKey": "kubernetes.io/hostname"});
    without_nulls(json!({
        "serviceAccountName": flags.service_account,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "imagePullSecrets": list(flags.pull_secrets.iter().map(|name| json!({"name": name}))),
        "terminationGracePeriodSeconds": key_seconds + GRACE,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {"podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": apart}],
        }},
        "nodeSelector": map(&settings.node_selector),
        "tolerations": list(settings.tolerations.iter().map(|toleration| json!(toleration))),
        "topologySpreadConstraints": list(settings.topology_spread_constraints.iter().map(|constraint| {
            let mut constraint = json!(constraint);
            constraint["labelSelector"] = selector(proxy);
            constraint
        })),
        "priorityClassName": settings.priority_class_name,
        "containers": [container],
        // Only the group may read: the files belong to root.
        "volumes": [{"name": "bundle", "secret": {"secretName": object_name(name(proxy)), "defaultMode": 0o440}}],
    }))
}

fn resources(settings: &Endpoints) -> Value {
    let given = settings.resources.clone().unwrap_or_default();
    let requests = given.requests.map_or_else(|| json!({"cpu": "50m", "memory": "64Mi"}), |amounts| json!(amounts));
    json!({"requests": requests, "limits": given.limits})
}

fn service(proxy: &CertificateAuthorityProxy, settings: &Endpoints) -> Value {
    let given = settings.service.clone().unwrap_or_default();
    let outside = given.type_() != ServiceType::ClusterIP;
    let mut service = object(proxy, "v1", "Service");
    service["metadata"]["annotations"] = map(&given.annotations);
    service["spec"] = json!({
        "type": given.type_(),
        "selector": selector_labels(proxy),
        "ipFamilyPolicy": "PreferDualStack",
        // Wrong strings are counted by where they come from, so the phones' addresses must not be replaced by a node's.
        "externalTrafficPolicy": outside.then_some("Local"),
        "loadBalancerClass": given.load_balancer_class,
        "loadBalancerSourceRanges": list(given.load_balancer_source_ranges.iter().map(|range| json!(range))),
        "ports": [{
            "name": "capf", "port": proxy.spec.phone_port, "targetPort": "capf", "protocol": "TCP",
            "nodePort": given.node_port,
        }],
    });
    without_nulls(service)
}

fn budget(proxy: &CertificateAuthorityProxy) -> Value {
    let mut budget = object(proxy, "policy/v1", "PodDisruptionBudget");
    // Pods that serve nobody need no protection, and would hold up the emptying of a node for good.
    budget["spec"] =
        json!({"minAvailable": 1, "selector": selector(proxy), "unhealthyPodEvictionPolicy": "AlwaysAllow"});
    budget
}

fn object(proxy: &CertificateAuthorityProxy, api_version: &str, kind: &str) -> Value {
    let owner = json!({
        "apiVersion": CertificateAuthorityProxy::api_version(&()),
        "kind": CertificateAuthorityProxy::kind(&()),
        "name": name(proxy),
        "uid": proxy.metadata.uid,
        "controller": true,
    });
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": object_name(name(proxy)),
            "namespace": proxy.metadata.namespace,
            "labels": labels(proxy),
            "ownerReferences": [owner],
        },
    })
}

fn name(proxy: &CertificateAuthorityProxy) -> &str {
    proxy.metadata.name.as_deref().unwrap_or_default()
}

fn labels(proxy: &CertificateAuthorityProxy) -> Value {
    json!({
        "app.kubernetes.io/name": APP,
        "app.kubernetes.io/instance": name(proxy),
        MANAGED_BY: OPERATOR,
        PROXY_LABEL: name(proxy),
    })
}

/// Never to be changed: that of a Deployment is immutable.
fn selector_labels(proxy: &CertificateAuthorityProxy) -> Value {
    json!({"app.kubernetes.io/name": APP, PROXY_LABEL: name(proxy)})
}

fn selector(proxy: &CertificateAuthorityProxy) -> Value {
    json!({"matchLabels": selector_labels(proxy)})
}

/// A list, or nothing where it is empty.
fn list(items: impl Iterator<Item = Value>) -> Value {
    let items: Vec<Value> = items.collect();
    if items.is_empty() { Value::Null } else { Value::Array(items) }
}

/// A map, or nothing where it is empty.
fn map(entries: &std::collections::BTreeMap<String, String>) -> Value {
    if entries.is_empty() { Value::Null } else { json!(entries) }
}

/// Leaves out what is not said: what is applied is owned, a null too.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, inner)| !inner.is_null());
            Value::Object(kept.map(|(name, inner)| (name, without_nulls(inner))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Whether an object of that name is one that the controller made for this proxy, or for one of the same name before it.
#[must_use]
pub fn is_ours(object: &ObjectMeta, proxy: &str) -> bool {
    let label = |name: &str| object.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let controller = object.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let of_a_proxy = controller.is_none_or(|owner| {
        owner.api_version.starts_with(&format!("{GROUP}/"))
            && owner.kind == CertificateAuthorityProxy::kind(&())
            && owner.name == proxy
    });
    of_a_proxy && label(MANAGED_BY) == Some(OPERATOR) && label(PROXY_LABEL) == Some(proxy)
}

/// The obstacle that a controller without these flags is.
#[must_use]
pub fn flags_missing(placement: Placement, flags: &[&str]) -> Obstacle {
    let (flags, other) =
        (flags.join(" and "), if placement == Placement::InCluster { "External" } else { "InCluster" });
    let message =
        format!("placement: {placement:?} needs the controller's {flags}; start it with that, or write {other}");
    Obstacle { reason: "FlagMissing", message, stalls: true }
}

/// What the objects tell of the endpoints.
#[must_use]
pub fn observe(proxy: &CertificateAuthorityProxy, deployment: &Deployment, service: &Service) -> EndpointsStatus {
    EndpointsStatus {
        replicas: proxy.spec.endpoints.clone().unwrap_or_default().replicas(),
        ready: ready(deployment),
        address: address(service),
        failure: failure(deployment).map(|why| bounded(why.to_owned(), 384)),
    }
}

/// Pods that are as wanted now and take phones: at least so many, because the Deployment counts those of before with them.
fn ready(deployment: &Deployment) -> u16 {
    let Some(status) = &deployment.status else { return 0 };
    if status.observed_generation < deployment.metadata.generation {
        return 0;
    }
    let updated = status.updated_replicas.unwrap_or(0);
    let of_before = status.replicas.unwrap_or(0) - updated;
    let ready = status.available_replicas.unwrap_or(0) - of_before.max(0);
    u16::try_from(ready.clamp(0, updated)).unwrap_or(0)
}

fn failure(deployment: &Deployment) -> Option<&str> {
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let found = |type_: &str, status: &str| {
        let condition = conditions.iter().find(|c| c.type_ == type_ && c.status == status)?;
        condition.message.as_deref().or(condition.reason.as_deref())
    };
    found("ReplicaFailure", "True").or_else(|| found("Progressing", "False"))
}

fn address(service: &Service) -> Option<String> {
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref()?.first());
    let outside = ingress.and_then(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()));
    outside.or_else(|| service.spec.as_ref()?.cluster_ip.clone().filter(|address| address != "None"))
}

/// Whether a load balancer was asked for that has not come yet: nobody says when it does.
#[must_use]
pub fn awaits_balancer(service: &Service) -> bool {
    let asked = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    asked && ingress.is_none_or(Vec::is_empty)
}

/// What is amiss with the endpoints, for people; nothing when as many as wanted take phones.
#[must_use]
pub fn amiss(seen: &EndpointsStatus, namespace: &str, proxy: &str) -> Option<String> {
    if seen.ready >= seen.replicas {
        return None;
    }
    let cause = seen.failure.clone().unwrap_or_else(|| {
        format!("the others are on their way, or see `kubectl -n {namespace} describe pods -l {PROXY_LABEL}={proxy}`")
    });
    Some(format!("{} of {} endpoint pods are as wanted and take phones: {cause}", seen.ready, seen.replicas))
}
