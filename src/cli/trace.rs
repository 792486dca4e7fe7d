//! `capf trace`: what a phone showed when it was troubleshot, one readable trace for each certificate.

use std::io::{self, Write as _};

use super::client::{CallError, ClientArgs, ConnectError, GET_CALL, LIST_CALL, call};
use crate::api::{CertificateOperation, CertificateOperationKind, Phone};
use crate::domain::trace::render;

/// Arguments of `capf trace`.
#[derive(clap::Args, Clone, Debug)]
pub struct TraceArgs {
    #[command(flatten)]
    cluster: ClientArgs,
    /// Name of the Phone, or its device name
    #[arg(value_name = "PHONE")]
    phone: String,
}

/// There is no trace to show.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It was never troubleshot, or so long ago that the operation is gone.
    #[error("Phone {0} has no Troubleshoot operation; set certificateOperation: Troubleshoot and let the phone call")]
    Never(String),
    /// Standard output.
    #[error("writing to standard output: {0}")]
    Write(#[from] io::Error),
}

/// Prints the newest Troubleshoot of a phone, with the caller's own rights.
///
/// # Errors
/// [`TraceError`].
pub async fn run(args: &TraceArgs) -> Result<(), TraceError> {
    let (cluster, namespace) = args.cluster.connect_to_one().await?;
    let name = args.phone.to_lowercase();
    let phones = cluster.api::<Phone>();
    call(&format!("reading Phone {namespace}/{name}"), GET_CALL, || phones.get(&name)).await?;
    let operations = cluster.api::<CertificateOperation>();
    let of_phone = kube::api::ListParams::default().fields(&format!("spec.phoneRef.name={name}"));
    let what = format!("listing the CertificateOperations of Phone {namespace}/{name}");
    let found = call(&what, LIST_CALL, || operations.list(&of_phone)).await?;
    let newest = newest(found.items).ok_or_else(|| TraceError::Never(format!("{namespace}/{name}")))?;
    Ok(super::quiet_pipe(io::stdout().write_all(render(&newest).as_bytes()))?)
}

/// The Troubleshoot that was asked for last.
fn newest(operations: Vec<CertificateOperation>) -> Option<CertificateOperation> {
    let fetches = |o: &CertificateOperation| o.spec.certificate_operation == CertificateOperationKind::Troubleshoot;
    let asked =
        |o: &CertificateOperation| (o.metadata.creation_timestamp.clone().map(|t| t.0), o.metadata.name.clone());
    operations.into_iter().filter(fetches).max_by_key(asked)
}
