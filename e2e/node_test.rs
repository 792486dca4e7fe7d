//! The node itself: what tests on a real cluster rely on without looking.

#[path = "harness/mod.rs"]
mod harness;
#[path = "node/mod.rs"]
mod node;
#[path = "node_test/traces.rs"]
mod traces;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use harness::{HarnessError, eventually, is_alive, tools};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, api::ListParams};
use node::{NODE_ADDRESS, NODE_NAME, Node, OUTSIDE_ADDRESS};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace that admits nothing privileged, two pods in it that answer with their names, and a Service.
const WEB: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: web
  labels: {pod-security.kubernetes.io/enforce: restricted}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      automountServiceAccountToken: false
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      containers:
      - name: web
        image: localhost/tests/web:1
        args: [serve, ":8080"]
        readinessProbe:
          httpGet: {path: /, port: 8080}
          periodSeconds: 1
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: door, namespace: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
"#;

/// Lets no one but 10.95.8.0/25 connect to the pods, and lets them connect to nothing but each other.
const POLICY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: web}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - ipBlock: {cidr: 10.95.8.0/25}
    - podSelector: {}
    ports: [{port: 8080, protocol: TCP}]
  egress:
  - to: [{podSelector: {}}]
"#;

#[tokio::test]
async fn two_pods_of_an_imported_image_answer_through_a_service_by_its_address_and_by_its_name() {
    let Some(node) = Node::shared() else { return };
    let program = tools::pod().unwrap();
    node.import_program("localhost/tests/web:1", &program).unwrap();
    node.kubectl_stdin(&["apply", "-f", "-"], WEB).unwrap();
    node.kubectl(&["rollout", "status", "-n", "web", "deployment/web", "--timeout=120s"]).unwrap();
    let client = node.client(None);
    let service = Api::<Service>::namespaced(client.clone(), "web").get("web").await.unwrap();
    let address = service.spec.and_then(|spec| spec.cluster_ip).unwrap();
    let pods = Api::<Pod>::namespaced(client, "web").list(&ListParams::default()).await.unwrap();
    let names: BTreeSet<String> = pods.items.into_iter().filter_map(|pod| pod.metadata.name).collect();
    assert_eq!(names.len(), 2);

    // By its address, from the node: both answer, and nobody else.
    let mut seen = BTreeSet::new();
    // Until kube-proxy has heard of the pods nobody answers.
    let by_address = || {
        let output = node.command(&program).args(["fetch", &format!("http://{address}/")]).output().unwrap();
        if output.status.success() {
            seen.insert(String::from_utf8(output.stdout).unwrap().trim().to_owned());
        }
        let all = seen == names;
        async move { all }
    };
    eventually("both pods have answered", PATIENCE, by_address).await.unwrap();
    assert!(node.reaches(&format!("{address}:80")).unwrap());
    assert!(!node.reaches(&format!("{address}:81")).unwrap());

    // By its name, from within a pod: by way of the kubelet, and by way of the machine.
    let any = names.first().unwrap();
    let name = "http://web.web.svc.cluster.local/";
    for name in [name, "http://web.web.svc/", "http://web/"] {
        let fetched = || async {
            let answer = node.kubectl(&["exec", "-n", "web", any, "--", "/capf-pod", "fetch", name]);
            let answer = answer.map_err(|error| error.to_string())?;
            if names.contains(answer.trim()) { Ok(()) } else { Err(answer) }
        };
        eventually(&format!("a pod is answered by {name}"), PATIENCE, fetched).await.unwrap();
    }
    let output = node.enter_pod("web", any, "hostname").unwrap().output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), any);
    let url = format!("http://{address}/");
    let from_pod = || async {
        let output = node.enter_pod("web", any, &program).unwrap().args(["fetch", &url]).output().unwrap();
        let answered = names.contains(String::from_utf8_lossy(&output.stdout).trim());
        if answered { Ok(()) } else { Err(format!("{output:?}")) }
    };
    eventually("a pod is answered by the address", PATIENCE, from_pod).await.unwrap();

    // From outside the cluster: the pod sees who comes, to the node's port and to an address that is assigned.
    let assigned = r#"{"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}"#;
    node.kubectl(&["patch", "service", "-n", "web", "door", "--subresource=status", "--patch", assigned]).unwrap();
    for door in [format!("{NODE_ADDRESS}:30080"), "203.0.113.7:80".to_owned()] {
        let url = format!("http://{door}/client");
        let from_outside = || {
            let output = node.outside(&program).args(["fetch", &url]).output().unwrap();
            async move {
                let seen = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                if seen == OUTSIDE_ADDRESS { Ok(()) } else { Err(format!("{output:?}")) }
            }
        };
        eventually("a pod answers a client outside", PATIENCE, from_outside).await.unwrap();
    }

    // From this process.
    let forward = node.forward(&format!("{address}:80")).unwrap();
    let mut stream = TcpStream::connect(&forward.address).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(names.iter().any(|name| answer.trim_end().ends_with(name.as_str())), "{answer}");

    policies_are_enforced(node).await;

    // The namespace refuses what is not restricted.
    let refusal = node.kubectl(&["run", "-n", "web", "plain", "--image=localhost/tests/web:1"]).unwrap_err();
    let HarnessError::Kubectl { stderr, .. } = refusal else { panic!("{refusal}") };
    assert!(stderr.contains("violates PodSecurity \"restricted:latest\""), "{stderr}");

    // A pod outlives its kubelet, and its first process can be killed.
    let pid = node.pod_pid("web", any).unwrap();
    node.control("restart kubelet").unwrap();
    assert!(is_alive(pid));
    harness::signal(pid, "KILL").unwrap();
    let restarted = || async {
        let count = node.kubectl(&[
            "get",
            "pod",
            "-n",
            "web",
            any,
            "-o",
            "jsonpath={.status.containerStatuses[0].restartCount}",
        ]);
        count.is_ok_and(|count| count.parse::<u32>().is_ok_and(|count| count >= 1))
    };
    eventually("the kubelet has started the container again", PATIENCE, restarted).await.unwrap();
    let log = node.kubectl(&["logs", "-n", "kube-system", "deployment/coredns"]).unwrap();
    assert!(log.contains("CoreDNS-"), "{log}");
}

/// Nothing is open that a policy closes, and nothing is closed that it leaves open.
async fn policies_are_enforced(node: &Node) {
    let pods: Vec<Pod> = Api::namespaced(node.client(None), "web").list(&ListParams::default()).await.unwrap().items;
    let [one, other] = &pods[..] else { panic!("{pods:?}") };
    let name = one.metadata.name.as_deref().unwrap();
    let at = |pod: &Pod| format!("{}:8080", pod.status.as_ref().unwrap().pod_ip.as_deref().unwrap());
    let reached = || {
        Ok::<_, HarnessError>([
            ("its neighbour", node.pod_reaches("web", name, &at(other))?),
            ("somebody outside who may", node.outside_reaches(OUTSIDE_ADDRESS, &at(one))?),
            ("the node, as its kubelet must", node.reaches(&at(one))?),
            ("somebody else outside", node.outside_reaches("10.95.8.200", &at(one))?),
            ("the API server", node.pod_reaches("web", name, "10.96.0.1:443")?),
            ("the kubelet", node.pod_reaches("web", name, &format!("{NODE_ADDRESS}:10250"))?),
            ("the cluster DNS", node.pod_reaches("web", name, "10.96.0.10:53")?),
        ])
    };
    let until = async |what: &str, open: &dyn Fn(usize) -> bool| {
        let look = || {
            let reached = reached().unwrap();
            let right = reached.iter().enumerate().all(|(at, (_, is))| *is == open(at));
            async move { if right { Ok(()) } else { Err(format!("{reached:?}")) } }
        };
        eventually(what, PATIENCE, look).await.unwrap();
    };
    until("all is open without a policy", &|_| true).await;
    node.kubectl_stdin(&["apply", "-f", "-"], POLICY).unwrap();
    until("the first three are open", &|at| at < 3).await;
    node.kubectl(&["delete", "networkpolicy", "-n", "web", "web"]).unwrap();
    until("all is open again", &|_| true).await;
}

#[tokio::test]
async fn a_node_may_do_what_a_node_may_and_no_more() {
    let Some(node) = Node::shared() else { return };
    let user = format!("system:node:{NODE_NAME}");
    let may = |arguments: &[&str]| {
        let mut command = node.kubectl_command(Some(&user));
        let output = command.args(["auth", "can-i"]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    assert!(may(&["get", &format!("nodes/{NODE_NAME}")]));
    // A Secret that no pod of the node mounts.
    assert!(!may(&["get", "secrets/of-nobody"]));
    let mut command = node.kubectl_command(Some(&user));
    let output = command.args(["label", "node", NODE_NAME, "node-restriction.kubernetes.io/x=y"]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
}
