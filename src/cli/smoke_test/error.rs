//! Why a smoke test failed, each with the field or the thing to look at.

use std::io;

use super::super::client::{CallError, ConnectError};
use crate::phone::{CommunicationFailure, ServerAddress, TlsError};
use crate::wire::DeviceName;

/// The test failed.
#[derive(Debug, thiserror::Error)]
pub enum SmokeTestError {
    /// No cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No certificate is published.
    #[error(
        "--proxy {proxy}: namespace {namespace} has no ConfigMap {proxy}-certificates; is there a CertificateAuthorityProxy \
         of this name, and is it Ready? `capf explain --proxy {proxy}` says why not"
    )]
    NotPublished {
        /// The proxy.
        proxy: String,
        /// Its namespace.
        namespace: String,
    },
    /// What is published is no certificate.
    #[error("ConfigMap {0}: CAPF.cer: {1}; delete the ConfigMap, and the controller makes it anew")]
    Ctl(String, TlsError),
    /// CAPF.cer is not there.
    #[error("ConfigMap {0} lacks CAPF.cer; delete it, and the controller makes it anew")]
    NoCtl(String),
    /// The name is taken.
    #[error(
        "--device-name {device}: there is a {kind} {name} already; if an earlier test was killed and left it, delete it, else \
         choose another name"
    )]
    Taken {
        /// As it was given.
        device: DeviceName,
        /// Phone or Secret.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The Phone is not what the API server takes for one.
    #[error("writing the Phone: {0}")]
    Manifest(#[from] serde_json::Error),
    /// No random octets.
    #[error("making an authentication string: the system gives no random octets")]
    Random,
    /// The controller wants another manifest.
    #[error("Phone {name} is Stalled: {message}")]
    Stalled {
        /// Its name.
        name: String,
        /// Reason, cause and remedy.
        message: String,
    },
    /// The operation failed.
    #[error("Phone {name}: Install/Upgrade failed: {reason}")]
    Failed {
        /// Its name.
        name: String,
        /// The reason on record.
        reason: String,
    },
    /// The phone could not talk to the server.
    #[error("--server {server}: {failure}")]
    Communication {
        /// The server.
        server: ServerAddress,
        /// What was in the way.
        failure: CommunicationFailure,
    },
    /// The server said something else than that the LSC is installed.
    #[error(
        "--server {server}: the session ended as {ended}; look at the log of the endpoint, and whether it serves proxy {proxy}"
    )]
    NotInstalled {
        /// The server.
        server: ServerAddress,
        /// How it ended.
        ended: &'static str,
        /// The proxy.
        proxy: String,
    },
    /// Too slow.
    #[error("--timeout-seconds {seconds}: not done while {step}; {remedy}")]
    TimedOut {
        /// As it was given.
        seconds: u64,
        /// What was waited for.
        step: &'static str,
        /// What to look at.
        remedy: &'static str,
    },
    /// SIGTERM or SIGINT.
    #[error("stopped while {0}; its traces are removed")]
    Stopped(&'static str),
    /// Something is left.
    #[error(
        "removing the traces: {0} are still there after {1} s; is the garbage collector of kube-controller-manager at work? \
         Delete them with kubectl"
    )]
    Left(String, u64),
    /// It failed, and something is left besides.
    #[error("{0}; and {1}")]
    Both(Box<Self>, Box<Self>),
    /// Standard output.
    #[error("writing to standard output: {0}")]
    Write(#[from] io::Error),
}
