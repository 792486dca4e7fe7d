//! `capf remove-keys`: deletes the Secrets with keys, for good. The chart runs it at the end of an uninstall that shall leave
//! none.
//!
//! Only metadata is read: the list is made by the type of the Secrets, and no key comes here.

use std::io::{self, Write as _};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, Preconditions};
use kube::{Api, ResourceExt as _};

use super::client::{CallError, Cause, ClientArgs, Cluster, ConnectError, GET_CALL, LIST_CALL, call};
use crate::authority::credentials::SECRET_TYPE as CONTROLLER;
use crate::domain::proxy::{ENDPOINT_SECRET_TYPE, OwnKeyRole};

/// Secrets asked for at once.
const PAGE: u32 = 500;

/// Arguments of `capf remove-keys`. It needs the caller's right to list and delete Secrets.
#[derive(clap::Args, Clone, Debug)]
pub struct RemoveKeysArgs {
    #[command(flatten)]
    cluster: ClientArgs,
    /// Delete them; without it they are listed only
    #[arg(long)]
    yes: bool,
}

/// Not all keys are removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveKeysError {
    /// No cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nobody said yes.
    #[error(
        "{0} Secrets would be deleted, and none was: no LSC that these keys signed can be verified by what comes after; give \
         --yes if that is what you want"
    )]
    NotAsked(usize),
    /// Standard output.
    #[error("writing to standard output: {0}")]
    Write(#[from] io::Error),
}

/// The types whose Secrets hold keys: the controllers', issuers', services', and what endpoints hold of these. Authentication
/// strings and roots belong to people.
fn types() -> [&'static str; 4] {
    [CONTROLLER, OwnKeyRole::Issuer.secret_type(), OwnKeyRole::Service.secret_type(), ENDPOINT_SECRET_TYPE]
}

/// Deletes the Secrets, or lists them.
///
/// # Errors
/// [`RemoveKeysError`]; given again it goes on.
pub async fn run(args: &RemoveKeysArgs) -> Result<(), RemoveKeysError> {
    let cluster = args.cluster.connect().await?;
    let mut found = 0;
    for kind in types() {
        for secret in of_type(&cluster, kind).await? {
            found += 1;
            let name = format!("{}/{}", secret.namespace().unwrap_or_default(), secret.name_any());
            if args.yes {
                delete(&cluster, &secret, &name).await?;
            }
            let done = if args.yes { "deleted" } else { "found" };
            super::quiet_pipe(writeln!(io::stdout(), "Secret {name} ({kind}) {done}"))?;
        }
    }
    if found > 0 && !args.yes { Err(RemoveKeysError::NotAsked(found)) } else { Ok(()) }
}

/// The Secrets of a type, without what is in them. The API server chooses: metadata does not tell the type.
async fn of_type(cluster: &Cluster, kind: &str) -> Result<Vec<PartialObjectMeta<Secret>>, CallError> {
    let secrets = cluster.api::<Secret>();
    let mut params = ListParams::default().fields(&format!("type={kind}")).limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page =
            call(&format!("listing Secrets of type {kind}"), LIST_CALL, || secrets.list_metadata(&params)).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(all),
        }
    }
}

/// Deletes this Secret, and not another that has its name by now.
async fn delete(cluster: &Cluster, secret: &PartialObjectMeta<Secret>, name: &str) -> Result<(), CallError> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &secret.namespace().unwrap_or_default());
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: secret.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    let own_name = secret.name_any();
    let deleted = call(&format!("deleting Secret {name}"), GET_CALL, || secrets.delete(&own_name, &params)).await;
    match deleted {
        Ok(_) | Err(CallError { cause: Cause::NotFound(_), .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AUTHENTICATION_STRING_TYPE, MIC_ROOTS_TYPE};

    #[test]
    fn strings_and_roots_are_not_keys_of_ours() {
        assert!(types().iter().all(|kind| kind.starts_with("capf.dev/")), "{:?}", types());
        assert!(!types().contains(&AUTHENTICATION_STRING_TYPE) && !types().contains(&MIC_ROOTS_TYPE));
    }
}
