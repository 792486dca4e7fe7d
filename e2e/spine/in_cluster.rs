//! `placement: InCluster` against a real API server and kube-controller-manager, without a node: which objects there are, whose
//! they are, what changes and removes them. Pods are made and stay Pending; a test that needs them up says so in the kubelet's place.

use std::collections::BTreeMap;

use capf::api::{CertificateAuthorityProxy, ConditionStatus, ConditionType, EndpointsStatus};
use capf::authority::bundle::EndpointConfig;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt as _};
use serde_json::json;

use crate::harness::eventually;
use crate::product::{Options, PATIENCE, Product};

const NAME: &str = "pods-endpoint";
/// Objects owned by custom resources are collected only once kube-controller-manager knows their kind.
const COLLECTED: std::time::Duration = std::time::Duration::from_secs(120);

/// The proxy `pods`, with this spec.
fn proxy(spec: &str) -> String {
    format!(
        "apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {{name: pods}}\nspec: {{{spec}}}\n"
    )
}

/// Waits for `Ready` (or another condition) of the proxy `pods` to be so, for its newest generation; its message.
async fn said(product: &Product, type_: ConditionType, status: ConditionStatus, reason: &str) -> String {
    eventually(&format!("{type_:?} is {status:?}, {reason}"), PATIENCE, || async {
        let proxy: CertificateAuthorityProxy = product.api().get("pods").await.map_err(|e| e.to_string())?;
        let known = proxy.status.clone().unwrap_or_default();
        let found = known.conditions.iter().find(|c| (c.type_, c.status) == (type_, status) && c.reason == reason);
        match found.filter(|_| Some(known.observed_generation) == proxy.metadata.generation) {
            Some(condition) => Ok(condition.message.clone()),
            None => Err(format!("{known:?}")),
        }
    })
    .await
    .unwrap()
}

async fn unavailable(product: &Product) -> String {
    said(product, ConditionType::Ready, ConditionStatus::False, "EndpointsUnavailable").await
}

async fn status(product: &Product) -> EndpointsStatus {
    let proxy: CertificateAuthorityProxy = product.api().get("pods").await.unwrap();
    proxy.status.unwrap().endpoints.unwrap()
}

async fn get<K>(product: &Product) -> Option<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    product.api::<K>().get_opt(NAME).await.unwrap()
}

/// The three objects, those there are.
async fn objects(product: &Product) -> BTreeMap<&'static str, ObjectMeta> {
    let found = [
        ("Deployment", get::<Deployment>(product).await.map(|o| o.metadata)),
        ("Service", get::<Service>(product).await.map(|o| o.metadata)),
        ("PodDisruptionBudget", get::<PodDisruptionBudget>(product).await.map(|o| o.metadata)),
    ];
    found.into_iter().filter_map(|(kind, found)| Some((kind, found?))).collect()
}

async fn gone(product: &Product, what: &str) {
    eventually(what, COLLECTED, || async {
        let left = objects(product).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{:?}", left.keys())) }
    })
    .await
    .unwrap();
}

/// The endpoint pods.
async fn pods(product: &Product) -> Vec<Pod> {
    product.api().list(&ListParams::default().labels("capf.dev/proxy=pods")).await.unwrap().items
}

/// Says in the kubelet's place that each pod runs and is ready.
async fn kubelet_says_ready(product: &Product) {
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    for pod in pods(product).await {
        let patch = Patch::Strategic(&ready);
        product.api::<Pod>().patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_objects_are_applied_owned_kept_and_removed() {
    let product = Product::install("in-cluster", Options::default()).await;
    product.apply(&proxy(""));
    let message = unavailable(&product).await;
    assert!(message.starts_with("0 of 2 endpoint pods"), "{message}");
    let owner: CertificateAuthorityProxy = product.api().get("pods").await.unwrap();
    let before = objects(&product).await;
    assert_eq!(before.len(), 3, "{:?}", before.keys());
    for (kind, metadata) in &before {
        let owned = metadata.owner_references.as_deref().unwrap_or_default();
        assert_eq!(owned.len(), 1, "{kind}");
        assert_eq!((owned[0].controller, Some(&owned[0].uid)), (Some(true), owner.metadata.uid.as_ref()), "{kind}");
        let of_spec = metadata.managed_fields.iter().flatten().filter(|f| f.subresource.is_none());
        let managers: Vec<_> = of_spec.map(|f| (f.manager.as_deref(), f.operation.as_deref())).collect();
        assert!(managers.contains(&(Some("capf-endpoints"), Some("Apply"))), "{kind}: {managers:?}");
    }
    let service = get::<Service>(&product).await.unwrap().spec.unwrap();
    assert_eq!(service.type_.as_deref(), Some("ClusterIP"));
    let port = &service.ports.unwrap()[0];
    assert_eq!((port.port, port.node_port), (3804, None));
    assert_eq!(status(&product).await.address, service.cluster_ip);

    // The bundle names addresses, in one order, and nothing that needs a name service.
    let secret: Secret = product.api().get(NAME).await.unwrap();
    let config: EndpointConfig = serde_json::from_slice(&secret.data.unwrap()["endpoint.json"].0).unwrap();
    assert!(!config.controllers.is_empty());
    for controller in &config.controllers {
        let address: std::net::SocketAddr = controller.parse().unwrap();
        assert!(address.ip().is_loopback(), "{controller}");
    }

    // As many pods as wanted are ready, and so is the proxy.
    eventually("two pods are made", PATIENCE, || async { pods(&product).await.len() == 2 }).await.unwrap();
    kubelet_says_ready(&product).await;
    said(&product, ConditionType::Ready, ConditionStatus::True, "Activated").await;
    assert_eq!((status(&product).await.replicas, status(&product).await.ready), (2, 2));

    // A look that finds all as it should be changes nothing: this one is proven by what it says of the new spec.
    // Other controllers write statuses when they like, which changes versions too: what counts is what we have applied.
    let applied = |objects: BTreeMap<&'static str, ObjectMeta>| -> Vec<_> {
        let ours = |metadata: ObjectMeta| {
            let by_us = |field: &ManagedFieldsEntry| field.manager.as_deref() == Some("capf-endpoints");
            let ours: Vec<_> = metadata.managed_fields.into_iter().flatten().filter(by_us).collect();
            assert_eq!(ours.len(), 1, "{ours:?}");
            (metadata.uid, metadata.generation, ours)
        };
        objects.into_iter().map(|(kind, metadata)| (kind, ours(metadata))).collect()
    };
    let bundle = || async { product.api::<Secret>().get(NAME).await.unwrap().metadata.resource_version };
    let (settled, bundled) = (applied(objects(&product).await), bundle().await);
    product.kubectl(&["patch", "capf/pods", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    said(&product, ConditionType::Ready, ConditionStatus::True, "Suspended").await;
    assert_eq!((applied(objects(&product).await), bundle().await), (settled, bundled));

    // What somebody else changes is taken back, because the Deployment is watched.
    product.kubectl(&["scale", "deployment", NAME, "--replicas=5"]);
    eventually("the scale is taken back", PATIENCE, || async {
        let deployment = get::<Deployment>(&product).await.unwrap();
        deployment.metadata.generation > Some(2) && deployment.spec.unwrap().replicas == Some(2)
    })
    .await
    .unwrap();

    // A parameter of the pods rolls them out; the port, the limits and the certificate do not.
    let template = || async { json!(get::<Deployment>(&product).await.unwrap().spec.unwrap().template) };
    let running = template().await;
    let patch = r#"{"spec":{"suspend":false,"phonePort":5061,"certificateRevision":1,"limits":{"connections":99}}}"#;
    product.kubectl(&["patch", "capf/pods", "--type=merge", "-p", patch]);
    eventually("the port is the Service's", PATIENCE, || async {
        get::<Service>(&product).await.unwrap().spec.unwrap().ports.unwrap()[0].port == 5061
    })
    .await
    .unwrap();
    assert_eq!(template().await, running);
    product.kubectl(&["patch", "capf/pods", "--type=merge", "-p", r#"{"spec":{"maximumKeyGenerationMinutes":3}}"#]);
    eventually("the pods get another time to drain", PATIENCE, || async {
        let pod = get::<Deployment>(&product).await.unwrap().spec.unwrap().template.spec.unwrap();
        pod.termination_grace_period_seconds == Some(240)
    })
    .await
    .unwrap();
    let message = unavailable(&product).await;
    assert!(message.contains("of 2 endpoint pods"), "{message}");

    // One pod needs no budget.
    product.kubectl(&["patch", "capf/pods", "--type=merge", "-p", r#"{"spec":{"endpoints":{"replicas":1}}}"#]);
    eventually("the budget goes", PATIENCE, || async { get::<PodDisruptionBudget>(&product).await.is_none() })
        .await
        .unwrap();

    // Outside the cluster there are none.
    let outside = r#"{"spec":{"placement":"External","endpoints":null}}"#;
    product.kubectl(&["patch", "capf/pods", "--type=merge", "-p", outside]);
    gone(&product, "endpoints outside the cluster leave nothing in it").await;
    said(&product, ConditionType::Ready, ConditionStatus::True, "Activated").await;
    let proxy: CertificateAuthorityProxy = product.api().get("pods").await.unwrap();
    assert_eq!(proxy.status.unwrap().endpoints, None);

    // And with the proxy everything goes but its keys.
    product.kubectl(&["patch", "capf/pods", "--type=merge", "-p", r#"{"spec":{"placement":"InCluster"}}"#]);
    unavailable(&product).await;
    assert_eq!(objects(&product).await.len(), 3);
    product.kubectl(&["delete", "capf/pods"]);
    gone(&product, "the objects go with their proxy").await;
    assert!(product.api::<Secret>().get_opt("pods-issuer").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_deleted_and_made_again_takes_over_what_is_still_there() {
    let product = Product::install("taken-over", Options::default()).await;
    product.apply(&proxy(""));
    unavailable(&product).await;
    let (before, secret) = (objects(&product).await, product.api::<Secret>().get(NAME).await.unwrap());
    // Orphaned, so that no collector is faster than this test.
    product.kubectl(&["delete", "capf/pods", "--cascade=orphan"]);
    product.apply(&proxy(""));
    unavailable(&product).await;
    let uid = product.api::<CertificateAuthorityProxy>().get("pods").await.unwrap().metadata.uid;
    let owned_by =
        |metadata: &ObjectMeta| metadata.owner_references.as_ref().map(|o| (o.len(), Some(o[0].uid.clone())));
    let after = objects(&product).await;
    for (kind, metadata) in &after {
        assert_eq!(metadata.uid, before[kind].uid, "{kind} is the same, and pods went on");
        assert_eq!(owned_by(metadata), Some((1, uid.clone())), "{kind}");
    }
    assert_eq!(after.len(), 3);
    let bundle = product.api::<Secret>().get(NAME).await.unwrap();
    assert_eq!((bundle.metadata.uid.clone(), &bundle.data), (secret.metadata.uid, &secret.data));
    assert_eq!(owned_by(&bundle.metadata), Some((1, uid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_changes_between_its_types() {
    let product = Product::install("service", Options::default()).await;
    product.apply(&proxy("endpoints: {service: {type: NodePort}}"));
    unavailable(&product).await;
    let spec = || async { get::<Service>(&product).await.unwrap().spec.unwrap() };
    let port = |spec: &k8s_openapi::api::core::v1::ServiceSpec| spec.ports.as_ref().unwrap()[0].node_port;
    let first = spec().await;
    assert_eq!(first.external_traffic_policy.as_deref(), Some("Local"));
    assert!(port(&first).is_some());
    for (service, type_) in [
        (
            "{type: LoadBalancer, loadBalancerSourceRanges: [192.0.2.0/24], annotations: {a.example/b: c}}",
            "LoadBalancer",
        ),
        ("{type: ClusterIP}", "ClusterIP"),
        ("{type: NodePort}", "NodePort"),
    ] {
        product.apply(&proxy(&format!("endpoints: {{service: {service}}}")));
        eventually(&format!("it is a {type_}"), PATIENCE, || async { spec().await.type_.as_deref() == Some(type_) })
            .await
            .unwrap();
        let found = get::<Service>(&product).await.unwrap();
        assert_eq!(found.annotations().contains_key("a.example/b"), type_ == "LoadBalancer");
        let found = found.spec.unwrap();
        assert_eq!(found.cluster_ip, first.cluster_ip, "phones inside find it where it was");
        assert_eq!(found.load_balancer_source_ranges.is_some(), type_ == "LoadBalancer");
        assert_eq!(port(&found).is_some(), type_ != "ClusterIP");
        unavailable(&product).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_object_is_not_touched_and_the_proxy_says_so() {
    let product = Product::install("foreign", Options::default()).await;
    let foreign = "apiVersion: v1\nkind: Service\nmetadata: {name: pods-endpoint, labels: {capf.dev/proxy: pods}}\nspec: {ports: [{port: 80}]}\n";
    product.apply(foreign);
    let before = get::<Service>(&product).await.unwrap();
    product.apply(&proxy(""));
    let message = said(&product, ConditionType::Stalled, ConditionStatus::True, "NameTaken").await;
    assert!(message.contains("Service pods-endpoint"), "{message}");
    assert_eq!(objects(&product).await.keys().copied().collect::<Vec<_>>(), ["Service"], "nothing was made beside it");
    product.kubectl(&["patch", "capf/pods", "--type=merge", "-p", r#"{"spec":{"placement":"External"}}"#]);
    said(&product, ConditionType::Ready, ConditionStatus::True, "Activated").await;
    assert_eq!(get::<Service>(&product).await.unwrap(), before, "nor is it removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_refuses_is_told_and_mended_with_the_manifest() {
    let product = Product::install("refused", Options::default()).await;
    // Labels that no node can have pass the schema, not the API server's look at a Deployment.
    product.apply(&proxy("endpoints: {nodeSelector: {voice: \"*\"}}"));
    let message = said(&product, ConditionType::Stalled, ConditionStatus::True, "EndpointsRefused").await;
    assert!(message.contains("Deployment") && message.contains("nodeSelector"), "{message}");
    product.event_has("yaml", "EndpointsRefused").await;
    product.apply(&proxy("endpoints: {nodeSelector: {voice: \"yes\"}}"));
    unavailable(&product).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_there_are_no_pods_stands_in_the_status_and_in_an_event() {
    let product = Product::install("quota", Options::default()).await;
    product.apply("apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: none}\nspec: {hard: {pods: \"0\"}}\n");
    eventually("the quota is in force", PATIENCE, || async {
        product.kubectl(&["get", "resourcequota", "none", "-o", "jsonpath={.status.hard.pods}"]) == "0"
    })
    .await
    .unwrap();
    product.apply(&proxy(""));
    let failure = eventually("the failure is told", PATIENCE, || async {
        let proxy: CertificateAuthorityProxy = product.api().get("pods").await.ok()?;
        proxy.status?.endpoints?.failure
    })
    .await
    .unwrap();
    assert!(failure.contains("exceeded quota"), "{failure}");
    assert!(unavailable(&product).await.contains("exceeded quota"));
    product.event_has("yaml", "exceeded quota: none, requested: pods=1").await;
    let explained = product.capf(None, &["explain", "--proxy", "pods", "-n", product.ns()]);
    let line = explained.lines().find(|line| line.starts_with("Endpoints:")).unwrap();
    assert!(line.contains("FAULT") && line.contains("exceeded quota"), "{explained}");
    assert!(explained.contains("Certificates: fine"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_enforces_restricted_admits_the_pods() {
    let product = Product::install("restricted", Options::default()).await;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    product.plane.kubectl(&["label", "namespace", product.ns(), restricted]).unwrap();
    product.apply(&proxy(
        "endpoints: {priorityClassName: system-cluster-critical, tolerations: [{operator: Exists}], \
         topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}], \
         resources: {requests: {cpu: \"0.1\"}, limits: {memory: 128Mi}}}",
    ));
    unavailable(&product).await;
    let template = get::<Deployment>(&product).await.unwrap().spec.unwrap().template;
    let pod =
        |spec| Pod { metadata: ObjectMeta { name: Some("trial".into()), ..ObjectMeta::default() }, spec, status: None };
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    product.api::<Pod>().create(&dry, &pod(template.spec.clone())).await.unwrap();
    // The same with a root that can be written to passes, with one more right it does not: the namespace does enforce.
    let mut privileged = template.spec.unwrap();
    privileged.containers[0].security_context.as_mut().unwrap().allow_privilege_escalation = Some(true);
    let refused = product.api::<Pod>().create(&dry, &pod(Some(privileged))).await.unwrap_err();
    assert!(refused.to_string().contains("PodSecurity"), "{refused}");
    eventually("both pods are admitted", PATIENCE, || async { pods(&product).await.len() == 2 }).await.unwrap();
    let spec = pods(&product).await.remove(0).spec.unwrap();
    assert_eq!(spec.automount_service_account_token, Some(false));
    let mounted: Vec<_> = spec.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect();
    assert_eq!(mounted, ["bundle"], "no token of the API server");
}
