//! The objects that endpoints run by, written out; what changes them, and what they are read to mean.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::endpoints::{PodFlags, amiss, awaits_balancer, is_ours, observe, wanted};
use super::testing::proxy;
use crate::api::CertificateAuthorityProxy;

fn flags() -> PodFlags {
    PodFlags { image: "example.net/capf:1".into(), service_account: "default".into(), ..PodFlags::default() }
}

/// The proxy `main` in `voice`, with this over its spec.
fn with(spec: Value) -> CertificateAuthorityProxy {
    let mut whole = json!({"placement": "InCluster"});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    CertificateAuthorityProxy { spec: serde_json::from_value(whole).unwrap(), ..proxy() }
}

const METADATA: &str = "
  name: main-endpoint
  namespace: voice
  labels: &labels
    app.kubernetes.io/name: capf-endpoint
    app.kubernetes.io/instance: main
    app.kubernetes.io/managed-by: capf-operator
    capf.dev/proxy: main
  ownerReferences:
  - {apiVersion: capf.dev/v1alpha1, kind: CertificateAuthorityProxy, name: main, uid: proxy-uid, controller: true}
";

fn golden(text: &str) -> Value {
    serde_saphyr::from_str(&text.replace("METADATA", METADATA)).unwrap()
}

#[test]
fn the_deployment_of_a_proxy_that_says_nothing_of_its_endpoints() {
    let expected = golden(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: METADATA
spec:
  replicas: 2
  revisionHistoryLimit: 2
  selector: &pods {matchLabels: {app.kubernetes.io/name: capf-endpoint, capf.dev/proxy: main}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: *labels}
    spec:
      serviceAccountName: default
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 1860
      securityContext:
        {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - {weight: 100, podAffinityTerm: {labelSelector: *pods, topologyKey: kubernetes.io/hostname}}
      containers:
      - name: endpoint
        image: example.net/capf:1
        args: [endpoint, --bundle, /bundle, --port, "3804", --http-listen, "[::]:8080", --drain-seconds, "1850"]
        ports:
        - {name: capf, containerPort: 3804, protocol: TCP}
        - {name: http, containerPort: 8080, protocol: TCP}
        livenessProbe:
          {httpGet: {path: /livez, port: http}, periodSeconds: 10, timeoutSeconds: 3, failureThreshold: 6}
        readinessProbe:
          {httpGet: {path: /readyz, port: http}, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 2}
        lifecycle: {preStop: {sleep: {seconds: 5}}}
        resources: {requests: {cpu: 50m, memory: 64Mi}}
        securityContext:
          {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
        volumeMounts: [{name: bundle, mountPath: /bundle, readOnly: true}]
      volumes: [{name: bundle, secret: {secretName: main-endpoint, defaultMode: 288}}]
"#,
    );
    assert_eq!(wanted(&with(json!({})), &flags()).deployment, expected);
}

#[test]
fn its_service_is_reached_from_within_the_cluster_only_and_its_budget_keeps_one_pod() {
    let expected = golden(
        "
apiVersion: v1
kind: Service
metadata: METADATA
spec:
  type: ClusterIP
  selector: {app.kubernetes.io/name: capf-endpoint, capf.dev/proxy: main}
  ipFamilyPolicy: PreferDualStack
  ports: [{name: capf, port: 3804, targetPort: capf, protocol: TCP}]
",
    );
    let made = wanted(&with(json!({})), &flags());
    assert_eq!(made.service, expected);
    let expected = golden(
        "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: METADATA
spec:
  minAvailable: 1
  selector: {matchLabels: {app.kubernetes.io/name: capf-endpoint, capf.dev/proxy: main}}
  unhealthyPodEvictionPolicy: AlwaysAllow
",
    );
    assert_eq!(made.budget, Some(expected));
    assert_eq!(wanted(&with(json!({"endpoints": {"replicas": 1}})), &flags()).budget, None);
}

#[test]
fn a_service_that_is_reached_from_outside_keeps_the_phones_addresses() {
    let service = json!({
        "type": "LoadBalancer", "annotations": {"example.net/pool": "voice"}, "nodePort": 30804,
        "loadBalancerClass": "example.net/lb", "loadBalancerSourceRanges": ["192.0.2.0/24"],
    });
    let made = wanted(&with(json!({"phonePort": 5061, "endpoints": {"service": service}})), &flags()).service;
    assert_eq!(made["metadata"]["annotations"], json!({"example.net/pool": "voice"}));
    let spec = &made["spec"];
    assert_eq!(spec["externalTrafficPolicy"], "Local");
    assert_eq!(spec["loadBalancerClass"], "example.net/lb");
    assert_eq!(spec["loadBalancerSourceRanges"], json!(["192.0.2.0/24"]));
    let port = json!({"name": "capf", "port": 5061, "targetPort": "capf", "protocol": "TCP", "nodePort": 30804});
    assert_eq!(spec["ports"], json!([port]));
}

#[test]
fn what_a_proxy_says_of_scheduling_and_resources_stands_in_the_pod() {
    let endpoints = json!({
        "replicas": 3,
        "resources": {"limits": {"memory": "1Gi"}},
        "nodeSelector": {"voice": "yes"},
        "tolerations": [{"key": "voice", "operator": "Exists"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "high",
    });
    let flags = PodFlags {
        pull_policy: Some("Always".into()),
        pull_secrets: vec!["mirror".into()],
        service_account: "phones".into(),
        ..flags()
    };
    let made = wanted(&with(json!({"endpoints": endpoints})), &flags).deployment;
    assert_eq!(made["spec"]["replicas"], 3);
    let pod = &made["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"], json!({"voice": "yes"}));
    assert_eq!(pod["tolerations"], json!([{"key": "voice", "operator": "Exists"}]));
    assert_eq!(
        pod["topologySpreadConstraints"],
        json!([{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "capf-endpoint", "capf.dev/proxy": "main"}},
        }])
    );
    assert_eq!((&pod["priorityClassName"], &pod["serviceAccountName"]), (&json!("high"), &json!("phones")));
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "mirror"}]));
    let container = &pod["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    let resources = json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}});
    assert_eq!(container["resources"], resources);
}

#[test]
fn only_what_a_running_pod_cannot_take_up_rolls_pods_out() {
    let template = |spec: Value, flags: PodFlags| wanted(&with(spec), &flags).deployment["spec"]["template"].clone();
    let plain = template(json!({}), flags());
    for same in [
        json!({"phonePort": 5061}),
        json!({"limits": {"connections": 100, "answerSeconds": 60}}),
        json!({"certificateRevision": 3, "keyType": "EC"}),
        json!({"suspend": true, "permitNullString": true}),
        json!({"endpoints": {"replicas": 9}}),
        json!({"endpoints": {"service": {"type": "NodePort"}}}),
    ] {
        assert_eq!(template(same.clone(), flags()), plain, "{same}");
    }
    for other in [
        json!({"maximumKeyGenerationMinutes": 31}),
        json!({"endpoints": {"priorityClassName": "high"}}),
        json!({"endpoints": {"resources": {"limits": {"cpu": "1"}}}}),
    ] {
        assert_ne!(template(other.clone(), flags()), plain, "{other}");
    }
    assert_ne!(template(json!({}), PodFlags { image: "example.net/capf:2".into(), ..flags() }), plain);
}

#[test]
fn a_pod_ends_after_its_sessions_and_not_before() {
    for minutes in [1, 30, 120] {
        let made = wanted(&with(json!({"maximumKeyGenerationMinutes": minutes})), &flags()).deployment;
        let pod = &made["spec"]["template"]["spec"];
        let args = pod["containers"][0]["args"].as_array().unwrap();
        let drain: i64 = args.last().unwrap().as_str().unwrap().parse().unwrap();
        let pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap();
        let grace = pod["terminationGracePeriodSeconds"].as_i64().unwrap();
        assert_eq!(grace, minutes * 60 + 60);
        assert!(drain >= minutes * 60 + 45 && pause + drain < grace, "{pause} + {drain} against {grace}");
    }
}

fn seen(status: Value, service: Value) -> crate::api::EndpointsStatus {
    let deployment: Deployment =
        serde_json::from_value(json!({"metadata": {"generation": 4}, "status": status})).unwrap();
    let service: Service = serde_json::from_value(service).unwrap();
    observe(&with(json!({})), &deployment, &service)
}

#[test]
fn pods_of_before_do_not_count_as_ready() {
    let counts = |observed, total, updated, available| {
        let status = json!({
            "observedGeneration": observed, "replicas": total, "updatedReplicas": updated, "availableReplicas": available,
        });
        seen(status, json!({})).ready
    };
    for (why, ready, expected) in [
        ("all are as wanted", counts(4, 2, 2, 2), 2),
        ("a newer spec is not acted on yet", counts(3, 2, 2, 2), 0),
        ("one of before is left, the first new one is not up", counts(4, 3, 1, 2), 0),
        ("two of before are left, the first new one is up", counts(4, 3, 1, 3), 1),
        ("one of before is left, both new ones are up", counts(4, 3, 2, 3), 2),
        ("more pods than wanted, as after a scale-down", counts(4, 5, 2, 5), 2),
        ("nothing is there", counts(4, 0, 0, 0), 0),
    ] {
        assert_eq!(ready, expected, "{why}");
    }
    assert_eq!(seen(Value::Null, json!({})).ready, 0);
}

#[test]
fn a_failure_is_told_in_the_words_of_whoever_failed() {
    let condition = |type_: &str, status: &str, message: &str| {
        let condition = json!({"type": type_, "status": status, "message": message});
        json!({"observedGeneration": 4, "conditions": [condition]})
    };
    let forbidden = seen(condition("ReplicaFailure", "True", "violates PodSecurity"), json!({}));
    assert_eq!(forbidden.failure.as_deref(), Some("violates PodSecurity"));
    let text = amiss(&forbidden, "voice", "main").unwrap();
    assert_eq!(text, "0 of 2 endpoint pods are as wanted and take phones: violates PodSecurity");
    let late = seen(condition("Progressing", "False", "has timed out"), json!({}));
    assert_eq!(late.failure.as_deref(), Some("has timed out"));
    let coming = seen(condition("Available", "False", "minimum availability"), json!({}));
    assert_eq!(coming.failure, None);
    assert!(amiss(&coming, "voice", "main").unwrap().contains("kubectl -n voice describe pods -l capf.dev/proxy=main"));
    let up = json!({"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    assert_eq!(amiss(&seen(up, json!({})), "voice", "main"), None);
}

#[test]
fn the_address_is_the_balancers_once_there_is_one() {
    let address = |spec: Value, status: Value| {
        let service = json!({"spec": spec, "status": status});
        let waits = awaits_balancer(&serde_json::from_value(service.clone()).unwrap());
        (seen(json!({}), service).address, waits)
    };
    let inside = json!({"type": "LoadBalancer", "clusterIP": "192.0.2.7"});
    let at = |one: Value| json!({"loadBalancer": {"ingress": [one]}});
    assert_eq!(address(inside.clone(), json!({})), (Some("192.0.2.7".into()), true));
    assert_eq!(address(inside.clone(), at(json!({"ip": "198.51.100.9"}))), (Some("198.51.100.9".into()), false));
    assert_eq!(address(inside, at(json!({"hostname": "lb.example.net"}))), (Some("lb.example.net".into()), false));
    assert_eq!(address(json!({"clusterIP": "None"}), json!({})), (None, false));
}

#[test]
fn what_is_somebody_elses_is_told_by_labels_and_owner() {
    let ours = |change: Value| {
        let mut metadata = wanted(&with(json!({})), &flags()).service["metadata"].clone();
        metadata.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        is_ours(&serde_json::from_value(metadata).unwrap(), "main")
    };
    let owner = |kind: &str, name: &str| {
        json!({"ownerReferences": [
            {"apiVersion": "capf.dev/v1alpha1", "kind": kind, "name": name, "uid": "another", "controller": true},
        ]})
    };
    assert!(ours(json!({})));
    assert!(ours(owner("CertificateAuthorityProxy", "main")), "of a proxy of that name before");
    assert!(ours(json!({"ownerReferences": []})), "orphaned");
    assert!(!ours(owner("CertificateAuthorityProxy", "other")));
    assert!(!ours(owner("Phone", "main")));
    assert!(!ours(json!({"labels": {"capf.dev/proxy": "main"}})));
    assert!(!ours(json!({"labels": {"app.kubernetes.io/managed-by": "capf-operator", "capf.dev/proxy": "other"}})));
}
