//! `capf unlock` and `capf renew-string`: another run after a lock-out, another string for a phone that waits.
//!
//! What Flux, Argo CD or Helm manages is not changed: the change is printed, to be committed where the manifest comes from.

use std::io::{self, Write as _};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{CallError, ClientArgs, Cluster, ConnectError, GET_CALL, call};
use crate::api::{AUTHENTICATION_STRING_KEY, AUTHENTICATION_STRING_TYPE, Phone};
use crate::domain::rerun::{Change, NotNow, Wish, change, managed_by, to_commit};
use crate::domain::string::AuthenticationString;

/// Field manager of what people change by this program.
const MANAGER: &str = "capf-cli";

/// Arguments of `capf unlock` and `capf renew-string`.
#[derive(clap::Args, Clone, Debug)]
pub struct RerunArgs {
    #[command(flatten)]
    cluster: ClientArgs,
    /// The phone: its device name, in any case
    #[arg(value_name = "PHONE")]
    phone: String,
}

/// Nothing was changed, or not all.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// No cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nothing to do.
    #[error("Phone {0}: {1}")]
    NotNow(String, NotNow),
    /// The given string stands in a Secret of another type.
    #[error(
        "Secret {0} is not of type {AUTHENTICATION_STRING_TYPE}: nothing is written into it; make it anew with that type"
    )]
    OtherType(String),
    /// No random octets.
    #[error("making an authentication string: the system gives no random octets")]
    Random,
    /// Standard output.
    #[error("writing to standard output: {0}")]
    Write(#[from] io::Error),
}

/// Does what was wished, or prints the change to commit.
///
/// # Errors
/// [`RerunError`]. Where new digits were written and the Phone could not be, the command may be given again.
pub async fn run(wish: Wish, args: &RerunArgs) -> Result<(), RerunError> {
    let (cluster, namespace) = args.cluster.connect_to_one().await?;
    let name = args.phone.to_ascii_lowercase();
    let phones = cluster.api::<Phone>();
    let phone = call(&format!("reading Phone {namespace}/{name}"), GET_CALL, || phones.get(&name)).await?;
    let change = change(wish, &phone).map_err(|why| RerunError::NotNow(format!("{namespace}/{name}"), why))?;
    let said = carry_out(&cluster, &phone, &change).await?;
    Ok(super::quiet_pipe(io::stdout().write_all(said.as_bytes()))?)
}

async fn carry_out(cluster: &Cluster, phone: &Phone, change: &Change) -> Result<String, RerunError> {
    let name = phone.metadata.name.clone().unwrap_or_default();
    let secret = match &change.secret {
        Some(secret) => Some(read_secret(cluster, secret).await?),
        None => None,
    };
    let phone_manager = change.revision.and_then(|revision| Some((managed_by(&phone.metadata)?, revision)));
    let secret_manager = secret.as_ref().and_then(|secret| managed_by(&secret.metadata));
    if phone_manager.is_some() || secret_manager.is_some() {
        let mut said = String::from("# Nothing was changed here; commit this where the manifests come from.\n");
        if let Some(secret) = &change.secret {
            let manager = secret_manager.map(|manager| format!(", managed by {manager}")).unwrap_or_default();
            said += &format!("# Secret {secret}{manager}: put 4 to 10 new digits into {AUTHENTICATION_STRING_KEY}.\n");
        }
        if let Some((manager, revision)) = phone_manager {
            said += &format!("# Phone {name} is managed by {manager}.\n{}", to_commit(phone, revision));
        } else if let Some(revision) = change.revision {
            said += &to_commit(phone, revision);
        }
        return Ok(said);
    }
    let mut said = String::new();
    if let Some(secret) = secret {
        let written = write_digits(cluster, secret).await?;
        said += &format!("Secret {written}: ten new digits\n");
    }
    if let Some(revision) = change.revision {
        let version = phone.metadata.resource_version.clone().unwrap_or_default();
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"revision": revision}});
        merge::<Phone>(cluster, "Phone", &name, patch).await?;
        said += &format!("Phone {name}: revision {revision}, a new operation starts\n");
    }
    let namespace = phone.metadata.namespace.clone().unwrap_or_default();
    said +=
        &format!("The string to enter: capf auth-strings -n {namespace} --device-name {}\n", phone.spec.device_name);
    Ok(said)
}

async fn read_secret(cluster: &Cluster, name: &str) -> Result<Secret, RerunError> {
    let secrets = cluster.api::<Secret>();
    let secret = call(&format!("reading Secret {name}"), GET_CALL, || secrets.get(name)).await?;
    match secret.type_.as_deref() == Some(AUTHENTICATION_STRING_TYPE) {
        true => Ok(secret),
        false => Err(RerunError::OtherType(name.to_owned())),
    }
}

async fn write_digits(cluster: &Cluster, secret: Secret) -> Result<String, RerunError> {
    let mut octets = [0; 16];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| RerunError::Random)?;
    let string = AuthenticationString::from_random(octets);
    let name = secret.metadata.name.unwrap_or_default();
    let digits = ByteString(string.digits().expose_secret().as_bytes().to_vec());
    let patch = json!({
        "metadata": {"resourceVersion": secret.metadata.resource_version},
        "data": {AUTHENTICATION_STRING_KEY: digits},
    });
    merge::<Secret>(cluster, "Secret", &name, patch).await?;
    Ok(name)
}

/// Changes an object at the version that was looked at: a call that is made again does nothing twice.
async fn merge<K>(cluster: &Cluster, kind: &str, name: &str, patch: Value) -> Result<(), CallError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let (api, patch) = (cluster.api::<K>(), Patch::Merge(patch));
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    call(&format!("changing {kind} {name}"), GET_CALL, || api.patch(name, &params, &patch)).await.map(drop)
}
