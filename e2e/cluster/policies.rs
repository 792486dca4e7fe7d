//! Who reaches whom on a node that enforces the chart's NetworkPolicies: asked in the pods and outside, and once more when
//! the policies are gone, so that nothing was closed for another reason.

use crate::harness::eventually;
use crate::inside::API_SERVER;
use crate::node::{NODE_ADDRESS, OUTSIDE_ADDRESS};
use crate::release::{PATIENCE, Release};
use crate::setup::Cluster;

/// Has the address of a phone, which is in the block of [`values`].
const PHONE: &str = OUTSIDE_ADDRESS;
/// Is outside the cluster as well, and in another block.
const STRANGER: &str = "10.95.8.200";
/// The cluster DNS.
const NAMES: &str = "10.96.0.10:53";

/// Who, how they connect, whom to, at which address, and whether that is meant to be open.
type Way<'a> = (&'a str, &'a dyn Fn(&str) -> bool, &'a str, String, bool);

/// The chart's values for policies, with the block that phones have here.
pub fn values(cluster: &Cluster) -> String {
    // Policies see a packet when the API server's own port has taken the place of its Service's.
    let server = cluster.node.config(None).cluster_url;
    format!(
        "networkPolicy: {{enabled: true, phoneRanges: [10.95.8.0/25], apiServer: {{ports: [{}]}}}}",
        server.port_u16().unwrap()
    )
}

/// Fails unless the release's policies let pass what they are meant to, and nothing else. There are none afterwards.
pub async fn let_pass_only_what_is_meant(release: &Release) {
    let node = release.cluster.node;
    let (own, phones) = (release.namespace.as_str(), release.phones.as_str());
    let controllers = release.pods(own, "app.kubernetes.io/component=controller");
    let endpoints = release.pods(phones, "app.kubernetes.io/name=capf-endpoint");
    let dns = release.pods("kube-system", "k8s-app=kube-dns");
    let address = |namespace: &str, pod: &str| {
        release.in_namespace(namespace, &["get", "pod", pod, "--output=jsonpath={.status.podIP}"])
    };
    let (controller, endpoint, other) =
        (address(own, &controllers[0]), address(phones, &endpoints[0]), address(phones, &endpoints[1]));
    let questions =
        format!("{}:8443", release.in_release(&["get", "service", "capf", "--output=jsonpath={.spec.clusterIP}"]));
    let kubelet = format!("{NODE_ADDRESS}:10250");

    let in_endpoint = |to: &str| node.pod_reaches(phones, &endpoints[0], to).unwrap();
    let in_controller = |to: &str| node.pod_reaches(own, &controllers[0], to).unwrap();
    let in_another_pod = |to: &str| node.pod_reaches("kube-system", &dns[0], to).unwrap();
    let phone = |to: &str| node.outside_reaches(PHONE, to).unwrap();
    let stranger = |to: &str| node.outside_reaches(STRANGER, to).unwrap();
    let ways: [Way<'_>; 20] = [
        ("endpoint", &in_endpoint, "controller's questions", format!("{controller}:8443"), true),
        ("endpoint", &in_endpoint, "controllers by their Service", questions, true),
        ("endpoint", &in_endpoint, "controller's metrics", format!("{controller}:8080"), false),
        ("endpoint", &in_endpoint, "API server", API_SERVER.to_owned(), false),
        ("endpoint", &in_endpoint, "kubelet", kubelet.clone(), false),
        ("endpoint", &in_endpoint, "DNS", NAMES.to_owned(), false),
        ("endpoint", &in_endpoint, "another endpoint", format!("{other}:3804"), false),
        ("controller", &in_controller, "API server", API_SERVER.to_owned(), true),
        ("controller", &in_controller, "DNS", NAMES.to_owned(), true),
        ("controller", &in_controller, "kubelet", kubelet, false),
        ("controller", &in_controller, "endpoint", format!("{endpoint}:3804"), false),
        ("phone", &phone, "endpoint", format!("{endpoint}:3804"), true),
        ("phone", &phone, "endpoint by the Service", release.server(), true),
        ("phone", &phone, "endpoint's metrics", format!("{endpoint}:8080"), false),
        ("phone", &phone, "controller's questions", format!("{controller}:8443"), false),
        ("phone", &phone, "controller's metrics", format!("{controller}:8080"), false),
        ("stranger", &stranger, "endpoint", format!("{endpoint}:3804"), false),
        ("another pod", &in_another_pod, "endpoint", format!("{endpoint}:3804"), false),
        ("another pod", &in_another_pod, "endpoint's metrics", format!("{endpoint}:8080"), false),
        ("another pod", &in_another_pod, "controller's questions", format!("{controller}:8443"), false),
    ];
    let differences = |policies: bool| {
        let wrong = ways.iter().filter_map(|(who, connects, whom, to, meant)| {
            let open = connects(to);
            (open != (*meant || !policies))
                .then(|| format!("{who} to {whom} at {to}: {}", if open { "open" } else { "closed" }))
        });
        let wrong: Vec<String> = wrong.collect();
        async move { if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:#?}")) } }
    };
    eventually("open is what is meant to be, and nothing else", PATIENCE, || differences(true)).await.unwrap();
    for namespace in [own, phones] {
        release.in_namespace(namespace, &["delete", "networkpolicies", "--all"]);
    }
    eventually("all is open without policies", PATIENCE, || differences(false)).await.unwrap();
}
