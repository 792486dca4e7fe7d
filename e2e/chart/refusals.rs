//! Values that the chart refuses, each with a message that names the field.

use std::process::Command;

use crate::helm::{CHART, command, render, run};

/// Values, and what the message must say: the field, and what is wrong with it.
const REFUSED: &[(&str, &[&str])] = &[
    // By the schema.
    ("controller: {replicas: 0}", &["/controller/replicas", "minimum: got 0, want 1"]),
    ("controller: {replicas: two}", &["/controller/replicas", "got string, want integer"]),
    ("controller: {replica: 3}", &["/controller'", "additional properties 'replica' not allowed"]),
    ("controler: {replicas: 3}", &["additional properties 'controler' not allowed"]),
    ("controller: {leaseSeconds: 1}", &["/controller/leaseSeconds", "minimum: got 1, want 2"]),
    ("controller: {logLevel: verbose}", &["/controller/logLevel", "'error', 'warn', 'info', 'debug', 'trace'"]),
    ("controller: {advertise: [controller.example.net]}", &["/controller/advertise/0", "does not match pattern"]),
    ("controller: {extraEnv: [{value: x}]}", &["/controller/extraEnv/0", "missing property 'name'"]),
    ("scope: Everything", &["/scope", "'Cluster', 'Namespaced'"]),
    ("watchNamespace: Voice", &["/watchNamespace", "does not match pattern"]),
    ("image: {tag: 'a:b'}", &["/image/tag", "does not match pattern"]),
    ("image: {digest: latest}", &["/image/digest", "does not match pattern"]),
    ("image: {pullPolicy: Sometimes}", &["/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"]),
    ("networkPolicy: {phoneRanges: [10.20.0.1]}", &["/networkPolicy/phoneRanges/0", "does not match pattern"]),
    ("networkPolicy: {apiServer: {ports: []}}", &["/networkPolicy/apiServer/ports", "minItems: got 0, want 1"]),
    ("networkPolicy: {dnsPorts: [0]}", &["/networkPolicy/dnsPorts/0", "minimum: got 0, want 1"]),
    ("fullnameOverride: 1capf", &["/fullnameOverride", "does not match pattern"]),
    ("service: {type: ExternalName}", &["/service/type", "'ClusterIP', 'NodePort', 'LoadBalancer'"]),
    ("service: {nodePort: 80}", &["/service/nodePort", "minimum: got 80, want 30,000"]),
    ("report: {schedule: daily}", &["/report/schedule", "does not match pattern"]),
    ("report: {fileName: ../x}", &["/report/fileName", "does not match pattern"]),
    ("report: {volume: {size: much}}", &["/report/volume/size", "does not match pattern"]),
    ("test: {deviceName: 7960}", &["/test/deviceName", "got number, want string"]),
    ("test: {timeoutSeconds: 5}", &["/test/timeoutSeconds", "minimum: got 5, want 30"]),
    ("crds: {keep: 'yes'}", &["/crds/keep", "got string, want boolean"]),
    ("proxy: {spec: External}", &["/proxy/spec", "got string, want object"]),
    // By the templates: values that contradict each other.
    ("watchNamespace: voice", &["watchNamespace: is for scope Namespaced only", "set scope to Namespaced"]),
    ("networkPolicy: {enabled: true}", &["networkPolicy.phoneRanges: say from which CIDRs phones call"]),
    ("serviceAccount: {create: false}", &["serviceAccount.name: name the account", "serviceAccount.create"]),
    ("{scope: Namespaced, proxy: {namespace: voice}}", &["proxy.namespace: is voice", "only capf-system"]),
    ("{scope: Namespaced, report: {namespace: voice}}", &["report.namespace: is voice", "only capf-system"]),
    ("test: {namespace: voice}", &["test.proxy: name the proxy"]),
    ("service: {nodePort: 30443}", &["service.nodePort: is for service.type NodePort or LoadBalancer"]),
    (
        "report: {extraArgs: [--show-authentication-strings]}",
        &["report.extraArgs: --show-authentication-strings is not"],
    ),
];

#[test]
fn wrong_values_are_refused_with_the_name_of_the_field() {
    for (values, wanted) in REFUSED {
        let Err(said) = render(&[values]) else { panic!("{values} is not refused") };
        for part in *wanted {
            assert!(said.contains(part), "{values}: the message lacks {part:?}: {said}");
        }
    }
}

#[test]
fn the_chart_passes_helms_strict_lint() {
    let helm = |more: &[&str]| {
        let mut command: Command = command(None);
        run(command.args(["lint", "--strict", CHART]).args(more))
    };
    helm(&[]).unwrap();
    helm(&["--set", "proxy.enabled=true,report.enabled=true,keys.keep=false,scope=Namespaced"]).unwrap();
    assert!(helm(&["--set", "scope=Everything"]).is_err(), "lint looks at nothing");
}
