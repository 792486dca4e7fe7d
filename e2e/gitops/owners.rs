//! A proxy that is deleted and made again before the garbage collector comes, as a replace, or a slow prune, does it.

use std::time::Duration;

use capf::api::CertificateAuthorityProxy;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt as _;

use crate::harness::{ControlPlane, eventually};
use crate::product::{Options, PATIENCE, Product};

/// The garbage collector looks for resource types every 30 seconds, and passes over what is new to it.
const COLLECTED: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_of_before_owned_belongs_to_its_successor_and_is_not_collected() {
    // One of its own, whose garbage collector may stand still; it ends with this process.
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().unwrap()));
    let product = Product::start_with("owners", Options { plane: Some(plane), ..Options::default() }).await;
    let manifest = "apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {name: main}\nspec: {placement: External}\n";
    let proxy = async || product.api::<CertificateAuthorityProxy>().get("main").await.unwrap();

    plane.control("stop kcm").unwrap();
    let before = proxy().await;
    // What will tell that the garbage collector has been here: an object of the proxy of before that nobody takes up.
    product.apply(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: forgotten\n  ownerReferences: [{{apiVersion: \
         capf.dev/v1alpha1, kind: CertificateAuthorityProxy, name: main, uid: {}}}]\n",
        before.uid().unwrap()
    ));
    product.kubectl(&["delete", "capf/main"]);
    product.apply(manifest);
    product.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "capf/main"]);
    let after = proxy().await;
    assert_ne!(after.uid(), before.uid());

    let owners = async || {
        let published = product.api::<ConfigMap>().get("main-certificates").await.unwrap();
        let bundle = product.api::<Secret>().get("main-endpoint").await.unwrap();
        [published.metadata, bundle.metadata]
            .map(|metadata| metadata.owner_references.unwrap_or_default()[0].uid.clone())
    };
    let uid = after.uid().unwrap();
    assert_eq!(owners().await, [uid.clone(), uid.clone()]);
    plane.control("cont kcm").unwrap();
    eventually("the garbage collector has been here", COLLECTED, || async {
        product.api::<ConfigMap>().get_opt("forgotten").await.unwrap().is_none()
    })
    .await
    .unwrap();
    assert_eq!(owners().await, [uid.clone(), uid]);

    // And so they go with the proxy.
    product.kubectl(&["delete", "capf/main"]);
    eventually("what the proxy owned has gone with it", PATIENCE, || async {
        product.api::<ConfigMap>().get_opt("main-certificates").await.unwrap().is_none()
            && product.api::<Secret>().get_opt("main-endpoint").await.unwrap().is_none()
    })
    .await
    .unwrap();
}
