//! `capf adopt`: makes a Phone of a device that called and was not known. Prints it, or applies it.

use std::io::{self, Write as _};

use kube::api::{ObjectMeta, PostParams};
use serde_json::json;

use super::client::{CallError, Cause, ClientArgs, ConnectError, GET_CALL, call};
use super::find::callers;
use crate::api::{Phone, PhoneSpec};

/// Arguments of `capf adopt`.
#[derive(clap::Args, Clone, Debug)]
pub struct AdoptArgs {
    #[command(flatten)]
    cluster: ClientArgs,
    /// Device name, as `capf find --unknown` shows it
    #[arg(value_name = "NAME")]
    device: String,
    /// The CertificateAuthorityProxy of the phone; needed when it called at several
    #[arg(long, value_name = "NAME")]
    proxy: Option<String>,
    /// Ask for Install/Upgrade too; without it nothing is wanted of the phone yet
    #[arg(long)]
    install: bool,
    /// Create the Phone instead of printing it
    #[arg(long)]
    apply: bool,
}

/// The device was not adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// No cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nobody called so.
    #[error("no device {0} has called and was unknown; `capf find --unknown` lists those that have")]
    NotSeen(String),
    /// It called at several proxies.
    #[error("device {0} has called at {1}; choose one by --proxy")]
    Several(String, String),
    /// There is a Phone of that name.
    #[error("there is a Phone {0} already; if it is of another proxy, the device called at the wrong one")]
    Exists(String),
    /// Not fit for a manifest.
    #[error("writing the manifest of {0}: {1}")]
    Manifest(String, String),
    /// Standard output.
    #[error("writing to standard output: {0}")]
    Write(#[from] io::Error),
}

/// Prints or creates the Phone.
///
/// # Errors
/// [`AdoptError`].
pub async fn run(args: &AdoptArgs) -> Result<(), AdoptError> {
    let (cluster, namespace) = args.cluster.connect_to_one().await?;
    let device = args.device.to_ascii_uppercase();
    let seen = callers(&cluster).await?.into_iter().filter(|caller| caller.call.device_name == device);
    let proxies: Vec<String> =
        seen.map(|caller| caller.proxy).filter(|name| args.proxy.as_ref().is_none_or(|proxy| proxy == name)).collect();
    let proxy = match proxies.as_slice() {
        [] => return Err(AdoptError::NotSeen(device)),
        [one] => one,
        several => return Err(AdoptError::Several(device, several.join(", "))),
    };
    let phone =
        adopted(&device, &namespace, proxy, args.install).map_err(|why| AdoptError::Manifest(device.clone(), why))?;
    if !args.apply {
        let yaml = serde_saphyr::to_string(&phone).map_err(|why| AdoptError::Manifest(device, why.to_string()))?;
        return Ok(super::quiet_pipe(io::stdout().write_all(yaml.as_bytes()))?);
    }
    let name = phone.metadata.name.clone().unwrap_or_default();
    let (phones, params) = (cluster.api::<Phone>(), PostParams::default());
    match call(&format!("creating Phone {namespace}/{name}"), GET_CALL, || phones.create(&params, &phone)).await {
        Ok(_) => Ok(super::quiet_pipe(writeln!(io::stdout(), "Phone {namespace}/{name} created"))?),
        Err(CallError { cause: Cause::Exists(_), .. }) => Err(AdoptError::Exists(name)),
        Err(error) => Err(error.into()),
    }
}

fn adopted(device: &str, namespace: &str, proxy: &str, install: bool) -> Result<Phone, String> {
    let operation = if install { "InstallUpgrade" } else { "NoPendingOperation" };
    let spec = json!({"deviceName": device, "proxyRef": {"name": proxy}, "certificateOperation": operation});
    let spec: PhoneSpec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
    let metadata = ObjectMeta {
        name: Some(device.to_ascii_lowercase()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    Ok(Phone { metadata, spec, status: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_manifest_is_one_that_can_be_applied() {
        let phone = adopted("SEP001122AABBCC", "voice", "main", true).unwrap();
        let yaml = serde_saphyr::to_string(&phone).unwrap();
        let read: Phone = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, phone);
        assert_eq!(read.metadata.name.as_deref(), Some("sep001122aabbcc"));
        assert!(!yaml.contains("status"), "{yaml}");
    }
}
