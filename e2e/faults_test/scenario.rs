//! What happens to a phone from its manifest to its rest, whatever goes wrong meanwhile.

use std::time::Duration;

use capf::api::{CertificateOperation, Phase, Phone, Reason};
use capf::phone::{AttemptOutcome, Fault, Proof};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::json;
use tokio::time::Instant;

use crate::faults::phones::{by_null, by_string, says, wrong};
use crate::faults::site::Site;
use crate::harness::eventually;
use crate::product::digits;

use super::others;

/// Beyond `SESSION_TAIL` of the product: a phone that was given a certificate will not answer any more.
pub const PAST_THE_TAIL: i64 = 300;
/// When an expiring run expires, from the moment it is applied: late enough to be armed before.
const EXPIRES: SignedDuration = SignedDuration::from_secs(6);

/// One story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A proxy is created: its keys, certificates and bundle.
    Activation,
    /// A phone enrols By Null String.
    InstallByNull,
    /// A phone enrols with a generated string.
    InstallByString,
    /// Wrong strings until the operation is locked out; then the right one, in vain.
    LockOut,
    /// Nobody calls in time; then somebody does.
    Expiry,
    /// A new revision while the first run waits; then the phone enrols.
    SupersedePending,
    /// A new revision after a certificate was issued and never answered for; then the phone enrols.
    SupersedeInProgress,
    /// A phone with an LSC is told to delete it, By Null String.
    Delete,
    /// A phone shows its LSC and its MIC, By Null String.
    Troubleshoot,
    /// A phone with a live LSC enrols anew by it.
    InstallByLsc,
    /// A phone without an LSC enrols by its MIC.
    InstallByMic,
    /// An installation is asked for while a deletion waits; then the phone enrols.
    SupersedeDelete,
    /// An installation is asked for after a phone has deleted and never said so; then the phone enrols.
    SupersedeDeleteInProgress,
}

impl Scenario {
    /// The name of what the story is about; `number` differs from run to run.
    pub fn subject(self, number: usize) -> String {
        match self {
            Self::Activation => format!("extra-{number}-"),
            _ => format!("SEP{number:012X}"),
        }
    }

    /// Makes the installation fit for the story.
    pub async fn equip(self, site: &Site) {
        if self == Self::InstallByMic {
            others::equip_with_mic_roots(site).await;
        }
    }

    /// What was before the story begins: nothing goes wrong meanwhile, and none of it is counted.
    pub async fn prepare(self, site: &Site, subject: &str) {
        match self {
            Self::Delete | Self::InstallByLsc | Self::SupersedeDelete | Self::SupersedeDeleteInProgress => {
                others::installed(site, subject).await;
            }
            Self::Troubleshoot => {
                others::give_mic(site, subject);
                others::installed(site, subject).await;
            }
            Self::InstallByMic => others::give_mic(site, subject),
            _ => {}
        }
    }

    /// Plays it to its end, with everything that phones and people do, and says how it ended.
    pub async fn play(self, site: &Site, subject: &str) -> String {
        match self {
            Self::Activation => activation(site, subject),
            Self::InstallByNull => {
                site.apply(subject, &by_null()).await;
                site.pending(subject).await;
                enrolled(site, subject, Proof::NullString).await
            }
            Self::InstallByString => {
                site.apply(subject, &by_string()).await;
                let right = digits(&site.digits(&site.pending(subject).await).await);
                enrolled(site, subject, right).await
            }
            Self::LockOut => lock_out(site, subject).await,
            Self::Expiry => expiry(site, subject).await,
            Self::SupersedePending => {
                site.apply(subject, &by_string()).await;
                let first = site.pending(subject).await;
                let right = superseded(site, subject, &first).await;
                enrolled(site, subject, right).await
            }
            Self::SupersedeInProgress => {
                site.apply(subject, &by_null()).await;
                let first = site.pending(subject).await;
                in_progress(site, subject).await;
                site.move_clock(PAST_THE_TAIL);
                let right = superseded(site, subject, &first).await;
                let ending = enrolled(site, subject, right).await;
                // The endpoint's clock stands where it stood: too far ahead, and it would not believe a certificate.
                site.move_clock(-PAST_THE_TAIL);
                ending
            }
            Self::Delete => others::delete(site, subject).await,
            Self::Troubleshoot => others::troubleshoot(site, subject).await,
            Self::InstallByLsc => others::install_by_lsc(site, subject).await,
            Self::InstallByMic => others::install_by_mic(site, subject).await,
            Self::SupersedeDelete => others::supersede_delete(site, subject).await,
            Self::SupersedeDeleteInProgress => others::supersede_begun_delete(site, subject).await,
        }
    }
}

/// The phone calls until its operation is over.
pub async fn calls_until_over(site: &Site, device: &str, proof: Proof) -> CertificateOperation {
    site.calls_until_over(device, proof, Instant::now() + Duration::from_secs(60)).await.unwrap()
}

pub async fn enrolled(site: &Site, device: &str, proof: Proof) -> String {
    let over = calls_until_over(site, device, proof).await;
    assert_eq!(over.phase(), Phase::Successful, "{device}: {:?}", over.status);
    site.armed(device, "it is rolled up", |phone, _| says(phone) == Some("Install/Upgrade successful")).await;
    format!("Successful, the phone saw {}", site.disk(device).ending())
}

async fn lock_out(site: &Site, device: &str) -> String {
    site.apply(device, &by_string()).await;
    let right = site.digits(&site.pending(device).await).await;
    let over = calls_until_over(site, device, digits(&wrong(&right))).await;
    let status = over.status.unwrap();
    assert_eq!(status.reason, Some(Reason::LockedOut));
    assert_eq!(status.attempts.unwrap().authentication, 3, "each wrong string counted once");
    refused(site, device, digits(&right)).await;
    "Failed/LockedOut, and the right string came too late".into()
}

async fn expiry(site: &Site, device: &str) -> String {
    let mut settings = by_null();
    settings["operationCompletesBy"] = json!(Timestamp::now() + EXPIRES);
    site.apply(device, &settings).await;
    let over = site.armed(device, "it is over", |phone, _| says(phone) == Some("Install/Upgrade failed")).await;
    assert_eq!(over.status.unwrap().reason, Some(Reason::Expired));
    refused(site, device, Proof::NullString).await;
    "Failed/Expired, and the phone came too late".into()
}

/// A phone that is given nothing, once it is answered.
async fn refused(site: &Site, device: &str, proof: Proof) {
    let ended = site.simulated(device, proof).enrol().await;
    let given = matches!(ended.last, Ok(AttemptOutcome::NothingScheduled | AttemptOutcome::Refused { .. }));
    assert!(given, "{device}: {ended:?}");
}

/// The phone is given a certificate and loses its power before it has stored it.
async fn in_progress(site: &Site, device: &str) {
    cut_off(site, device, "certificate").await;
}

/// The phone loses its power when it has come to this step, without a word about it.
pub async fn cut_off(site: &Site, device: &str, step: &str) {
    let cut: Fault = format!("drop@{step}").parse().unwrap();
    eventually(&format!("{device} comes to {step}"), Duration::from_secs(60), || async {
        let mut phone = site.simulated(device, Proof::NullString).faults([cut]);
        let ended = phone.attempt().await;
        site.disk(device).step(step).next().map(drop).ok_or_else(|| format!("{ended:?}"))
    })
    .await
    .unwrap();
}

/// A new revision takes over; returns how the phone proves itself to it.
async fn superseded(site: &Site, device: &str, first: &CertificateOperation) -> Proof {
    site.patch(device, &json!({ "spec": { "revision": 1 } })).await;
    let first = first.name_any();
    let newer = |phone: &Phone, operation: &CertificateOperation| {
        operation.name_any() != first && says(phone) == Some("Install/Upgrade pending")
    };
    let second = site.armed(device, "the newer revision is pending", newer).await;
    match second.spec.authentication_mode {
        capf::api::AuthenticationMode::ByNullString => Proof::NullString,
        _ => digits(&site.digits(&second).await),
    }
}

fn activation(site: &Site, name: &str) -> String {
    let name = name.trim_end_matches('-');
    let proxy = format!(
        "apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {{name: {name}}}\nspec: {{placement: \
         External, keyType: EC, keySize: 256}}\n"
    );
    site.product.apply(&proxy);
    site.product.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", &format!("capf/{name}")]);
    let secret = |part: &str, key: &str| {
        let key = key.replace('.', "\\.");
        site.product.kubectl(&["get", "secret", &format!("{name}-{part}"), "-o", &format!("jsonpath={{.data.{key}}}")])
    };
    assert_eq!(secret("service", "tls.crt"), secret("endpoint", "tls.crt"), "endpoints present what is published");
    assert_eq!(secret("service", "tls.key"), secret("endpoint", "tls.key"));
    assert!(!secret("issuer", "tls.key").is_empty());
    "Ready".into()
}
