//! Every value of the chart and the difference that it makes: a row for each, and none without.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::helm::{CHART, Objects, render};

/// What must be so with the value, and must not be so without.
enum Makes {
    /// At a JSON pointer of an object stands this.
    At(&'static str, &'static str, Value),
    /// At a JSON pointer of an object stands a list with this in it.
    Among(&'static str, &'static str, Value),
    /// At a JSON pointer of an object stands nothing.
    Nothing(&'static str, &'static str),
    /// There is this object.
    There(&'static str),
    /// There is no such object.
    Gone(&'static str),
}
use Makes::{Among, At, Gone, Nothing, There};

impl Makes {
    fn holds(&self, objects: &Objects) -> bool {
        match self {
            At(object, pointer, value) => objects.at(object, pointer) == *value,
            Among(object, pointer, value) => {
                objects.at(object, pointer).as_array().is_some_and(|list| list.contains(value))
            }
            Nothing(object, pointer) => objects.get(object).is_some() && objects.at(object, pointer).is_null(),
            There(object) => objects.get(object).is_some(),
            Gone(object) => objects.get(object).is_none(),
        }
    }
}

const DEPLOYMENT: &str = "Deployment/capf";
const POD: &str = "/spec/template/spec";
const ARGS: &str = "/spec/template/spec/containers/0/args";
const ENV: &str = "/spec/template/spec/containers/0/env";
const JOB: &str = "/spec/jobTemplate/spec/template/spec";
const TEST_ARGS: &str = "/spec/containers/0/args";
/// What must be set besides, for a value to matter.
const PROXY: &str = "proxy: {enabled: true}";
const POLICIES: &str = "networkPolicy: {enabled: true, phoneRanges: [192.0.2.0/24]}";
const REPORT: &str = "report: {enabled: true}";
const MONITORS: &str = "metrics: {serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}";
const NAMESPACED: &str = "scope: Namespaced";
const BALANCER: &str = "service: {type: LoadBalancer}";
const PORT: &str = "proxy: {enabled: true, spec: {phonePort: 5061}}";
const JOBS: &str = "{proxy: {enabled: true}, report: {enabled: true}, keys: {keep: false}}";
const NONE: &str = "{}";

/// The value, what is set besides, the setting, and what it makes.
fn rows() -> Vec<(&'static str, &'static str, &'static str, Vec<Makes>)> {
    let pod = |tail: &'static str| -> &'static str { Box::leak(format!("{POD}{tail}").into_boxed_str()) };
    let job = |tail: &'static str| -> &'static str { Box::leak(format!("{JOB}{tail}").into_boxed_str()) };
    let env = |name: &str, value: &str| Among(DEPLOYMENT, ENV, json!({"name": name, "value": value}));
    let arg = |argument: &str| Among(DEPLOYMENT, ARGS, json!(argument));
    let policy = "NetworkPolicy/capf";
    let endpoints = "NetworkPolicy/capf-endpoints";
    vec![
        ("fullnameOverride", NONE, "fullnameOverride: voice", vec![There("Deployment/voice"), There("Role/voice-own"), Gone(DEPLOYMENT)]),
        ("image.repository", NONE, "image: {repository: registry.example.net:5000/capf}", vec![
            At(DEPLOYMENT, pod("/containers/0/image"), json!("registry.example.net:5000/capf:0.1.0")),
            arg("--endpoint-image=registry.example.net:5000/capf:0.1.0"),
        ]),
        ("image.tag", NONE, "image: {tag: v7}", vec![
            At(DEPLOYMENT, pod("/containers/0/image"), json!("capf-operator:v7")), arg("--endpoint-image=capf-operator:v7"),
        ]),
        ("image.digest", NONE, "image: {tag: v7, digest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}", vec![
            At(DEPLOYMENT, pod("/containers/0/image"), json!(format!("capf-operator@sha256:{}", "a".repeat(64)))),
        ]),
        ("image.pullPolicy", NONE, "image: {pullPolicy: Never}", vec![
            At(DEPLOYMENT, pod("/containers/0/imagePullPolicy"), json!("Never")), arg("--endpoint-image-pull-policy=Never"),
        ]),
        ("image.pullSecrets", NONE, "image: {pullSecrets: [one, two]}", vec![
            At(DEPLOYMENT, pod("/imagePullSecrets"), json!([{"name": "one"}, {"name": "two"}])),
            arg("--endpoint-image-pull-secret=one"), arg("--endpoint-image-pull-secret=two"),
        ]),
        ("scope", NONE, NAMESPACED, vec![
            Gone("ClusterRole/capf"), Gone("ClusterRoleBinding/capf"), There("Role/capf"), There("RoleBinding/capf"),
            arg("--watch-namespace=capf-system"),
        ]),
        ("watchNamespace", NAMESPACED, "watchNamespace: voice", vec![
            There("Role/voice/capf"), There("RoleBinding/voice/capf"), arg("--watch-namespace=voice"),
        ]),
        ("controller.replicas", NONE, "controller: {replicas: 1}", vec![At(DEPLOYMENT, "/spec/replicas", json!(1)), Gone("PodDisruptionBudget/capf")]),
        ("controller.advertise", NONE, "controller: {advertise: ['a.example.net:8443', '[2001:db8::1]:8443']}", vec![
            arg("--advertise=a.example.net:8443"), arg("--advertise=[2001:db8::1]:8443"),
        ]),
        ("controller.leaseSeconds", NONE, "controller: {leaseSeconds: 5}", vec![arg("--lease-seconds=5")]),
        ("controller.logLevel", NONE, "controller: {logLevel: debug}", vec![env("CAPF_LOG_LEVEL", "debug")]),
        ("controller.logFormat", NONE, "controller: {logFormat: text}", vec![env("CAPF_LOG_FORMAT", "text")]),
        ("controller.resources", NONE, "controller: {resources: {limits: {cpu: '2'}}}", vec![
            At(DEPLOYMENT, pod("/containers/0/resources/limits/cpu"), json!("2")),
        ]),
        ("controller.terminationGracePeriodSeconds", NONE, "controller: {terminationGracePeriodSeconds: 20}", vec![
            At(DEPLOYMENT, pod("/terminationGracePeriodSeconds"), json!(20)),
        ]),
        ("controller.nodeSelector", NONE, "controller: {nodeSelector: {zone: a}}", vec![At(DEPLOYMENT, pod("/nodeSelector"), json!({"zone": "a"}))]),
        ("controller.tolerations", NONE, "controller: {tolerations: [{key: a, operator: Exists}]}", vec![
            At(DEPLOYMENT, pod("/tolerations"), json!([{"key": "a", "operator": "Exists"}])),
        ]),
        ("controller.affinity", NONE, "controller: {affinity: {nodeAffinity: {}}}", vec![At(DEPLOYMENT, pod("/affinity"), json!({"nodeAffinity": {}}))]),
        ("controller.topologySpreadConstraints", NONE,
            "controller: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}",
            vec![At(DEPLOYMENT, pod("/topologySpreadConstraints/0/topologyKey"), json!("zone"))]),
        ("controller.priorityClassName", NONE, "controller: {priorityClassName: high}", vec![At(DEPLOYMENT, pod("/priorityClassName"), json!("high"))]),
        ("controller.podAnnotations", NONE, "controller: {podAnnotations: {a: b}}", vec![
            At(DEPLOYMENT, "/spec/template/metadata/annotations", json!({"a": "b"})),
        ]),
        ("controller.podLabels", NONE, "controller: {podLabels: {team: voice}}", vec![At(DEPLOYMENT, "/spec/template/metadata/labels/team", json!("voice"))]),
        ("controller.extraArgs", NONE, "controller: {extraArgs: ['--identity=x']}", vec![arg("--identity=x")]),
        ("controller.extraEnv", NONE, "controller: {extraEnv: [{name: A, value: b}]}", vec![env("A", "b")]),
        ("endpoints.serviceAccountName", NONE, "endpoints: {serviceAccountName: capf}", vec![arg("--endpoint-service-account=capf")]),
        ("service.type", NONE, "service: {type: NodePort}", vec![At("Service/capf", "/spec/type", json!("NodePort"))]),
        ("service.annotations", NONE, "service: {annotations: {a: b}}", vec![At("Service/capf", "/metadata/annotations", json!({"a": "b"}))]),
        ("service.nodePort", BALANCER, "service: {nodePort: 30443}", vec![At("Service/capf", "/spec/ports/0/nodePort", json!(30443))]),
        ("service.loadBalancerSourceRanges", BALANCER, "service: {loadBalancerSourceRanges: [192.0.2.0/24]}", vec![
            At("Service/capf", "/spec/loadBalancerSourceRanges", json!(["192.0.2.0/24"])),
        ]),
        ("service.externalTrafficPolicy", BALANCER, "service: {externalTrafficPolicy: Local}", vec![
            At("Service/capf", "/spec/externalTrafficPolicy", json!("Local")),
        ]),
        ("podDisruptionBudget.enabled", NONE, "podDisruptionBudget: {enabled: false}", vec![Gone("PodDisruptionBudget/capf")]),
        ("serviceAccount.create", "serviceAccount: {name: own}", "serviceAccount: {create: false}", vec![Gone("ServiceAccount/own")]),
        ("serviceAccount.name", NONE, "serviceAccount: {name: own}", vec![
            There("ServiceAccount/own"), At(DEPLOYMENT, pod("/serviceAccountName"), json!("own")),
            At("ClusterRoleBinding/capf", "/subjects/0/name", json!("own")), At("RoleBinding/capf-own", "/subjects/0/name", json!("own")),
        ]),
        ("serviceAccount.annotations", NONE, "serviceAccount: {annotations: {a: b}}", vec![At("ServiceAccount/capf", "/metadata/annotations", json!({"a": "b"}))]),
        ("rbac.create", "{proxy: {enabled: true}, report: {enabled: true}, keys: {keep: false}}", "rbac: {create: false}", vec![
            Gone("ClusterRole/capf"), Gone("ClusterRoleBinding/capf"), Gone("Role/capf-own"), Gone("RoleBinding/capf-own"),
            Gone("ClusterRole/capf-report"), Gone("ClusterRole/capf-remove-keys"), Gone("Role/capf-test"),
            Gone("ClusterRole/capf-view"),
        ]),
        ("rbac.aggregateToUserRoles", NONE, "rbac: {aggregateToUserRoles: false}", vec![
            Gone("ClusterRole/capf-view"), Gone("ClusterRole/capf-edit"), Gone("ClusterRole/capf-admin"),
        ]),
        ("admissionPolicy.enabled", NONE, "admissionPolicy: {enabled: false}", vec![
            Gone("ValidatingAdmissionPolicy/capf.capf-system.secrets"), Gone("ValidatingAdmissionPolicyBinding/capf.capf-system.secrets"),
        ]),
        ("admissionPolicy.withNamespacedScope", NAMESPACED, "admissionPolicy: {withNamespacedScope: true}", vec![
            There("ValidatingAdmissionPolicy/capf.capf-system.secrets"), There("ValidatingAdmissionPolicyBinding/capf.capf-system.secrets"),
        ]),
        ("crds.enabled", NONE, "crds: {enabled: false}", vec![
            Gone("CustomResourceDefinition/phones.capf.dev"), Gone("CustomResourceDefinition/certificateoperations.capf.dev"),
            Gone("CustomResourceDefinition/certificateauthorityproxies.capf.dev"),
        ]),
        ("crds.keep", NONE, "crds: {keep: false}", vec![Nothing("CustomResourceDefinition/phones.capf.dev", "/metadata/annotations")]),
        ("proxy.enabled", NONE, PROXY, vec![There("CertificateAuthorityProxy/main"), There("Pod/capf-test")]),
        ("proxy.name", PROXY, "proxy: {name: other}", vec![There("CertificateAuthorityProxy/other"), Gone("CertificateAuthorityProxy/main")]),
        ("proxy.namespace", PROXY, "proxy: {namespace: voice}", vec![There("CertificateAuthorityProxy/voice/main"), There("Role/voice/capf-test")]),
        ("proxy.keep", "{proxy: {enabled: true}, crds: {keep: false}}", "proxy: {keep: false}", vec![
            Nothing("CertificateAuthorityProxy/main", "/metadata/annotations/helm.sh~1resource-policy"),
        ]),
        ("proxy.spec", PROXY, "proxy: {spec: {placement: External, operationExpiresInDays: 3}}", vec![
            At("CertificateAuthorityProxy/main", "/spec", json!({"placement": "External", "operationExpiresInDays": 3})),
            Gone("Pod/capf-test"),
        ]),
        ("keys.keep", NONE, "keys: {keep: false}", vec![
            There("Job/capf-remove-keys"), There("ServiceAccount/capf-remove-keys"), There("ClusterRole/capf-remove-keys"),
        ]),
        ("jobs.resources", JOBS, "jobs: {resources: {limits: {cpu: '1'}}}", vec![
            At("CronJob/capf-report", job("/containers/0/resources/limits/cpu"), json!("1")),
            At("Job/capf-remove-keys", pod("/containers/0/resources/limits/cpu"), json!("1")),
            At("Pod/capf-test", "/spec/containers/0/resources/limits/cpu", json!("1")),
        ]),
        ("jobs.nodeSelector", JOBS, "jobs: {nodeSelector: {zone: a}}", vec![
            At("CronJob/capf-report", job("/nodeSelector"), json!({"zone": "a"})),
            At("Job/capf-remove-keys", pod("/nodeSelector"), json!({"zone": "a"})),
            At("Pod/capf-test", "/spec/nodeSelector", json!({"zone": "a"})),
        ]),
        ("jobs.tolerations", JOBS, "jobs: {tolerations: [{key: a, operator: Exists}]}", vec![
            At("CronJob/capf-report", job("/tolerations"), json!([{"key": "a", "operator": "Exists"}])),
            At("Job/capf-remove-keys", pod("/tolerations"), json!([{"key": "a", "operator": "Exists"}])),
            At("Pod/capf-test", "/spec/tolerations", json!([{"key": "a", "operator": "Exists"}])),
        ]),
        ("networkPolicy.enabled", "networkPolicy: {phoneRanges: [192.0.2.0/24], endpointNamespaces: [voice]}", "networkPolicy: {enabled: true}", vec![
            There(policy), There(endpoints),
        ]),
        ("networkPolicy.phoneRanges", "networkPolicy: {enabled: true, endpointNamespaces: [voice], phoneRanges: [198.51.100.0/24]}",
            "networkPolicy: {phoneRanges: [192.0.2.0/24, '2001:db8::/32']}",
            vec![At(endpoints, "/spec/ingress", json!([{
                "ports": [{"port": 3804, "protocol": "TCP"}],
                "from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}],
            }]))]),
        ("networkPolicy.endpointNamespaces", POLICIES, "networkPolicy: {endpointNamespaces: [a, b]}", vec![
            There("NetworkPolicy/a/capf-endpoints"), There("NetworkPolicy/b/capf-endpoints"),
            At(policy, "/spec/ingress/0/from/0/namespaceSelector", json!({"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]},
            ]})),
        ]),
        ("networkPolicy.externalEndpointRanges", POLICIES, "networkPolicy: {externalEndpointRanges: [203.0.113.0/24]}", vec![
            At(policy, "/spec/ingress/0/from/1", json!({"ipBlock": {"cidr": "203.0.113.0/24"}})),
        ]),
        ("networkPolicy.metricsFrom", "networkPolicy: {enabled: true, endpointNamespaces: [voice], phoneRanges: [192.0.2.0/24]}",
            "networkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {a: b}}}]}",
            [policy, endpoints].map(|policy| At(policy, "/spec/ingress/1", json!({
                "ports": [{"port": 8080, "protocol": "TCP"}], "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
            }))).into()),
        ("networkPolicy.apiServer.ranges", POLICIES, "networkPolicy: {apiServer: {ranges: [192.0.2.1/32]}}", vec![
            At(policy, "/spec/egress/0/to", json!([{"ipBlock": {"cidr": "192.0.2.1/32"}}])),
        ]),
        ("networkPolicy.apiServer.ports", POLICIES, "networkPolicy: {apiServer: {ports: [8443]}}", vec![
            At(policy, "/spec/egress/0/ports", json!([{"port": 8443, "protocol": "TCP"}])),
        ]),
        ("networkPolicy.dnsPorts", POLICIES, "networkPolicy: {dnsPorts: [5353]}", vec![At(policy, "/spec/egress/1/ports", json!([
            {"port": 5353, "protocol": "UDP"}, {"port": 5353, "protocol": "TCP"},
        ]))]),
        ("networkPolicy.dnsTo", POLICIES, "networkPolicy: {dnsTo: []}", vec![Nothing(policy, "/spec/egress/1/to")]),
        ("metrics.interval", MONITORS, "metrics: {interval: 5s}", vec![
            At("ServiceMonitor/capf", "/spec/endpoints/0/interval", json!("5s")),
            At("PodMonitor/capf-endpoints", "/spec/podMetricsEndpoints/0/interval", json!("5s")),
        ]),
        ("metrics.labels", MONITORS, "metrics: {labels: {release: prometheus}}", vec![
            At("ServiceMonitor/capf", "/metadata/labels/release", json!("prometheus")),
            At("PodMonitor/capf-endpoints", "/metadata/labels/release", json!("prometheus")),
        ]),
        ("metrics.serviceMonitor.enabled", NONE, "metrics: {serviceMonitor: {enabled: true}}", vec![There("ServiceMonitor/capf")]),
        ("metrics.podMonitor.enabled", NONE, "metrics: {podMonitor: {enabled: true}}", vec![There("PodMonitor/capf-endpoints")]),
        ("report.enabled", NONE, REPORT, vec![
            There("CronJob/capf-report"), There("PersistentVolumeClaim/capf-report"), There("ServiceAccount/capf-report"),
            There("ClusterRole/capf-report"), There("ClusterRoleBinding/capf-report"),
        ]),
        ("report.schedule", REPORT, "report: {schedule: '@hourly'}", vec![At("CronJob/capf-report", "/spec/schedule", json!("@hourly"))]),
        ("report.timeZone", REPORT, "report: {timeZone: Europe/Paris}", vec![At("CronJob/capf-report", "/spec/timeZone", json!("Europe/Paris"))]),
        ("report.namespace", REPORT, "report: {namespace: voice}", vec![
            There("Role/voice/capf-report"), Gone("ClusterRole/capf-report"),
            At("CronJob/capf-report", job("/containers/0/args/1"), json!("--namespace=voice")),
        ]),
        ("report.fileName", REPORT, "report: {fileName: report.csv}", vec![
            At("CronJob/capf-report", job("/containers/0/args/2"), json!("--output=/reports/report.csv")),
        ]),
        ("report.extraArgs", REPORT, "report: {extraArgs: [--lsc-status=NotInstalled]}", vec![
            At("CronJob/capf-report", job("/containers/0/args/3"), json!("--lsc-status=NotInstalled")),
        ]),
        ("report.volume.existingClaim", REPORT, "report: {volume: {existingClaim: shared}}", vec![
            Gone("PersistentVolumeClaim/capf-report"),
            At("CronJob/capf-report", job("/volumes/0/persistentVolumeClaim/claimName"), json!("shared")),
        ]),
        ("report.volume.size", REPORT, "report: {volume: {size: 5Gi}}", vec![
            At("PersistentVolumeClaim/capf-report", "/spec/resources/requests/storage", json!("5Gi")),
        ]),
        ("report.volume.storageClassName", REPORT, "report: {volume: {storageClassName: slow}}", vec![
            At("PersistentVolumeClaim/capf-report", "/spec/storageClassName", json!("slow")),
        ]),
        ("report.volume.keep", REPORT, "report: {volume: {keep: false}}", vec![Nothing("PersistentVolumeClaim/capf-report", "/metadata/annotations")]),
        ("test.enabled", PROXY, "test: {enabled: false}", vec![Gone("Pod/capf-test"), Gone("ServiceAccount/capf-test"), Gone("Role/capf-test")]),
        ("test.proxy", NONE, "test: {proxy: hq}", vec![
            There("Pod/capf-test"), Among("Pod/capf-test", TEST_ARGS, json!("--proxy=hq")),
            Among("Pod/capf-test", TEST_ARGS, json!("--server=hq-endpoint.capf-system.svc:3804")),
        ]),
        // The port of the release's own proxy is known, that of another is not.
        ("test.proxy", PORT, "test: {proxy: hq}", vec![
            Among("Pod/capf-test", TEST_ARGS, json!("--server=hq-endpoint.capf-system.svc:3804")),
        ]),
        ("proxy.spec", PROXY, "{proxy: {spec: {phonePort: 5061}}, test: {proxy: main}}", vec![
            Among("Pod/capf-test", TEST_ARGS, json!("--server=main-endpoint.capf-system.svc:5061")),
        ]),
        ("test.namespace", "test: {proxy: hq}", "test: {namespace: voice}", vec![
            There("Role/voice/capf-test"), Among("Pod/capf-test", TEST_ARGS, json!("--namespace=voice")),
        ]),
        ("test.server", PROXY, "test: {server: '192.0.2.1:3804'}", vec![Among("Pod/capf-test", TEST_ARGS, json!("--server=192.0.2.1:3804"))]),
        ("test.deviceName", PROXY, "test: {deviceName: CSFTEST}", vec![
            Among("Pod/capf-test", TEST_ARGS, json!("--device-name=CSFTEST")),
            At("Role/capf-test", "/rules/1/resourceNames", json!(["csftest"])), At("Role/capf-test", "/rules/4/resourceNames", json!(["csftest"])),
        ]),
        ("test.timeoutSeconds", PROXY, "test: {timeoutSeconds: 60}", vec![Among("Pod/capf-test", TEST_ARGS, json!("--timeout-seconds=60"))]),
    ]
}

#[test]
fn every_value_makes_its_difference() {
    for (value, besides, setting, makes) in rows() {
        let without = render(&[besides]).unwrap();
        let with = render(&[besides, setting]).unwrap();
        for (number, made) in makes.iter().enumerate() {
            assert!(made.holds(&with), "{value}: {setting} does not make number {number}: {:#?}", with.0);
            assert!(!made.holds(&without), "{value}: number {number} is so without {setting}");
        }
    }
}

/// The keys of `values.yaml` that are no maps of others.
fn leaves(values: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (key, value) in values.as_object().unwrap() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() && !path.ends_with(".resources") => leaves(value, &path, found),
            _ => drop(found.insert(path)),
        }
    }
}

#[test]
fn no_value_is_without_a_row() {
    let values: Value = serde_saphyr::from_str(&fs::read_to_string(format!("{CHART}/values.yaml")).unwrap()).unwrap();
    let mut keys = BTreeSet::new();
    leaves(&values, "", &mut keys);
    let mut rows: BTreeSet<String> = rows().iter().map(|row| row.0.to_owned()).collect();
    // In rendering.rs: one renders a file of the chart, the other matters to releases of other names only.
    rows.extend(["metrics.alerts.enabled".into(), "nameOverride".into()]);
    assert_eq!(rows, keys);
}

#[test]
fn every_value_has_a_schema_that_takes_no_other_and_says_what_it_means() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap()).unwrap();
    let values: Value = serde_saphyr::from_str(&fs::read_to_string(format!("{CHART}/values.yaml")).unwrap()).unwrap();
    let mut open = vec![(String::new(), &schema, &values)];
    while let Some((path, schema, values)) = open.pop() {
        let Some(properties) = schema["properties"].as_object() else { continue };
        assert_eq!(schema["additionalProperties"], false, "{path} takes anything");
        for (name, schema) in properties {
            // What Helm itself hands to every chart.
            if path.is_empty() && name == "global" {
                continue;
            }
            let path = format!("{path}/{name}");
            assert!(schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{path} has no description");
            assert!(schema["type"].is_string(), "{path} has no type");
            assert!(!values[name].is_null(), "values.yaml has no {path}");
            open.push((path, schema, &values[name]));
        }
    }
}
