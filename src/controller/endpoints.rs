//! Endpoints as pods: Deployment, Service and PodDisruptionBudget of each proxy with `placement: InCluster`.
//!
//! They are applied whole at each look, under a field manager of their own: the API server compares, and writes nothing where
//! nothing differs. What somebody else has changed in between is thereby taken back. Nothing is applied to an object that was
//! not made here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::proxy::Hindrance;
use super::queue::Queue;
use super::store::{CallError, Cause, Kind, Store, WATCH_SECONDS};
use super::world::{ObjectKey, WorkKey};
use crate::api::{CertificateAuthorityProxy, EndpointsStatus, PROXY_LABEL, Placement};
use crate::authority::bundle::files;
use crate::domain::endpoints::{
    PodFlags, SELECTOR, Wanted, awaits_balancer, flags_missing, in_cluster, is_ours, object_name, observe, wanted,
};
use crate::domain::proxy::{Obstacle, name_taken};
use crate::telemetry::controller::metrics;

/// Longest wait for the name service.
const RESOLVE: Duration = Duration::from_secs(5);

/// What the controller must know of endpoints that no proxy may say.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EndpointFlags {
    /// host:port under which endpoints outside the cluster (placement: External) reach the controllers; may be given several
    /// times, tried in turn.
    #[arg(long = "advertise", env = "CAPF_ADVERTISE", value_name = "HOST:PORT", value_delimiter = ',')]
    pub advertise: Vec<String>,
    /// host:port under which endpoint pods (placement: InCluster) reach the controllers: a Service with an address of its own.
    /// Looked up here and given to the pods as addresses, so that they need no DNS.
    #[arg(long, env = "CAPF_ADVERTISE_IN_CLUSTER", value_name = "HOST:PORT", value_parser = host_and_port)]
    pub advertise_in_cluster: Option<String>,
    /// Image of endpoint pods: this program's.
    #[arg(long, env = "CAPF_ENDPOINT_IMAGE", value_name = "IMAGE")]
    pub endpoint_image: Option<String>,
    /// When it is pulled; the cluster's default when absent.
    #[arg(long, env = "CAPF_ENDPOINT_IMAGE_PULL_POLICY", value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub endpoint_image_pull_policy: Option<String>,
    /// Secret to pull it with, in the namespace of each proxy; may be given several times.
    #[arg(long, env = "CAPF_ENDPOINT_IMAGE_PULL_SECRET", value_name = "NAME", value_delimiter = ',')]
    pub endpoint_image_pull_secret: Vec<String>,
    /// Service account of endpoint pods, in the namespace of each proxy. Its token is never mounted.
    #[arg(long, env = "CAPF_ENDPOINT_SERVICE_ACCOUNT", value_name = "NAME", default_value = "default")]
    pub endpoint_service_account: String,
}

fn host_and_port(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| text.to_owned()).ok_or_else(|| "must be host:port".to_owned())
}

/// Where endpoints find the controllers.
#[derive(Debug, Eq, PartialEq)]
enum Reach<'a> {
    /// At these, as they are.
    Given(&'a [String]),
    /// At what is behind this name.
    LookedUp(&'a str),
}

impl EndpointFlags {
    fn reach(&self, placement: Placement) -> Result<Reach<'_>, Obstacle> {
        if placement == Placement::External {
            return match self.advertise.as_slice() {
                [] => Err(flags_missing(placement, &["--advertise"])),
                given => Ok(Reach::Given(given)),
            };
        }
        match (&self.endpoint_image, &self.advertise_in_cluster) {
            (Some(_), Some(address)) => Ok(Reach::LookedUp(address)),
            (None, Some(_)) => Err(flags_missing(placement, &["--endpoint-image"])),
            (Some(_), None) => Err(flags_missing(placement, &["--advertise-in-cluster"])),
            (None, None) => Err(flags_missing(placement, &["--endpoint-image", "--advertise-in-cluster"])),
        }
    }
}

/// What runs endpoints.
#[derive(Debug)]
pub struct Endpoints {
    /// How it is written: under the field manager of these objects.
    pub store: Store,
    /// What the controller was started with.
    pub flags: EndpointFlags,
}

impl Endpoints {
    /// Where this proxy's endpoints find the controllers; `held` is their bundle as it is.
    pub(super) async fn controllers(
        &self,
        key: &ObjectKey,
        proxy: &CertificateAuthorityProxy,
        held: &BTreeMap<String, ByteString>,
    ) -> Result<Vec<String>, Hindrance> {
        let address = match self.flags.reach(proxy.spec.placement)? {
            Reach::Given(addresses) => return Ok(addresses.to_vec()),
            Reach::LookedUp(address) => address,
        };
        match resolve(address).await {
            Ok(controllers) => Ok(controllers),
            // Endpoints that run go on with what they have; it is tried again soon.
            Err(why) if held.contains_key(files::CONFIG) => {
                Err(CallError::unavailable("looking up the controllers for", "proxy", key.clone(), why).into())
            }
            Err(why) => {
                let message = format!("--advertise-in-cluster {address} of the controller: {why}");
                Err(Obstacle { reason: "ControllersUnresolved", message, stalls: false }.into())
            }
        }
    }

    /// Brings about that the endpoints run as wanted, or not at all; what is known of them, and whether to look again soon.
    ///
    /// # Errors
    /// When a call failed, or something is in the way.
    pub(super) async fn keep(
        &self,
        key: &ObjectKey,
        proxy: &CertificateAuthorityProxy,
    ) -> Result<(Option<EndpointsStatus>, bool), Hindrance> {
        let name = ObjectKey::new(&key.namespace, object_name(&key.name));
        if !in_cluster(proxy) {
            self.remove::<Service>(&name, key).await?;
            self.remove::<PodDisruptionBudget>(&name, key).await?;
            self.remove::<Deployment>(&name, key).await?;
            return Ok((None, false));
        }
        // All of them are looked at before any is written.
        let service = self.ours::<Service>(&name, key).await?;
        let budget = self.ours::<PodDisruptionBudget>(&name, key).await?;
        let deployment = self.ours::<Deployment>(&name, key).await?;
        let Wanted { deployment: pods, service: port, budget: kept } = wanted(proxy, &self.pod_flags());
        let service = self.apply(&name, service, port).await?;
        match kept {
            Some(kept) => drop(self.apply(&name, budget, kept).await?),
            None => self.remove::<PodDisruptionBudget>(&name, key).await?,
        }
        let deployment = self.apply(&name, deployment, pods).await?;
        Ok((Some(observe(proxy, &deployment, &service)), awaits_balancer(&service)))
    }

    fn pod_flags(&self) -> PodFlags {
        let flags = self.flags.clone();
        PodFlags {
            image: flags.endpoint_image.unwrap_or_default(),
            pull_policy: flags.endpoint_image_pull_policy,
            pull_secrets: flags.endpoint_image_pull_secret,
            service_account: flags.endpoint_service_account,
        }
    }

    /// The object of that name; an obstacle if it is somebody else's, or about to go.
    async fn ours<K: Kind>(&self, name: &ObjectKey, proxy: &ObjectKey) -> Result<Option<K>, Hindrance> {
        let Some(found) = self.store.get::<K>(name).await? else { return Ok(None) };
        let kind = K::kind(&());
        if !is_ours(found.meta(), &proxy.name) {
            return Err(name_taken(&kind, &name.name).into());
        }
        if found.meta().deletion_timestamp.is_some() {
            let message = format!("{kind} {} is being deleted; it is made anew when it has gone", name.name);
            return Err(Obstacle { reason: "EndpointsUnavailable", message, stalls: false }.into());
        }
        Ok(Some(found))
    }

    async fn apply<K: Kind>(&self, name: &ObjectKey, before: Option<K>, mut wanted: Value) -> Result<K, Hindrance> {
        // Over what is ours by force: somebody else's change is taken back. The UID says that it is still the one looked at, and
        // without force nothing is changed that somebody else has made in between.
        if let Some(before) = &before {
            wanted["metadata"]["uid"] = json!(before.uid());
        }
        let applied = self.store.apply::<K>(name, &wanted, before.is_some()).await;
        applied.map_err(|error| match &error.cause {
            Cause::Invalid(_) => refused(&error, true).into(),
            Cause::Forbidden(_) => refused(&error, false).into(),
            _ => error.into(),
        })
    }

    /// Removes the object of that name if it is ours.
    async fn remove<K: Kind>(&self, name: &ObjectKey, proxy: &ObjectKey) -> Result<(), CallError> {
        match self.store.get::<K>(name).await {
            Ok(Some(found)) if is_ours(found.meta(), &proxy.name) && found.meta().deletion_timestamp.is_none() => {
                self.store.delete_known(&found).await
            }
            Ok(_) => Ok(()),
            // Who may not look at them has made none, and needs no such right for endpoints outside the cluster.
            Err(error) if matches!(error.cause, Cause::Forbidden(_)) => {
                tracing::debug!(%error, "not looked for endpoint pods of before");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn refused(error: &CallError, stalls: bool) -> Obstacle {
    Obstacle { reason: "EndpointsRefused", message: error.to_string(), stalls }
}

/// The addresses behind a name, in an order that does not change from one look to the next.
async fn resolve(address: &str) -> Result<Vec<String>, String> {
    let found = match tokio::time::timeout(RESOLVE, tokio::net::lookup_host(address)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(format!("looking it up: {error}")),
        Err(_) => return Err(format!("looking it up: no answer within {RESOLVE:?}")),
    };
    let found: std::collections::BTreeSet<_> = found.collect();
    match found.is_empty() {
        true => Err("looking it up: it has no address".to_owned()),
        false => Ok(found.iter().map(ToString::to_string).collect()),
    }
}

/// Asks for a proxy to be looked at whenever its Deployment has changed, for as long as this is polled.
pub(super) async fn follow(client: Client, scope: Option<String>, queue: Arc<Queue>) {
    let api: Api<PartialObjectMeta<Deployment>> = match &scope {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let how = watcher::Config::default().timeout(WATCH_SECONDS).labels(SELECTOR);
    let mut events = std::pin::pin!(watcher(api, how).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(changed) | Event::InitApply(changed) | Event::Delete(changed)) => {
                if let (Some(namespace), Some(proxy)) = (changed.namespace(), changed.labels().get(PROXY_LABEL)) {
                    queue.add(WorkKey::Proxy(ObjectKey::new(namespace, proxy)));
                }
            }
            Ok(Event::Init) => {
                metrics().watch_lists.with(["Deployment"]).inc();
            }
            Ok(Event::InitDone) => {}
            Err(error) => {
                metrics().watch_errors.with(["Deployment"]).inc();
                tracing::warn!(kind = "Deployment", %error, "watching; trying again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: EndpointFlags,
    }

    fn flags(line: &[&str]) -> EndpointFlags {
        Line::try_parse_from([&["capf"], line].concat()).unwrap().flags
    }

    #[test]
    fn each_placement_needs_flags_of_its_own_and_names_those_that_are_missing() {
        let none = flags(&[]);
        for (placement, named) in [
            (Placement::External, "--advertise;"),
            (Placement::InCluster, "--endpoint-image and --advertise-in-cluster;"),
        ] {
            let obstacle = none.reach(placement).unwrap_err();
            assert!(obstacle.stalls && obstacle.message.contains(named), "{obstacle:?}");
        }
        let image = flags(&["--endpoint-image", "a"]);
        assert!(
            image.reach(Placement::InCluster).unwrap_err().message.contains("controller's --advertise-in-cluster;")
        );
        let inside = flags(&["--endpoint-image", "a", "--advertise-in-cluster", "capf.capf-system.svc:8443"]);
        assert_eq!(inside.reach(Placement::InCluster), Ok(Reach::LookedUp("capf.capf-system.svc:8443")));
        assert!(inside.reach(Placement::External).is_err());
        let outside = flags(&["--advertise", "a:1", "--advertise", "b:2"]);
        assert_eq!(outside.reach(Placement::External), Ok(Reach::Given(&["a:1".to_owned(), "b:2".to_owned()])));
    }

    #[test]
    fn an_address_in_the_cluster_has_host_and_port() {
        let taken = |address: &str| Line::try_parse_from(["capf", "--advertise-in-cluster", address]).is_ok();
        assert!(taken("capf.capf-system.svc:8443") && taken("[2001:db8::1]:8443"));
        assert!(!taken("capf") && !taken(":8443") && !taken("capf:https"));
    }

    #[tokio::test]
    async fn what_is_looked_up_has_an_order_and_says_what_is_wrong() {
        assert_eq!(resolve("192.0.2.1:8443").await.unwrap(), ["192.0.2.1:8443"]);
        assert_eq!(resolve("[2001:db8::1]:8443").await.unwrap(), ["[2001:db8::1]:8443"]);
        assert!(resolve("nowhere.invalid:8443").await.unwrap_err().starts_with("looking it up: "));
    }
}
