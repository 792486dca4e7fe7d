//! Credentials rotate under a running endpoint: one process, with a bundle as the kubelet mounts it, enrols phones before and
//! after its client certificate was renewed, and before and after the controllers' own Secret was made anew.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use capf::authority::bundle::EndpointConfig;
use capf::phone::Proof;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;

use crate::harness::{Process, capf_binary, eventually};
use crate::product::{BY_NULL, Options, PATIENCE, Product, phone};

/// Does what the kubelet does with a Secret: the files are links into a folder that is changed for another at one stroke.
fn mount(secret: &Secret, folder: &Path) {
    let version = secret.metadata.resource_version.clone().unwrap();
    let (files, link) = (folder.join(format!("..{version}")), folder.join("..data"));
    fs::create_dir_all(&files).unwrap();
    for (name, octets) in secret.data.as_ref().unwrap() {
        fs::write(files.join(name), &octets.0).unwrap();
        if !folder.join(name).exists() {
            symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
        }
    }
    symlink(files.file_name().unwrap(), folder.join("..tmp")).unwrap();
    fs::rename(folder.join("..tmp"), link).unwrap();
}

/// A proxy whose endpoints run as pods, and one such endpoint as a process.
struct Pod {
    product: Product,
    endpoint: Process,
    mounted: Secret,
}

impl Pod {
    async fn start(name: &str) -> Self {
        let product = Product::install(name, Options { moving_clock: true, ..Options::default() }).await;
        product.apply(
            "apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {name: main}\nspec: \
             {permitNullString: true, phonePort: 5061}\n",
        );
        let mounted = bundle(&product, |_| true).await;
        let folder = product.folder.path().join("mount");
        mount(&mounted, &folder);
        let mut command = Command::new(capf_binary());
        command
            .args(["endpoint", "--port", product.address.rsplit_once(':').unwrap().1, "--log-level", "debug"])
            .arg("--bundle")
            .arg(&folder)
            .env("CAPF_TEST_CLOCK_OFFSET_FILE", product.folder.path().join("clock"));
        let mut endpoint = product.plane.spawn(&format!("{name}-pod"), None, &mut command).unwrap();
        endpoint.wait_for_log("phones are awaited", PATIENCE).unwrap();
        Self { product, endpoint, mounted }
    }

    async fn enrol(&self, device: &str) {
        self.product.apply(&phone(device, BY_NULL));
        self.product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
        self.product.enrol_at_once(device, Proof::NullString).await;
    }

    /// Mounts the bundle when these files of it have changed, and waits until the endpoint has taken it.
    async fn follow(&mut self, files: &[&str]) {
        let before = self.mounted.data.clone().unwrap();
        let changed = |secret: &Secret| {
            let now = secret.data.as_ref().unwrap();
            files.iter().all(|file| now[*file] != before[*file])
        };
        self.mounted = bundle(&self.product, changed).await;
        let told = |log: String| log.matches("the bundle changed; new connections").count();
        let already = told(self.endpoint.log());
        mount(&self.mounted, &self.product.folder.path().join("mount"));
        eventually("the endpoint takes the bundle", PATIENCE, || async { told(self.endpoint.log()) > already })
            .await
            .unwrap();
    }
}

/// The bundle, once it is such.
async fn bundle(product: &Product, is: impl Fn(&Secret) -> bool) -> Secret {
    eventually("the bundle is as awaited", PATIENCE, || async {
        let secret = product.api::<Secret>().get_opt("main-endpoint").await.ok()?;
        secret.filter(|secret| is(secret))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_endpoint_takes_up_its_renewed_client_certificate() {
    let mut pod = Pod::start("renewed").await;
    pod.enrol("SEP0000000B2001").await;
    // The controllers' own certificate, good for 30 days, is over too by then.
    pod.product.move_clock(61 * 86_400);
    pod.product.kubectl(&["annotate", "capf/main", "look=again"]);
    pod.follow(&["client.crt", "client.key"]).await;
    pod.enrol("SEP0000000B2002").await;
    // Past the end of the first one, which would be refused.
    pod.product.move_clock(100 * 86_400);
    pod.enrol("SEP0000000B2003").await;
    assert!(pod.endpoint.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_endpoint_follows_controllers_whose_secret_was_made_anew() {
    let mut pod = Pod::start("anew").await;
    pod.enrol("SEP0000000B2011").await;
    pod.product.kubectl(&["delete", "secret", "capf-controller"]);
    pod.product.restart_controller();
    pod.follow(&["ca.crt", "client.crt", "client.key"]).await;
    pod.enrol("SEP0000000B2012").await;
    // And a parameter: the phone port is the Service's affair, the limits are the bundle's, neither is a start's.
    let patch = r#"{"spec":{"phonePort":5062,"limits":{"answerSeconds":44}}}"#;
    pod.product.kubectl(&["patch", "capf/main", "--type=merge", "-p", patch]);
    pod.follow(&["endpoint.json"]).await;
    let config: EndpointConfig =
        serde_json::from_slice(&pod.mounted.data.as_ref().unwrap()["endpoint.json"].0).unwrap();
    assert_eq!((config.phone_port, config.answer_seconds), (5062, 44));
    pod.enrol("SEP0000000B2013").await;
    assert!(!pod.endpoint.log().contains("takes effect at the next start"), "{}", pod.endpoint.log());
    assert!(pod.endpoint.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    // Nobody would take over for two minutes and more if the Lease were not let go.
    let options = Options { replicas: 2, lease_seconds: Some(120), ..Options::default() };
    let mut product = Product::install("handover", options).await;
    let leases = product.api::<Lease>();
    let holder = || async { leases.get("capf-controller").await.ok()?.spec?.holder_identity.filter(|h| !h.is_empty()) };
    let first = eventually("somebody leads", PATIENCE, holder).await.unwrap();
    let leader = usize::from(first.starts_with("replica-1"));
    assert_eq!(product.controllers[leader].terminate().unwrap(), 0, "it ends by itself");
    let second = eventually("another leads", PATIENCE, || async { holder().await.filter(|now| *now != first) }).await;
    let second = second.unwrap();
    assert!(second.starts_with(&format!("replica-{}", 1 - leader)), "{second} after {first}");
}
