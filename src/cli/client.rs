//! How subcommands for people reach the cluster: with the caller's own kubeconfig and rights, every call bounded.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;

/// Longest time for a page of a list.
pub const LIST_CALL: Duration = Duration::from_secs(30);
/// Longest time for one object.
pub const GET_CALL: Duration = Duration::from_secs(10);
/// Tries of a call that the API server has no capacity for.
const TRIES: u32 = 3;
/// Longest pause between two of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Which cluster and which namespace.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ClientArgs {
    /// Kubeconfig file; when absent those named by KUBECONFIG, else ~/.kube/config, else the pod's own account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; when absent its current one
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace; when absent the context's
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// A client together with the namespaces it was asked to look at.
#[derive(Clone)]
pub struct Cluster {
    /// The client, without kube's own silent retries.
    pub client: Client,
    /// The namespace; none for all of them.
    pub namespace: Option<String>,
}

/// There is no cluster to talk to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// What is asked for is in one namespace.
    #[error("choosing the namespace: --all-namespaces names none; use --namespace")]
    AllNamespaces,
    /// The named kubeconfig is of no use.
    #[error("reading the kubeconfig: {0}; name another by --kubeconfig, or one of its contexts by --context")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Nothing names a cluster.
    #[error("finding a cluster: {0}; name a kubeconfig by --kubeconfig or KUBECONFIG")]
    Infer(#[from] kube::config::InferConfigError),
    /// The kubeconfig's credentials cannot be used.
    #[error("setting up the connection to {server}: {source}; check the credentials in the kubeconfig")]
    Client {
        /// Address of the API server.
        server: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

impl ClientArgs {
    /// Makes the client. Does not talk to the cluster yet.
    ///
    /// # Errors
    /// [`ConnectError`]; waiting does not help.
    pub async fn connect(&self) -> Result<Cluster, ConnectError> {
        let mut config = self.config().await?;
        config.default_retry = false;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client =
            Client::try_from(config).map_err(|source| ConnectError::Client { server, source: Box::new(source) })?;
        Ok(Cluster { client, namespace: (!self.all_namespaces).then_some(namespace) })
    }

    /// The same for what looks at one namespace: with that.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and [`ConnectError::AllNamespaces`] where all were asked for.
    pub async fn connect_to_one(&self) -> Result<(Cluster, String), ConnectError> {
        if self.all_namespaces {
            return Err(ConnectError::AllNamespaces);
        }
        let cluster = self.connect().await?;
        let namespace = cluster.namespace.clone().unwrap_or_default();
        Ok((cluster, namespace))
    }

    async fn config(&self) -> Result<Config, ConnectError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        Ok(match (&self.kubeconfig, &self.context) {
            (Some(file), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await?,
            (None, Some(_)) => Config::from_kubeconfig(&options).await?,
            (None, None) => Config::infer().await?,
        })
    }
}

impl Cluster {
    /// The objects of a kind, in the namespace or in all.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + DeserializeOwned,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// A call that failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct CallError {
    /// Verb and object, for example "listing Phones".
    what: String,
    /// Why.
    pub cause: Cause,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The caller is not known to the API server.
    #[error("the cluster does not know who you are: {0}; log in anew")]
    Unauthorized(String),
    /// The caller may not do this.
    #[error("{0}; ask for a Role with this right")]
    Forbidden(String),
    /// There is no such object, or no such kind.
    #[error("{0}")]
    NotFound(String),
    /// There is an object of that name.
    #[error("{0}")]
    Exists(String),
    /// The rest of a list is no longer at hand; with the token, if any, by which the API server goes on.
    #[error("the list has expired on the API server; try again")]
    Expired(Option<String>),
    /// The API server did not accept the request.
    #[error("{0}")]
    Refused(String),
    /// No answer in time.
    #[error("no answer within {0} seconds; try again later")]
    TimedOut(u64),
    /// The API server is overloaded or starting.
    #[error("the API server has no capacity: {0}; try again later")]
    Busy(String),
    /// What the API server says is not understood.
    #[error("the answer is not understood: {0}; the cluster's CRDs and this program may be of different versions")]
    NotUnderstood(String),
    /// The API server cannot be reached.
    #[error("{0}; is the cluster running, and does the kubeconfig name the right one?")]
    Unreachable(String),
}

/// Makes a call that may be made again, at most `limit` long, and again when the API server has no capacity for it.
///
/// # Errors
/// [`CallError`] about `what`.
pub async fn call<T, F>(what: &str, limit: Duration, mut once: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = kube::Result<T>>,
{
    let mut tries = 1;
    loop {
        let cause = match tokio::time::timeout(limit, once()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                if let Some(pause) = pause_before_retry(&error, tries) {
                    tokio::time::sleep(pause).await;
                    tries += 1;
                    continue;
                }
                cause(&error)
            }
            Err(_) => Cause::TimedOut(limit.as_secs()),
        };
        return Err(CallError { what: what.to_owned(), cause });
    }
}

fn pause_before_retry(error: &kube::Error, tries: u32) -> Option<Duration> {
    let kube::Error::Api(status) = error else { return None };
    if !matches!(status.code, 429 | 503 | 504) || tries >= TRIES {
        return None;
    }
    let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    Some(Duration::from_secs(u64::from(asked.max(tries))).min(LONGEST_PAUSE))
}

fn cause(error: &kube::Error) -> Cause {
    let status = match error {
        kube::Error::Api(status) => status,
        kube::Error::SerdeError(error) => return Cause::NotUnderstood(error.to_string()),
        other => return Cause::Unreachable(innermost(other)),
    };
    let message = status.message.clone();
    match status.code {
        401 => Cause::Unauthorized(message),
        403 => Cause::Forbidden(message),
        404 => Cause::NotFound(message),
        409 if status.is_already_exists() => Cause::Exists(message),
        410 => Cause::Expired(status.metadata.as_ref().and_then(|m| m.continue_.clone()).filter(|t| !t.is_empty())),
        429 | 503 | 504 => Cause::Busy(message),
        _ => Cause::Refused(message),
    }
}

/// The outermost and the innermost cause: between them stand only the layers of the HTTP client.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let (outer, inner) = (error.to_string(), inner.to_string());
    if outer.contains(&inner) { outer } else { format!("{outer}: {inner}") }
}
