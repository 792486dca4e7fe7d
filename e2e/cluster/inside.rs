//! An endpoint as whoever has taken it over finds it: what it holds, and where it gets to from there.
//!
//! Its policy lets it connect to the controllers and to nothing else, which the node enforces. Not every cluster does: what
//! it holds would open nothing at the API server either.

use std::collections::BTreeSet;
use std::path::Path;

use hyper::http;
use kube::api::{DynamicObject, ObjectList};
use kube::client::Body;
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Client, Config, Resource as _};
use serde_json::{Value, json};

use crate::node::NODE_ADDRESS;
use crate::policies;
use crate::release::{Release, enrolled, string};
use crate::setup::Cluster;
use crate::traces::{self, Trace};

const VALUES: &str = "
scope: Namespaced
crds: {enabled: false}
proxy: {enabled: true, spec: {permitNullString: true}}
";
/// Waits, given by somebody.
const GIVEN: &str = "7319526418";
/// The API server, as pods know it.
pub const API_SERVER: &str = "10.96.0.1:443";
/// What every token of the API begins with: a JSON object with a member `alg`, in base64.
const TOKEN: &str = "eyJhbGciOi";

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_an_endpoint_finds_no_account_no_issuer_key_and_no_waiting_string() {
    let Some(cluster) = Cluster::shared() else { return };
    let _types = cluster.with_types().await;
    let release = Release::prepare(cluster, "inside");
    let namespace = format!("watchNamespace: {}", release.phones);
    release.install(&cluster.now, &[VALUES, &namespace, &policies::values(cluster)]);
    release.proxy_ready();

    // Every endpoint has served a phone; others wait with a given and with a generated string.
    let null = "  certificateOperation: InstallUpgrade\n  authenticationMode: ByNullString";
    release.apply(&string("given", GIVEN));
    let waiting = "  certificateOperation: InstallUpgrade\n  keyType: EC";
    release.apply(
        &release
            .phone("SEP0000000000A1", &format!("{waiting}\n  authenticationString: {{secretRef: {{name: given}}}}")),
    );
    release.apply(&release.phone("SEP0000000000A2", waiting));
    for device in ["SEP0000000000A1", "SEP0000000000A2"] {
        release.reads(device, "Install/Upgrade pending");
    }
    let generated = release.generated("SEP0000000000A2");
    let endpoints = release.pods(&release.phones, "app.kubernetes.io/name=capf-endpoint");
    for (at, pod) in endpoints.iter().enumerate() {
        let device = format!("SEP0000000000B{at}");
        release.apply(&release.phone(&device, &format!("{null}\n  keyType: EC")));
        release.reads(&device, "Install/Upgrade pending");
        let address = release.get(&format!("pod/{pod}"))["status"]["podIP"].as_str().unwrap().to_owned();
        enrolled(release.call_at(&device, &format!("{address}:3804")).arg("--null-string"));
        release.reads(&device, "Install/Upgrade successful");
    }

    let secret = |name: &str, key: &str| -> String {
        let data = &release.get(&format!("secret/{name}"))["data"][key];
        let octets =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data.as_str().unwrap()).unwrap();
        String::from_utf8(octets).unwrap()
    };
    let issuer = Trace::of_key("the issuer's key", &secret("main-issuer", "tls.key"));
    let service = Trace::of_key("the service key", &secret("main-service", "tls.key"));
    let mut forbidden = issuer.clone();
    forbidden.push(Trace::plain("the given string", GIVEN));
    forbidden.push(Trace::plain("the generated string", generated));
    forbidden.push(Trace::plain("a token", TOKEN));

    // The search finds what is there: the issuer's key in a controller, with its token, and the service key in each endpoint.
    let in_controllers: BTreeSet<String> = release
        .pods(&release.namespace, "app.kubernetes.io/component=controller")
        .iter()
        .flat_map(|pod| {
            let pid = cluster.node.pod_pid(&release.namespace, pod).unwrap();
            let files = traces::in_files(pid, &forbidden);
            assert!(files.iter().any(|found| found.ends_with(": a token")), "{files:?}");
            traces::in_memory(pid, &forbidden)
        })
        .collect();
    assert!(in_controllers.iter().any(|found| found.starts_with("the issuer's key, number")), "{in_controllers:?}");

    for pod in &endpoints {
        let pid = cluster.node.pod_pid(&release.phones, pod).unwrap();
        let memory = traces::in_memory(pid, &[&forbidden[..], &service[..]].concat());
        assert!(memory.iter().any(|found| found.starts_with("the service key, number")), "{memory:?}");
        let amiss: Vec<_> = memory.iter().filter(|found| !found.starts_with("the service key")).collect();
        assert!(amiss.is_empty(), "{pod} has in its memory: {amiss:?}");
        assert_eq!(traces::at_its_start(pid, &forbidden), BTreeSet::new(), "{pod}");
        assert_eq!(traces::in_files(pid, &forbidden), BTreeSet::new(), "{pod}");
        holds_what_is_documented(pid);
        its_program_reaches_nothing(&release, pod);
    }
    what_it_holds_opens_nothing(&release).await;
    policy_is_for_controllers_only(&release);
    policies::let_pass_only_what_is_meant(&release).await;
    release.admitted_all();
    release.uninstall();
    release.remove();
}

/// The bundle, the program, what the kubelet gives every pod, and nothing else.
fn holds_what_is_documented(pid: u32) {
    let mut bundle = BTreeSet::new();
    for path in traces::files(pid) {
        let text = path.to_str().unwrap();
        match text {
            "/capf" | "/etc/hosts" | "/etc/hostname" | "/etc/resolv.conf" => {}
            _ if path.starts_with("/bundle") => {
                bundle.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
                let has_key = String::from_utf8_lossy(&traces::file(pid, &path)).contains("PRIVATE KEY");
                assert_eq!(has_key, text.ends_with(".key"), "{text}");
            }
            _ => panic!("an endpoint has a file that is documented nowhere: {text}"),
        }
    }
    let documented = ["ca.crt", "client.crt", "client.key", "endpoint.json", "tls.crt", "tls.key"];
    assert_eq!(bundle.iter().map(String::as_str).collect::<Vec<_>>(), documented);
    let config: Value = serde_json::from_slice(&traces::file(pid, Path::new("/bundle/endpoint.json"))).unwrap();
    let fields: Vec<_> = config.as_object().unwrap().keys().cloned().collect();
    let documented =
        ["answerSeconds", "connections", "controllers", "handshakeSeconds", "namespace", "phonePort", "proxy"];
    assert_eq!(fields, documented);
    let mounts = traces::mounts(pid);
    let expected = ["/", "/bundle", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    assert_eq!(mounts.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    // Of services only the API server's, which the kubelet gives to every container.
    let mut amiss = traces::environment(pid);
    amiss.retain(|name| !["PATH", "HOSTNAME", "HOME"].contains(&name.as_str()) && !name.starts_with("KUBERNETES_"));
    assert!(amiss.is_empty(), "{amiss:?}");
}

/// Its own program, started beside it, has no account to use.
fn its_program_reaches_nothing(release: &Release, pod: &str) {
    let exec = ["exec", "--namespace", &release.phones, pod, "--", "/capf", "report"];
    let refused = release.cluster.node.kubectl(&exec).unwrap_err();
    assert!(!refused.to_string().contains("forbidden"), "it has come to the API server: {refused}");
}

/// Were there no policy: the API server and the kubelet answer nothing that matters to anybody with all that it holds.
async fn what_it_holds_opens_nothing(release: &Release) {
    let node = release.cluster.node;
    let way = node.forward(API_SERVER).unwrap();
    let anonymous = |address: &str| {
        let mut config = node.config(None);
        config.cluster_url = format!("https://{address}").parse().unwrap();
        config.auth_info = kube::config::AuthInfo::default();
        config
    };
    let mut with_client_key = anonymous(&way.address);
    let bundle = release.get("secret/main-endpoint");
    with_client_key.auth_info.client_certificate_data = bundle["data"]["client.crt"].as_str().map(str::to_owned);
    with_client_key.auth_info.client_key_data =
        bundle["data"]["client.key"].as_str().map(|key| secrecy::SecretString::from(key.to_owned()));
    for config in [anonymous(&way.address), with_client_key] {
        refuses_everything(release, config).await;
    }

    let way = node.forward(&format!("{NODE_ADDRESS}:10250")).unwrap();
    let mut config = anonymous(&way.address);
    config.tls_server_name = Some(NODE_ADDRESS.to_owned());
    let kubelet = Client::try_from(config).unwrap();
    for path in ["/pods", "/metrics", "/run/x/y/z"] {
        assert_eq!(status(&kubelet, "GET", path, Value::Null).await, 401, "{path}");
    }
}

/// The API server answers 401 or 403 to each reading of each kind and to what would lead further.
async fn refuses_everything(release: &Release, config: Config) {
    let client = Client::try_from(config).unwrap();
    // It is the API server that answers, and it tells its version to everybody.
    assert_eq!(status(&client, "GET", "/version", Value::Null).await, 200);
    let known = Discovery::new(release.cluster.node.client(None)).run().await.unwrap();
    let mut asked = 0;
    for group in known.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let namespaced = capabilities.scope == Scope::Namespaced;
            for namespace in [None, Some(release.phones.as_str()), Some(release.namespace.as_str())] {
                if namespace.is_some() && !namespaced {
                    continue;
                }
                let path = DynamicObject::url_path(&resource, namespace);
                let answer = status(&client, "GET", &path, Value::Null).await;
                assert!([401, 403].contains(&answer), "GET {path} is answered {answer}");
                asked += 1;
            }
        }
    }
    assert!(asked > 80, "only {asked} readings were tried");
    let (phones, own) = (&release.phones, &release.namespace);
    let review = |kind: &str| json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": {}});
    for (verb, path, body) in [
        ("GET", format!("/api/v1/namespaces/{phones}/secrets/main-issuer"), Value::Null),
        ("GET", format!("/api/v1/namespaces/{phones}/secrets/main-endpoint"), Value::Null),
        ("GET", format!("/api/v1/namespaces/{own}/secrets/capf-controller"), Value::Null),
        ("POST", format!("/api/v1/namespaces/{phones}/secrets"), json!({"metadata": {"name": "x"}})),
        ("POST", format!("/api/v1/namespaces/{phones}/pods"), json!({"metadata": {"name": "x"}})),
        ("POST", format!("/api/v1/namespaces/{phones}/serviceaccounts/default/token"), json!({})),
        ("POST", format!("/api/v1/namespaces/{own}/serviceaccounts/capf/token"), json!({})),
        ("POST", format!("/apis/capf.dev/v1alpha1/namespaces/{phones}/certificateoperations"), json!({})),
        ("DELETE", format!("/apis/capf.dev/v1alpha1/namespaces/{phones}/phones/sep0000000000a1"), Value::Null),
        ("PUT", format!("/apis/capf.dev/v1alpha1/namespaces/{phones}/phones/sep0000000000a1/status"), json!({})),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".into(), review("SelfSubjectAccessReview")),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews".into(), json!({})),
        ("GET", "/api".into(), Value::Null),
        ("GET", "/apis".into(), Value::Null),
        ("GET", "/openapi/v2".into(), Value::Null),
        ("GET", "/metrics".into(), Value::Null),
        ("GET", "/logs/".into(), Value::Null),
    ] {
        let answer = status(&client, verb, &path, body).await;
        assert!([401, 403].contains(&answer), "{verb} {path} is answered {answer}");
    }
}

/// The status of an answer.
async fn status(client: &Client, verb: &str, path: &str, body: Value) -> u16 {
    let body = if body.is_null() { Body::empty() } else { Body::from(serde_json::to_vec(&body).unwrap()) };
    let request =
        http::Request::builder().method(verb).uri(path).header("content-type", "application/json").body(body).unwrap();
    client.send(request).await.unwrap_or_else(|error| panic!("{verb} {path}: {error}")).status().as_u16()
}

/// What is rendered lets endpoints reach the controllers' 8443, and nothing else.
fn policy_is_for_controllers_only(release: &Release) {
    let policies = release.in_phones(&["get", "networkpolicies", "--output=json"]);
    let policies: ObjectList<DynamicObject> = serde_json::from_str(&policies).unwrap();
    let of_endpoints: Vec<&Value> = policies
        .items
        .iter()
        .map(|policy| &policy.data["spec"])
        .filter(|spec| spec["podSelector"]["matchLabels"] == json!({"app.kubernetes.io/name": "capf-endpoint"}))
        .collect();
    let [policy] = of_endpoints[..] else { panic!("{of_endpoints:?}") };
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    let controllers = json!({
        "app.kubernetes.io/name": "capf-operator",
        "app.kubernetes.io/instance": "capf",
        "app.kubernetes.io/component": "controller",
    });
    assert_eq!(
        policy["egress"],
        json!([{
            "ports": [{"port": 8443, "protocol": "TCP"}],
            "to": [{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": release.namespace}},
                "podSelector": {"matchLabels": controllers},
            }],
        }])
    );
    // Which are the pods that the bundle sends endpoints to, and all of them.
    let selected: Vec<String> = controllers
        .as_object()
        .unwrap()
        .iter()
        .map(|(label, value)| format!("{label}={}", value.as_str().unwrap()))
        .collect();
    assert_eq!(release.pods(&release.namespace, &selected.join(",")).len(), 2);
}
