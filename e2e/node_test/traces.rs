//! What a node leaves behind, which is nothing.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    PATIENCE,
    harness::{ControlPlane, eventually, signal},
    node::Node,
};

/// Tells a copy of this test process to own a node, and where to say what it owns.
const OWNER: &str = "CAPF_E2E_TEST_NODE_OWNER";

/// The namespaces that a process is found by, as `/proc/PID/ns` calls them.
const KINDS: [&str; 3] = ["pid", "mnt", "net"];

/// What could be left of a node, each as it is found on the machine.
#[derive(Debug)]
struct Traces {
    /// The node's namespaces, such as `pid:[4026532000]`.
    namespaces: BTreeSet<String>,
    /// The same, held: the number of one that is gone is given to the next, that of another test's node perhaps. To be held
    /// keeps no process alive, and what is mounted or connected in them is none of what is looked for.
    _held: Vec<File>,
    dir: PathBuf,
}

impl Traces {
    /// Where to look, once the node is up.
    fn of(node: &Node) -> Self {
        Self::by(node.init_pid(), node.dir().to_owned())
    }

    /// The same for a node whose first process and directory are known.
    fn by(init: u32, dir: PathBuf) -> Self {
        let held = KINDS.iter().map(|kind| File::open(format!("/proc/{init}/ns/{kind}")).unwrap()).collect();
        let own = namespaces_of(std::process::id());
        Self { namespaces: &namespaces_of(init) - &own, _held: held, dir }
    }

    /// What there is now, each in a word or two.
    fn found(&self) -> Vec<String> {
        let name = self.dir.file_name().unwrap().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            if !namespaces_of(pid).is_disjoint(&self.namespaces) {
                found.push(format!("process {pid}"));
            }
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&arguments).contains(&*name) {
                found.push(format!("process {pid} by its arguments"));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(mounts.lines().filter(|line| line.contains(&name)).map(|line| format!("mount {line}")));
        let own_network = fs::read_to_string("/proc/net/dev").unwrap();
        let of_a_node = |line: &&str| ["node0", "wire0"].iter().any(|name| line.trim().starts_with(name));
        found.extend(own_network.lines().filter(of_a_node).map(|line| format!("interface {line}")));
        let root = Path::new("/sys/fs/cgroup");
        let trees = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).chain([root.to_owned()]);
        let groups = trees.map(|tree| tree.join(format!("capf-e2e-{name}"))).filter(|group| group.exists());
        found.extend(groups.map(|group| format!("control group {}", group.display())));
        if self.dir.exists() {
            found.push(format!("directory {}", self.dir.display()));
        }
        found
    }
}

/// Its process, mount and network namespaces. A process that is gone, or already a zombie, has none.
fn namespaces_of(pid: u32) -> BTreeSet<String> {
    let links = KINDS.iter().filter_map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// Settings of the whole machine that a kubelet or kube-proxy would change.
fn settings() -> Vec<(String, String)> {
    let names = [
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
        "net/ipv4/ip_forward",
    ];
    names.iter().map(|name| ((*name).to_owned(), fs::read_to_string(format!("/proc/sys/{name}")).unwrap())).collect()
}

#[tokio::test]
async fn nothing_remains_of_a_node_that_is_over() {
    let before = settings();
    let node = match Node::bring_up() {
        Ok(node) => node,
        Err(reason) => return skip(&reason.to_string()),
    };
    let traces = Traces::of(&node);
    assert_eq!(traces.namespaces.len(), 3, "{traces:?}");
    // More than what is looked for below: the search finds things.
    let found = traces.found();
    for kind in ["process", "control group", "directory"] {
        assert!(found.iter().any(|trace| trace.starts_with(kind)), "no {kind}: {found:?}");
    }
    assert_eq!(settings(), before);
    drop(node);
    assert_eq!(traces.found(), Vec::<String>::new());
    assert_eq!(settings(), before);
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_node_along_and_the_next_one_removes_the_rest() {
    let node = match Node::bring_up() {
        Ok(node) => node,
        Err(reason) => return skip(&reason.to_string()),
    };
    let traces = Traces::of(&node);
    signal(node.supervisor_pid(), "KILL").unwrap();
    let gone = || async {
        let found = traces.found();
        if found.iter().any(|trace| trace.starts_with("process")) { Err(format!("{found:?}")) } else { Ok(()) }
    };
    eventually("every process has ended", PATIENCE, gone).await.unwrap();
    drop(node);
    let _next = ControlPlane::start().unwrap();
    assert_eq!(traces.found(), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_remains_of_a_node_whose_owner_was_killed() {
    if let Some(report) = env::var_os(OWNER) {
        own_a_node(Path::new(&report));
    }
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "traces::nothing_remains_of_a_node_whose_owner_was_killed"])
        .env(OWNER, &report)
        .spawn()
        .unwrap();
    let told = eventually("the owner has a node", PATIENCE, || async { fs::read_to_string(&report) }).await.unwrap();
    let mut lines = told.lines();
    let Some(dir) = lines.next() else {
        owner.wait().unwrap();
        return skip("the owner has said why");
    };
    let traces = Traces::by(lines.next().unwrap().parse().unwrap(), dir.into());
    assert_eq!(traces.namespaces.len(), 3, "{told}");
    assert!(traces.found().len() > 10, "{:?}", traces.found());

    signal(owner.id(), "KILL").unwrap();
    owner.wait().unwrap();
    let gone = || async {
        let found = traces.found();
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    };
    eventually("nothing is left", PATIENCE, gone).await.unwrap();
}

/// Tells in a file what it owns, and then waits to be killed. Tells nothing where there can be no node.
fn own_a_node(report: &Path) -> ! {
    let node = Node::bring_up();
    let text = node
        .as_ref()
        .map_or_else(|_not_here| String::new(), |node| format!("{}\n{}\n", node.dir().display(), node.init_pid()));
    let hidden = report.with_extension("new");
    fs::write(&hidden, text).unwrap();
    fs::rename(hidden, report).unwrap();
    if node.is_err() {
        std::process::exit(0);
    }
    loop {
        std::thread::park();
    }
}

fn skip(reason: &str) {
    use std::io::Write;
    // Should stderr be closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {reason}\n");
}
