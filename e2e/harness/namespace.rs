//! A namespace for one test, so that tests may share a control plane.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace as Resource;
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::HarnessError;

/// How long a drop may hold up its thread.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// A namespace of a random name, deleted on drop as far as that is possible.
///
/// # Caveats
/// A drop on a multi-thread runtime waits until the API server has accepted the deletion. On a current-thread runtime
/// nothing can be awaited in a drop: there the deletion happens only if the test goes on. Where it matters, call
/// [`Namespace::delete`]. Everything goes with the control plane anyhow.
pub struct Namespace {
    client: Client,
    name: String,
}

impl Namespace {
    /// Makes a namespace called `prefix`, a hyphen, and five random letters or digits.
    ///
    /// # Errors
    /// The API server's, when `prefix` cannot begin a name or the client may not make namespaces.
    pub async fn create(client: &Client, prefix: &str) -> Result<Self, HarnessError> {
        let wanted = Resource {
            metadata: ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() },
            ..Resource::default()
        };
        let made = Api::<Resource>::all(client.clone())
            .create(&PostParams::default(), &wanted)
            .await
            .map_err(HarnessError::kube(format!("create namespace {prefix}-…")))?;
        Ok(Self { client: client.clone(), name: made.metadata.name.unwrap_or_default() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for its deletion now. What is in it goes within seconds, by kube-controller-manager.
    ///
    /// # Errors
    /// The API server's.
    pub async fn delete(mut self) -> Result<(), HarnessError> {
        let name = std::mem::take(&mut self.name);
        delete(self.client.clone(), name).await
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        let Ok(handle) = Handle::try_current() else {
            return;
        };
        if name.is_empty() {
            return;
        }
        let deletion = tokio::time::timeout(DROP_PATIENCE, delete(self.client.clone(), name));
        if handle.runtime_flavor() == RuntimeFlavor::CurrentThread {
            handle.spawn(deletion);
        } else {
            // Best effort: an API server that a test has stopped is no reason to fail it.
            let _ = tokio::task::block_in_place(|| handle.block_on(deletion));
        }
    }
}

async fn delete(client: Client, name: String) -> Result<(), HarnessError> {
    Api::<Resource>::all(client)
        .delete(&name, &DeleteParams::default())
        .await
        .map(|_accepted| ())
        .map_err(HarnessError::kube(format!("delete namespace {name}")))
}
