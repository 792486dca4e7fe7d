//! Mode × what the phone holds: every cell has its ending.

use capf::api::{Phase, PhoneCertificate};
use capf::phone::{AttemptOutcome, Proof, StateDir};
use capf::pki::CertificateFacts;

use crate::harness::eventually;
use crate::product::{PATIENCE, text};
use crate::support::{
    LSC_FIRST, MIC_FIRST, arm, arm_to, enrolled, holding, in_state, lsc, old_mic, patch_proxy, refused, set_roots,
    with_manufacturer,
};

/// What the phone holds, and what it is let in by, or the reason it is not, with precedence to the LSC and to the MIC.
const CELLS: &[(&str, &str, &str)] = &[
    ("no certificate", "NoCertificate", "NoCertificate"),
    ("LSC", "LSC", "LSC"),
    ("MIC", "MIC", "MIC"),
    ("both", "LSC", "MIC"),
    ("expired MIC", "MICExpired", "MICExpired"),
    ("LSC and expired MIC", "LSC", "MICExpired"),
    ("foreign LSC", "InvalidLSC", "InvalidLSC"),
    ("LSC of another device", "IdentityMismatch", "IdentityMismatch"),
    ("superseded LSC", "Superseded", "Superseded"),
    ("512-bit LSC", "InvalidLSC", "InvalidLSC"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_mode_and_phone_state_has_its_ending() {
    let (product, manufacturer) = with_manufacturer("matrix").await;
    for (row, (state, lsc_first, mic_first)) in CELLS.iter().enumerate() {
        for (column, (mode, wanted)) in [(LSC_FIRST, lsc_first), (MIC_FIRST, mic_first)].into_iter().enumerate() {
            let (device, what) = (format!("SEP0000000F{row:02}{column:02}"), format!("{state}, {mode}"));
            let mut simulated = in_state(&product, &manufacturer, &device, state).await;
            arm(&product, &device, mode, 9).await;
            let used = match *wanted {
                "LSC" => PhoneCertificate::LSC,
                "MIC" => PhoneCertificate::MIC,
                reason => {
                    refused(&product, &device, &mut simulated, reason, &what).await;
                    let operation = product.armed(&device.to_lowercase()).await;
                    assert_eq!(operation.phase(), Phase::Pending, "{what}: it waits on");
                    assert_eq!(operation.status_or_default().attempts, None, "{what}: no try of the device's is spent");
                    continue;
                }
            };
            let outcome = simulated.attempt().await.unwrap();
            assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{what}: {outcome:?}");
            let phone = product.operation_status(&device.to_lowercase(), "Install/Upgrade successful").await;
            let status = product.armed(&device.to_lowercase()).await.status.unwrap();
            let evidence = status.evidence.unwrap();
            assert_eq!((evidence.used, status.authenticated_by.as_deref()), (used, Some(*wanted)), "{what}");
            let verified = |held: Option<bool>, name: &str| {
                let told = evidence_of(held);
                assert_eq!(told, state_of(state, name), "{what}: {name}");
            };
            verified(evidence.lsc.as_ref().map(|lsc| lsc.verified), "LSC");
            verified(evidence.mic.as_ref().map(|mic| mic.verified), "MIC");
            let fingerprint = evidence.mic.filter(|mic| mic.verified).map(|mic| mic.sha256_fingerprint);
            let remembered = phone.status.unwrap().mic;
            assert!(remembered.iter().all(|mic| mic.verified), "{what}");
            let remembered = remembered.map(|mic| mic.sha256_fingerprint);
            assert_eq!(remembered, fingerprint, "{what}: a MIC that was verified is remembered");
            println!("{what}: let in by {wanted}");
        }
    }
}

fn evidence_of(verified: Option<bool>) -> &'static str {
    match verified {
        None => "not offered",
        Some(true) => "verified",
        Some(false) => "not verified",
    }
}

/// What a cell that is let in tells of each certificate.
fn state_of(state: &str, name: &str) -> &'static str {
    match (state, name) {
        ("both", _) | ("LSC" | "LSC and expired MIC", "LSC") | ("MIC", "MIC") => "verified",
        ("LSC and expired MIC", "MIC") => "not verified",
        _ => "not offered",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_upgrade_the_new_lsc_authenticates_and_the_old_one_does_not() {
    let (product, manufacturer) = with_manufacturer("upgrade").await;
    let device = "SEP0000000F1000";
    let mut simulated = enrolled(&product, device, "keyType: EC").await;
    let mic = manufacturer.mic(device, 2090);
    simulated = simulated.holding_mic(mic.0, mic.1);
    let mut serials = Vec::new();
    for revision in 1..=3 {
        let old = lsc(&simulated);
        arm(&product, device, LSC_FIRST, revision).await;
        let outcome = simulated.attempt().await.unwrap();
        assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "revision {revision}: {outcome:?}");
        let status = product.operation_status("sep0000000f1000", "Install/Upgrade successful").await.status.unwrap();
        let live = CertificateFacts::from_der(simulated.lsc().unwrap()).unwrap().serial;
        assert_eq!(status.lsc.unwrap().serial_number, live);
        serials.push(live);
        arm(&product, device, LSC_FIRST, revision + 10).await;
        let mut replaced = holding(&product, device, Some(old), None).await;
        refused(&product, device, &mut replaced, "Superseded", "the LSC that was replaced").await;
    }
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_certificate_authenticates_the_call_after_it_as_the_one_before_does() {
    let (product, _) = with_manufacturer("unconfirmed").await;
    let device = "SEP0000000F2000";
    let before = lsc(&enrolled(&product, device, "keyType: EC").await);
    arm(&product, device, LSC_FIRST, 1).await;
    // It stores the new one, and its line breaks before it can say so.
    let mut simulated = holding(&product, device, Some(before.clone()), None).await;
    simulated = simulated.faults(["drop@stored:1".parse().unwrap()]);
    simulated.attempt().await.unwrap_err();
    assert_ne!(lsc(&simulated).0, before.0);
    let mut with_old = holding(&product, device, Some(before), None).await.faults(["drop@key:1".parse().unwrap()]);
    with_old.attempt().await.unwrap_err();
    let outcome = simulated.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{outcome:?}");
    product.operation_status("sep0000000f2000", "Install/Upgrade successful").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mic_of_twenty_years_ago_lets_its_phone_in_and_an_expired_one_as_the_policy_says() {
    let (product, manufacturer) = with_manufacturer("old").await;
    let (old, root) = old_mic(product.folder.path(), "SEP0000000F3000");
    set_roots(&product, &format!("{}{root}", manufacturer.pem));
    arm(&product, "SEP0000000F3000", MIC_FIRST, 1).await;
    // Roots are kept for a minute where they were read already; here nobody has asked before.
    let mut simulated = holding(&product, "SEP0000000F3000", None, Some(old)).await;
    let outcome = simulated.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{outcome:?}");

    let device = "SEP0000000F3001";
    arm(&product, device, MIC_FIRST, 1).await;
    let expired = manufacturer.mic(device, 2020);
    let mut simulated = holding(&product, device, None, Some(expired)).await;
    let policy = |policy: &str| format!(r#"{{"spec":{{"expiredMIC":{policy}}}}}"#);
    for (told, allowed) in [
        (r#"{"policy":"Reject","until":null}"#, false),
        (r#"{"policy":"AllowUntil","until":"2021-01-01T00:00:00Z"}"#, false),
        (r#"{"policy":"AllowUntil","until":"2190-01-01T00:00:00Z"}"#, true),
    ] {
        patch_proxy(&product, &policy(told)).await;
        match allowed {
            false => refused(&product, device, &mut simulated, "MICExpired", told).await,
            true => {
                let outcome = simulated.attempt().await.unwrap();
                assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{told}: {outcome:?}");
            }
        }
    }
    eventually("the MIC is remembered", PATIENCE, || async {
        product.phone("sep0000000f3001").await.status.and_then(|status| status.mic).is_some()
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn capf_phone_upgrades_itself_by_the_certificate_in_its_directory() {
    let (product, _) = with_manufacturer("command").await;
    let device = "SEP0000000F4000";
    let (der, key) = lsc(&enrolled(&product, device, "keyType: EC").await);
    let folder = product.folder.path().join("phone");
    StateDir::open(&folder).unwrap().keep_lsc(&der, &key).unwrap();
    let ctl = product.folder.path().join("CAPF.cer");
    std::fs::write(&ctl, product.ctl().await).unwrap();
    for revision in 1..=2 {
        arm(&product, device, LSC_FIRST, revision).await;
        let (state, ctl) = (text(&folder), text(&ctl));
        let arguments =
            ["phone", "--server", &product.address, "--device-name", device, "--state", &state, "--ctl", &ctl];
        product.capf(None, &[&arguments[..], &["--certificate"]].concat());
        product.operation_status(&device.to_lowercase(), "Install/Upgrade successful").await;
    }
    let (now, _) = StateDir::open(&folder).unwrap().lsc().unwrap().unwrap();
    assert_ne!(now, der);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_lets_its_phone_in_to_delete_and_to_troubleshoot_as_well() {
    let (product, manufacturer) = with_manufacturer("others").await;
    let device = "SEP0000000F5000";
    let simulated = enrolled(&product, device, "keyType: EC").await;
    let mic = manufacturer.mic(device, 2090);
    let mut simulated = simulated.holding_mic(mic.0, mic.1);
    arm_to(&product, device, "Troubleshoot", MIC_FIRST, 1).await;
    let outcome = simulated.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Fetched { .. }), "{outcome:?}");
    let phone = product.operation_status(&device.to_lowercase(), "Troubleshoot successful").await;
    let shown = product.armed(&device.to_lowercase()).await.status.unwrap();
    assert_eq!(shown.evidence.unwrap().used, PhoneCertificate::MIC);
    assert!(shown.mic.unwrap().verified, "what Troubleshoot was shown is what proved the phone");
    assert!(phone.status.unwrap().mic.unwrap().verified);

    arm_to(&product, device, "Delete", LSC_FIRST, 2).await;
    let mut nobody = product.simulated(device, Proof::NullString).await;
    refused(&product, device, &mut nobody, "InvalidMIC", "whoever shows nothing deletes nothing").await;
    let outcome = simulated.attempt().await.unwrap();
    assert_eq!(outcome, AttemptOutcome::Deleted { had_one: true });
    let phone = product.operation_status(&device.to_lowercase(), "Delete successful").await;
    assert_eq!(phone.status.unwrap().lsc, None);
    let evidence = product.armed(&device.to_lowercase()).await.status.unwrap().evidence.unwrap();
    assert_eq!(evidence.used, PhoneCertificate::LSC);
    assert!(evidence.mic.unwrap().verified);
}
