//! Stories that begin with what a phone has: it deletes its LSC, shows its certificates, or proves itself by one.

use std::sync::LazyLock;

use capf::api::{CertificateOperation, LscState, Phase, Phone, PhoneCertificate, Reason, TraceVerdict};
use capf::phone::Proof;
use capf::pki::certificate::to_pem;
use serde_json::{Value, json};

use crate::faults::phones::{by_null, says};
use crate::faults::site::Site;
use crate::support::{LSC_FIRST, MIC_FIRST, Manufacturer, patch_proxy, set_roots};

use super::scenario::{PAST_THE_TAIL, calls_until_over, cut_off, enrolled};

/// Whoever made every phone here.
static MANUFACTURER: LazyLock<Manufacturer> = LazyLock::new(Manufacturer::new);

/// The proxy believes MICs of the manufacturer's.
pub async fn equip_with_mic_roots(site: &Site) {
    set_roots(&site.product, &MANUFACTURER.pem);
    patch_proxy(&site.product, r#"{"spec":{"micRoots":{"configMapRef":{"name":"roots"},"key":"roots.pem"}}}"#).await;
}

/// The phone has a MIC from now on, and its key.
pub fn give_mic(site: &Site, device: &str) {
    let (der, key) = MANUFACTURER.mic(device, 2090);
    let pem = to_pem(&der).unwrap() + secrecy::ExposeSecret::expose_secret(key.pem());
    std::fs::write(site.state(device).file("mic.pem"), pem).unwrap();
}

/// The phone has an LSC that it was given by null string.
pub async fn installed(site: &Site, device: &str) {
    site.apply(device, &by_null()).await;
    site.pending(device).await;
    enrolled(site, device, Proof::NullString).await;
}

/// Asks for another operation, and waits until it waits for the phone.
async fn asked(site: &Site, device: &str, spec: Value, pending: &str) -> CertificateOperation {
    site.patch(device, &json!({ "spec": spec })).await;
    site.armed(device, pending, |phone, _| says(phone) == Some(pending)).await
}

/// The operation is over, and the Phone says so.
async fn over(site: &Site, device: &str, proof: Proof, words: &str) -> (CertificateOperation, Phone) {
    let over = calls_until_over(site, device, proof).await;
    assert_eq!(over.phase(), Phase::Successful, "{device}: {:?}", over.status);
    site.armed(device, words, |phone, _| says(phone) == Some(words)).await;
    (over, site.phone(device).await)
}

async fn asked_to_delete(site: &Site, device: &str) -> CertificateOperation {
    let delete = json!({
        "certificateOperation": "Delete", "authenticationMode": "ByNullString", "deviceSecurityMode": "NonSecure",
    });
    asked(site, device, delete, "Delete pending").await
}

pub async fn delete(site: &Site, device: &str) -> String {
    asked_to_delete(site, device).await;
    let (operation, phone) = over(site, device, Proof::NullString, "Delete successful").await;
    assert!(site.disk(device).lsc.is_none(), "the phone has no LSC any more");
    let status = phone.status.unwrap();
    assert_eq!((status.lsc_state, status.lsc), (LscState::NotInstalled, None));
    // A phone whose answer got lost is asked again, and has none then.
    match operation.status.unwrap().reason {
        None => "Successful".into(),
        Some(Reason::NothingToDelete) if site.disk(device).step("deleted").count() > 1 => "NothingToDelete".into(),
        other => panic!("{device}: {other:?}"),
    }
}

pub async fn troubleshoot(site: &Site, device: &str) -> String {
    let troubleshoot = json!({ "certificateOperation": "Troubleshoot", "authenticationMode": "ByNullString" });
    asked(site, device, troubleshoot, "Troubleshoot pending").await;
    let (operation, phone) = over(site, device, Proof::NullString, "Troubleshoot successful").await;
    let traces = operation.status.unwrap().traces;
    let shown: Vec<_> = traces.iter().map(|trace| (trace.asked, trace.kind)).collect();
    let (lsc, mic) = (PhoneCertificate::LSC, PhoneCertificate::MIC);
    assert_eq!(shown, [(lsc, Some(lsc)), (mic, Some(mic))]);
    assert_eq!(traces[0].verdict, Some(TraceVerdict::Same));
    let known = phone.status.unwrap().mic.map(|mic| mic.sha256_fingerprint);
    assert_eq!(known, traces[1].certificate.as_ref().map(|mic| mic.sha256_fingerprint.clone()));
    "Successful, with both traces".into()
}

/// Enrols by the certificate that is to be used, and says how it ended.
async fn by_certificate(site: &Site, device: &str, used: PhoneCertificate) -> String {
    let (operation, _) = over(site, device, Proof::ExistingCertificate, "Install/Upgrade successful").await;
    assert_eq!(operation.status.unwrap().evidence.map(|evidence| evidence.used), Some(used));
    format!("Successful by {used}, the phone saw {}", site.disk(device).ending())
}

pub async fn install_by_lsc(site: &Site, device: &str) -> String {
    let before = site.disk(device).lsc.map(|(facts, _)| facts.sha256);
    let again = json!({ "authenticationMode": LSC_FIRST, "revision": 1 });
    asked(site, device, again, "Install/Upgrade pending").await;
    let ending = by_certificate(site, device, PhoneCertificate::LSC).await;
    assert_ne!(site.disk(device).lsc.map(|(facts, _)| facts.sha256), before, "it has a new one");
    ending
}

pub async fn install_by_mic(site: &Site, device: &str) -> String {
    let mut settings = by_null();
    settings["authenticationMode"] = json!(MIC_FIRST);
    site.apply(device, &settings).await;
    site.pending(device).await;
    by_certificate(site, device, PhoneCertificate::MIC).await
}

/// An installation takes over from the deletion, and the phone enrols; how that and the deletion ended.
async fn installed_instead(site: &Site, device: &str, deletion: &CertificateOperation) -> String {
    let install = json!({ "certificateOperation": "InstallUpgrade", "revision": 1 });
    asked(site, device, install, "Install/Upgrade pending").await;
    let ending = enrolled(site, device, Proof::NullString).await;
    let replaced = site.operation(deletion.metadata.name.as_deref().unwrap()).await.status.unwrap();
    assert_eq!((replaced.phase, replaced.reason), (Phase::Failed, Some(Reason::Superseded)));
    ending
}

pub async fn supersede_delete(site: &Site, device: &str) -> String {
    let deletion = asked_to_delete(site, device).await;
    let ending = installed_instead(site, device, &deletion).await;
    assert_eq!(site.disk(device).step("delete").count(), 0, "nothing was deleted");
    ending
}

pub async fn supersede_begun_delete(site: &Site, device: &str) -> String {
    let deletion = asked_to_delete(site, device).await;
    cut_off(site, device, "deleted").await;
    assert!(site.disk(device).lsc.is_none(), "it is deleted, and nobody was told");
    site.move_clock(PAST_THE_TAIL);
    let ending = installed_instead(site, device, &deletion).await;
    // The endpoint's clock stands where it stood: too far ahead, and it would not believe a certificate.
    site.move_clock(-PAST_THE_TAIL);
    ending
}
