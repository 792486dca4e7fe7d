//! A control plane with a real node: containerd, kubelet, kube-proxy, cluster DNS, and pods that run.
//!
//! Included by a target beside the harness: `#[path = "node/mod.rs"] mod node;`. All of it runs in namespaces of its own
//! (`e2e/README.md`), so a test reaches pods and Services by [`Node::command`] or [`Node::forward`].
#![allow(dead_code, unused_imports, reason = "each target that includes this uses a part of it")]

mod pods;

use std::{
    fmt, fs,
    io::Write,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use serde::Deserialize;

use crate::harness::{ControlPlane, HarnessError, Process, control_plane::new_dir, tools};

/// The image that `capf-pod` is in: `pause`, `serve ADDRESS`, `fetch URL` and `connect ADDRESS`. Every node has it.
pub const POD_IMAGE: &str = "localhost/capf-e2e/pod:1";
/// The only node's name.
pub const NODE_NAME: &str = "node-1";
/// The node's address: where its node ports and host ports are.
pub const NODE_ADDRESS: &str = "10.95.0.1";

/// The address that [`Node::outside`] comes from unless its program binds another of the same /24.
pub const OUTSIDE_ADDRESS: &str = "10.95.8.1";

/// How long a forwarder has to say where it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there can be no node on this machine. A test that meets it has nothing to test.
#[derive(Debug, Deserialize)]
pub struct NotHere {
    #[serde(rename = "notHere")]
    reasons: Vec<String>,
}

impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no node can run on this machine: {}", self.reasons.join("; "))
    }
}

/// A node and its control plane, which it can be used as. Dropping it ends it and leaves nothing of it behind; so does
/// the end of the process that started it, in whatever way.
///
/// # Caveats
/// Of the verbs of [`ControlPlane::control`] there are five parts more: `scheduler`, `containerd`, `kubelet`, `proxy`, and `netpol`,
/// which enforces NetworkPolicies.
pub struct Node {
    plane: ControlPlane,
    /// The first process of its namespaces, by the machine's count.
    init: u32,
}

impl Deref for Node {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.plane
    }
}

/// A port of the machine's loopback that leads into the node's network, for as long as this lives.
pub struct Forward {
    /// Where to connect, such as `127.0.0.1:20123`.
    pub address: String,
    _process: Process,
}

impl Node {
    /// Starts one and returns when the node is Ready and the cluster DNS answers: in about 10 seconds, plus minutes if
    /// programs must be built first.
    ///
    /// # Errors
    /// Only when this machine cannot have one; then nothing was built.
    ///
    /// # Panics
    /// When it can, and it did not start all the same.
    pub fn bring_up() -> Result<Self, NotHere> {
        Self::bring_up_with(&[])
    }

    /// Like [`Node::bring_up`], with further flags as [`ControlPlane::start_with`] has them.
    ///
    /// # Errors
    /// Those of [`Node::bring_up`].
    ///
    /// # Panics
    /// When [`Node::bring_up`] does.
    pub fn bring_up_with(flags: &[&str]) -> Result<Self, NotHere> {
        let obstacles = obstacles().unwrap_or_else(|error| panic!("{error}"));
        if !obstacles.reasons.is_empty() {
            return Err(obstacles);
        }
        Ok(Self::start(flags).unwrap_or_else(|error| panic!("{error}")))
    }

    /// The one that the tests of this process share, started by whoever asks first; it ends with the process. `None`
    /// where there can be none, which is said on stderr, past the test runner's capture.
    ///
    /// # Panics
    /// When [`Node::bring_up`] does.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Node>> = OnceLock::new();
        let started = SHARED.get_or_init(|| {
            Self::bring_up()
                .map_err(|reason| {
                    // Should stderr be closed there is nobody to tell.
                    let _ = writeln!(std::io::stderr(), "\nSKIPPED: tests of this target need a node, and {reason}\n");
                })
                .ok()
        });
        started.as_ref()
    }

    fn start(flags: &[&str]) -> Result<Self, HarnessError> {
        let coredns = format!("--coredns={}", tools::coredns()?.display());
        let pod = format!("--pod={}", tools::pod()?.display());
        let netpol = format!("--netpol={}", tools::netpol()?.display());
        let flags = [flags, &[&coredns, &pod, &netpol]].concat();
        let plane = ControlPlane::supervised("node", tools::node_assets()?, &flags)?;
        let file = plane.dir().join("init.pid");
        let text = fs::read_to_string(&file).map_err(HarnessError::io(format!("read {}", file.display())))?;
        let init = text.trim().parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Ok(Self { plane, init })
    }

    /// The process id, on this machine, of the first process of the node's namespaces. What is in the same namespaces
    /// as this is the node's.
    #[must_use]
    pub fn init_pid(&self) -> u32 {
        self.init
    }

    /// A program to be run in the node's network, where Services (by address) and pods are reached; everything else,
    /// files above all, is as on the machine. Add arguments, then run it or hand it to [`ControlPlane::spawn`].
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        in_network(&self.network(), program.as_ref())
    }

    /// Like [`Node::command`], in a network outside the cluster, one router away from the node: a client there is
    /// neither a pod nor the node itself, as a phone is neither. It may come from any address of 10.95.8.0/24, and
    /// reaches node ports at [`NODE_ADDRESS`], and external addresses of Services once something has assigned one.
    #[must_use]
    pub fn outside(&self, program: impl AsRef<Path>) -> Command {
        // Mounted inside only; the kernel leads the way through any process that sees it.
        in_network(&PathBuf::from(format!("/proc/{}/root/run/netns/outside", self.init)), program.as_ref())
    }

    /// Whether something accepts TCP connections at an address of the node's network, such as `10.96.0.1:443`.
    ///
    /// # Errors
    /// When that cannot be tried.
    pub fn reaches(&self, address: &str) -> Result<bool, HarnessError> {
        connects(self.command(tools::pod()?), &[address])
    }

    /// The same, asked outside the cluster, by somebody with this address of 10.95.8.0/24.
    ///
    /// # Errors
    /// Those of [`Node::reaches`].
    pub fn outside_reaches(&self, from: &str, address: &str) -> Result<bool, HarnessError> {
        connects(self.outside(tools::pod()?), &[address, from])
    }

    /// The same, asked in a pod.
    ///
    /// # Errors
    /// Those of [`Node::reaches`] and [`Node::pod_pid`].
    pub fn pod_reaches(&self, namespace: &str, pod: &str, address: &str) -> Result<bool, HarnessError> {
        connects(self.enter_pod(namespace, pod, tools::pod()?)?, &[address])
    }

    /// Makes an address of the node's network reachable from this process.
    ///
    /// # Errors
    /// Those of [`Process::start`] and [`Process::wait_for_log`].
    pub fn forward(&self, address: &str) -> Result<Forward, HarnessError> {
        let mut command = Command::new(tools::supervisor()?);
        command.arg("forward").arg("--network").arg(self.network()).args(["--to", address]);
        let log = format!("forward-{:016x}.log", tools::random());
        let mut process = Process::start(&command, self.logs_dir().join(log))?;
        let line = process.wait_for_log("listening on ", PATIENCE)?;
        let address = line.trim_start_matches("listening on ").to_owned();
        Ok(Forward { address, _process: process })
    }

    /// Gives the node's container runtime the images of an archive (OCI or Docker), and returns their names. A pod
    /// that names one needs `imagePullPolicy: IfNotPresent` if its tag is `latest`.
    ///
    /// # Errors
    /// [`HarnessError::Program`] with what `ctr` said.
    pub fn import(&self, archive: &Path) -> Result<Vec<String>, HarnessError> {
        let mut command = self.ctr();
        // The same snapshotter as in e2e/supervisor/node_parts.go.
        command.args(["images", "import", "--snapshotter=native"]).arg(archive);
        let said = run(&mut command)?;
        // unpacking NAME (sha256:...)...done
        let names = said.lines().filter_map(|line| line.strip_prefix("unpacking ")?.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Makes an image of one static program, which is its entry point, and imports it as `name`, such as
    /// `localhost/tests/thing:1`.
    ///
    /// # Errors
    /// [`HarnessError::Program`] with what was said.
    pub fn import_program(&self, name: &str, program: &Path) -> Result<(), HarnessError> {
        let archive = self.dir().join(format!("image-{:016x}.tar", tools::random()));
        let mut command = Command::new(tools::pod()?);
        command.args(["archive", "--name", name, "--output"]).arg(&archive).arg("--").arg(program);
        run(&mut command)?;
        let imported = self.import(&archive);
        let _ = fs::remove_file(&archive);
        imported.map(|_names| ())
    }

    /// `ctr` for the node's containerd and the images and containers of its kubelet.
    #[must_use]
    pub fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.dir().join("containerd.sock")).arg("--namespace=k8s.io");
        command
    }

    /// The network namespace, as a file.
    fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.init))
    }
}

/// Whether `capf-pod connect` succeeds.
fn connects(mut command: Command, args: &[&str]) -> Result<bool, HarnessError> {
    let output = command.arg("connect").args(args).output().map_err(HarnessError::io("run nsenter"))?;
    Ok(output.status.success())
}

fn in_network(network: &Path, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", network.display())).arg("--").arg(program).stdin(Stdio::null());
    command
}

/// What stands in the way of a node here.
fn obstacles() -> Result<NotHere, HarnessError> {
    let mut command = Command::new(tools::supervisor()?);
    command.args(["node", "--check", "--dir"]).arg(new_dir());
    let said = run(&mut command)?;
    Ok(serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error} in {said:?}")))
}

/// What a program printed, or an error with what it complained about.
fn run(command: &mut Command) -> Result<String, HarnessError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(HarnessError::io(format!("run {program}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(HarnessError::Program {
        program,
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
