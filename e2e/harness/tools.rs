//! Where programs, ports and names come from.

use std::{
    collections::hash_map::RandomState,
    env,
    hash::BuildHasher,
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use super::HarnessError;

/// Where the ports of servers that tests start come from, here and in `e2e/supervisor`: below the range that Linux
/// hands to outgoing connections (32768 and up), so that a server that is restarted finds its port still free.
const PORTS: std::ops::Range<u16> = 20_000..32_768;

/// The program `capf` under test: `CAPF_BIN` if set, else the one cargo built with this target, else the one in the
/// target directory that the running program lies in.
///
/// # Panics
/// When there is none, which `cargo build` mends. (Examples are not built after the binary, test targets are.)
#[must_use]
pub fn capf_binary() -> PathBuf {
    if let Some(named) = env::var_os("CAPF_BIN") {
        return named.into();
    }
    if let Some(built) = option_env!("CARGO_BIN_EXE_capf") {
        return built.into();
    }
    // target/debug/deps/some-test, target/debug/examples/demo
    let own = env::current_exe().unwrap_or_default();
    own.ancestors().skip(1).take(2).map(|folder| folder.join("capf")).find(|program| program.is_file()).unwrap_or_else(
        || panic!("cannot find the program capf beside {}: run `cargo build` first, or set CAPF_BIN", own.display()),
    )
}

/// A TCP port on 127.0.0.1 that nobody listens on, and that no other test is given as long as this process runs.
///
/// # Panics
/// When no port from 20000 to 32767 is free.
#[must_use]
pub fn free_port() -> u16 {
    // Never let go: a server that is restarted must find its port still free.
    static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let span = u64::from(PORTS.end - PORTS.start);
    let drawn = (0..1000).filter_map(|_try| u16::try_from(random() % span).ok()).map(|offset| PORTS.start + offset);
    for port in drawn {
        let Some(claim) = claim_port(port) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
            return port;
        }
    }
    panic!("cannot find a free port in {PORTS:?}")
}

/// The claim to a port, held until it is dropped; none while somebody holds it, here or in another process.
///
/// A port that was found free is bound only seconds later, by a program that is told of it: until then it would be found
/// free by others too. An abstract socket of this name, which `e2e/supervisor` knows as well, is what one process at most
/// can have. The kernel takes it back however the process ends, it leaves no file, and it is known in the same network
/// namespace as the port.
pub(crate) fn claim_port(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("capf-e2e-port-{port}")).ok()?;
    UnixListener::bind_addr(&name).ok()
}

/// A number that is different each time and in each process. Not for secrets: it comes from the seeds of std's maps.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// The folder with etcd, kube-apiserver, kube-controller-manager and kubectl, built first where that is needed.
pub(super) fn assets() -> Result<PathBuf, HarnessError> {
    static ASSETS: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&ASSETS, "e2e/controlplane/build")
}

/// A folder that holds kube-scheduler, kubelet and kube-proxy as well, built first where that is needed.
pub(crate) fn node_assets() -> Result<PathBuf, HarnessError> {
    static ASSETS: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&ASSETS, "e2e/controlplane/build --node")
}

/// CoreDNS, built first where that is needed.
pub(crate) fn coredns() -> Result<PathBuf, HarnessError> {
    static COREDNS: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&COREDNS, "e2e/coredns/build")
}

/// The program `capf-netpol`, built first where that is needed.
pub(crate) fn netpol() -> Result<PathBuf, HarnessError> {
    static NETPOL: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&NETPOL, "e2e/netpol/build")
}

/// The program `capf-pod`, built first where that is needed.
pub(crate) fn pod() -> Result<PathBuf, HarnessError> {
    static POD: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&POD, "e2e/pod/build")
}

/// The program `capf-e2e`, built first where that is needed.
pub(crate) fn supervisor() -> Result<PathBuf, HarnessError> {
    static SUPERVISOR: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&SUPERVISOR, "e2e/supervisor/build")
}

/// Helm 3, built first where that is needed.
///
/// # Errors
/// [`HarnessError::Build`] when it cannot be built.
pub fn helm() -> Result<PathBuf, HarnessError> {
    static HELM: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&HELM, "e2e/helm/build")
}

/// Runs a build script the first time, and again only after it failed.
fn once(cell: &Mutex<Option<PathBuf>>, script: &str) -> Result<PathBuf, HarnessError> {
    let mut known = cell.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*known {
        return Ok(path.clone());
    }
    let path = build(script)?;
    *known = Some(path.clone());
    Ok(path)
}

/// Runs a script that prints a path; it may be followed by arguments. Its progress goes straight to stderr, past the test runner's capture: a build of
/// minutes should not look like a hang.
fn build(script: &str) -> Result<PathBuf, HarnessError> {
    let mut words = script.split(' ');
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(words.next().unwrap_or_default()))
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(HarnessError::io(format!("run {script}")))?;
    if !output.status.success() {
        return Err(HarnessError::Build { script: script.to_owned(), status: output.status.to_string() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}
