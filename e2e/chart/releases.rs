//! Releases on a real API server: each way that the proxy and the resource types come, change, stay and go.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::harness::{ControlPlane, eventually};
use crate::helm::{CHART, command, run, values_file};
use crate::product::PATIENCE;
use crate::rendering::copy_of_chart;

/// Types belong to a whole cluster, so these tests have one of their own, one after the other.
static CLUSTER: LazyLock<Mutex<ControlPlane>> = LazyLock::new(|| Mutex::new(ControlPlane::start().unwrap()));

/// A cluster without our types and with an empty namespace.
struct Cluster {
    plane: MutexGuard<'static, ControlPlane>,
    kubeconfig: PathBuf,
}

const CRDS: [&str; 3] = ["certificateauthorityproxies.capf.dev", "phones.capf.dev", "certificateoperations.capf.dev"];
const CLUSTER_WIDE: &str = "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding";
const PROXY: &str = "proxy: {enabled: true, spec: {placement: External}}\n";
const GOES: &str = "proxy: {keep: false}\n";

impl Cluster {
    fn fresh() -> Self {
        // A test that failed has left things, which go here.
        let plane = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        let kubeconfig = plane.kubeconfig(None);
        let cluster = Self { plane, kubeconfig };
        cluster.kubectl(&["delete", "namespace", "voice", "--ignore-not-found"]);
        for kind in CLUSTER_WIDE.split(',') {
            cluster.kubectl(&["delete", kind, "-l", "app.kubernetes.io/name=capf-operator"]);
        }
        cluster.kubectl(&[&["delete", "crd", "--ignore-not-found"], &CRDS[..]].concat());
        cluster.kubectl(&["create", "namespace", "voice"]);
        cluster
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.plane.kubectl(args).unwrap()
    }

    fn try_helm(&self, args: &[&str], values: &[&str]) -> Result<String, String> {
        let files: Vec<_> = values.iter().map(|values| values_file(values)).collect();
        let mut helm = command(Some(&self.kubeconfig));
        helm.args(args).args(["--namespace", "voice"]);
        for file in &files {
            helm.arg("--values").arg(file.path());
        }
        run(&mut helm)
    }

    fn install(&self, values: &[&str]) {
        self.try_helm(&["install", "capf", CHART], values).unwrap();
    }

    fn upgrade(&self, values: &[&str]) {
        self.try_helm(&["upgrade", "capf", CHART], values).unwrap();
    }

    fn uninstall(&self) {
        self.try_helm(&["uninstall", "capf", "--wait"], &[]).unwrap();
    }

    /// An object as the API server has it.
    fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let json = self.kubectl(&["-n", "voice", "get", kind, name, "-o", "json", "--ignore-not-found"]);
        if json.is_empty() { None } else { Some(serde_json::from_str(&json).unwrap()) }
    }

    fn proxy(&self) -> Option<Value> {
        self.get("certificateauthorityproxies.capf.dev", "main")
    }

    fn has_crds(&self) -> bool {
        let there = CRDS.iter().filter(|name| self.get("crd", name).is_some()).count();
        assert!(there == 0 || there == 3, "{there} of 3 types are there");
        there == 3
    }

    /// Whether the proxy is an ordinary resource of the release.
    fn proxy_is_of_the_release(&self) -> bool {
        self.try_helm(&["get", "manifest", "capf"], &[]).unwrap().contains("\nkind: CertificateAuthorityProxy\n")
    }
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[test]
fn the_proxy_of_a_first_install_comes_by_a_hook_and_the_next_upgrade_takes_it_over() {
    let cluster = Cluster::fresh();
    cluster.install(&[PROXY]);
    let first = cluster.proxy().unwrap();
    assert!(!cluster.proxy_is_of_the_release());
    cluster.upgrade(&[PROXY]);
    assert!(cluster.proxy_is_of_the_release());
    let second = cluster.proxy().unwrap();
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"], "nothing is changed by it");
    cluster.upgrade(&[PROXY, "proxy: {spec: {operationExpiresInDays: 3}}"]);
    let third = cluster.proxy().unwrap();
    assert_eq!((uid(&third), &third["spec"]["operationExpiresInDays"]), (uid(&first), &Value::from(3)));
    cluster.upgrade(&[PROXY, GOES]);
    cluster.upgrade(&["proxy: {enabled: false}"]);
    assert_eq!(cluster.proxy(), None, "what the values no longer have goes");
}

#[test]
fn what_is_kept_is_taken_up_again_by_the_next_release() {
    let cluster = Cluster::fresh();
    for upgraded in [false, true] {
        cluster.install(&[PROXY]);
        let before = cluster.proxy().unwrap();
        if upgraded {
            cluster.upgrade(&[PROXY]);
        }
        cluster.uninstall();
        assert!(cluster.has_crds());
        assert_eq!(cluster.proxy().map(|proxy| uid(&proxy)), Some(uid(&before)), "upgraded: {upgraded}");
        // The type is there already: no hook this time.
        cluster.install(&[PROXY]);
        assert!(cluster.proxy_is_of_the_release());
        assert_eq!(uid(&cluster.proxy().unwrap()), uid(&before));
        cluster.uninstall();
    }
}

#[test]
fn a_proxy_that_shall_not_stay_goes_with_its_release() {
    let cluster = Cluster::fresh();
    for upgraded in [false, true] {
        cluster.install(&[PROXY, GOES]);
        assert!(cluster.proxy().is_some());
        if upgraded {
            cluster.upgrade(&[PROXY, GOES]);
        }
        cluster.uninstall();
        assert_eq!(cluster.proxy(), None, "upgraded: {upgraded}");
        assert!(cluster.has_crds());
        cluster.kubectl(&[&["delete", "crd"], &CRDS[..]].concat());
    }
}

#[tokio::test]
async fn types_that_shall_not_stay_take_everything_with_them() {
    let cluster = Cluster::fresh();
    for goes in ["{}", GOES] {
        cluster.install(&[PROXY, goes, "crds: {keep: false}"]);
        assert!(cluster.has_crds() && cluster.proxy().is_some());
        cluster.uninstall();
        assert!(!cluster.has_crds());
        // What Helm does not know, such as pods, is collected a moment later.
        eventually("nothing of the release is left", PATIENCE, || async {
            let left = cluster.kubectl(&["-n", "voice", "get", "all,pdb,role,rolebinding", "-o", "name"]);
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await
        .unwrap();
        let left = cluster.kubectl(&["get", CLUSTER_WIDE, "-l", "app.kubernetes.io/name=capf-operator", "-o", "name"]);
        assert_eq!(left, "", "the release has left something");
    }
}

/// The chart as an earlier version, whose type of phones lacks a column.
fn earlier(folder: &Path) -> String {
    let chart = copy_of_chart(folder);
    let meta = fs::read_to_string(chart.join("Chart.yaml")).unwrap();
    let (head, tail) = meta.split_once("\nversion: ").unwrap();
    let rest = tail.split_once('\n').unwrap().1;
    fs::write(chart.join("Chart.yaml"), format!("{head}\nversion: 0.0.1\n{rest}")).unwrap();
    let path = chart.join("templates/crds/capf.dev_phones.yaml");
    let crd = fs::read_to_string(&path).unwrap();
    assert_eq!(crd.matches("name: LSC Expires").count(), 1);
    fs::write(&path, crd.replace("name: LSC Expires", "name: Earlier")).unwrap();
    chart.to_str().unwrap().to_owned()
}

#[test]
fn an_upgrade_changes_the_types_too() {
    let cluster = Cluster::fresh();
    let folder = tempfile::tempdir().unwrap();
    cluster.try_helm(&["install", "capf", &earlier(folder.path())], &[PROXY]).unwrap();
    let columns = || {
        cluster.get("crd", "phones.capf.dev").unwrap()["spec"]["versions"][0]["additionalPrinterColumns"].to_string()
    };
    assert!(columns().contains("Earlier") && !columns().contains("LSC Expires"), "{}", columns());
    let proxy = cluster.proxy().unwrap();
    cluster.upgrade(&[PROXY]);
    assert!(columns().contains("LSC Expires") && !columns().contains("Earlier"), "{}", columns());
    assert_eq!(uid(&cluster.proxy().unwrap()), uid(&proxy));
    cluster.try_helm(&["rollback", "capf", "1"], &[]).unwrap();
    assert!(columns().contains("Earlier"), "{}", columns());
}

#[test]
fn types_of_somebody_else_are_taken_over_only_when_asked() {
    let cluster = Cluster::fresh();
    cluster.kubectl(&["apply", "--server-side", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/crds")]);
    let refused = cluster.try_helm(&["install", "capf", CHART], &[PROXY]).unwrap_err();
    assert!(
        refused.contains(".capf.dev\" in namespace") && refused.contains("invalid ownership metadata"),
        "{refused}"
    );
    cluster.install(&[PROXY, "crds: {enabled: false}"]);
    cluster.uninstall();
    cluster.try_helm(&["install", "capf", CHART, "--take-ownership"], &[PROXY]).unwrap();
    assert_eq!(
        cluster.get("crd", "phones.capf.dev").unwrap()["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "Helm"
    );
}

#[tokio::test]
async fn people_get_their_rights_by_the_roles_that_every_cluster_has() {
    let cluster = Cluster::fresh();
    cluster.install(&[]);
    for role in ["view", "edit", "admin"] {
        let to = format!("--clusterrole={role}");
        cluster.kubectl(&["-n", "voice", "create", "rolebinding", role, &to, "--user", role]);
    }
    let may = |who: &str, verb: &str, what: &str| {
        let mut kubectl = cluster.plane.kubectl_command(None);
        let (what, part) = what.split_once('/').unwrap_or((what, ""));
        let asked = ["auth", "can-i", verb, what, "--subresource", part, "-n", "voice", "--as", who];
        let asked = kubectl.args(asked).output().unwrap();
        String::from_utf8_lossy(&asked.stdout).trim() == "yes"
    };
    // The controller manager adds the rights to those roles after a moment.
    for (who, verb, what) in [
        ("view", "list", "phones.capf.dev"),
        ("view", "watch", "certificateoperations.capf.dev"),
        ("view", "get", "certificateauthorityproxies.capf.dev"),
        ("edit", "list", "certificateoperations.capf.dev"),
        ("edit", "create", "phones.capf.dev"),
        ("edit", "delete", "phones.capf.dev"),
        ("edit", "create", "certificateoperations.capf.dev"),
        ("admin", "patch", "phones.capf.dev"),
        ("admin", "create", "certificateauthorityproxies.capf.dev"),
    ] {
        let what_is_so = format!("{who} may {verb} {what}");
        eventually(&what_is_so, PATIENCE, || async { may(who, verb, what) }).await.unwrap();
    }
    for (who, verb, what) in [
        ("view", "create", "phones.capf.dev"),
        ("view", "get", "secrets"),
        ("edit", "patch", "certificateauthorityproxies.capf.dev"),
        ("edit", "patch", "phones.capf.dev/status"),
        ("edit", "patch", "certificateoperations.capf.dev"),
        ("admin", "patch", "certificateoperations.capf.dev/status"),
        ("admin", "patch", "certificateauthorityproxies.capf.dev/status"),
    ] {
        assert!(!may(who, verb, what), "{who} may {verb} {what}");
    }
    cluster.uninstall();
    let left = cluster.kubectl(&["get", "clusterroles", "-l", "app.kubernetes.io/name=capf-operator", "-o", "name"]);
    assert_eq!(left, "");
}

#[test]
fn a_second_release_in_a_namespace_is_refused_before_it_shares_the_lease() {
    let cluster = Cluster::fresh();
    cluster.install(&[]);
    let refused = cluster.try_helm(&["install", "other", CHART], &["crds: {enabled: false}"]).unwrap_err();
    for part in ["namespace voice has release capf of this chart already", "take another namespace"] {
        assert!(refused.contains(part), "{refused}");
    }
    cluster.upgrade(&[]);
    cluster.uninstall();
}
