//! The product, installed in a namespace of its own on a real control plane: controllers under their own RBAC,
//! an endpoint outside the cluster with an exported bundle, simulated phones.

#![allow(dead_code, unused_imports, reason = "each test target uses a part of it")]

mod phones;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use capf::api::{CertificateAuthorityProxy, CertificateOperation, Phone};
use kube::{Api, Client, ResourceExt as _};

pub use phones::{BY_NULL, LAST, digits, phone, string_secret};

use crate::harness::{ControlPlane, Namespace, Process, capf_binary, eventually, free_port};

/// How long anything is waited for that takes a second on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One installation.
pub struct Product {
    pub plane: &'static ControlPlane,
    pub client: Client,
    pub namespace: Namespace,
    pub controllers: Vec<Process>,
    pub endpoint: Option<Process>,
    /// Where phones connect.
    pub address: String,
    /// Folder of this installation.
    pub folder: tempfile::TempDir,
    questions: Vec<u16>,
    /// Ports for probes and metrics: of each controller, and of the endpoint at the end.
    http: Vec<u16>,
    options: Options,
}

/// Options of an installation.
#[derive(Clone)]
pub struct Options {
    /// Log level of every process.
    pub log_level: &'static str,
    /// Further lines of the proxy's spec, two spaces in.
    pub proxy: &'static str,
    /// Controller replicas.
    pub replicas: usize,
    /// Where it is installed; the control plane that all share, where none is given.
    pub plane: Option<&'static ControlPlane>,
    /// As whom each replica calls the API server, in turn.
    pub users: &'static [&'static str],
    /// How long a Lease lasts; the product's own default where none is given.
    pub lease_seconds: Option<u16>,
    /// For each controller the kubeconfig it uses instead of its user's: one that leads by a proxy, say.
    pub kubeconfigs: Vec<PathBuf>,
    /// Whether [`Product::move_clock`] moves the controllers' clock from the start.
    pub moving_clock: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log_level: "debug",
            proxy: "  permitNullString: true",
            replicas: 1,
            plane: None,
            users: &["capf-controller"],
            lease_seconds: None,
            kubeconfigs: Vec::new(),
            moving_clock: false,
        }
    }
}

impl Product {
    /// Installs with the defaults.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, Options::default()).await
    }

    /// Installs, with a proxy `main` and its endpoint.
    pub async fn start_with(name: &str, options: Options) -> Self {
        let mut product = Self::install(name, options).await;
        product.apply(&format!(
            "apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {{name: main}}\nspec:\n  \
             placement: External\n{}\n",
            product.options.proxy
        ));
        product.serve().await;
        product
    }

    /// Installs the controllers alone: the proxy comes from elsewhere.
    pub async fn install(name: &str, options: Options) -> Self {
        let plane = options.plane.unwrap_or_else(ControlPlane::shared);
        install_crds(plane);
        let client = plane.client(None);
        let namespace = Namespace::create(&client, name).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        grant(plane, namespace.name(), options.users);
        let questions: Vec<u16> = (0..options.replicas).map(|_| free_port()).collect();
        let http = (0..=options.replicas).map(|_| free_port()).collect();
        let mut product = Self {
            plane,
            client,
            namespace,
            controllers: Vec::new(),
            endpoint: None,
            address: format!("127.0.0.1:{}", free_port()),
            folder,
            questions,
            http,
            options,
        };
        if product.options.moving_clock {
            product.move_clock(0);
        }
        for replica in 0..product.options.replicas {
            product.start_controller(replica);
        }
        product
    }

    /// Starts the endpoint of the proxy `main`, when that is Ready.
    pub async fn serve(&mut self) {
        self.proxy_ready().await;
        self.export_bundle();
        self.start_endpoint();
    }

    /// Name of the namespace.
    pub fn ns(&self) -> &str {
        self.namespace.name()
    }

    /// Starts the controller of this number, as after a crash.
    pub fn start_controller(&mut self, replica: usize) {
        let mut command = self.controller_command(replica);
        let log = format!("{}-controller-{replica}-{}", self.ns(), self.controllers.len());
        let user = self.options.users[replica % self.options.users.len()];
        let mut process = self.plane.spawn(&log, Some(user), &mut command).unwrap();
        process.wait_for_log("ready: answering questions", PATIENCE).unwrap();
        self.controllers.push(process);
    }

    /// The controller of this number as it is started.
    pub fn controller_command(&self, replica: usize) -> Command {
        let advertised: Vec<String> =
            self.questions.iter().flat_map(|port| ["--advertise".into(), format!("127.0.0.1:{port}")]).collect();
        let mut command = Command::new(capf_binary());
        command
            .args(["controller", "--namespace", self.ns(), "--watch-namespace", self.ns()])
            .args(["--identity", &format!("replica-{replica}"), "--log-level", self.options.log_level])
            .args(["--listen", &format!("127.0.0.1:{}", self.questions[replica])])
            .args(["--endpoint-image", "example.net/capf:test"])
            .args(["--advertise-in-cluster", &format!("localhost:{}", self.questions[0])])
            .args(["--http-listen", &self.controller_http(replica)])
            .args(advertised);
        if let Some(seconds) = self.options.lease_seconds {
            command.args(["--lease-seconds", &seconds.to_string()]);
        }
        if let Some(file) = self.clock_offset_file() {
            command.env("CAPF_TEST_CLOCK_OFFSET_FILE", file);
        }
        if let Some(kubeconfig) = self.options.kubeconfigs.get(replica) {
            command.env("KUBECONFIG", kubeconfig);
        }
        command
    }

    /// The file that moves the clock of processes started from now on, where the test has made one.
    fn clock_offset_file(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("clock")).filter(|file| file.exists())
    }

    /// Moves the clock of controllers that were started after the first call.
    pub fn move_clock(&self, seconds: i64) {
        fs::write(self.folder.path().join("clock"), seconds.to_string()).unwrap();
    }

    /// Starts the endpoint, as after a crash.
    pub fn start_endpoint(&mut self) {
        let mut command = self.endpoint_command();
        let mut process = self.plane.spawn(&format!("{}-endpoint", self.ns()), None, &mut command).unwrap();
        process.wait_for_log("phones are awaited", PATIENCE).unwrap();
        self.endpoint = Some(process);
    }

    /// The endpoint as it is started.
    pub fn endpoint_command(&self) -> Command {
        let mut command = Command::new(capf_binary());
        command
            .args(["endpoint", "--listen", &self.address, "--log-level", self.options.log_level])
            .args(["--http-listen", &self.endpoint_http()])
            .args(["--drain-seconds", "20", "--bundle"])
            .arg(self.bundle());
        command
    }

    /// Where this controller serves probes and metrics.
    pub fn controller_http(&self, replica: usize) -> String {
        format!("127.0.0.1:{}", self.http[replica])
    }

    /// Where the endpoint does.
    pub fn endpoint_http(&self) -> String {
        format!("127.0.0.1:{}", self.http[self.options.replicas])
    }

    /// Where the bundle was exported to.
    pub fn bundle(&self) -> PathBuf {
        self.folder.path().join("bundle")
    }

    fn export_bundle(&self) {
        self.capf(None, &["endpoint-bundle", "--proxy", "main", "-n", self.ns(), "--output", &text(&self.bundle())]);
    }

    async fn proxy_ready(&self) {
        let proxies: Api<CertificateAuthorityProxy> = self.api();
        eventually("the proxy is Ready", PATIENCE, || async {
            let proxy = proxies.get("main").await.map_err(|e| e.to_string())?;
            let conditions = proxy.status.map(|s| s.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|c| format!("{:?} {:?}", c.type_, c.status) == "Ready True");
            if ready { Ok(()) } else { Err(format!("{conditions:?}")) }
        })
        .await
        .unwrap();
    }

    /// An API of this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.ns())
    }

    /// `kubectl apply -f -` in this namespace.
    pub fn apply(&self, manifest: &str) -> String {
        self.plane.kubectl_stdin(&["apply", "-n", self.ns(), "-f", "-"], manifest).unwrap()
    }

    /// `kubectl -n NAMESPACE ...`.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let args: Vec<&str> = ["-n", self.ns()].into_iter().chain(args.iter().copied()).collect();
        self.plane.kubectl(&args).unwrap()
    }

    /// Runs `capf` to its end as a person with this user's rights; its standard output.
    pub fn capf(&self, user: Option<&str>, args: &[&str]) -> String {
        let output =
            Command::new(capf_binary()).args(args).env("KUBECONFIG", self.plane.kubeconfig(user)).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "capf {args:?}: {out}\n{err}");
        out.into_owned()
    }

    /// The published service certificate, as a CTL would hold it (DER).
    pub async fn ctl(&self) -> Vec<u8> {
        let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = self.api();
        maps.get("main-certificates").await.unwrap().binary_data.unwrap()["CAPF.cer"].0.clone()
    }

    /// The phone as the API server has it.
    pub async fn phone(&self, name: &str) -> Phone {
        self.api().get(name).await.unwrap()
    }

    /// Waits for the phone's Operation Status to read so.
    pub async fn operation_status(&self, phone: &str, wanted: &str) -> Phone {
        self.operation_status_within(phone, wanted, PATIENCE).await
    }

    /// The same, with another patience.
    pub async fn operation_status_within(&self, phone: &str, wanted: &str, patience: Duration) -> Phone {
        let phones: Api<Phone> = self.api();
        eventually(&format!("{phone} shows {wanted:?}"), patience, || async {
            let found = phones.get(phone).await.map_err(|e| e.to_string())?;
            let status = found.status.clone().unwrap_or_default();
            if status.operation_status.as_deref() == Some(wanted) { Ok(found) } else { Err(format!("{status:?}")) }
        })
        .await
        .unwrap()
    }

    /// The digits in a Secret; none when there is no such Secret.
    pub async fn string(&self, secret: &str) -> Option<String> {
        let secrets: Api<k8s_openapi::api::core::v1::Secret> = self.api();
        let secret = secrets.get_opt(secret).await.unwrap()?;
        Some(String::from_utf8(secret.data.unwrap()["authenticationString"].0.clone()).unwrap())
    }

    /// Suspends the proxy, and waits until that is acted on.
    pub fn suspend(&self) {
        self.kubectl(&["patch", "capf/main", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
        let reason = r#"--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Suspended"#;
        self.kubectl(&["wait", reason, "--timeout=60s", "capf/main"]);
    }

    /// Ends the first controller and starts it anew.
    pub fn restart_controller(&mut self) {
        self.controllers[0].terminate().unwrap();
        self.controllers.clear();
        self.start_controller(0);
    }

    /// Waits until the loops have looked at everything that there was to look at: until a phone that comes after it has had its
    /// turn. That phone goes again; its operation, which has [`LAST`] in its name, may stay a little longer.
    pub async fn looked_at_all(&self) {
        self.apply(&phone(LAST, "certificateOperation: InstallUpgrade, keyType: EC"));
        let name = LAST.to_lowercase();
        self.operation_status(&name, "Install/Upgrade pending").await;
        self.kubectl(&["delete", "phone", &name]);
    }

    /// Waits until an Event has this text, in the form that `kubectl --output` prints: Events are written after statuses.
    pub async fn event_has(&self, form: &str, text: &str) {
        eventually(&format!("an Event has {text}"), PATIENCE, || async {
            let events = self.kubectl(&["get", "events", "-o", form]);
            if events.contains(text) { Ok(()) } else { Err(events) }
        })
        .await
        .unwrap();
    }

    /// Every operation, by name.
    pub async fn operations(&self) -> Vec<CertificateOperation> {
        let mut all = self.api::<CertificateOperation>().list(&Default::default()).await.unwrap().items;
        all.sort_by_key(CertificateOperation::name_any);
        all
    }

    /// The operation that the phone is answered with.
    pub async fn armed(&self, phone: &str) -> CertificateOperation {
        let name = self.phone(phone).await.status.unwrap().operation.unwrap().name;
        self.api().get(&name).await.unwrap()
    }

    /// The logs of every process of this installation.
    pub fn logs(&self) -> String {
        let endpoint = self.endpoint.as_ref().map(Process::log).unwrap_or_default();
        self.controllers.iter().map(Process::log).chain([endpoint]).collect()
    }
}

/// Installs the CRDs and the ClusterRole, once for a control plane.
pub fn install_crds(plane: &ControlPlane) {
    static INSTALLED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    let mut installed = INSTALLED.lock().unwrap();
    if !installed.contains(&plane.supervisor_pid()) {
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
        plane.kubectl(&["apply", "--server-side", "-f", crds]).unwrap();
        plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", crds]).unwrap();
        plane.kubectl_stdin(&["apply", "-f", "-"], &rights().0).unwrap();
        installed.push(plane.supervisor_pid());
    }
}

/// The documents of `deploy/rbac.yaml`: the ClusterRole, and what belongs into the controllers' namespace.
fn rights() -> (String, String) {
    let rbac = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml")).unwrap();
    let (cluster_role, namespaced) = rbac.split_once("\n---\n").unwrap();
    assert!(cluster_role.contains("kind: ClusterRole") && namespaced.contains("kind: Role"));
    (cluster_role.to_owned(), namespaced.to_owned())
}

/// Gives the controllers' users their rights, in one namespace only.
fn grant(plane: &ControlPlane, namespace: &str, users: &[&str]) {
    let rbac = rights().1.replace("namespace: capf-system", &format!("namespace: {namespace}"));
    plane.kubectl_stdin(&["apply", "-f", "-"], &rbac).unwrap();
    let subject = |user: &&str| format!("{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {user}}}");
    let subjects = users.iter().map(subject).collect::<Vec<_>>().join(", ");
    let binding = |name: &str, kind: &str| {
        format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {name}, namespace: \
             {namespace}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {name}}}\nsubjects: \
             [{subjects}]\n"
        )
    };
    let bindings = binding("capf-controller", "ClusterRole") + &binding("capf-controller-lease", "Role");
    plane.kubectl_stdin(&["apply", "-f", "-"], &bindings).unwrap();
}

/// Status and body that a process answers to a GET; `Err` where nobody listens.
pub fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
