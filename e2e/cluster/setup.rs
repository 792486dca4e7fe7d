//! What every scenario stands on: the node, the images of this commit and of the one before, and the charts to go with them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::helm::{self, CHART};
use crate::node::Node;

/// Repository of all images; their tags are the charts' versions.
pub const REPOSITORY: &str = "localhost/capf-operator";
/// The resource types.
pub const TYPES: [&str; 3] =
    ["certificateauthorityproxies.capf.dev", "phones.capf.dev", "certificateoperations.capf.dev"];

/// A version of the product: a packed chart, and an image on the node that it names.
pub struct Version {
    /// The archive that Helm installs.
    pub chart: PathBuf,
    /// Version of the chart and tag of the image.
    pub number: String,
}

/// What the scenarios of this target share.
pub struct Cluster {
    pub node: &'static Node,
    /// This commit.
    pub now: Version,
    /// The commit before, or what stands in for it; of the next lower number.
    pub before: Version,
    /// Whether the resource types are there. They belong to the whole cluster.
    types: RwLock<()>,
}

impl Cluster {
    /// The one of this process, made by whoever asks first. `None` where no node can run, which is said.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED.get_or_init(Self::bring_up).as_ref()
    }

    fn bring_up() -> Option<Self> {
        let node = Node::shared()?;
        let number = env!("CARGO_PKG_VERSION");
        let charts = node.dir().join("charts");
        let (archive, before) = images();
        let lower = lower(number);
        let before = Version::pack(node, &before.join("chart"), &before.join("capf-operator.tar"), &charts, &lower);
        // Images of both bear the same name until each has its own, so this comes second.
        let now = Version::pack(node, Path::new(CHART), &archive, &charts, number);
        Some(Self { node, now, before, types: RwLock::default() })
    }

    /// The resource types, for a scenario that leaves them as they are. Its release has `crds.enabled: false` and, as it is
    /// not alone, `scope: Namespaced`.
    pub async fn with_types(&self) -> RwLockReadGuard<'_, ()> {
        let guard = self.types.read().await;
        let types = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
        self.node.kubectl(&["apply", "--server-side", "--field-manager=scenarios", "-f", types]).unwrap();
        for name in TYPES {
            let established = "--for=condition=Established";
            self.node.kubectl(&["wait", established, "--timeout=60s", &format!("crd/{name}")]).unwrap();
        }
        guard
    }

    /// The whole cluster, without our types, for a scenario that brings them or looks after all namespaces.
    pub async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        let guard = self.types.write().await;
        self.node.kubectl(&[&["delete", "crd", "--ignore-not-found"], &TYPES[..]].concat()).unwrap();
        guard
    }
}

impl Version {
    /// Packs a chart as this version and gives the node the image, as whatever name, that goes with it.
    fn pack(node: &Node, chart: &Path, archive: &Path, to: &Path, number: &str) -> Self {
        let mut command = helm::command(None);
        command.args(["package", "--version", number, "--app-version", number, "--destination"]).arg(to).arg(chart);
        helm::run(&mut command).unwrap_or_else(|error| panic!("{error}"));
        let names = node.import(archive).unwrap();
        let [name] = &names[..] else { panic!("not one image in {}: {names:?}", archive.display()) };
        let wanted = format!("{REPOSITORY}:{number}");
        if *name != wanted {
            let tagged = node.ctr().args(["images", "tag", "--force", name, &wanted]).output().unwrap();
            assert!(tagged.status.success(), "{tagged:?}");
        }
        Self { chart: to.join(format!("capf-operator-{number}.tgz")), number: number.to_owned() }
    }

    /// The name of the image.
    pub fn image(&self) -> String {
        format!("{REPOSITORY}:{}", self.number)
    }
}

/// The archive of this commit's image, and the folder with chart and image of the commit before, built first where that is
/// needed.
fn images() -> (PathBuf, PathBuf) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/cluster/images");
    let output = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", output.status);
    let paths = String::from_utf8(output.stdout).unwrap();
    let paths: Vec<PathBuf> = paths.lines().map(PathBuf::from).collect();
    let [archive, before] = &paths[..] else { panic!("{script} printed {paths:?}") };
    (archive.clone(), before.clone())
}

/// The next lower version: `0.1.0` comes after `0.0.0`, `0.1.2` after `0.1.1`.
fn lower(number: &str) -> String {
    let mut parts: Vec<u32> = number.split('.').map(|part| part.parse().unwrap()).collect();
    let last = parts.iter().rposition(|part| *part > 0).unwrap();
    parts[last] -= 1;
    parts.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}
