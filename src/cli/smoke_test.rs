//! `capf smoke-test`: one simulated phone enrols through a server, from the Phone's creation to the LSC, and every trace of
//! it goes again, also when something fails or the test is stopped. `helm test` runs it.

mod error;
mod standing;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use error::SmokeTestError;
use standing::{Standing, standing};

use super::client::{CallError, Cause, ClientArgs, Cluster, GET_CALL, LIST_CALL, call};
use crate::api::{AUTHENTICATION_STRING_KEY, AUTHENTICATION_STRING_TYPE, CertificateOperation, Phone, PhoneSpec};
use crate::domain::string::AuthenticationString;
use crate::phone::{AttemptOutcome, Proof, RETRIES, Retry, ServerAddress, SimulatedPhone, read_ctl, tls_config};
use crate::wire::DeviceName;

/// Pause between two looks at the Phone.
const PAUSE: Duration = Duration::from_millis(250);
/// Pause between two tries of the simulated phone: real ones wait 30 s, and nobody waits for a test that long.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Longest time for the removal of all traces. Kubernetes looks for new kinds of owners every 30 s.
const REMOVAL: Duration = Duration::from_secs(50);

/// Arguments of `capf smoke-test`. It needs the caller's right to create, get and delete the Phone, to create and delete the
/// Secret of the same name, to list CertificateOperations, and to get the ConfigMap with the proxy's certificates.
#[derive(clap::Args, Clone, Debug)]
pub struct SmokeTestArgs {
    #[command(flatten)]
    cluster: ClientArgs,
    /// Name of the CertificateAuthorityProxy
    #[arg(long, value_name = "NAME")]
    proxy: String,
    /// The endpoint to call; the port is 3804 where none is given
    #[arg(long, value_name = "HOST[:PORT]")]
    server: ServerAddress,
    /// Device name of the simulated phone; there must be no Phone and no Secret of this name
    #[arg(long, value_name = "NAME", default_value = "CAPF-SMOKE-TEST")]
    device_name: DeviceName,
    /// Seconds after which the enrolment has failed; the removal of its traces may take 50 more
    #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(5..=3600))]
    timeout_seconds: u64,
}

/// Enrols the phone and removes its traces; told to `stop`, it goes straight to the removal.
///
/// # Errors
/// [`SmokeTestError`]: the first thing that went wrong, and whether anything is left.
pub async fn run(args: &SmokeTestArgs, stop: CancellationToken) -> Result<(), SmokeTestError> {
    let (cluster, namespace) = args.cluster.connect_to_one().await?;
    let name = args.device_name.as_str().to_ascii_lowercase();
    let mut test = SmokeTest { args, cluster, namespace, name, step: Step::Ctl, secret: None, phone: None };
    let limit = Duration::from_secs(args.timeout_seconds);
    let begun = Instant::now();
    let enrolled = match test.prepare().await {
        Ok((tls, digits)) => {
            let left = limit.saturating_sub(begun.elapsed());
            let ended = tokio::select! {
                ended = tokio::time::timeout(left, test.enrol(tls, digits)) => Some(ended),
                () = stop.cancelled() => None,
            };
            let (doing, remedy) = test.step.told();
            match ended {
                Some(Ok(result)) => result,
                Some(Err(_)) => Err(SmokeTestError::TimedOut { seconds: args.timeout_seconds, step: doing, remedy }),
                None => Err(SmokeTestError::Stopped(doing)),
            }
        }
        Err(error) => Err(error),
    };
    match (enrolled, test.remove().await) {
        (Ok(()), Ok(())) => say(&format!("nothing is left of it; {:.1} s in all", begun.elapsed().as_secs_f64())),
        (Err(error), Ok(())) | (Ok(()), Err(error)) => Err(error),
        (Err(first), Err(second)) => Err(SmokeTestError::Both(first.into(), second.into())),
    }
}

/// What is being done, for whoever asks why it is not done yet.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ctl,
    Arming,
    Session,
    Recording,
}

impl Step {
    /// What is done, and what to look at when it is not.
    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Ctl => ("reading the certificates of the proxy", "is the API server slow?"),
            Self::Arming => (
                "waiting for the controller to take up the Phone",
                "see whether the controllers run, one of them leads, and looks after this namespace",
            ),
            Self::Session => ("talking to the endpoint", "see whether the endpoint reaches the controllers"),
            Self::Recording => ("waiting for the status of the Phone", "see whether one of the controllers leads"),
        }
    }
}

/// What became of an object that was to be made.
enum Made {
    /// It is there, with this UID.
    Surely(Option<String>),
    /// No answer came, so it may be there.
    Perhaps,
}

impl Made {
    /// Deletes ours, and not what somebody has made in its place.
    fn deletion(&self) -> DeleteParams {
        let uid = match self {
            Self::Surely(uid) => uid.clone(),
            Self::Perhaps => None,
        };
        DeleteParams {
            preconditions: uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None }),
            ..DeleteParams::default()
        }
    }
}

struct SmokeTest<'a> {
    args: &'a SmokeTestArgs,
    cluster: Cluster,
    namespace: String,
    /// Of Phone and Secret.
    name: String,
    step: Step,
    secret: Option<Made>,
    phone: Option<Made>,
}

impl SmokeTest<'_> {
    /// Makes the Secret and the Phone. Not to be broken off: what is made must be known.
    async fn prepare(&mut self) -> Result<(Arc<ClientConfig>, SecretString), SmokeTestError> {
        let tls = self.ctl().await?;
        let mut octets = [0; 16];
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| SmokeTestError::Random)?;
        let digits = AuthenticationString::from_random(octets).digits().clone();
        let key = (AUTHENTICATION_STRING_KEY.to_owned(), ByteString(digits.expose_secret().as_bytes().to_vec()));
        let secret = Secret {
            metadata: self.metadata(),
            type_: Some(AUTHENTICATION_STRING_TYPE.into()),
            data: Some(BTreeMap::from([key])),
            ..Secret::default()
        };
        let (made, created) = self.create("Secret", &secret).await;
        self.secret = made;
        created?;
        let spec: PhoneSpec = serde_json::from_value(json!({
            "deviceName": self.args.device_name.as_str(),
            "proxyRef": {"name": self.args.proxy},
            "certificateOperation": "InstallUpgrade",
            "authenticationMode": "ByAuthenticationString",
            "authenticationString": {"secretRef": {"name": self.name}},
        }))?;
        let phone = Phone { metadata: self.metadata(), spec, status: None };
        let (made, created) = self.create("Phone", &phone).await;
        self.phone = made;
        created?;
        say(&format!("Phone {}/{} is made", self.namespace, self.name))?;
        self.step = Step::Arming;
        Ok((tls, digits))
    }

    fn metadata(&self) -> ObjectMeta {
        let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "capf-smoke-test".to_owned())]);
        ObjectMeta { name: Some(self.name.clone()), labels: Some(labels), ..ObjectMeta::default() }
    }

    /// What the simulated phone goes by when it decides whom to talk to.
    async fn ctl(&self) -> Result<Arc<ClientConfig>, SmokeTestError> {
        let name = format!("{}-certificates", self.args.proxy);
        let place = format!("{}/{name}", self.namespace);
        let maps = self.cluster.api::<ConfigMap>();
        let map = match call(&format!("reading ConfigMap {place}"), GET_CALL, || maps.get(&name)).await {
            Err(CallError { cause: Cause::NotFound(_), .. }) => {
                let (proxy, namespace) = (self.args.proxy.clone(), self.namespace.clone());
                return Err(SmokeTestError::NotPublished { proxy, namespace });
            }
            other => other?,
        };
        let published = map.binary_data.and_then(|mut data| data.remove("CAPF.cer"));
        let published = published.ok_or_else(|| SmokeTestError::NoCtl(place.clone()))?;
        read_ctl(&published.0).and_then(|der| tls_config(&der)).map_err(|why| SmokeTestError::Ctl(place, why))
    }

    /// Makes an object. Where that fails it may be there nevertheless.
    async fn create<K>(&self, kind: &'static str, object: &K) -> (Option<Made>, Result<(), SmokeTestError>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let (api, params) = (self.cluster.api::<K>(), PostParams::default());
        let what = format!("creating {kind} {}/{}", self.namespace, self.name);
        match call(&what, GET_CALL, || api.create(&params, object)).await {
            Ok(made) => (Some(Made::Surely(made.meta().uid.clone())), Ok(())),
            Err(CallError { cause: Cause::Exists(_), .. }) => {
                let (device, name) = (self.args.device_name.clone(), format!("{}/{}", self.namespace, self.name));
                (None, Err(SmokeTestError::Taken { device, kind, name }))
            }
            Err(error) => {
                let unknown = matches!(
                    error.cause,
                    Cause::TimedOut(_) | Cause::Busy(_) | Cause::NotUnderstood(_) | Cause::Unreachable(_)
                );
                (unknown.then_some(Made::Perhaps), Err(error.into()))
            }
        }
    }

    /// From the Phone to its LSC, and to the status that says so.
    async fn enrol(&mut self, tls: Arc<ClientConfig>, digits: SecretString) -> Result<(), SmokeTestError> {
        self.until(Standing::Awaited).await?;
        say("the operation waits for its phone")?;
        self.step = Step::Session;
        let server = self.args.server.clone();
        let mut phone = SimulatedPhone::new(server.clone(), self.args.device_name.clone(), tls)
            .proof(Proof::AuthenticationString(digits))
            .retries(RETRIES, RETRY_INTERVAL);
        let tell = |Retry { failure, number, of, .. }: Retry<'_>| {
            // What cannot be told must not end the test.
            let _ = say(&format!("{failure}; retry {number} of {of}"));
        };
        match phone.enrol_telling(tell).await.last {
            Ok(AttemptOutcome::Installed { .. }) => {}
            Ok(other) => {
                // The status has the reason, once the controller has written it.
                self.until(Standing::Awaited).await?;
                let (ended, proxy) = (other.kind(), self.args.proxy.clone());
                return Err(SmokeTestError::NotInstalled { server, ended, proxy });
            }
            Err(failure) => return Err(SmokeTestError::Communication { server, failure }),
        }
        say(&format!("the phone has its LSC, from {server}"))?;
        self.step = Step::Recording;
        self.until(Standing::Successful).await?;
        say("the Phone shows Install/Upgrade successful")
    }

    /// Waits until the Phone stands so.
    async fn until(&self, wanted: Standing) -> Result<(), SmokeTestError> {
        let phones = self.cluster.api::<Phone>();
        let name = || format!("{}/{}", self.namespace, self.name);
        loop {
            let phone = call(&format!("reading Phone {}", name()), GET_CALL, || phones.get(&self.name)).await?;
            match standing(&phone) {
                now if now == wanted => return Ok(()),
                Standing::Stalled(message) => return Err(SmokeTestError::Stalled { name: name(), message }),
                Standing::Failed(reason) => return Err(SmokeTestError::Failed { name: name(), reason }),
                Standing::New | Standing::Awaited | Standing::Successful => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Deletes what was made and waits until it is gone, with the operations that the Phone owned.
    async fn remove(&self) -> Result<(), SmokeTestError> {
        let removed = async {
            if let Some(made) = &self.secret {
                let secrets = self.cluster.api::<Secret>();
                let deletion = made.deletion();
                let what = format!("deleting Secret {}/{}", self.namespace, self.name);
                gone(call(&what, GET_CALL, || secrets.delete(&self.name, &deletion)).await)?;
            }
            let Some(made) = &self.phone else { return Ok(()) };
            let phones = self.cluster.api::<Phone>();
            let deletion = made.deletion();
            let what = format!("deleting Phone {}/{}", self.namespace, self.name);
            gone(call(&what, GET_CALL, || phones.delete(&self.name, &deletion)).await)?;
            let operations = self.cluster.api::<CertificateOperation>();
            let of_phone = ListParams::default().fields(&format!("spec.phoneRef.name={}", self.name));
            let what = format!("listing CertificateOperations in {}", self.namespace);
            while !call(&what, LIST_CALL, || operations.list(&of_phone)).await?.items.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        tokio::time::timeout(REMOVAL, removed).await.unwrap_or_else(|_| {
            let what = format!("CertificateOperations of Phone {}/{}", self.namespace, self.name);
            Err(SmokeTestError::Left(what, REMOVAL.as_secs()))
        })
    }
}

/// Takes it as done that an object is not there.
fn gone<T>(deleted: Result<T, CallError>) -> Result<(), CallError> {
    match deleted {
        Ok(_) | Err(CallError { cause: Cause::NotFound(_), .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn say(what: &str) -> Result<(), SmokeTestError> {
    Ok(super::quiet_pipe(writeln!(io::stdout(), "{what}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_is_deleted() {
        let preconditions = |made: Made| made.deletion().preconditions.and_then(|conditions| conditions.uid);
        assert_eq!(preconditions(Made::Surely(Some("1-2".into()))).as_deref(), Some("1-2"));
        assert_eq!(preconditions(Made::Perhaps), None);
    }

    #[test]
    fn each_step_says_what_to_look_at() {
        let steps = [Step::Ctl, Step::Arming, Step::Session, Step::Recording];
        let told: std::collections::BTreeSet<_> = steps.map(Step::told).into();
        assert_eq!(told.len(), steps.len());
    }
}
