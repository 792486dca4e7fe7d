//! The harness itself: what other end-to-end tests rely on without looking.

#[path = "harness/mod.rs"]
mod harness;
#[path = "harness_test/processes.rs"]
mod processes;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use harness::{
    ControlPlane, HarnessError, Namespace, Pids, eventually, free_port, is_alive, signal, tools::claim_port,
};
use hyper::Request;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace as NamespaceResource},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("value".to_owned(), value.to_owned())])),
        ..ConfigMap::default()
    }
}

fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

async fn value_of(maps: &Api<ConfigMap>, name: &str) -> Result<String, String> {
    let map = maps.get(name).await.map_err(|error| error.to_string())?;
    map.data.and_then(|mut data| data.remove("value")).ok_or_else(|| "no value".to_owned())
}

fn status_code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not an answer of the API server: {other}"),
    }
}

async fn all_ended(pids: Vec<u32>) {
    let alive = || async { pids.iter().all(|pid| !is_alive(*pid)) };
    eventually("every process has ended", PATIENCE, alive).await.unwrap();
}

fn parts(pids: Pids) -> Vec<u32> {
    vec![pids.etcd, pids.apiserver, pids.kcm]
}

/// A program that says that it runs and then waits to be ended.
fn sleeper() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo sleeping; exec sleep 1000"]);
    command
}

#[tokio::test]
async fn two_control_planes_at_once_answer_and_know_nothing_of_each_other() {
    let (one, other) = (ControlPlane::start().unwrap(), ControlPlane::start().unwrap());
    assert_ne!(one.server(), other.server());
    let maps = [&one, &other].map(|plane| config_maps(&plane.client(None)));
    maps[0].create(&PostParams::default(), &config_map("only-here", "1")).await.unwrap();
    assert_eq!(value_of(&maps[0], "only-here").await.unwrap(), "1");
    assert_eq!(status_code(&maps[1].get("only-here").await.unwrap_err()), 404);
    assert_eq!(other.version(), one.version());
}

#[test]
fn a_port_that_is_handed_out_is_nobody_elses_as_long_as_it_is_held() {
    let plane = ControlPlane::shared();
    let (_, served) = plane.server().rsplit_once(':').unwrap();
    // By its supervisor, and by this process.
    for port in [served.parse().unwrap(), free_port()] {
        assert!(claim_port(port).is_none(), "{port} is handed out again");
    }
    // Of no server's: nobody else asks for it.
    let first = claim_port(1).unwrap();
    assert!(claim_port(1).is_none());
    drop(first);
    assert!(claim_port(1).is_some());
}

#[tokio::test]
async fn a_dropped_control_plane_leaves_neither_processes_nor_files() {
    let plane = ControlPlane::start().unwrap();
    let (pids, dir) = (parts(plane.pids()), plane.dir().to_owned());
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    let started = Instant::now();
    drop(plane);
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    assert!(!dir.exists());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// Runs itself again as another process, the owner, and kills that.
#[tokio::test]
async fn nothing_remains_of_a_control_plane_whose_owner_was_killed() {
    const OWNER: &str = "CAPF_E2E_TEST_OWNER";
    if let Some(report) = env::var_os(OWNER) {
        own_a_control_plane(Path::new(&report));
    }
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "nothing_remains_of_a_control_plane_whose_owner_was_killed"])
        .env(OWNER, &report)
        .spawn()
        .unwrap();
    let told = eventually("the owner has started everything", PATIENCE, || async { fs::read_to_string(&report) });
    let told = told.await.unwrap();
    let (dir, pids) = told.split_once('\n').unwrap();
    let pids: Vec<u32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 5, "{told}");
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{told}");

    signal(owner.id(), "KILL").unwrap();
    owner.wait().unwrap();
    all_ended(pids).await;
    eventually("the directory is gone", PATIENCE, || async { !Path::new(dir).exists() }).await.unwrap();
}

/// Tells in a file what it owns, and then waits to be killed.
fn own_a_control_plane(report: &Path) -> ! {
    let plane = ControlPlane::start().unwrap();
    let process = plane.spawn("sleeper", None, &mut sleeper()).unwrap();
    let mut text = format!("{}\n", plane.dir().display());
    for pid in parts(plane.pids()).into_iter().chain([plane.supervisor_pid(), process.pid()]) {
        text.push_str(&format!("{pid}\n"));
    }
    let hidden = report.with_extension("new");
    fs::write(&hidden, text).unwrap();
    fs::rename(hidden, report).unwrap();
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_control_plane_along_and_the_next_one_removes_its_directory() {
    let plane = ControlPlane::start().unwrap();
    let (pids, dir) = (parts(plane.pids()), plane.dir().to_owned());
    signal(plane.supervisor_pid(), "KILL").unwrap();
    all_ended(pids).await;
    drop(plane);
    let _next = ControlPlane::start().unwrap();
    assert!(!dir.exists());
}

#[test]
fn a_control_plane_that_cannot_start_says_why_and_leaves_nothing() {
    let error = ControlPlane::start_with(&["--extra=apiserver=--no-such-flag"]).err().unwrap();
    let HarnessError::Start { reason } = error else { panic!("{error}") };
    assert!(reason.contains("unknown flag: --no-such-flag"), "{reason}");
    let own = format!("{}-", std::process::id());
    let left: Vec<PathBuf> = fs::read_dir(env::temp_dir().join("capf-e2e"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&own))
        // Other tests of this process have theirs, which serve.
        .filter(|path| {
            let log = fs::read_to_string(path.join("logs/kube-apiserver.log"));
            log.is_ok_and(|log| log.contains("--no-such-flag"))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Sends the API server a few words, and waits so long for any answer. That it is not greeted by TLS it says at once.
fn hears_and_answers(plane: &ControlPlane, patience: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect(plane.server().trim_start_matches("https://")).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.read_exact(&mut [0])
}

#[tokio::test]
async fn parts_stop_go_on_die_and_come_back_with_their_data() {
    let plane = ControlPlane::start().unwrap();
    let maps = config_maps(&plane.client(None));
    let write = |name: &'static str| {
        let maps = maps.clone();
        async move { maps.create(&PostParams::default(), &config_map(name, name)).await }
    };
    write("first").await.unwrap();

    // A stopped etcd: nothing is answered, and nothing is lost once it goes on.
    plane.control("stop etcd").unwrap();
    let second = tokio::spawn(write("second"));
    let client = plane.client(None);
    eventually("the API server misses it", PATIENCE, || async {
        client.request_text(Request::get("/readyz/etcd").body(Vec::new()).unwrap()).await.is_err()
    })
    .await
    .unwrap();
    assert!(!second.is_finished());
    plane.control("cont etcd").unwrap();
    second.await.unwrap().unwrap();

    // A stopped API server: connections open, and that is all.
    plane.control("stop apiserver").unwrap();
    assert!(hears_and_answers(&plane, Duration::from_secs(1)).is_err());
    plane.control("cont apiserver").unwrap();
    hears_and_answers(&plane, PATIENCE).unwrap();
    eventually("it goes on", PATIENCE, || value_of(&maps, "first")).await.unwrap();

    // A killed API server refuses connections, and comes back at the same address.
    let before = plane.pids();
    let after = plane.control("kill apiserver").unwrap();
    assert_eq!(after.apiserver, 0);
    assert!(!is_alive(before.apiserver));
    assert!(maps.get("first").await.is_err());
    let error = plane.control("stop apiserver").unwrap_err().to_string();
    assert!(error.contains("it is not running"), "{error}");
    let after = plane.control("restart apiserver").unwrap();
    assert_eq!((after.etcd, after.kcm), (before.etcd, before.kcm));
    assert_ne!(after.apiserver, before.apiserver);
    assert_eq!(value_of(&maps, "first").await.unwrap(), "first");

    // A polite restart and a killed etcd lose nothing either.
    plane.control("restart apiserver").unwrap();
    plane.control("kill etcd").unwrap();
    plane.control("restart etcd").unwrap();
    for name in ["first", "second"] {
        let value = eventually("the data is there", PATIENCE, || value_of(&maps, name));
        assert_eq!(value.await.unwrap(), name);
    }
    write("third").await.unwrap();
}

#[test]
fn the_supervisor_names_what_it_cannot_do() {
    let plane = ControlPlane::shared();
    for command in ["kill", "kill scheduler", "melt etcd", ""] {
        let error = plane.control(command).unwrap_err();
        assert!(matches!(error, HarnessError::Control { .. }), "{command:?}: {error}");
    }
    assert!(parts(plane.pids()).into_iter().all(is_alive));
}

#[tokio::test]
async fn a_user_without_roles_is_refused_until_one_is_bound() {
    let plane = ControlPlane::shared();
    let namespace = Namespace::create(&plane.client(None), "rbac").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(Some("capf-nobody")), namespace.name());
    let reporter: Api<ConfigMap> = Api::namespaced(plane.client(Some("capf-reporter")), namespace.name());
    for refused in [&maps, &reporter] {
        let error = refused.list(&Default::default()).await.unwrap_err();
        assert_eq!(status_code(&error), 403);
    }
    let binding = [
        "create",
        "rolebinding",
        "view",
        "--clusterrole=view",
        "--user=capf-reporter",
        "--namespace",
        namespace.name(),
    ];
    plane.kubectl(&binding).unwrap();
    eventually("the role counts", PATIENCE, || async { reporter.list(&Default::default()).await }).await.unwrap();
    let error = maps.list(&Default::default()).await.unwrap_err();
    assert_eq!(status_code(&error), 403);

    // By kubectl and its kubeconfig too, and with somebody else's token not at all.
    let listing = ["get", "configmaps", "--namespace", namespace.name()];
    let refused = plane.kubectl_command(Some("capf-nobody")).args(listing).output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("Forbidden"), "{said}");
    let mut config = plane.config(None);
    config.auth_info.token = Some("a-token-of-nobody".to_owned().into());
    let stranger = Client::try_from(config).unwrap();
    let error = config_maps(&stranger).get("any").await.unwrap_err();
    assert_eq!(status_code(&error), 401);
    namespace.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_make_collect_and_delete() {
    let plane = ControlPlane::shared();
    let client = plane.client(None);
    let namespace = Namespace::create(&client, "controllers").await.unwrap();
    let name = namespace.name().to_owned();
    let manifest = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: none}]}
";
    let said = plane.kubectl_stdin(&["apply", "--namespace", &name, "-f", "-"], manifest).unwrap();
    assert_eq!(said.trim(), "deployment.apps/web created");
    let pods = || async {
        let said =
            plane.kubectl(&["get", "pods", "--namespace", &name, "-o", "name"]).map_err(|error| error.to_string())?;
        Ok::<usize, String>(said.lines().count())
    };
    let count_is = |wanted: usize| {
        move || async move {
            let seen = pods().await?;
            (seen == wanted).then_some(()).ok_or(format!("{seen} pods"))
        }
    };
    eventually("there is a pod", PATIENCE, count_is(1)).await.unwrap();
    Api::<Deployment>::namespaced(client.clone(), &name).delete("web", &DeleteParams::background()).await.unwrap();
    eventually("the pod is collected", PATIENCE, count_is(0)).await.unwrap();

    drop(namespace);
    let namespaces = Api::<NamespaceResource>::all(client);
    eventually("the namespace is gone", PATIENCE, || async {
        namespaces.get_opt(&name).await.is_ok_and(|found| found.is_none())
    })
    .await
    .unwrap();
}
