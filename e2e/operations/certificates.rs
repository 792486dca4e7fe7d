//! Delete, troubleshoot and upgrade, as they go when nothing goes wrong.

use capf::api::{LscState, Phase, PhoneCertificate, Reason, TraceVerdict};
use capf::phone::{AttemptOutcome, Proof, SimulatedPhone, StateDir};
use capf::pki::CertificateFacts;
use capf::wire::CertType;
use kube::ResourceExt as _;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::harness::eventually;
use crate::product::{Options, PATIENCE, Product, phone};

/// Settings of another operation By Null String.
pub fn by_null(operation: &str, more: &str) -> String {
    format!("certificateOperation: {operation}, authenticationMode: ByNullString, keyType: EC{more}")
}

/// A phone that keeps what it has in a directory of the installation.
pub async fn with_state(product: &Product, device: &str) -> (SimulatedPhone, StateDir) {
    let dir = StateDir::open(&product.folder.path().join(device)).unwrap();
    let phone = product.simulated(device, Proof::NullString).await.state(dir.clone()).unwrap();
    (phone, dir)
}

/// Enrols a phone whose Phone resource is made here.
pub async fn enrolled(product: &Product, device: &str) -> (SimulatedPhone, StateDir) {
    let name = device.to_lowercase();
    product.apply(&phone(device, &by_null("InstallUpgrade", "")));
    product.operation_status(&name, "Install/Upgrade pending").await;
    let (mut simulated, dir) = with_state(product, device).await;
    let outcome = simulated.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{outcome:?}");
    product.operation_status(&name, "Install/Upgrade successful").await;
    (simulated, dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_takes_the_lsc_and_what_it_stood_for() {
    let product = Product::start("delete").await;
    let device = "SEP0000000B0001";
    let (mut simulated, dir) = enrolled(&product, device).await;
    product.apply(&phone(device, &by_null("Delete", ", deviceSecurityMode: NonSecure")));
    product.operation_status("sep0000000b0001", "Delete pending").await;
    assert_eq!(simulated.attempt().await.unwrap(), AttemptOutcome::Deleted { had_one: true });
    let status = product.operation_status("sep0000000b0001", "Delete successful").await.status.unwrap();
    assert_eq!((status.lsc_state, status.lsc), (LscState::NotInstalled, None));
    assert!(dir.lsc().unwrap().is_none());
    let operation = product.armed("sep0000000b0001").await.status.unwrap();
    assert!(operation.begun_at.is_some() && operation.reason.is_none(), "{operation:?}");
    // Once more: there is nothing left, and that is what was wanted.
    product.apply(&phone(device, &by_null("Delete", ", deviceSecurityMode: NonSecure, revision: 2")));
    product.operation_status("sep0000000b0001", "Delete pending").await;
    assert_eq!(simulated.attempt().await.unwrap(), AttemptOutcome::Deleted { had_one: false });
    let status = product.operation_status("sep0000000b0001", "Delete successful").await.status.unwrap();
    assert_eq!(status.operation.unwrap().reason, Some(Reason::NothingToDelete));
    product.kubectl(&["wait", "--for=condition=Succeeded", "--timeout=10s", "ph/sep0000000b0001"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_refused_with_advice_until_the_advice_is_followed() {
    let product = Product::start("advice").await;
    let device = "SEP0000000B0002";
    let (mut simulated, _dir) = enrolled(&product, device).await;
    product.apply(&phone(device, &by_null("Delete", ", deviceSecurityMode: Encrypted")));
    let stalled = || async {
        let conditions = product.phone("sep0000000b0002").await.status.unwrap().conditions;
        conditions.into_iter().find(|c| format!("{:?}", c.type_) == "Stalled")
    };
    let stalled = eventually("the deletion is refused", PATIENCE, stalled).await.unwrap();
    assert_eq!(stalled.reason, "PolicyDenied");
    assert!(stalled.message.contains("deviceSecurityMode: NonSecure"), "{}", stalled.message);
    assert_eq!(simulated.attempt().await.unwrap(), AttemptOutcome::NothingScheduled);
    product.apply(&phone(device, &by_null("Delete", ", deviceSecurityMode: NonSecure")));
    product.operation_status("sep0000000b0002", "Delete pending").await;
    // Raised again before the phone comes: it is not left without a certificate.
    product.apply(&phone(device, &by_null("Delete", ", deviceSecurityMode: Authenticated")));
    eventually("the phone is refused", PATIENCE, || async {
        let replica = product.simulated(device, Proof::NullString).await.attempt().await;
        if matches!(replica, Ok(AttemptOutcome::Refused { .. })) { Ok(()) } else { Err(format!("{replica:?}")) }
    })
    .await
    .unwrap_or_else(|why| panic!("{why}"));
}

/// A certificate that names a phone the way a manufacturer does; nobody verifies it here.
fn mic(device: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("CP-8841-{device}"));
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

#[tokio::test(flavor = "multi_thread")]
async fn troubleshoot_shows_both_certificates_and_compares_them_with_the_record() {
    let product = Product::start("traces").await;
    let device = "SEP0000000B0003";
    let (_, dir) = enrolled(&product, device).await;
    std::fs::write(dir.file("mic.pem"), mic(device)).unwrap();
    let mut simulated = product.simulated(device, Proof::NullString).await.state(dir.clone()).unwrap();
    product.apply(&phone(device, &by_null("Troubleshoot", "")));
    product.operation_status("sep0000000b0003", "Troubleshoot pending").await;
    let shown = AttemptOutcome::Fetched { shown: vec![CertType::LSC, CertType::MIC], missing: Vec::new() };
    assert_eq!(simulated.attempt().await.unwrap(), shown);
    let status = product.operation_status("sep0000000b0003", "Troubleshoot successful").await.status.unwrap();
    let facts = CertificateFacts::from_der(&dir.mic().unwrap().unwrap()).unwrap();
    assert_eq!(status.mic.unwrap().sha256_fingerprint, facts.sha256);
    assert_eq!(status.lsc_state, LscState::Installed);
    let operation = product.armed("sep0000000b0003").await;
    let traces = operation.status.clone().unwrap().traces;
    let found: Vec<_> = traces.iter().map(|t| (t.asked, t.kind, t.verdict)).collect();
    let (lsc, mic) = (PhoneCertificate::LSC, PhoneCertificate::MIC);
    assert_eq!(found, [(lsc, Some(lsc), Some(TraceVerdict::Same)), (mic, Some(mic), None)]);
    let text = product.capf(None, &["trace", "sep0000000b0003", "-n", product.ns()]);
    for line in ["Same: it is the one on record", &format!("CN=CP-8841-{device}"), "BEGIN CERTIFICATE"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // With a MIC known, the LSC may go whatever the security mode is.
    product.apply(&phone(device, &by_null("Delete", ", deviceSecurityMode: Encrypted")));
    product.operation_status("sep0000000b0003", "Delete pending").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_may_leave_the_mic_unasked_and_a_phone_without_certificates_says_so() {
    let options = Options { proxy: "  permitNullString: true\n  fetchMIC: false", ..Options::default() };
    let product = Product::start_with("nomic", options).await;
    product.apply(&phone("SEP0000000B0004", &by_null("Troubleshoot", "")));
    product.operation_status("sep0000000b0004", "Troubleshoot pending").await;
    let missing = AttemptOutcome::Fetched { shown: Vec::new(), missing: vec![CertType::LSC] };
    assert_eq!(product.attempt("SEP0000000B0004", Proof::NullString).await, missing);
    let status = product.operation_status("sep0000000b0004", "Troubleshoot successful").await.status.unwrap();
    assert_eq!(status.lsc_state, LscState::NotInstalled);
    let traces = product.armed("sep0000000b0004").await.status.unwrap().traces;
    assert_eq!(traces.len(), 1);
    assert_eq!(traces[0].verdict, Some(TraceVerdict::Missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_supersedes_the_old_lsc_when_the_phone_has_the_new_one() {
    let product = Product::start("upgrade").await;
    let device = "SEP0000000B0005";
    let (mut simulated, dir) = enrolled(&product, device).await;
    let live = || async { product.phone("sep0000000b0005").await.status.unwrap().lsc.unwrap().sha256_fingerprint };
    let of_phone = || CertificateFacts::from_der(&dir.lsc().unwrap().unwrap().0).unwrap().sha256;
    let old = of_phone();
    assert_eq!(live().await, old);
    product.apply(&phone(device, &format!("{}, revision: 2", by_null("InstallUpgrade", ""))));
    product.operation_status("sep0000000b0005", "Install/Upgrade pending").await;
    // Lost with the new certificate in its hands and not stored: the old one is what it has, and what counts.
    let mut lost = product.simulated(device, Proof::NullString).await;
    lost = lost.faults(["drop@certificate".parse().unwrap()]);
    lost.attempt().await.unwrap_err();
    assert_eq!(product.armed("sep0000000b0005").await.phase(), Phase::InProgress);
    assert_eq!((live().await, of_phone()), (old.clone(), old.clone()));
    let outcome = simulated.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{outcome:?}");
    product.operation_status("sep0000000b0005", "Install/Upgrade successful").await;
    assert_ne!(of_phone(), old);
    assert_eq!(live().await, of_phone());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_applied_runs_too() {
    let product = Product::start("applied").await;
    product.apply(&phone("SEP0000000B0006", "certificateOperation: NoPendingOperation"));
    product.apply(
        "apiVersion: capf.dev/v1alpha1\nkind: CertificateOperation\nmetadata: {name: by-hand}\nspec: {phoneRef: {name: \
         sep0000000b0006}, certificateOperation: Troubleshoot, authenticationMode: ByNullString, requestedBy: Person}\n",
    );
    product.operation_status("sep0000000b0006", "Troubleshoot pending").await;
    product.attempt("SEP0000000B0006", Proof::NullString).await;
    product.operation_status("sep0000000b0006", "Troubleshoot successful").await;
    assert_eq!(product.armed("sep0000000b0006").await.name_any(), "by-hand");
}
