//! `capf explain`: how far a phone came, why not further, and what to do; or what ails a proxy. With the caller's own rights;
//! what may not be read is left out.

use std::io::{self, Write as _};

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;

use super::client::{CallError, Cause, ClientArgs, Cluster, ConnectError, GET_CALL, LIST_CALL, call};
use super::report::usable_digits;
use crate::api::{CertificateAuthorityProxy, CertificateOperation, PROXY_LABEL, Phone};
use crate::domain::explain::{self, Facts, StringSecret};
use crate::domain::explain_proxy::{self, SecretFact};
use crate::domain::proxy::{ENDPOINT_SECRET_TYPE, OwnKeyRole, endpoint_secret};

/// Arguments of `capf explain`.
#[derive(clap::Args, Clone, Debug)]
pub struct ExplainArgs {
    #[command(flatten)]
    cluster: ClientArgs,
    /// The phone: its device name, in any case
    #[arg(value_name = "PHONE", required_unless_present = "proxy", conflicts_with = "proxy")]
    phone: Option<String>,
    /// A CertificateAuthorityProxy instead: its certificates, endpoints, clock and trust
    #[arg(long, value_name = "NAME")]
    proxy: Option<String>,
}

/// There is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// No cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Standard output.
    #[error("writing to standard output: {0}")]
    Write(#[from] io::Error),
}

/// Explains.
///
/// # Errors
/// [`ExplainError`]; a phone that is not there is explained, not an error.
pub async fn run(args: &ExplainArgs) -> Result<(), ExplainError> {
    let (cluster, _) = args.cluster.connect_to_one().await?;
    let text = match (&args.proxy, &args.phone) {
        (Some(proxy), _) => proxy_text(&cluster, proxy).await?,
        (None, phone) => phone_text(&cluster, phone.as_deref().unwrap_or_default()).await?,
    };
    Ok(super::quiet_pipe(io::stdout().write_all(text.as_bytes()))?)
}

async fn phone_text(cluster: &Cluster, name: &str) -> Result<String, CallError> {
    let (device, name) = (name.to_ascii_uppercase(), name.to_ascii_lowercase());
    let phones = cluster.api::<Phone>();
    let phone = found(call(&format!("reading Phone {name}"), GET_CALL, || phones.get(&name)).await)?;
    let proxies = cluster.api::<CertificateAuthorityProxy>();
    let all = ListParams::default();
    let proxies = call("listing CertificateAuthorityProxies", LIST_CALL, || proxies.list(&all)).await?;
    let selector = ListParams::default().fields(&format!("spec.phoneRef.name={name}"));
    let operations = cluster.api::<CertificateOperation>();
    let operations = call("listing CertificateOperations", LIST_CALL, || operations.list(&selector)).await?;
    let armed = phone.as_ref().and_then(|p| p.status.as_ref()?.operation.as_ref());
    let string = match armed.and_then(|o| o.authentication_string_secret.as_ref()) {
        Some(secret) => string_secret(cluster, secret).await?,
        None => StringSecret::NotLookedAt,
    };
    let facts = Facts {
        device: &device,
        phone: phone.as_ref(),
        operations: &operations.items,
        proxies: &proxies.items,
        string,
    };
    let explanation = explain::explain(&facts, crate::clock::now());
    let unsure = explanation.unsure.map(|unsure| format!("Unsure:   {unsure}\n")).unwrap_or_default();
    Ok(format!(
        "Phone:    {device}\nLast hop: {}\nCause:    {}\nFix:      {}\n{unsure}",
        explanation.hop, explanation.cause, explanation.fix
    ))
}

/// What there is; none when there is no such object.
fn found<T>(read: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match read {
        Ok(object) => Ok(Some(object)),
        Err(CallError { cause: Cause::NotFound(_), .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn secret(cluster: &Cluster, name: &str) -> Result<Option<Option<Secret>>, CallError> {
    let secrets = cluster.api::<Secret>();
    match found(call(&format!("reading Secret {name}"), GET_CALL, || secrets.get(name)).await) {
        Ok(secret) => Ok(Some(secret)),
        Err(CallError { cause: Cause::Forbidden(_), .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn string_secret(cluster: &Cluster, name: &str) -> Result<StringSecret, CallError> {
    Ok(match secret(cluster, name).await? {
        None => StringSecret::NotLookedAt,
        Some(None) => StringSecret::Missing,
        Some(Some(secret)) if usable_digits(&secret).is_some() => StringSecret::Usable,
        Some(Some(_)) => StringSecret::Unusable,
    })
}

async fn secret_fact(cluster: &Cluster, name: &str, type_: &str) -> Result<SecretFact, CallError> {
    Ok(match secret(cluster, name).await? {
        None => SecretFact::NotLookedAt,
        Some(None) => SecretFact::Missing,
        Some(Some(secret)) if secret.type_.as_deref() == Some(type_) => SecretFact::There,
        Some(Some(_)) => SecretFact::OtherType,
    })
}

async fn proxy_text(cluster: &Cluster, name: &str) -> Result<String, CallError> {
    let proxies = cluster.api::<CertificateAuthorityProxy>();
    let proxy = call(&format!("reading CertificateAuthorityProxy {name}"), GET_CALL, || proxies.get(name)).await?;
    let selector = ListParams::default().labels(&format!("{PROXY_LABEL}={name}"));
    let operations = cluster.api::<CertificateOperation>();
    let operations = call("listing CertificateOperations", LIST_CALL, || operations.list(&selector)).await?;
    let of_role = |role: OwnKeyRole| (role.secret_name(name), role.secret_type());
    let (issuer, service) = (of_role(OwnKeyRole::Issuer), of_role(OwnKeyRole::Service));
    let facts = explain_proxy::Facts {
        proxy: &proxy,
        operations: &operations.items,
        issuer: secret_fact(cluster, &issuer.0, issuer.1).await?,
        service: secret_fact(cluster, &service.0, service.1).await?,
        bundle: secret_fact(cluster, &endpoint_secret(name), ENDPOINT_SECRET_TYPE).await?,
    };
    let findings = explain_proxy::explain(&facts, crate::clock::now());
    let line = |finding: &explain_proxy::Finding| {
        let fix = if finding.fix.is_empty() { String::new() } else { format!("\n              Fix: {}", finding.fix) };
        format!("{:<13} {}: {}{fix}\n", format!("{:?}:", finding.topic), finding.health, finding.cause)
    };
    Ok(format!("Proxy:        {name}\n{}", findings.iter().map(line).collect::<String>()))
}
