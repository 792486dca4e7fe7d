//! What RBAC lets the controllers' account write, and the admission policies do not: writes with its real token, forged from
//! what controllers do write. Those pass; each forgery is refused, by the message of the rule it breaks. All are dry runs.

use axum::http::Method;
use capf::domain::endpoints::Wanted;
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::product::PATIENCE;
use crate::release::Scope;
use crate::writes::{VALUES, apply, delete, genuine, in_force, passes, refused, with, write};

/// What was forged, the rule that it breaks, and what differs at which JSON pointers.
type Forgery<Pointer> = (&'static str, &'static str, Vec<(Pointer, Value)>);

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_runs_no_pod_but_an_endpoint() {
    let (release, thief) = in_force("pods", Scope::Cluster, VALUES).await;
    let ns = release.watched.name();
    let deployment = genuine(ns).deployment;
    passes("a Deployment as controllers make it", apply(&thief, &deployment).await);
    passes("the same, created", write(&thief, Method::POST, &deployment).await);
    let restarted = json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
    let restarted = with(&deployment, &[("/spec/template/metadata/annotations", restarted)]);
    passes("one that somebody has restarted", apply(&thief, &restarted).await);
    let at = |tail: &str| format!("{CONTAINER}{tail}");
    let pod = |tail: &str| format!("{POD}{tail}");
    let only = |mut source: Value| {
        source["name"] = json!("bundle");
        vec![(pod("/volumes"), json!([source]))]
    };
    let (made, alone) = ("controllers make only PROXY-endpoint", "select and are labelled by their proxy alone");
    let (volumes, account) = ("the only volume is the Secret", "run as service account phones");
    let (run, node) = ("the container runs `endpoint`", "take nothing of their node");
    let (single, image) = ("has one container", "run the image example.net/capf:v1");
    let (user, confined, pull) =
        ("run as user 65532", "no privilege and no capability", "with the Secrets that the chart names");
    let forged: Vec<Forgery<String>> = vec![
        ("another name", made, vec![("/metadata/name".into(), json!("web"))]),
        ("no labels", made, vec![("/metadata/labels".into(), Value::Null)]),
        ("another manager", made, vec![("/metadata/labels/app.kubernetes.io~1managed-by".into(), json!("Helm"))]),
        ("no owner", made, vec![("/metadata/ownerReferences".into(), Value::Null)]),
        ("an owner that is no proxy", made, vec![("/metadata/ownerReferences/0/kind".into(), json!("Phone"))]),
        (
            "an owner of another group",
            made,
            vec![("/metadata/ownerReferences/0/apiVersion".into(), json!("capf.dev.evil/v1"))],
        ),
        ("another proxy as owner", made, vec![("/metadata/ownerReferences/0/name".into(), json!("other"))]),
        ("an owner that is no controller", made, vec![("/metadata/ownerReferences/0/controller".into(), json!(false))]),
        ("pods with one more label", alone, vec![("/spec/template/metadata/labels/app".into(), json!("web"))]),
        ("seventeen pods", alone, vec![("/spec/replicas".into(), json!(17))]),
        (
            "a selector with an expression",
            alone,
            vec![("/spec/selector/matchExpressions".into(), json!([{"key": "capf.dev/proxy", "operator": "Exists"}]))],
        ),
        (
            "a container before it",
            single,
            vec![(pod("/initContainers"), json!([{"name": "a", "image": "example.net/capf:v1"}]))],
        ),
        (
            "a container beside it",
            single,
            vec![(pod("/containers/-"), json!({"name": "a", "image": "example.net/capf:v1"}))],
        ),
        ("another image", image, vec![(at("/image"), json!("example.net/shell:v1"))]),
        ("another tag", image, vec![(at("/image"), json!("example.net/capf:v0"))]),
        ("another command", run, vec![(at("/command"), json!(["/capf", "controller"]))]),
        ("another subcommand", run, vec![(at("/args"), json!(["report", "--all-namespaces"]))]),
        ("no arguments", run, vec![(at("/args"), Value::Null)]),
        (
            "a variable of any Secret",
            run,
            vec![(
                at("/env"),
                json!([
                    {"name": "CAPF_LOG_LEVEL", "valueFrom": {"secretKeyRef": {"name": "other", "key": "password"}}},
                ]),
            )],
        ),
        ("all variables of any Secret", run, vec![(at("/envFrom"), json!([{"secretRef": {"name": "other"}}]))]),
        ("a hook after the start", run, vec![(at("/lifecycle/postStart"), json!({"exec": {"command": ["/capf"]}}))]),
        ("another hook before the end", run, vec![(at("/lifecycle/preStop"), json!({"exec": {"command": ["/capf"]}}))]),
        ("a probe that runs something", run, vec![(at("/livenessProbe"), json!({"exec": {"command": ["/capf"]}}))]),
        ("a probe of another host", run, vec![(at("/readinessProbe/httpGet/host"), json!("192.0.2.1"))]),
        ("the Secret of the issuer", volumes, only(json!({"secret": {"secretName": "main-issuer"}}))),
        ("a folder of the node", volumes, only(json!({"hostPath": {"path": "/"}}))),
        (
            "a token, projected",
            volumes,
            only(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}})),
        ),
        ("a claim", volumes, only(json!({"persistentVolumeClaim": {"claimName": "reports"}}))),
        (
            "a second volume",
            volumes,
            vec![(pod("/volumes/-"), json!({"name": "more", "secret": {"secretName": "main-issuer"}}))],
        ),
        ("no volume", volumes, vec![(pod("/volumes"), Value::Null), (at("/volumeMounts"), Value::Null)]),
        ("another account", account, vec![(pod("/serviceAccountName"), json!("admin"))]),
        ("the default account", account, vec![(pod("/serviceAccountName"), Value::Null)]),
        ("its token mounted", account, vec![(pod("/automountServiceAccountToken"), json!(true))]),
        ("its token not kept from being mounted", account, vec![(pod("/automountServiceAccountToken"), Value::Null)]),
        ("somebody's Secret to pull with", pull, vec![(pod("/imagePullSecrets/-"), json!({"name": "others"}))]),
        (
            "the network of the node",
            node,
            vec![
                (pod("/hostNetwork"), json!(true)),
                (at("/ports/0/hostPort"), json!(3804)),
                (at("/ports/1/hostPort"), json!(8080)),
            ],
        ),
        ("the processes of the node", node, vec![(pod("/hostPID"), json!(true))]),
        ("its memory", node, vec![(pod("/hostIPC"), json!(true))]),
        ("a port of the node", node, vec![(at("/ports/0/hostPort"), json!(443))]),
        (
            "a setting of the kernel",
            node,
            vec![(pod("/securityContext/sysctls"), json!([{"name": "net.ipv4.tcp_syncookies", "value": "0"}]))],
        ),
        ("another SELinux domain", confined, vec![(pod("/securityContext/seLinuxOptions"), json!({"type": "spc_t"}))]),
        (
            "another SELinux domain, in the container",
            confined,
            vec![(at("/securityContext/seLinuxOptions"), json!({"type": "spc_t"}))],
        ),
        ("without AppArmor", confined, vec![(pod("/securityContext/appArmorProfile"), json!({"type": "Unconfined"}))]),
        (
            "without AppArmor, in the container",
            confined,
            vec![(at("/securityContext/appArmorProfile"), json!({"type": "Unconfined"}))],
        ),
        ("a node by its name", node, vec![(pod("/nodeName"), json!("one"))]),
        (
            "privileged",
            confined,
            vec![
                (at("/securityContext/allowPrivilegeEscalation"), json!(true)),
                (at("/securityContext/privileged"), json!(true)),
            ],
        ),
        ("more privileges by and by", confined, vec![(at("/securityContext/allowPrivilegeEscalation"), Value::Null)]),
        ("a capability", confined, vec![(at("/securityContext/capabilities/add"), json!(["NET_BIND_SERVICE"]))]),
        ("capabilities kept", confined, vec![(at("/securityContext/capabilities/drop"), Value::Null)]),
        ("a root that can be written", confined, vec![(at("/securityContext/readOnlyRootFilesystem"), json!(false))]),
        ("as root", user, vec![(pod("/securityContext/runAsUser"), json!(0))]),
        ("as root, in the container", user, vec![(at("/securityContext/runAsUser"), json!(0))]),
        ("without seccomp", user, vec![(pod("/securityContext/seccompProfile"), json!({"type": "Unconfined"}))]),
        (
            "without seccomp, in the container",
            user,
            vec![(at("/securityContext/seccompProfile"), json!({"type": "Unconfined"}))],
        ),
        (
            "without any security context",
            user,
            vec![(pod("/securityContext"), Value::Null), (at("/securityContext"), Value::Null)],
        ),
    ];
    for (what, rule, changes) in &forged {
        let changes: Vec<(&str, Value)> = changes.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
        refused(what, rule, write(&thief, Method::POST, &with(&deployment, &changes)).await);
    }
    println!("{} forged Deployments refused", forged.len());

    // What is not the controllers' is neither taken over nor removed, however it is labelled.
    let of_somebody = with(
        &deployment,
        &[("/metadata/ownerReferences", Value::Null), ("/metadata/labels", json!({"capf.dev/proxy": "main"}))],
    );
    release.plane.kubectl_stdin(&["apply", "-f", "-"], &of_somebody.to_string()).unwrap();
    let kept = "change and delete only what they have made";
    refused("taking over what is somebody's", kept, apply(&thief, &deployment).await);
    refused("deleting what is somebody's", kept, delete(&thief, &deployment).await);
    release.kubectl(&["-n", ns, "delete", "deployment", "main-endpoint"]);

    // During an upgrade controllers of before go on with the image that is there, and bring no third one.
    let image = |tag: &str| with(&deployment, &[(&at("/image"), json!(format!("example.net/capf:{tag}")))]);
    let account = |name: &str| with(&image("v0"), &[(&pod("/serviceAccountName"), json!(name))]);
    // Without the owner, which does not exist: it would be collected as garbage.
    let before = with(&account("before"), &[("/metadata/ownerReferences", Value::Null)]);
    release.plane.kubectl_stdin(&["apply", "--server-side", "-f", "-"], &before.to_string()).unwrap();
    passes("the image and the account of before", apply(&thief, &account("before")).await);
    passes("the configured ones", apply(&thief, &deployment).await);
    refused("a third image", "run the image", apply(&thief, &image("v2")).await);
    refused("a third account", "run as service account", apply(&thief, &account("third")).await);
    passes("deleting what is theirs", delete(&thief, &deployment).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_opens_no_service_but_that_of_endpoints_and_shields_no_other_pods() {
    let (release, thief) = in_force("services", Scope::Cluster, VALUES).await;
    let Wanted { service, budget, .. } = genuine(release.watched.name());
    let budget = budget.unwrap();
    passes("a Service as controllers make it", apply(&thief, &service).await);
    passes("a budget as controllers make it", apply(&thief, &budget).await);
    let balancer = with(
        &service,
        &[("/spec/type", json!("LoadBalancer")), ("/spec/loadBalancerSourceRanges", json!(["192.0.2.0/24"]))],
    );
    passes("a load balancer", apply(&thief, &balancer).await);
    // Some load balancers keep their address in the Service, and controllers go on writing it.
    let taken =
        with(&balancer, &[("/spec/loadBalancerIP", json!("192.0.2.7")), ("/spec/externalIPs", json!(["192.0.2.8"]))]);
    // Without the owner, which does not exist: it would be collected as garbage.
    let taken = with(&taken, &[("/metadata/ownerReferences", Value::Null)]);
    release.plane.kubectl_stdin(&["apply", "--server-side", "-f", "-"], &taken.to_string()).unwrap();
    passes("a load balancer with an address that somebody else wrote", apply(&thief, &balancer).await);
    let other = with(&balancer, &[("/spec/loadBalancerIP", json!("192.0.2.9"))]);
    refused("another address than that", "selects them alone", apply(&thief, &other).await);
    let other = with(&balancer, &[("/spec/externalIPs", json!(["192.0.2.8", "192.0.2.9"]))]);
    refused("one address more", "selects them alone", apply(&thief, &other).await);
    release.kubectl(&["-n", release.watched.name(), "delete", "service", "main-endpoint"]);
    let (made, them, tcp) = ("controllers make only PROXY-endpoint", "selects them alone", "the one port, of TCP");
    let forged: Vec<Forgery<&str>> = vec![
        ("another name", made, vec![("/metadata/name", json!("kubernetes"))]),
        ("no labels", made, vec![("/metadata/labels", Value::Null)]),
        ("no owner", made, vec![("/metadata/ownerReferences", Value::Null)]),
        ("another owner", made, vec![("/metadata/ownerReferences/0/kind", json!("Phone"))]),
        ("pods of others", them, vec![("/spec/selector", json!({"app": "web"}))]),
        ("no pods, so that anybody may add addresses", them, vec![("/spec/selector", Value::Null)]),
        ("more pods", them, vec![("/spec/selector/capf.dev~1proxy", Value::Null)]),
        ("addresses of others", them, vec![("/spec/externalIPs", json!(["192.0.2.1"]))]),
        (
            "the balancer's address of others",
            them,
            vec![("/spec/type", json!("LoadBalancer")), ("/spec/loadBalancerIP", json!("192.0.2.1"))],
        ),
        (
            "another name in the DNS",
            them,
            vec![("/spec", json!({"type": "ExternalName", "externalName": "example.net"}))],
        ),
        ("a second port", tcp, vec![("/spec/ports/-", json!({"name": "more", "port": 8080, "protocol": "TCP"}))]),
        ("UDP", tcp, vec![("/spec/ports/0/protocol", json!("UDP"))]),
    ];
    for (what, rule, changes) in &forged {
        refused(what, rule, write(&thief, Method::POST, &with(&service, changes)).await);
    }
    let pods = "of endpoints alone, and lets all but one go";
    let shields: Vec<Forgery<&str>> = vec![
        ("another name", made, vec![("/metadata/name", json!("all"))]),
        ("no owner", made, vec![("/metadata/ownerReferences", Value::Null)]),
        ("every pod", pods, vec![("/spec/selector", json!({}))]),
        ("pods of others", pods, vec![("/spec/selector/matchLabels", json!({"app": "web"}))]),
        ("nothing may go", pods, vec![("/spec/minAvailable", json!("100%"))]),
        ("none may be away", pods, vec![("/spec/minAvailable", Value::Null), ("/spec/maxUnavailable", json!(0))]),
    ];
    for (what, rule, changes) in &shields {
        refused(what, rule, write(&thief, Method::POST, &with(&budget, changes)).await);
    }
    // Of somebody else, by the name that controllers would use.
    for object in [&service, &budget] {
        let theirs = with(object, &[("/metadata/ownerReferences", Value::Null), ("/metadata/labels", Value::Null)]);
        release.plane.kubectl_stdin(&["apply", "-f", "-"], &theirs.to_string()).unwrap();
        refused("taking it over", "change and delete only what they have made", apply(&thief, object).await);
        refused("deleting it", "change and delete only what they have made", delete(&thief, object).await);
    }
}

/// A Secret, or a ConfigMap where no type is given.
fn data(namespace: &str, name: &str, type_: &str, proxy: &str) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}});
    match type_ {
        "" => object["kind"] = json!("ConfigMap"),
        type_ => object["type"] = json!(type_),
    }
    if !proxy.is_empty() {
        object["metadata"]["labels"] = json!({"capf.dev/proxy": proxy});
    }
    object
}

/// The Secret of a string, owned by an object of this kind.
fn string(namespace: &str, name: &str, kind: &str, owner: &str) -> Value {
    let mut object = data(namespace, name, "capf.dev/authentication-string", "");
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "capf.dev/v1alpha1", "kind": kind, "name": owner, "uid": "00000000-0000-4000-8000-000000000000",
    }]);
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_makes_no_token_and_touches_no_secret_but_the_product_s() {
    let (release, thief) = in_force("secrets", Scope::Cluster, VALUES).await;
    let (own, ns) = (release.own.name(), release.watched.name());
    for object in [
        data(ns, "main-issuer", "capf.dev/issuer", "main"),
        data(ns, "main-service", "capf.dev/service", "main"),
        data(ns, "main-endpoint", "capf.dev/endpoint-bundle", "main"),
        string(ns, "one-string", "CertificateOperation", "one"),
        data(own, "capf-controller", "capf.dev/controller", ""),
        data(ns, "main-certificates", "", "main"),
    ] {
        passes(&object.to_string(), write(&thief, Method::POST, &object).await);
    }
    let made = "controllers make Secrets only of their types and names";
    let mut token = data(ns, "default-token", "kubernetes.io/service-account-token", "");
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    let mut untyped = data(ns, "other", "Opaque", "main");
    untyped.as_object_mut().unwrap().remove("type");
    let map = "only the ConfigMap PROXY-certificates";
    let forged = [
        ("a token of any account", made, token),
        ("a Secret of any type", made, data(ns, "other", "Opaque", "main")),
        ("a Secret of no type", made, untyped),
        ("roots of manufacturers", made, data(ns, "roots", "capf.dev/mic-roots", "main")),
        ("a key by another name", made, data(ns, "issuer", "capf.dev/issuer", "main")),
        ("a key with no label", made, data(ns, "main-issuer", "capf.dev/issuer", "")),
        ("a key by the name of another", made, data(ns, "main-issuer", "capf.dev/service", "main")),
        ("a string of nobody's", made, data(ns, "given", "capf.dev/authentication-string", "main")),
        ("a string of a phone's", made, string(ns, "sep1-string", "Phone", "sep1")),
        ("a string of another operation", made, string(ns, "two-string", "CertificateOperation", "one")),
        ("keys of controllers elsewhere", made, data(ns, "capf-controller", "capf.dev/controller", "")),
        ("keys of controllers by another name", made, data(own, "capf-keys", "capf.dev/controller", "")),
        ("another ConfigMap", map, data(ns, "coredns", "", "")),
        ("another ConfigMap, labelled", map, data(ns, "main-roots", "", "main")),
    ];
    for (what, rule, object) in &forged {
        refused(what, rule, write(&thief, Method::POST, object).await);
    }
    // What is there.
    let there = [
        data(ns, "main-issuer", "capf.dev/issuer", "main"),
        data(ns, "password", "Opaque", "main"),
        data(ns, "given", "capf.dev/authentication-string", ""),
        data(ns, "roots", "capf.dev/mic-roots", ""),
        data(own, "capf-controller", "capf.dev/controller", ""),
        data(ns, "main-certificates", "", ""),
        data(ns, "kube-root-ca.crt", "", ""),
    ];
    for object in &there {
        release.plane.kubectl_stdin(&["apply", "--server-side", "-f", "-"], &object.to_string()).unwrap();
    }
    let [issuer, password, given, roots, keys, _, ca] = &there;
    passes("renewing a key", write(&thief, Method::PUT, issuer).await);
    passes("removing a used string", delete(&thief, given).await);
    for (what, object) in
        [("a password", password), ("a given string", given), ("roots", roots), ("the controllers' keys", keys)]
    {
        let (rule, changed) = ("controllers change Secrets only of", write(&thief, Method::PUT, object).await);
        refused(&format!("changing {what}"), rule, changed);
    }
    for (what, object) in
        [("a password", password), ("a key", issuer), ("roots", roots), ("the controllers' keys", keys)]
    {
        let (rule, deleted) = ("controllers delete Secrets only of", delete(&thief, object).await);
        refused(&format!("deleting {what}"), rule, deleted);
    }
    // Labelled on the way, which does not make it theirs.
    refused(
        "taking over a ConfigMap",
        map,
        write(&thief, Method::PUT, &data(ns, "main-certificates", "", "main")).await,
    );
    refused("changing the cluster's roots", map, write(&thief, Method::PUT, ca).await);
    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": own}, "spec": {}});
    passes("the Lease", write(&thief, Method::POST, &lease("capf-controller")).await);
    refused("another Lease", "only the Lease capf-controller", write(&thief, Method::POST, &lease("other")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_not_held_to_the_rules_of_controllers_and_no_rule_is_doubtful() {
    let (release, _) = in_force("others", Scope::Namespaced, "admissionPolicy: {withNamespacedScope: true}").await;
    for (what, object) in [
        ("a Secret", data(release.watched.name(), "password", "Opaque", "")),
        ("a ConfigMap", data(release.watched.name(), "any", "", "")),
    ] {
        let made = release.plane.kubectl_stdin(&["create", "--dry-run=server", "-f", "-"], &object.to_string());
        assert!(made.is_ok(), "{what}: {made:?}");
    }
    // kube-controller-manager looks at the types in each rule, and warns of those it doubts.
    let label = format!("app.kubernetes.io/instance={}", release.name());
    let policies = eventually("the rules are looked at", PATIENCE, || async {
        let found = release.kubectl(&["get", "validatingadmissionpolicies", "-l", &label, "-o", "json"]);
        let found: Value = serde_json::from_str(&found).unwrap();
        let policies = found["items"].as_array().unwrap().clone();
        let looked = policies.iter().all(|policy| {
            policy["status"]["observedGeneration"] == policy["metadata"]["generation"]
                && policy["status"]["typeChecking"].is_object()
        });
        if looked && policies.len() == 6 { Ok(policies) } else { Err(found.to_string()) }
    })
    .await
    .unwrap();
    for policy in &policies {
        assert!(policy["status"]["typeChecking"]["expressionWarnings"].is_null(), "{}", policy["status"]);
    }
}
