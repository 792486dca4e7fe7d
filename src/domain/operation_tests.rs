//! Deleting, troubleshooting, upgrading, and what of it is remembered: situations and what is done about them.

use serde_json::{Value, json};

use super::existing::Proven;
use super::phone::Step;
use super::phone_tests::Cluster;
use super::testing::{at, issued, operation};
use super::transition::{Event, NotPossible, advance};
use crate::api::{
    AuthenticationMode, CertificateEvidence, CertificateOperation, CertificateOperationKind, CertificateTrace,
    ConditionType, LscState, MicSummary, Phase, PhoneCertificate, Reason, RequestedBy, TraceVerdict,
};

fn asks_for(operation: &str) -> Value {
    json!({"certificateOperation": operation, "authenticationMode": "ByNullString"})
}

fn mic() -> MicSummary {
    MicSummary {
        subject: "CN=CP-8841-SEP001".into(),
        issuer: "CN=Cisco Manufacturing CA".into(),
        serial_number: "17".into(),
        sha256_fingerprint: "f1".into(),
        not_after: at(9_000),
        seen_at: at(5),
        verified: false,
    }
}

fn begun() -> Event {
    Event::Begun { authenticated_by: "ByNullString".into(), evidence: None, spent_string: None }
}

fn fetched(asked: PhoneCertificate, verdict: Option<TraceVerdict>, last: bool) -> Event {
    let kind = verdict.filter(|v| *v != TraceVerdict::Missing).map(|_| asked);
    let trace = CertificateTrace { asked, kind, verdict, note: None, certificate: None, seen_at: at(5) };
    let mic = (asked == PhoneCertificate::MIC && kind.is_some()).then(mic);
    Event::Fetched {
        trace: Box::new(trace),
        mic,
        last,
        authenticated_by: "ByNullString".into(),
        evidence: None,
        spent_string: None,
    }
}

/// A phone with an LSC whose next operation is armed.
fn with_lsc_and_then(settings: Value) -> (Cluster, String) {
    let mut cluster = Cluster::with(asks_for("InstallUpgrade"));
    cluster.settle();
    cluster.succeed();
    cluster.edit(settings);
    cluster.settle();
    let name = cluster.status().operation.clone().unwrap().name;
    (cluster, name)
}

fn non_secure(operation: &str) -> Value {
    json!({"certificateOperation": operation, "deviceSecurityMode": "NonSecure"})
}

#[test]
fn a_deletion_is_successful_when_the_phone_says_so_and_its_lsc_authenticates_no_more() {
    let (mut cluster, name) = with_lsc_and_then(non_secure("Delete"));
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Delete pending"));
    assert!(cluster.operations[1].spec.key_size.is_none(), "nothing is made");
    cluster.happen(&name, begun());
    assert!(cluster.status().lsc.is_some(), "it may have to prove itself by it until it is gone");
    cluster.happen(&name, Event::Deleted { had_one: true });
    cluster.settle();
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Delete successful"));
    assert_eq!((cluster.status().lsc_state, &cluster.status().lsc), (LscState::NotInstalled, &None));
    assert_eq!(cluster.condition(ConditionType::Succeeded).unwrap(), ("True".into(), "Successful".into()));
}

#[test]
fn a_deletion_that_is_never_answered_for_leaves_the_lsc_unknown_and_one_that_is_refused_does_not() {
    let rejected = |reason| Event::Rejected { reason, message: "no".into(), sha256_fingerprint: None };
    for (ending, known) in [
        (Event::Ended { reason: Reason::Expired, message: "late".into() }, LscState::Unknown),
        (rejected(Reason::UserAborted), LscState::Unknown),
        (rejected(Reason::PhoneRejected), LscState::Installed),
    ] {
        let (mut cluster, name) = with_lsc_and_then(non_secure("Delete"));
        cluster.happen(&name, begun());
        cluster.happen(&name, ending);
        cluster.settle();
        assert_eq!(cluster.status().lsc_state, known);
        assert!(cluster.status().lsc.is_some(), "where it is still there it is still the phone's");
    }
    // Never begun: nothing can have happened to it.
    let (mut cluster, name) = with_lsc_and_then(non_secure("Delete"));
    cluster.happen(&name, Event::Ended { reason: Reason::Expired, message: "late".into() });
    cluster.settle();
    assert_eq!(cluster.status().lsc_state, LscState::Installed);
}

#[test]
fn nothing_to_delete_is_a_success_that_says_so() {
    let (mut cluster, name) = with_lsc_and_then(non_secure("Delete"));
    cluster.happen(&name, begun());
    cluster.happen(&name, Event::Deleted { had_one: false });
    cluster.settle();
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Delete successful"));
    assert_eq!(cluster.condition(ConditionType::Succeeded).unwrap(), ("True".into(), "NothingToDelete".into()));
    assert_eq!((cluster.status().lsc_state, &cluster.status().lsc), (LscState::NotInstalled, &None));
}

#[test]
fn a_phone_without_a_mic_is_not_left_without_any_certificate() {
    for (mode, mic_known, armed) in [
        (None, false, false),
        (Some("Authenticated"), false, false),
        (Some("Encrypted"), false, false),
        (Some("NonSecure"), false, true),
        (None, true, true),
        (Some("Encrypted"), true, true),
    ] {
        let mut cluster = Cluster::with(asks_for("InstallUpgrade"));
        cluster.settle();
        cluster.succeed();
        cluster.phone.as_mut().unwrap().status.as_mut().unwrap().mic = mic_known.then(mic);
        cluster.edit(json!({"certificateOperation": "Delete", "deviceSecurityMode": mode}));
        cluster.settle();
        assert_eq!(cluster.operations.len() == 2, armed, "{mode:?} {mic_known}");
        let stalled = cluster.condition(ConditionType::Stalled).map(|(_, reason)| reason);
        assert_eq!(stalled, (!armed).then(|| "PolicyDenied".to_owned()), "{mode:?} {mic_known}");
        // The advice is followed.
        cluster.edit(json!({"deviceSecurityMode": "NonSecure"}));
        cluster.settle();
        assert_eq!(cluster.operations.len(), 2, "{mode:?} {mic_known}: armed, once");
    }
}

#[test]
fn a_deletion_that_a_person_applied_is_refused_with_the_same_advice() {
    let mut cluster = Cluster::with(json!({}));
    let mut applied = operation("by-hand", at(1_000));
    applied.spec.requested_by = RequestedBy::Person;
    applied.spec.certificate_operation = CertificateOperationKind::Delete;
    cluster.operations.push(applied);
    cluster.settle();
    let status = cluster.operations[0].status_or_default();
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::PolicyDenied)));
    assert!(status.message.unwrap().contains("deviceSecurityMode: NonSecure"));
}

#[test]
fn troubleshoot_ends_when_both_certificates_were_asked_for_and_the_mic_stays_known() {
    let (mut cluster, name) = with_lsc_and_then(asks_for("Troubleshoot"));
    cluster.happen(&name, fetched(PhoneCertificate::LSC, Some(TraceVerdict::Same), false));
    assert_eq!(cluster.phases(), [Phase::Successful, Phase::InProgress]);
    // The phone came again.
    cluster.happen(&name, fetched(PhoneCertificate::LSC, Some(TraceVerdict::Same), false));
    cluster.happen(&name, fetched(PhoneCertificate::MIC, Some(TraceVerdict::Same), true));
    cluster.settle();
    assert_eq!(cluster.operations[1].status_or_default().traces.len(), 2);
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Troubleshoot successful"));
    assert_eq!(cluster.status().mic, Some(mic()));
    assert_eq!(cluster.status().lsc_state, LscState::Installed);
    assert!(cluster.status().lsc.is_some());
    // It needs no word about the security mode any more.
    cluster.edit(asks_for("Delete"));
    cluster.settle();
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Delete pending"));
}

#[test]
fn an_lsc_that_the_phone_says_it_does_not_hold_authenticates_nobody() {
    let (mut cluster, name) = with_lsc_and_then(asks_for("Troubleshoot"));
    cluster.happen(&name, fetched(PhoneCertificate::LSC, Some(TraceVerdict::Missing), true));
    cluster.settle();
    assert_eq!((cluster.status().lsc_state, &cluster.status().lsc), (LscState::NotInstalled, &None));
}

#[test]
fn an_lsc_that_is_not_the_live_one_changes_nothing_of_what_authenticates() {
    for verdict in [TraceVerdict::Other, TraceVerdict::Stale, TraceVerdict::Expired] {
        let (mut cluster, name) = with_lsc_and_then(asks_for("Troubleshoot"));
        let live = cluster.status().lsc.clone();
        cluster.happen(&name, fetched(PhoneCertificate::LSC, Some(verdict), true));
        cluster.settle();
        assert_eq!((cluster.status().lsc_state, &cluster.status().lsc), (LscState::Installed, &live), "{verdict:?}");
    }
}

#[test]
fn a_phone_that_will_show_nothing_fails_and_one_that_shows_one_certificate_does_not() {
    let (mut cluster, name) = with_lsc_and_then(asks_for("Troubleshoot"));
    cluster.happen(&name, fetched(PhoneCertificate::LSC, None, false));
    let one_shown = {
        let mut other = cluster.operations[1].clone();
        let event = fetched(PhoneCertificate::MIC, Some(TraceVerdict::Missing), true);
        other.status = Some(advance(&other, event, at(6)).unwrap());
        other
    };
    assert_eq!(one_shown.phase(), Phase::Successful);
    cluster.happen(&name, fetched(PhoneCertificate::MIC, None, true));
    cluster.settle();
    assert_eq!(cluster.status().operation.as_ref().unwrap().reason, Some(Reason::PhoneRejected));
    assert!(cluster.status().lsc.is_some());
}

#[test]
fn an_upgrade_leaves_the_old_lsc_live_until_the_phone_says_that_it_has_the_new_one() {
    let (mut cluster, name) = with_lsc_and_then(json!({"revision": 2}));
    let issue = |fingerprint: &str| Event::Issued {
        certificate: issued(fingerprint, at(10)),
        authenticated_by: "ByNullString".into(),
        evidence: None,
        spent_string: None,
    };
    cluster.happen(&name, issue("bb"));
    cluster.settle();
    assert_eq!(cluster.status().lsc.as_ref().unwrap().sha256_fingerprint, "aa");
    // The upgrade comes to nothing: the old one goes on.
    let mut failed = cluster.operations[1].clone();
    let ended = Event::Ended { reason: Reason::Expired, message: "late".into() };
    failed.status = Some(advance(&failed, ended, at(20)).unwrap());
    let confirmed = std::mem::replace(&mut cluster.operations[1], failed);
    cluster.settle();
    assert_eq!(cluster.status().lsc.as_ref().unwrap().sha256_fingerprint, "aa");
    assert_eq!(cluster.status().lsc_state, LscState::Installed);
    // It goes well: the new one is the live one.
    cluster.operations[1] = confirmed;
    cluster.happen(&name, Event::Stored { sha256_fingerprint: "bb".into() });
    cluster.settle();
    assert_eq!(cluster.status().lsc.as_ref().unwrap().sha256_fingerprint, "bb");
}

#[test]
fn each_event_is_refused_by_an_operation_of_another_kind() {
    let of_kind = |kind| {
        let mut operation = operation("sep001-1", at(1_000));
        operation.spec.certificate_operation = kind;
        operation
    };
    let issue = Event::Issued {
        certificate: issued("aa", at(1)),
        authenticated_by: "ByNullString".into(),
        evidence: None,
        spent_string: None,
    };
    let fetch = fetched(PhoneCertificate::LSC, Some(TraceVerdict::Same), true);
    for (event, own) in [
        (issue, CertificateOperationKind::InstallUpgrade),
        (begun(), CertificateOperationKind::Delete),
        (fetch, CertificateOperationKind::Troubleshoot),
    ] {
        for kind in [
            CertificateOperationKind::InstallUpgrade,
            CertificateOperationKind::Delete,
            CertificateOperationKind::Troubleshoot,
        ] {
            let done = advance(&of_kind(kind), event.clone(), at(2));
            assert_eq!(done.is_ok(), kind == own, "{event:?} of {kind:?}");
        }
    }
    // Deleted is said of a deletion that is on record as begun, and of no other.
    let early = advance(&of_kind(CertificateOperationKind::Delete), Event::Deleted { had_one: true }, at(2));
    assert!(matches!(early, Err(NotPossible::OtherKind(_))));
}

#[test]
fn what_is_begun_in_time_may_be_answered_for_later_and_nothing_is_begun_too_late() {
    let mut deletion = operation("sep001-1", at(100));
    deletion.spec.certificate_operation = CertificateOperationKind::Delete;
    assert!(matches!(advance(&deletion, begun(), at(100)), Err(NotPossible::PastDeadline(..))));
    deletion.status = Some(advance(&deletion, begun(), at(99)).unwrap());
    let deleted = advance(&deletion, Event::Deleted { had_one: true }, at(101)).unwrap();
    assert_eq!(deleted.phase, Phase::Successful);
    let mut fetch = operation("sep001-2", at(100));
    fetch.spec.certificate_operation = CertificateOperationKind::Troubleshoot;
    let shown = |asked, last| fetched(asked, Some(TraceVerdict::Same), last);
    assert!(advance(&fetch, shown(PhoneCertificate::LSC, false), at(100)).is_err());
    fetch.status = Some(advance(&fetch, shown(PhoneCertificate::LSC, false), at(99)).unwrap());
    assert_eq!(advance(&fetch, shown(PhoneCertificate::MIC, true), at(101)).unwrap().phase, Phase::Successful);
}

#[test]
fn a_newer_request_waits_for_the_session_that_deletes() {
    let (mut cluster, name) = with_lsc_and_then(non_secure("Delete"));
    cluster.now = at(1_000);
    cluster.happen(&name, begun());
    cluster.edit(json!({"revision": 9}));
    assert_eq!(cluster.step(), Step::Rest { wake: Some(at(1_000 + 254)) });
    cluster.happen(&name, Event::Deleted { had_one: true });
    cluster.settle();
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Delete pending"));
    assert_eq!((cluster.status().lsc_state, &cluster.status().lsc), (LscState::NotInstalled, &None));
}

#[test]
fn an_lsc_that_is_stored_while_a_newer_request_waits_is_the_live_one() {
    let (mut cluster, name) = with_lsc_and_then(json!({"revision": 2, "authenticationMode": "ByAuthenticationString"}));
    let certificate = issued("bb", at(10));
    cluster.happen(
        &name,
        Event::Issued { certificate, authenticated_by: "string".into(), evidence: None, spent_string: None },
    );
    cluster.edit(json!({"revision": 3}));
    cluster.happen(&name, Event::Stored { sha256_fingerprint: "bb".into() });
    let steps = cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Successful, Phase::Successful, Phase::Pending]);
    assert_eq!(cluster.status().lsc.as_ref().unwrap().sha256_fingerprint, "bb");
    let discarded = |step: &&Step| matches!(step, Step::WriteStatus { discard_strings_of, .. } if discard_strings_of.contains(&name));
    assert_eq!(steps.iter().filter(discarded).count(), 1, "{steps:#?}");
}

#[test]
fn a_string_is_remembered_when_its_operation_is_pruned() {
    let mut cluster = Cluster::with(asks_for("InstallUpgrade"));
    cluster.proxy.as_mut().unwrap().spec.operations_history_limit = Some(0);
    let mut settled = 0;
    for revision in 0..20 {
        cluster.edit(json!({"revision": revision}));
        cluster.now = at(revision * 1_000);
        let steps = cluster.settle();
        settled += steps.iter().filter(|step| matches!(step, Step::Prune { .. })).count();
        let name = cluster.status().operation.clone().unwrap().name;
        own(&mut cluster.operations);
        let certificate = issued(&format!("{revision:02}"), cluster.now);
        let spent_string = Some(format!("digest-{revision:02}"));
        let issue = Event::Issued { certificate, authenticated_by: "string".into(), evidence: None, spent_string };
        cluster.happen(&name, issue);
        cluster.happen(&name, Event::Stored { sha256_fingerprint: format!("{revision:02}") });
        cluster.settle();
        assert_eq!(cluster.operations.len(), 1, "the one that is named stays");
        assert!(cluster.status().spent_strings.contains(&format!("digest-{revision:02}")));
    }
    assert_eq!(settled, 19);
    let remembered = &cluster.status().spent_strings;
    assert_eq!((remembered.len(), remembered[0].as_str(), remembered[7].as_str()), (8, "digest-12", "digest-19"));
}

#[test]
fn more_used_up_strings_than_are_remembered_do_not_make_the_status_go_round() {
    let mut cluster = Cluster::with(asks_for("InstallUpgrade"));
    cluster.proxy.as_mut().unwrap().spec.operations_history_limit = Some(100);
    for number in 0..20_i64 {
        let mut over = operation(&format!("old-{number}"), at(1_000));
        over.spec.authentication_mode = AuthenticationMode::ByAuthenticationString;
        let ended = Event::WrongString { limit: 1, session_id: 1, spent_string: Some(format!("digest-{number:02}")) };
        over.status = Some(advance(&over, ended, at(number)).unwrap());
        cluster.operations.push(over);
    }
    cluster.settle();
    assert_eq!(cluster.settle(), []);
    assert_eq!(cluster.status().spent_strings.len(), 8);
    assert_eq!(cluster.status().spent_strings[7], "digest-19");
}

/// Owned by the phone, as the controller makes them.
fn own(operations: &mut [CertificateOperation]) {
    for operation in operations {
        let owner = k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            uid: "phone-uid".into(),
            controller: Some(true),
            ..Default::default()
        };
        operation.metadata.owner_references = Some(vec![owner]);
    }
}

#[test]
fn a_mic_that_proved_its_phone_is_remembered_and_gives_way_to_no_other_that_was_only_shown() {
    for verified in [false, true] {
        let mut cluster = Cluster::with(asks_for("InstallUpgrade"));
        cluster.settle();
        let name = cluster.status().operation.clone().unwrap().name;
        let proof = MicSummary { sha256_fingerprint: "f2".into(), verified, ..mic() };
        let evidence = CertificateEvidence { used: PhoneCertificate::LSC, lsc: None, mic: None };
        let mic_of_proof = verified.then(|| proof.clone());
        let issue = Event::Issued {
            certificate: issued("aa", at(1)),
            authenticated_by: "LSC".into(),
            evidence: Some(Proven { evidence, mic: mic_of_proof }),
            spent_string: None,
        };
        cluster.happen(&name, issue);
        cluster.happen(&name, Event::Stored { sha256_fingerprint: "aa".into() });
        cluster.settle();
        assert_eq!(cluster.status().mic, verified.then(|| proof.clone()));
        cluster.edit(asks_for("Troubleshoot"));
        cluster.settle();
        let name = cluster.status().operation.clone().unwrap().name;
        cluster.happen(&name, fetched(PhoneCertificate::LSC, Some(TraceVerdict::Same), false));
        cluster.happen(&name, fetched(PhoneCertificate::MIC, Some(TraceVerdict::Other), true));
        cluster.settle();
        let remembered = if verified { proof } else { mic() };
        assert_eq!(cluster.status().mic, Some(remembered));
    }
}
