//! Whoever is not the phone is refused, each for its own reason, and nothing is written about it.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA512, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use capf::api::Reason;
use capf::authority::bundle::Bundle;
use capf::authority::client::RemoteAuthority;
use capf::authority::questions::{Authority as _, IssueAnswer, IssueRequest, OpenAnswer, OpenRequest};
use capf::phone::existing::evidence;
use capf::phone::{AttemptOutcome, PhoneKey, Proof, SimulatedPhone};
use capf::pki::possession::signed_data;
use capf::wire::{CertificateEvidence, Evidence, SessionId};

use crate::product::{BY_NULL, Options, Product, phone};
use crate::support::{
    LSC_FIRST, MIC_FIRST, Manufacturer, arm, enrolled, holding, lsc, refused, with_manufacturer, with_manufacturer_and,
};

/// A phone that proves itself with whatever this makes of a session.
async fn impostor(
    product: &Product,
    device: &str,
    prover: impl Fn(SessionId) -> Evidence + Send + Sync + 'static,
) -> SimulatedPhone {
    product.simulated(device, Proof::Made(Arc::new(prover))).await
}

fn changed(evidence: Evidence, change: impl FnOnce(&mut CertificateEvidence)) -> Evidence {
    let Evidence::Certificate(mut evidence) = evidence else { panic!("no certificate") };
    change(&mut evidence);
    Evidence::Certificate(evidence)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_the_phone_is_refused_for_a_reason_of_its_own_and_nothing_is_written() {
    let (product, manufacturer) = with_manufacturer("impostors").await;
    let (device, other) = ("SEP0000000AB001", "SEP0000000AB002");
    let live = lsc(&enrolled(&product, device, "keySize: 2048").await);
    let others = lsc(&enrolled(&product, other, "keyType: EC").await);
    let (mic, others_mic) = (manufacturer.mic(device, 2090), manufacturer.mic(other, 2090));
    let wrong_ca = Manufacturer::new();
    let (wrong_mic, wrong_lsc) = (wrong_ca.mic(device, 2090), wrong_ca.certificate(device, 2090));

    arm(&product, device, LSC_FIRST, 1).await;
    let mut another_lsc = holding(&product, device, Some(others), None).await;
    refused(&product, device, &mut another_lsc, "IdentityMismatch", "another phone's LSC").await;
    let mut another_mic = holding(&product, device, None, Some(others_mic)).await;
    refused(&product, device, &mut another_mic, "IdentityMismatch", "another phone's MIC").await;
    let mut forged = holding(&product, device, Some(wrong_lsc), None).await;
    refused(&product, device, &mut forged, "InvalidLSC", "an LSC of the right name from a wrong CA").await;
    let mut forged = holding(&product, device, None, Some(wrong_mic)).await;
    refused(&product, device, &mut forged, "InvalidMIC", "a MIC of the right name from a wrong CA").await;

    let sudi = mic.clone();
    let mut other_session = impostor(&product, device, move |session| {
        evidence(device, SessionId(session.0 ^ 1), None, Some((&sudi.0, &sudi.1)))
    })
    .await;
    refused(&product, device, &mut other_session, "InvalidMIC", "SUDI_DATA of another session").await;

    let padded = live.clone();
    let mut broken_padding = impostor(&product, device, move |session| {
        let proof = evidence(device, session, Some((&padded.0, &padded.1)), None);
        changed(proof, |proof| {
            // The hash stands where it should; a DigestInfo stands where padding should.
            let hash = digest(&SHA512, &signed_data(device, &padded.0));
            let info =
                [&[0x30, 0x51, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3, 5, 0, 4, 0x40], hash.as_ref()];
            proof.sha2_signed_data.as_mut().unwrap().signature = padded.1.sign_hash(&info.concat()).unwrap().into();
        })
    })
    .await;
    refused(&product, device, &mut broken_padding, "InvalidLSC", "a block that is right at its end only").await;

    let bent = live.clone();
    let mut wrong_name =
        impostor(&product, device, move |session| evidence(other, session, Some((&bent.0, &bent.1)), None)).await;
    refused(&product, device, &mut wrong_name, "InvalidLSC", "signatures over another name").await;

    let unsigned = live.clone();
    let mut no_key = impostor(&product, device, move |session| {
        let proof = evidence(device, session, Some((&unsigned.0, &unsigned.1)), None);
        changed(proof, |proof| (proof.signed_data, proof.sha2_signed_data) = (None, None))
    })
    .await;
    refused(&product, device, &mut no_key, "InvalidLSC", "a certificate anybody could have seen").await;

    // After all that the phone itself is let in, at its first try.
    let mut itself = holding(&product, device, Some(live), Some(mic)).await;
    let outcome = itself.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{outcome:?}");
    product.operation_status("sep0000000ab001", "Install/Upgrade successful").await;

    // It was seen with its MIC, so without one it is not believed any more.
    arm(&product, device, MIC_FIRST, 2).await;
    let mut without = holding(&product, device, Some(lsc(&itself)), None).await;
    refused(&product, device, &mut without, "InvalidMIC", "the MIC left out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_data_can_be_sent_again_until_its_certificate_is_replaced_and_not_after() {
    let (product, _) = with_manufacturer("replay").await;
    let device = "SEP0000000AB003";
    let live = lsc(&enrolled(&product, device, "keyType: EC").await);
    arm(&product, device, LSC_FIRST, 1).await;
    let heard: Arc<Mutex<Option<Evidence>>> = Arc::default();
    let (ear, own) = (Arc::clone(&heard), live.clone());
    let prover = move |session| {
        let proof = evidence(device, session, Some((&own.0, &own.1)), None);
        *ear.lock().unwrap() = Some(proof.clone());
        proof
    };
    let mut genuine = impostor(&product, device, prover).await.faults(["drop@key:1".parse().unwrap()]);
    genuine.attempt().await.unwrap_err();
    let again = heard.lock().unwrap().clone().unwrap();
    let sent = again.clone();
    let mut replayed = impostor(&product, device, move |_| sent.clone()).await.faults(["drop@key:1".parse().unwrap()]);
    replayed.attempt().await.expect_err("as SECURITY.md says, it gets as far as the phone did");
    let outcome = genuine.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{outcome:?}");
    product.operation_status("sep0000000ab003", "Install/Upgrade successful").await;
    arm(&product, device, LSC_FIRST, 2).await;
    let mut replayed = impostor(&product, device, move |_| again.clone()).await;
    refused(&product, device, &mut replayed, "Superseded", "what was heard before the upgrade").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_was_forged_or_is_used_in_another_session_signs_nothing() {
    let (product, _) = with_manufacturer("tickets").await;
    let device = "SEP0000000AB004";
    product.apply(&phone(device, BY_NULL));
    product.operation_status("sep0000000ab004", "Install/Upgrade pending").await;
    let controllers = RemoteAuthority::new(&Bundle::read(&product.folder.path().join("bundle")).unwrap()).unwrap();
    let open = OpenRequest {
        device_name: device.into(),
        version: 3,
        session_id: 7,
        digits: None,
        certificate: false,
        proof: None,
        source: None,
    };
    let OpenAnswer::Install { ticket, .. } = controllers.open(open).await.unwrap().answer else { panic!("not let in") };
    let key = PhoneKey::generate("RSA-2048".parse().unwrap()).unwrap();
    let issue =
        |ticket: String, session_id| IssueRequest { ticket, session_id, public_key: key.public().spki().into() };
    let version = product.armed("sep0000000ab004").await.metadata.resource_version;
    for (what, request) in [
        ("forged", issue(ticket.replace(device, "SEP0000000AB005"), 7)),
        ("of another session", issue(ticket.clone(), 8)),
        ("without its seal", issue(ticket[1..].to_owned(), 7)),
    ] {
        let answer = controllers.issue(request).await.unwrap();
        assert_eq!(answer, IssueAnswer::Refused { reason: Reason::InvalidCredentials }, "{what}");
    }
    assert_eq!(product.armed("sep0000000ab004").await.metadata.resource_version, version, "nothing was written");
    assert!(matches!(controllers.issue(issue(ticket, 7)).await.unwrap(), IssueAnswer::Issued { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_phone_has_is_rejected() {
    let (product, _) = with_manufacturer("shared").await;
    let key = PhoneKey::generate("EC-P256".parse().unwrap()).unwrap();
    for (device, taken) in [("SEP0000000AB006", false), ("SEP0000000AB007", true)] {
        product.apply(&phone(device, &format!("{BY_NULL}, keyType: EC")));
        product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
        let mut simulated = product.simulated(device, Proof::NullString).await.prepared_key(key.clone());
        simulated.attempt().await.unwrap();
        let wanted = if taken { "Install/Upgrade failed" } else { "Install/Upgrade successful" };
        product.operation_status(&device.to_lowercase(), wanted).await;
    }
    let status = product.armed("sep0000000ab007").await.status.unwrap();
    assert_eq!(status.reason, Some(Reason::KeyRejected));
    assert!(status.message.unwrap().contains("sep0000000ab006"), "the message names the other phone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_phone_signed_is_found_in_no_log_and_no_resource() {
    let options = Options { log_level: "trace", ..Options::default() };
    let (product, manufacturer) = with_manufacturer_and("unlogged", options).await;
    let device = "SEP0000000AB008";
    let live = lsc(&enrolled(&product, device, "keySize: 2048").await);
    let mic = manufacturer.mic(device, 2090);
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let ear = Arc::clone(&heard);
    let mut simulated = impostor(&product, device, move |session| {
        let proof = evidence(device, session, Some((&live.0, &live.1)), Some((&mic.0, &mic.1)));
        let Evidence::Certificate(parts) = &proof else { panic!("no certificate") };
        let mut signed = vec![parts.signed_data.clone().unwrap(), parts.sha2_signed_data.clone().unwrap().signature];
        signed.extend(parts.sudi.as_ref().unwrap().signatures.iter().map(|one| one.signature.clone()));
        ear.lock().unwrap().extend(signed.into_iter().map(capf::wire::Octets::into_vec));
        proof
    })
    .await;
    arm(&product, device, LSC_FIRST, 1).await;
    simulated.attempt().await.unwrap();
    product.operation_status(&device.to_lowercase(), "Install/Upgrade successful").await;
    let logs = product.logs();
    assert!(logs.contains("TRACE") || logs.contains("DEBUG"), "the logs are not at the level of this test");
    let resources = product.kubectl(&["get", "capf,phones,certificateoperations,events", "-o", "yaml"]);
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 4);
    for signature in heard.iter() {
        let part = &signature[15..45];
        let decimal = part.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let hex: String = part.iter().map(|octet| format!("{octet:02x}")).collect();
        for needle in [BASE64_STANDARD.encode(part), decimal, hex] {
            assert!(!logs.to_lowercase().contains(&needle.to_lowercase()), "a signature stands in a log");
            assert!(!resources.to_lowercase().contains(&needle.to_lowercase()), "a signature stands in a resource");
        }
    }
}
