//! From the first install to the last uninstall, by the commands of a user.

use serde_json::Value;

use crate::kept::{everything, left_by_a_release_that_keeps_all, missing_of_what_is_kept};
use crate::release::{Release, enrolled, string};
use crate::setup::{Cluster, TYPES};
use crate::{metrics, policies, report};

const VALUES: &str = "
proxy:
  enabled: true
  spec:
    permitNullString: true
    endpoints: {service: {type: NodePort, nodePort: 30804}}
report: {enabled: true, schedule: '0 0 29 2 *', volume: {storageClassName: reports}}
";
/// What careful people have in every namespace: nothing is open but what another policy opens.
const DENY_ALL: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
";
/// Nothing shall stay.
const GOES: &str = "
crds: {keep: false}
keys: {keep: false}
proxy: {keep: false}
report: {volume: {keep: false}}
";

const NULL: &str = "  certificateOperation: InstallUpgrade\n  authenticationMode: ByNullString";
const GENERATED: &str = "  certificateOperation: InstallUpgrade\n  keyType: EC";
const GIVEN: &str =
    "  certificateOperation: InstallUpgrade\n  keyType: EC\n  authenticationString: {secretRef: {name: typed}}";
/// Of the string that `GIVEN` names.
const DIGITS: &str = "20461984";

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_tested_upgraded_removed_taken_up_again_and_leaves_nothing() {
    let Some(cluster) = Cluster::shared() else { return };
    let _alone = cluster.alone().await;
    let release = Release::prepare(cluster, "lifecycle");
    let mut empty = everything(&release).await;
    let volume = report::volume(&release);
    let namespace = format!("proxy: {{namespace: {}}}", release.phones);
    let policies = policies::values(cluster);
    let values = [VALUES, &namespace, &policies];

    // The version before, and phones by each kind of string.
    release.install(&cluster.before, &values);
    release.proxy_ready();
    release.runs_only(&cluster.before).await;
    assert!(!manifest(&release).contains("\nkind: CertificateAuthorityProxy\n"), "a hook has made the proxy");
    for (device, spec) in [("SEP000000000001", NULL), ("SEP000000000002", GIVEN), ("SEP000000000003", GENERATED)] {
        if spec == GIVEN {
            release.apply(&string("typed", DIGITS));
        }
        release.apply(&release.phone(device, spec));
        release.reads(device, "Install/Upgrade pending");
    }
    enrolled(release.call("SEP000000000001").arg("--null-string"));
    enrolled(release.call("SEP000000000002").arg("--authentication-string-file").arg(release.file("typed", DIGITS)));
    let digits = release.generated("SEP000000000003");
    assert!(digits.len() == 10 && digits.bytes().all(|digit| digit.is_ascii_digit()), "{digits:?}");
    enrolled(release.call("SEP000000000003").arg("--authentication-string-file").arg(release.file("made", &digits)));
    for device in ["SEP000000000001", "SEP000000000002", "SEP000000000003"] {
        release.reads(device, "Install/Upgrade successful");
    }
    smoke_test(&release).await;

    // From here on with nothing open that the release does not open itself.
    for namespace in [&release.namespace, &release.phones] {
        cluster.node.kubectl_stdin(&["apply", "--namespace", namespace, "-f", "-"], DENY_ALL).unwrap();
        empty.insert(format!("{namespace}: networkpolicy.networking.k8s.io/deny-all"));
    }

    // The upgrade: everything runs the new image, the release owns the proxy, the types are of the new chart, and what was
    // issued stands.
    let before = issued(&release);
    release.upgrade(&cluster.now, &values);
    release.runs_only(&cluster.now).await;
    release.proxy_ready();
    assert!(manifest(&release).contains("\nkind: CertificateAuthorityProxy\n"), "the release owns the proxy");
    for name in TYPES {
        let chart = "jsonpath={.metadata.labels.helm\\.sh/chart}";
        let chart = cluster.node.kubectl(&["get", "crd", name, "--output", chart]).unwrap();
        assert_eq!(chart, format!("capf-operator-{}", cluster.now.number), "{name}");
    }
    assert_eq!(issued(&release), before);
    release.apply(&release.phone("SEP000000000001", &format!("{NULL}\n  revision: 1")));
    release.apply(&release.phone("SEP000000000004", NULL));
    for device in ["SEP000000000001", "SEP000000000004"] {
        release.reads(device, "Install/Upgrade pending");
    }
    enrolled(release.call("SEP000000000001").arg("--null-string"));
    // This one calls as phones outside the cluster do.
    enrolled(release.call_at("SEP000000000004", &format!("{}:30804", crate::node::NODE_ADDRESS)).arg("--null-string"));
    for device in ["SEP000000000001", "SEP000000000004"] {
        release.reads(device, "Install/Upgrade successful");
    }
    smoke_test(&release).await;
    metrics::alerts_name_what_is_there(&release);
    report::is_written(&release, &volume, &["SEP000000000001", "SEP000000000003"]);
    release.admitted_all();

    // What the values keep stays when the release goes, and nothing else.
    let before = issued(&release);
    release.uninstall();
    release
        .settles("only what is kept is left", async || {
            let left: Vec<_> = everything(&release).await.difference(&empty).cloned().collect();
            left_by_a_release_that_keeps_all(&release, &left)
        })
        .await;
    assert_eq!(missing_of_what_is_kept(&release), Vec::<String>::new());

    // And is taken up again.
    release.install(&cluster.now, &values);
    release.runs_only(&cluster.now).await;
    release.proxy_ready();
    assert_eq!(issued(&release), before);
    release.apply(&release.phone("SEP000000000001", &format!("{NULL}\n  revision: 2")));
    release.reads("SEP000000000001", "Install/Upgrade pending");
    // Its endpoints have stayed. The kubelet takes a minute or more to bring them the new controllers' address.
    release
        .settles("endpoints that stayed find the new controllers", async || {
            let output = release.call("SEP000000000001").args(["--null-string", "--retries=0"]).output();
            let output = output.map_err(|error| error.to_string())?;
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
        })
        .await;
    release.reads("SEP000000000001", "Install/Upgrade successful");

    // Nothing stays when the values say so, but what the user has made.
    release.upgrade(&cluster.now, &[VALUES, &namespace, &policies, GOES]);
    release.uninstall();
    release.in_phones(&["delete", "secret", "typed"]);
    cluster.node.kubectl(&["delete", "persistentvolume", "reports"]).unwrap();
    release
        .settles("all is gone", async || {
            let now = everything(&release).await;
            let differences: Vec<_> = now.symmetric_difference(&empty).cloned().collect();
            if differences.is_empty() { Ok(()) } else { Err(format!("{differences:?}")) }
        })
        .await;
    release.remove();
}

/// Runs `helm test`, which must leave no trace.
async fn smoke_test(release: &Release) {
    let before = everything(release).await;
    let said = release.helm(&["test", "capf", "--timeout=4m"], &[]);
    assert!(said.contains("Phase:          Succeeded"), "{said}");
    release
        .settles("the test's traces are gone", async || {
            let now = everything(release).await;
            let differences: Vec<_> = now.symmetric_difference(&before).cloned().collect();
            if differences.is_empty() { Ok(()) } else { Err(format!("{differences:?}")) }
        })
        .await;
}

/// The manifest of the release as Helm keeps it, hooks left out.
fn manifest(release: &Release) -> String {
    release.helm(&["get", "manifest", "capf"], &[])
}

/// All that an upgrade must not touch: the keys, the operations, and what is known of each phone's LSC.
fn issued(release: &Release) -> Value {
    let items = |what: &[&str], pointers: &[&str]| -> Value {
        let list: Value =
            serde_json::from_str(&release.in_phones(&[&["get", "--output=json"], what].concat())).unwrap();
        let of_one = |item: &Value| pointers.iter().map(|pointer| item.pointer(pointer).cloned()).collect::<Vec<_>>();
        list["items"].as_array().unwrap().iter().map(|item| serde_json::json!(of_one(item))).collect()
    };
    let whole = ["/metadata/name", "/metadata/uid", "/spec", "/status"];
    let of_phone = ["/metadata/name", "/metadata/uid", "/spec", "/status/lsc", "/status/operation"];
    serde_json::json!({
        "keys": items(&["secret/main-issuer", "secret/main-service"], &["/metadata/name", "/metadata/uid", "/data"]),
        "certificates": items(&["configmap/main-certificates", "secret/main-issuer"], &["/data", "/binaryData"]),
        "operations": items(&["certificateoperations"], &whole),
        "phones": items(&["phones"], &of_phone),
    })
}
