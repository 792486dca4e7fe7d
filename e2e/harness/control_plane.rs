//! etcd, kube-apiserver and kube-controller-manager, for as long as a value lives.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use kube::{Client, Config, config::AuthInfo};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};

use super::{HarnessError, Process, tools};

/// Who [`ControlPlane::client`] and [`ControlPlane::kubeconfig`] mean by `None`.
const ADMIN: &str = "admin";

/// A control plane of its own. Dropping it ends it and removes its directory, which takes a tenth of a second.
///
/// Users: `None` is the administrator; `capf-controller`, `capf-reporter` and `capf-nobody` may do nothing until roles
/// are bound to them.
pub struct ControlPlane {
    supervisor: Child,
    /// `None` only while being dropped: closing it is what ends everything.
    pipes: Mutex<Option<Pipes>>,
    description: Description,
    assets: PathBuf,
}

/// The two ends through which the supervisor is told things and answers.
struct Pipes {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The process ids of a control plane's parts, 0 for one that does not run.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Pids {
    /// etcd.
    pub etcd: u32,
    /// kube-apiserver.
    pub apiserver: u32,
    /// kube-controller-manager.
    pub kcm: u32,
}

/// What the supervisor says of a control plane that is ready.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    dir: PathBuf,
    logs: PathBuf,
    server: String,
    version: String,
    ca_file: PathBuf,
    users: BTreeMap<String, User>,
    pids: Pids,
}

#[derive(Deserialize)]
struct User {
    token: SecretString,
    kubeconfig: PathBuf,
}

/// What the supervisor answers when it could not do what it was told.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// What it answers to a command.
#[derive(Deserialize)]
struct Obeyed {
    pids: Pids,
}

impl ControlPlane {
    /// Starts one and returns when it serves: in about 4 seconds, plus minutes if the binaries must be built first.
    ///
    /// # Errors
    /// [`HarnessError::Build`] or [`HarnessError::Start`].
    pub fn start() -> Result<Self, HarnessError> {
        Self::start_with(&[])
    }

    /// Like [`ControlPlane::start`], with further flags for `capf-e2e up`: `--etcd-fsync` makes etcd write as it would
    /// in production, `--extra=apiserver=--FLAG` passes a flag on to a part.
    ///
    /// # Errors
    /// [`HarnessError::Build`] or [`HarnessError::Start`].
    pub fn start_with(flags: &[&str]) -> Result<Self, HarnessError> {
        Self::supervised("up", tools::assets()?, flags)
    }

    /// One that `capf-e2e` starts in a mode, of the programs in a folder.
    pub(crate) fn supervised(mode: &str, assets: PathBuf, flags: &[&str]) -> Result<Self, HarnessError> {
        let mut command = Command::new(tools::supervisor()?);
        command
            .arg(mode)
            .arg("--dir")
            .arg(new_dir())
            .arg("--assets")
            .arg(&assets)
            .args(flags)
            // A group of its own: what kills a group of test processes leaves the supervisor alive to clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if env::var_os("CAPF_E2E_KEEP").is_some() {
            command.arg("--keep");
        }
        let mut supervisor = command.spawn().map_err(HarnessError::io("start the supervisor"))?;
        let (Some(commands), Some(stdout)) = (supervisor.stdin.take(), supervisor.stdout.take()) else {
            unreachable!("both were asked for")
        };
        let mut answers = BufReader::new(stdout);
        match read_answer::<Description>(&mut answers) {
            Ok(description) => {
                Ok(Self { supervisor, pipes: Mutex::new(Some(Pipes { commands, answers })), description, assets })
            }
            Err(reason) => {
                drop(commands);
                // It has said why; now it only cleans up.
                let _ = supervisor.wait();
                Err(HarnessError::Start { reason })
            }
        }
    }

    /// The one that the tests of this process share, started by whoever asks first. It ends with the process.
    ///
    /// Give each test a [`Namespace`](super::Namespace), and one that stops or kills parts a control plane of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().unwrap_or_else(|error| panic!("{error}")))
    }

    /// Its URL, `https://127.0.0.1:` and a port, the same after a restart.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.description.server
    }

    /// What the API server says it is, such as `v1.34.4`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.description.version
    }

    /// Its directory, which goes when it goes. A test may put files there.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.description.dir
    }

    /// Where its parts write their logs, and [`ControlPlane::spawn`] those of programs.
    #[must_use]
    pub fn logs_dir(&self) -> &Path {
        &self.description.logs
    }

    /// The file with the certificate that the API server's is signed by, PEM.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.description.ca_file
    }

    /// The supervisor's process id.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.id()
    }

    /// A user's kubeconfig file; its default namespace is `default`.
    ///
    /// # Panics
    /// When there is no such user.
    #[must_use]
    pub fn kubeconfig(&self, user: Option<&str>) -> PathBuf {
        self.user(user).kubeconfig.clone()
    }

    /// A new client for a user. It belongs to the runtime it is made on, so two tests must not share one.
    /// It retries nothing by itself, and its certificate check is a real one.
    ///
    /// # Panics
    /// When there is no such user, or outside a tokio runtime.
    #[must_use]
    pub fn client(&self, user: Option<&str>) -> Client {
        static PROVIDER: OnceLock<()> = OnceLock::new();
        PROVIDER.get_or_init(|| {
            // An error means that somebody has installed one before: the same one, there is only one in this build.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        });
        Client::try_from(self.config(user))
            .unwrap_or_else(|error| panic!("cannot make a client of {}: {error}", self.server()))
    }

    /// What [`ControlPlane::client`] is made of, to change something before making one.
    ///
    /// # Panics
    /// When there is no such user.
    #[must_use]
    pub fn config(&self, user: Option<&str>) -> Config {
        let url = self.server().parse();
        let mut config = Config::new(url.unwrap_or_else(|error| panic!("{}: {error}", self.server())));
        let ca = CertificateDer::from_pem_file(self.ca_file())
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", self.ca_file().display()));
        config.root_cert = Some(vec![ca.to_vec()]);
        config.auth_info = AuthInfo { token: Some(self.user(user).token.clone()), ..AuthInfo::default() };
        // Tests say what may be tried again, by `eventually`.
        config.default_retry = false;
        config
    }

    /// Runs kubectl as administrator and returns what it printed.
    ///
    /// # Errors
    /// [`HarnessError::Kubectl`] with what it said when it ended with an error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, HarnessError> {
        let output = self.kubectl_command(None).args(args).output().map_err(HarnessError::io("run kubectl"))?;
        printed(args, &output)
    }

    /// Runs kubectl as administrator with `input` as its stdin, such as `apply -f -` and YAML.
    ///
    /// # Errors
    /// [`HarnessError::Kubectl`] with what it said when it ended with an error.
    pub fn kubectl_stdin(&self, args: &[&str], input: &str) -> Result<String, HarnessError> {
        // A file is as good a stdin as a pipe, and cannot fill up while the output is not being read.
        let path = self.dir().join(format!("stdin-{:016x}", tools::random()));
        fs::write(&path, input).map_err(HarnessError::io(format!("write {}", path.display())))?;
        let file = fs::File::open(&path).map_err(HarnessError::io(format!("open {}", path.display())))?;
        let _ = fs::remove_file(&path);
        let output =
            self.kubectl_command(None).args(args).stdin(file).output().map_err(HarnessError::io("run kubectl"))?;
        printed(args, &output)
    }

    /// kubectl for a user, to add arguments to and run in any way. Leaves no cache behind.
    ///
    /// # Panics
    /// When there is no such user.
    #[must_use]
    pub fn kubectl_command(&self, user: Option<&str>) -> Command {
        let mut command = Command::new(self.assets.join("kubectl"));
        command
            .env("KUBECONFIG", self.kubeconfig(user))
            .env("KUBECACHEDIR", self.dir().join("kubectl-cache"))
            .env("KUBERC", "off")
            .stdin(Stdio::null());
        command
    }

    /// Starts a program with its log in [`ControlPlane::logs_dir`] under `name`, and `KUBECONFIG` set to a user's
    /// unless `command` sets it.
    ///
    /// # Errors
    /// Those of [`Process::start`].
    ///
    /// # Panics
    /// When there is no such user.
    pub fn spawn(&self, name: &str, user: Option<&str>, command: &mut Command) -> Result<Process, HarnessError> {
        if !command.get_envs().any(|(key, _value)| key == "KUBECONFIG") {
            command.env("KUBECONFIG", self.kubeconfig(user));
        }
        Process::start(command, self.logs_dir().join(format!("{name}.log")))
    }

    /// Tells the supervisor something and returns when it is done: `kill`, `stop`, `cont` or `restart`, and one of
    /// `etcd`, `apiserver`, `kcm`. A stopped part keeps its connections and answers nothing; a restarted one has the
    /// ports and the data it had, and serves again.
    ///
    /// # Errors
    /// [`HarnessError::Control`] for what cannot be done.
    pub fn control(&self, command: &str) -> Result<Pids, HarnessError> {
        let refused = |reason: String| HarnessError::Control { command: command.to_owned(), reason };
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pipes) = pipes.as_mut() else {
            return Err(refused("the control plane is being taken down".to_owned()));
        };
        writeln!(pipes.commands, "{command}").map_err(|error| refused(error.to_string()))?;
        read_answer::<Obeyed>(&mut pipes.answers).map(|obeyed| obeyed.pids).map_err(refused)
    }

    /// The parts' process ids as they are now, or as they were at the start if the supervisor is gone.
    #[must_use]
    pub fn pids(&self) -> Pids {
        self.control("pids").unwrap_or(self.description.pids)
    }

    fn user(&self, user: Option<&str>) -> &User {
        let name = user.unwrap_or(ADMIN);
        self.description.users.get(name).unwrap_or_else(|| {
            let known: Vec<_> = self.description.users.keys().collect();
            panic!("no user {name}: there are {known:?}")
        })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let pipes = self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner);
        *pipes = None;
        let _ = self.supervisor.wait();
    }
}

/// A directory that is nobody else's; it is not made.
pub(crate) fn new_dir() -> PathBuf {
    env::temp_dir().join("capf-e2e").join(format!("{}-{:016x}", std::process::id(), tools::random()))
}

/// One line of the supervisor's, or why there is none.
fn read_answer<T: DeserializeOwned>(answers: &mut impl BufRead) -> Result<T, String> {
    let mut line = String::new();
    match answers.read_line(&mut line) {
        Ok(0) => return Err("the supervisor has ended".to_owned()),
        Ok(_) => {}
        Err(error) => return Err(error.to_string()),
    }
    if let Ok(Refusal { error }) = serde_json::from_str(&line) {
        return Err(error);
    }
    serde_json::from_str(&line).map_err(|error| format!("{error} in the supervisor's answer"))
}

fn printed(args: &[&str], output: &Output) -> Result<String, HarnessError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(HarnessError::Kubectl {
        args: args.join(" "),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
