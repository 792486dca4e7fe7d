//! Health checks of Flux that look at what came of a run, and manifests that cannot be acted on.

use capf::phone::Proof;

use crate::flux::Flux;
use crate::product::{Options, Product};

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_asks_for_it_is_healthy_only_when_its_phones_hold_certificates() {
    let mut product = Product::install("outcome", Options::default()).await;
    let flux = Flux::start(&product).await;
    let first = flux.commit();
    flux.follow("auckland");
    for phone in ["sep00a1b2c50001", "sep00a1b2c50002"] {
        product.operation_status(phone, "Install/Upgrade pending").await;
    }
    product.serve().await;
    product.enrol("SEP00A1B2C50001", Proof::NullString).await;
    // The other one is waited for, although it is Ready.
    product.kubectl(&["wait", "--for=condition=Ready", "--timeout=30s", "phones", "--all"]);
    flux.condition("auckland", &first, "Reconciling", "True").await;
    product.enrol("SEP00A1B2C50002", Proof::NullString).await;
    flux.healthy("auckland", &first).await;

    // A run that fails is told at once.
    let over = "InstallUpgrade\n  revision: 1\n  operationCompletesBy: \"2020-01-01T00:00:00Z\"\n";
    flux.edit("sites/auckland/phones.yaml", "InstallUpgrade\n", over);
    let second = flux.commit();
    let message = flux.condition("auckland", &second, "Ready", "False").await;
    // Of the two that fail one is the first.
    assert!(message.contains("/sep00a1b2c5000") && message.contains("Failed"), "{message}");
}

/// A single run of a phone, with further lines of its spec.
fn single_run(name: &str, settings: &str) -> String {
    format!(
        "apiVersion: capf.dev/v1alpha1\nkind: CertificateOperation\nmetadata:\n  name: {name}\nspec:\n  phoneRef: {{ name: \
         sep00a1b2c40003 }}\n  certificateOperation: Troubleshoot\n  authenticationMode: ByAuthenticationString\n  \
         requestedBy: Person\n{settings}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_run_in_git_is_healthy_while_it_waits_and_failed_when_it_failed() {
    let product = Product::install("single", Options::default()).await;
    let flux = Flux::start(&product).await;
    let site = "sites/wellington/kustomization.yaml";
    flux.edit(site, "  - phones\n", "  - phones\n  - run.yaml\n");
    flux.write("sites/wellington/run.yaml", &single_run("first", ""));
    let first = flux.commit();
    flux.follow("wellington");
    flux.healthy("wellington", &first).await;
    product.operation_status("sep00a1b2c40003", "Troubleshoot pending").await;

    // The second takes the place of the first, whose end is no failure; but it is over before it began.
    let late = single_run("second", "  operationCompletesBy: \"2020-01-01T00:00:00Z\"\n");
    flux.write("sites/wellington/run.yaml", &(single_run("first", "") + "---\n" + &late));
    let second = flux.commit();
    let message = flux.condition("wellington", &second, "Ready", "False").await;
    assert!(message.contains("CertificateOperation/") && message.contains("second"), "{message}");
    assert!(!message.contains("/first"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_acted_on_fails_its_site_and_another_commit_heals_it() {
    let product = Product::install("stalled", Options::default()).await;
    let flux = Flux::start(&product).await;
    let phone = "sites/wellington/phones/sep00a1b2c40002.yaml";
    flux.edit(phone, "InstallUpgrade\n", "InstallUpgrade\n  authenticationMode: ByNullString\n");
    let first = flux.commit();
    flux.follow("wellington");
    let message = flux.condition("wellington", &first, "Ready", "False").await;
    assert!(message.contains("sep00a1b2c40002") && !message.contains("sep00a1b2c40001"), "{message}");

    flux.edit(phone, "  authenticationMode: ByNullString\n", "");
    let second = flux.commit();
    flux.healthy("wellington", &second).await;
    product.operation_status("sep00a1b2c40002", "Install/Upgrade pending").await;
}
