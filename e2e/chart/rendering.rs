//! What holds for everything that is rendered, and what no single value decides.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::ControlPlane;
use crate::helm::{CHART, KNOWN, Objects, command, render, render_chart, run, values_file};

/// Everything at once.
pub const EVERYTHING: &str = "proxy: {enabled: true, keep: false}\nkeys: {keep: false}\nreport: {enabled: true}\n\
    networkPolicy: {enabled: true, phoneRanges: [192.0.2.0/24], externalEndpointRanges: [203.0.113.0/24], \
    metricsFrom: [{namespaceSelector: {}}]}\ncontroller: {advertise: ['a.example.net:8443']}\n";
/// The same for one namespace.
pub const NAMESPACED: &str = "scope: Namespaced\n";

#[test]
fn namespaced_scope_renders_no_right_of_the_whole_cluster() {
    let everywhere = render(&[EVERYTHING]).unwrap();
    assert!(everywhere.of("ClusterRole").count() >= 3, "{everywhere:#?}");
    for more in ["{}", "watchNamespace: voice"] {
        let objects = render(&[EVERYTHING, NAMESPACED, more]).unwrap();
        assert_eq!(objects.of("ClusterRole").chain(objects.of("ClusterRoleBinding")).count(), 0, "{objects:#?}");
        assert_eq!(objects.of("ValidatingAdmissionPolicy").count(), 0, "{objects:#?}");
        assert!(objects.of("Role").count() >= 5 && objects.of("Role").count() == objects.of("RoleBinding").count());
    }
}

/// Every rule of a role of this name, whatever its scope.
fn rules(objects: &Objects, name: &str) -> Vec<Value> {
    let roles = objects.of("Role").chain(objects.of("ClusterRole")).filter(|role| role["metadata"]["name"] == name);
    roles.flat_map(|role| role["rules"].as_array().unwrap().clone()).collect()
}

/// The verbs that rules give on a resource, each with the names it is limited to.
fn verbs(rules: &[Value], resource: &str) -> Vec<String> {
    let about = rules.iter().filter(|rule| rule["resources"].as_array().unwrap().contains(&json!(resource)));
    let mut verbs: Vec<String> = about
        .flat_map(|rule| {
            let names = rule["resourceNames"].as_array().map(|names| format!(" of {names:?}")).unwrap_or_default();
            let verbs = rule["verbs"].as_array().unwrap().iter();
            verbs.map(move |verb| format!("{}{names}", verb.as_str().unwrap())).collect::<Vec<_>>()
        })
        .collect();
    verbs.sort();
    verbs
}

#[test]
fn each_part_has_the_rights_it_needs_and_no_others() {
    for scope in ["{}", NAMESPACED] {
        let objects = render(&[EVERYTHING, scope]).unwrap();
        for rule in
            objects.of("Role").chain(objects.of("ClusterRole")).flat_map(|role| role["rules"].as_array().unwrap())
        {
            assert!(!rule.to_string().contains('*'), "{rule} is a right to anything");
        }
        let controller = rules(&objects, "capf");
        assert_eq!(verbs(&controller, "secrets"), ["create", "delete", "get", "update"]);
        assert_eq!(verbs(&controller, "phones"), ["get", "list", "watch"]);
        assert_eq!(verbs(&controller, "services"), ["create", "delete", "get", "patch"]);
        let own = rules(&objects, "capf-own");
        assert_eq!(
            verbs(&own, "leases"),
            ["create", r#"get of [String("capf-controller")]"#, r#"update of [String("capf-controller")]"#]
        );
        assert_eq!(verbs(&own, "secrets"), ["create", r#"get of [String("capf-controller")]"#]);
        let report = rules(&objects, "capf-report");
        assert_eq!(report.len(), 1);
        assert_eq!((verbs(&report, "phones"), verbs(&report, "secrets")), (vec!["get".into(), "list".into()], vec![]));
        let removal = rules(&objects, "capf-remove-keys");
        assert!(removal.iter().all(|rule| rule["resources"] == json!(["secrets"])));
        let test = rules(&objects, "capf-test");
        let phone = r#" of [String("capf-helm-test")]"#;
        assert_eq!(verbs(&test, "phones"), ["create".to_owned(), format!("delete{phone}"), format!("get{phone}")]);
        assert_eq!(verbs(&test, "secrets"), ["create".to_owned(), format!("delete{phone}")]);
        assert_eq!(verbs(&test, "configmaps"), [r#"get of [String("main-certificates")]"#]);
    }
}

#[test]
fn the_proxy_is_a_hook_until_its_type_is_known() {
    let values = "proxy: {enabled: true}";
    let annotations = |objects: &Objects| objects.at("CertificateAuthorityProxy/main", "/metadata/annotations");
    let first = annotations(&render(&[values]).unwrap());
    assert_eq!(
        first,
        json!({
            "helm.sh/resource-policy": "keep",
            "helm.sh/hook": "post-install",
            "helm.sh/hook-delete-policy": "hook-failed",
            "meta.helm.sh/release-name": "capf",
            "meta.helm.sh/release-namespace": "capf-system",
        })
    );
    let later = render_chart(Path::new(CHART), &[values], &[KNOWN]).unwrap();
    assert_eq!(annotations(&later), json!({"helm.sh/resource-policy": "keep"}));
    // What a hook has made is deleted at the end by another hook, where it shall not stay.
    let gone = render(&[values, "proxy: {keep: false}"]).unwrap();
    let hooks: Vec<_> =
        gone.of("CertificateAuthorityProxy").map(|proxy| &proxy["metadata"]["annotations"]["helm.sh/hook"]).collect();
    assert_eq!(hooks, ["post-install", "post-delete"]);
    let ordinary = render_chart(Path::new(CHART), &[values, "proxy: {keep: false}"], &[KNOWN]).unwrap();
    assert_eq!(ordinary.of("CertificateAuthorityProxy").count(), 1);
}

#[test]
fn endpoints_reach_controllers_and_nothing_else() {
    let objects = render(&[EVERYTHING]).unwrap();
    let egress = objects.at("NetworkPolicy/capf-endpoints", "/spec/egress");
    let selector = objects.at("Deployment/capf", "/spec/selector/matchLabels");
    assert_eq!(
        egress,
        json!([{
            "ports": [{"port": 8443, "protocol": "TCP"}],
            "to": [{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "capf-system"}},
                "podSelector": {"matchLabels": selector},
            }],
        }])
    );
    // All others are as closed, but the one by which endpoints let the test's pod in besides.
    for policy in objects.of("NetworkPolicy").filter(|policy| policy["metadata"]["name"] != "capf-test") {
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]), "{policy}");
    }
    // The controller's ports are what the policies, the Services and the probes name.
    let ports = objects.at("Deployment/capf", "/spec/template/spec/containers/0/ports");
    assert_eq!(ports[0]["containerPort"], objects.at("NetworkPolicy/capf", "/spec/ingress/0/ports/0/port"));
    assert_eq!(ports[1]["containerPort"], objects.at("NetworkPolicy/capf", "/spec/ingress/1/ports/0/port"));
    assert_eq!(objects.at("Service/capf", "/spec/selector"), selector);
}

#[test]
fn each_pod_of_a_release_is_let_out_where_its_namespace_lets_nothing_out() {
    let objects = render(&[EVERYTHING]).unwrap();
    let policies: Vec<&Value> = objects.of("NetworkPolicy").collect();
    let mut pods = 0;
    for (kind, template) in [
        ("Deployment", "/spec/template/metadata"),
        ("Job", "/spec/template/metadata"),
        ("CronJob", "/spec/jobTemplate/spec/template/metadata"),
        ("Pod", "/metadata"),
    ] {
        for object in objects.of(kind) {
            let labels = object.pointer(template).unwrap()["labels"].as_object().unwrap();
            let selects = |policy: &&&Value| {
                let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
                policy["metadata"]["namespace"] == object["metadata"]["namespace"]
                    && wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
            };
            let own: Vec<_> = policies.iter().filter(selects).collect();
            let [policy] = own[..] else { panic!("{kind} {}: {own:?}", object["metadata"]["name"]) };
            assert!(!policy["spec"]["egress"].as_array().unwrap().is_empty(), "{policy}");
            pods += 1;
        }
    }
    // Controllers, the report, the test and the removal of keys.
    assert_eq!(pods, 4);
}

#[test]
fn the_namespace_of_the_releases_own_proxy_has_a_policy_whatever_others_are_named() {
    let values = "networkPolicy: {enabled: true, phoneRanges: [192.0.2.0/24], endpointNamespaces: [voice]}";
    let objects = render(&[values, "proxy: {enabled: true}"]).unwrap();
    let may_ask =
        objects.at("NetworkPolicy/capf", "/spec/ingress/0/from/0/namespaceSelector/matchExpressions/0/values");
    assert_eq!(may_ask, json!(["voice", "capf-system"]));
    for namespace in ["voice", "capf-system"] {
        assert!(objects.get(&format!("NetworkPolicy/{namespace}/capf-endpoints")).is_some(), "{namespace}");
    }
}

#[test]
fn the_test_makes_no_policy_where_it_would_be_the_only_one() {
    let policies = "networkPolicy: {enabled: true, phoneRanges: [192.0.2.0/24]}";
    let test = "test: {proxy: hq, namespace: voice}";
    for (more, there) in [("{}", false), ("networkPolicy: {endpointNamespaces: [voice]}", true)] {
        let objects = render(&[policies, test, more]).unwrap();
        for name in ["NetworkPolicy/voice/capf-test", "NetworkPolicy/voice/capf-endpoints"] {
            assert_eq!(objects.get(name).is_some(), there, "{more}: {name}");
        }
    }
}

#[test]
fn names_that_yaml_takes_for_something_else_are_names_all_the_same() {
    let values = values_file(&format!("{EVERYTHING}fullnameOverride: 'on'\ntest: {{proxy: 'yes', namespace: 'no'}}\n"));
    let mut command: Command = command(None);
    command.args(["template", "true", CHART, "--namespace", "123", "--values"]).arg(values.path());
    let objects = Objects::read(&run(&mut command).unwrap());
    let mut names = 0;
    for object in &objects.0 {
        for name in ["/metadata/name", "/metadata/namespace", "/metadata/labels/app.kubernetes.io~1instance"] {
            let Some(name) = object.pointer(name) else { continue };
            assert!(name.is_string(), "{object}");
            names += 1;
        }
        let policies = object["spec"]["egress"].as_array().into_iter().chain(object["spec"]["ingress"].as_array());
        for peer in
            policies.flatten().flat_map(|rule| ["to", "from"].map(|way| rule[way].as_array())).flatten().flatten()
        {
            let namespace = &peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
            assert!(namespace.is_null() || namespace.is_string(), "{object}");
        }
    }
    assert!(names > 60, "only {names} names were seen");
}

#[test]
fn a_release_of_another_name_has_the_names_charts_have() {
    let named = |release: &str, values: &[&str]| {
        let mut command: Command = command(None);
        let yaml = run(command.args(["template", release, CHART]).args(values)).unwrap();
        Objects::read(&yaml).of("Deployment").next().unwrap()["metadata"]["name"].clone()
    };
    assert_eq!(named("voice", &[]), "voice-capf-operator");
    assert_eq!(named("my-capf", &[]), "my-capf");
    assert_eq!(named("voice", &["--set", "nameOverride=phones"]), "voice-phones");
    let longest = named(&format!("capf-{}", "x".repeat(48)), &[]);
    assert!(longest.as_str().unwrap().len() <= 36, "{longest}");
}

/// The labels of pods select what they shall, and change only with the image: an upgrade that changes nothing restarts nobody.
#[test]
fn a_new_version_of_the_chart_alone_restarts_no_pod() {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_of_chart(folder.path());
    let chart = fs::read_to_string(copy.join("Chart.yaml")).unwrap();
    fs::write(copy.join("Chart.yaml"), chart.replace("\nversion: ", "\nversion: 9")).unwrap();
    let (now, then) = (render(&[EVERYTHING]).unwrap(), render_chart(&copy, &[EVERYTHING], &[]).unwrap());
    let template = |objects: &Objects| objects.at("Deployment/capf", "/spec/template");
    assert_eq!(template(&now), template(&then));
    assert_ne!(now.at("Deployment/capf", "/metadata/labels"), then.at("Deployment/capf", "/metadata/labels"));
}

/// The chart in a folder where it can be changed.
pub fn copy_of_chart(folder: &Path) -> std::path::PathBuf {
    let status = Command::new("cp").arg("-r").arg(CHART).arg(folder).status().unwrap();
    assert!(status.success());
    folder.join("capf-operator")
}

#[test]
fn the_alerts_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_of_chart(folder.path());
    let file = copy.join("files/alerts.yaml");
    let enabled = "metrics: {alerts: {enabled: true}, labels: {release: prometheus}}";
    fs::write(&file, "groups:\n  - name: one\n    rules:\n      - alert: A\n        expr: up == 0\n        annotations: {summary: '{{ $labels.pod }}'}\n").unwrap();
    let objects = render_chart(&copy, &[enabled], &[]).unwrap();
    let rule = "PrometheusRule/capf";
    assert_eq!(objects.at(rule, "/spec/groups/0/rules/0/annotations/summary"), "{{ $labels.pod }}");
    assert_eq!(objects.at(rule, "/metadata/labels/release"), "prometheus");
    assert!(render_chart(&copy, &["{}"], &[]).unwrap().get(rule).is_none());
    fs::remove_file(&file).unwrap();
    assert!(render_chart(&copy, &[enabled], &[]).unwrap().get(rule).is_none(), "there is nothing to render");

    let file = fs::read_to_string(format!("{CHART}/files/alerts.yaml")).unwrap();
    let file: Value = serde_saphyr::from_str(&file).unwrap();
    assert_eq!(render(&[enabled]).unwrap().at(rule, "/spec/groups"), file["groups"], "the chart's own");
}

/// The text that Helm shows after an install.
fn notes(values: &str) -> String {
    let mut command: Command = command(Some(&ControlPlane::shared().kubeconfig(None)));
    let file = crate::helm::values_file(values);
    let said = run(command
        .args([
            "install",
            "capf",
            CHART,
            "--dry-run=client",
            "--take-ownership",
            "--namespace",
            "capf-system",
            "--values",
        ])
        .arg(file.path()))
    .unwrap();
    said.split_once("\nNOTES:\n").unwrap().1.to_owned()
}

#[test]
fn the_notes_say_what_to_do_next() {
    for (values, wanted, unwanted) in [
        (
            "{}",
            vec!["activate CAPF", "ANYBODY MAY CONNECT", "looks after all namespaces", "no endpoint to enrol with"],
            vec!["helm test -n"],
        ),
        (
            "proxy: {enabled: true}",
            vec!["service main-endpoint", "helm test -n capf-system capf"],
            vec!["endpoint-bundle"],
        ),
        (
            "proxy: {enabled: true, spec: {placement: External}}",
            vec!["HAVE NO ADDRESS TO ASK AT"],
            vec!["helm test -n"],
        ),
        (
            "{proxy: {enabled: true, spec: {placement: External}}, controller: {advertise: ['a.example.net:8443']}}",
            vec!["capf endpoint-bundle -n capf-system --proxy main"],
            vec!["HAVE NO ADDRESS"],
        ),
        (
            "{scope: Namespaced, watchNamespace: voice}",
            vec!["looks after namespace voice", "label namespace capf-system voice"],
            vec![],
        ),
        (
            "networkPolicy: {enabled: true, phoneRanges: [192.0.2.0/24]}",
            vec!["3804 takes connections from 192.0.2.0/24 only", "HAVE NO POLICY"],
            vec!["ANYBODY"],
        ),
        ("{crds: {keep: false}, keys: {keep: false}}", vec!["NO PHONE AND NO OPERATION", "NO KEYS"], vec![]),
        ("report: {enabled: true}", vec!["--from=cronjob/capf-report"], vec![]),
    ] {
        let notes = notes(values);
        wanted.iter().for_each(|part| assert!(notes.contains(part), "{values}: no {part:?} in {notes}"));
        unwanted.iter().for_each(|part| assert!(!notes.contains(part), "{values}: {part:?} in {notes}"));
    }
}
