//! Strings as people use them: the sheet, the lock-out lifted, the string renewed; and what Git manages left alone.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use capf::api::Phone;
use capf::phone::AttemptOutcome;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use crate::harness::{capf_binary, eventually};
use crate::product::{PATIENCE, Product, digits, phone, string_secret, text};

const GENERATED: &str = "certificateOperation: InstallUpgrade, keyType: EC";
const GIVEN: &str =
    "certificateOperation: InstallUpgrade, keyType: EC, authenticationString: {secretRef: {name: given}}";

/// Enters wrong strings until nothing waits any more.
async fn lock_out(product: &Product, device: &str) {
    let mut outcome = product.attempt(device, digits("00000000000")).await;
    for _ in 0..3 {
        if !matches!(outcome, AttemptOutcome::Refused { .. }) {
            break;
        }
        outcome = product.attempt(device, digits("00000000000")).await;
    }
    assert!(matches!(outcome, AttemptOutcome::NothingScheduled), "{outcome:?}");
    product.operation_status(&device.to_lowercase(), "Install/Upgrade failed").await;
    let reason = product.armed(&device.to_lowercase()).await.status.unwrap().reason.unwrap();
    assert_eq!(reason.as_str(), "LockedOut");
}

/// The digits that the sheet shows for a phone.
fn on_the_sheet(product: &Product, device: &str) -> Option<String> {
    let sheet = product.capf(None, &["auth-strings", "-n", product.ns()]);
    assert!(sheet.contains("LSC > Update"), "{sheet}");
    let line = sheet.lines().find(|line| line.starts_with(device))?;
    line.split_whitespace().nth(1).map(str::to_owned)
}

/// Waits for ten digits on the sheet that are not these: while a run takes the place of another, a word stands there.
async fn another_on_the_sheet(product: &Product, device: &str, before: &str) -> String {
    eventually("the string on the sheet is another one", PATIENCE, || async {
        let shown = on_the_sheet(product, device).unwrap_or_default();
        let digits = shown.len() == 10 && shown.bytes().all(|b| b.is_ascii_digit());
        if digits && shown != before { Ok(shown) } else { Err(shown) }
    })
    .await
    .unwrap()
}

/// What the command says on standard error when it refuses.
fn refused(product: &Product, args: &[&str]) -> String {
    let mut command = Command::new(capf_binary());
    let output = command.args(args).env("KUBECONFIG", product.plane.kubeconfig(None)).output().unwrap();
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_out_is_lifted_and_a_string_renewed_by_a_command_each() {
    let product = Product::start("strings").await;
    let (generated, given) = ("SEP0000000B0001", "SEP0000000B0002");
    product.apply(&(phone(generated, GENERATED) + &string_secret("given", "47114711") + &phone(given, GIVEN)));
    for device in [generated, given] {
        product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
    }
    let (ns, first) = (product.ns(), on_the_sheet(&product, generated).unwrap());
    let refusal = refused(&product, &["unlock", "-n", ns, generated]);
    assert!(refusal.contains("not LockedOut"), "{refusal}");

    // A pending one: a generated string by a new run, a given one by new digits alone.
    product.capf(None, &["renew-string", "-n", ns, generated]);
    product.capf(None, &["renew-string", "-n", ns, given]);
    another_on_the_sheet(&product, generated, &first).await;
    let renewed = on_the_sheet(&product, given).unwrap();
    assert!(renewed != "47114711" && renewed.len() == 10, "{renewed}");
    assert_eq!(product.phone(&given.to_lowercase()).await.spec.revision, None, "no new run for a given string");
    let old = product.attempt(generated, digits(&first)).await;
    assert!(matches!(old, AttemptOutcome::Refused { .. }), "the old string: {old:?}");

    for device in [generated, given] {
        lock_out(&product, device).await;
        assert_eq!(on_the_sheet(&product, device), None, "{device} waits for no string");
        product.capf(None, &["unlock", "-n", ns, device]);
        product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
        let string = another_on_the_sheet(&product, device, &renewed).await;
        product.enrol(device, digits(&string)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_manages_is_printed_for_a_commit_and_not_changed() {
    let product = Product::start("managed").await;
    let device = "SEP0000000B0003";
    product.apply(&phone(device, GENERATED));
    product.kubectl(&["label", "ph/sep0000000b0003", "kustomize.toolkit.fluxcd.io/name=phones"]);
    product.operation_status("sep0000000b0003", "Install/Upgrade pending").await;
    lock_out(&product, device).await;
    let said = product.capf(None, &["unlock", "-n", product.ns(), device]);
    assert!(said.contains("Flux") && said.contains("  revision: 1\n"), "{said}");
    assert_eq!(product.phone("sep0000000b0003").await.spec.revision, None, "nothing is changed");
    // What is printed is a manifest: applied as Flux would, it lifts the lock-out.
    product.plane.kubectl_stdin(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &said).unwrap();
    product.operation_status("sep0000000b0003", "Install/Upgrade pending").await;
    product.enrol(device, digits(&on_the_sheet(&product, device).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sheet_holds_the_phones_of_its_site_that_wait_and_its_file_is_its_owners_alone() {
    let product = Product::start("sheet").await;
    let settings = "certificateOperation: InstallUpgrade, authenticationMode: ByNullString";
    for (device, site, settings) in [
        ("SEP0000000B0011", "hq", GENERATED),
        ("SEP0000000B0012", "hq", GENERATED),
        ("SEP0000000B0013", "lab", GENERATED),
        ("SEP0000000B0014", "hq", settings),
    ] {
        product.apply(&phone(device, settings));
        product.kubectl(&["label", &format!("ph/{}", device.to_lowercase()), &format!("site={site}")]);
        product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
    }
    let file = product.folder.path().join("sheet.csv");
    let args = ["auth-strings", "-n", product.ns(), "-l", "site=hq", "--format", "csv", "-o", &text(&file)];
    product.capf(None, &args);
    let sheet = std::fs::read_to_string(&file).unwrap();
    let named: Vec<_> = sheet.lines().skip(1).filter_map(|line| line.split(',').nth(1)).collect();
    assert_eq!(named, ["SEP0000000B0011", "SEP0000000B0012"], "{sheet}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let waiting: Vec<Phone> = product.api().list(&Default::default()).await.unwrap().items;
    for phone in waiting.iter().filter(|p| named.contains(&p.spec.device_name.as_str())) {
        let secret = phone.status.clone().unwrap().operation.unwrap().authentication_string_secret.unwrap();
        assert!(sheet.contains(&product.string(&secret).await.unwrap()));
    }
    product.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: lister}\nrules:\n- apiGroups: \
         [capf.dev]\n  resources: [phones]\n  verbs: [get, list]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: \
         RoleBinding\nmetadata: {name: lister}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: \
         lister}\nsubjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: capf-reporter}]\n",
    );
    let without_rights = product.capf(Some("capf-reporter"), &["auth-strings", "-n", product.ns()]);
    assert!(without_rights.contains("<forbidden>"), "{without_rights}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_somebody_put_in_the_place_of_a_generated_string_is_not_deleted() {
    let product = Product::start("foreign-string").await;
    product.apply(&phone("SEP0000000B0009", GENERATED));
    product.operation_status("sep0000000b0009", "Install/Upgrade pending").await;
    let name = format!("{}-string", product.armed("sep0000000b0009").await.name_any());
    product.kubectl(&["delete", "secret", &name]);
    product.apply(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{a: b}}\n"));
    let theirs = product.api::<Secret>().get(&name).await.unwrap();

    let nothing = r#"{"spec":{"certificateOperation":"NoPendingOperation"}}"#;
    product.kubectl(&["patch", "ph/sep0000000b0009", "--type=merge", "-p", nothing]);
    product.operation_status("sep0000000b0009", "Install/Upgrade failed").await;
    assert_eq!(product.api::<Secret>().get(&name).await.unwrap().metadata.uid, theirs.metadata.uid);
}
