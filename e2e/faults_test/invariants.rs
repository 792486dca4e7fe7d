//! Each invariant can be seen to be broken: a good history passes every check, and each way to spoil it is found.

use std::collections::BTreeMap;

use capf::api::{CertificateOperation, Phase, Phone, Reason};
use capf::pki::CertificateFacts;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::faults::disk::{PhoneDisk, PhoneEvent};
use crate::faults::history::{History, Seen};
use crate::faults::invariants::{Invariant, Serials, at_rest, no_secret, of_history, quiet};

pub const DEVICE: &str = "SEP000000000001";

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A certificate for the device: PEM and facts.
pub fn certificate(device: &str) -> (String, CertificateFacts) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, device);
    let made = params.self_signed(&key).unwrap();
    (made.pem(), CertificateFacts::from_der(made.der()).unwrap())
}

/// A phone that enrolled: pending at 0, key sent at 10, recorded at 11, received at 12, stored at 13, recorded at 14, told at 15;
/// the deadline is at 100.
struct Story {
    pem: String,
    facts: CertificateFacts,
    versions: Vec<(i64, Value)>,
    disk: PhoneDisk,
}

impl Story {
    fn new() -> Self {
        let (pem, facts) = certificate(DEVICE);
        let event = |second, step: &str, about: bool, reason| PhoneEvent {
            time: at(second),
            attempt: 1,
            step: step.into(),
            session: Some("0x1".into()),
            serial: about.then(|| facts.serial.clone()),
            sha256: about.then(|| facts.sha256.clone()),
            reason,
            problem: None,
        };
        let events = vec![
            event(10, "key-sent", false, None),
            event(12, "certificate", true, None),
            event(13, "stored", true, None),
            event(15, "ended", false, Some(1)),
        ];
        let disk = PhoneDisk { device: DEVICE.into(), lsc: Some((facts.clone(), facts.spki_sha256.clone())), events };
        let mut story = Self { pem, facts, versions: Vec::new(), disk };
        let issued = story.issued();
        story.versions = vec![
            (0, json!({ "phase": "Pending" })),
            (11, json!({ "phase": "InProgress", "certificate": issued })),
            (14, json!({ "phase": "Successful", "certificate": issued })),
        ];
        story
    }

    fn issued(&self) -> Value {
        let facts = &self.facts;
        json!({
            "serialNumber": facts.serial, "sha256Fingerprint": facts.sha256, "publicKeySha256": facts.spki_sha256,
            "issuer": facts.issuer, "notBefore": facts.not_before, "notAfter": facts.not_after,
            "pem": self.pem, "issuedAt": at(11),
        })
    }

    fn history(&self) -> Vec<Vec<Seen>> {
        let history = History::default();
        for (version, (second, status)) in self.versions.iter().enumerate() {
            history.enter_at(operation("run-1", "uid-1", version, status), at(*second));
        }
        history.operations()
    }

    fn broken(&self) -> Vec<Invariant> {
        broken(&self.history(), std::slice::from_ref(&self.disk))
    }
}

pub fn broken(history: &[Vec<Seen>], disks: &[PhoneDisk]) -> Vec<Invariant> {
    let mut found: Vec<_> = of_history(history, disks, &mut Serials::new()).iter().map(|v| v.invariant).collect();
    found.sort();
    found.dedup();
    found
}

pub fn operation(name: &str, uid: &str, version: usize, status: &Value) -> CertificateOperation {
    serde_json::from_value(json!({
        "apiVersion": "capf.dev/v1alpha1", "kind": "CertificateOperation",
        "metadata": { "name": name, "uid": uid, "resourceVersion": (version + 1).to_string() },
        "spec": {
            "phoneRef": { "name": DEVICE.to_lowercase() }, "certificateOperation": "InstallUpgrade",
            "authenticationMode": "ByNullString", "requestedBy": "Phone", "operationCompletesBy": at(100),
        },
        "status": status,
    }))
    .unwrap()
}

#[test]
fn a_good_history_breaks_nothing() {
    assert_eq!(Story::new().broken(), []);
}

#[test]
fn a_certificate_that_reached_its_phone_before_the_record_is_found() {
    let mut story = Story::new();
    story.versions[1].0 = 12;
    assert_eq!(story.broken(), [], "at the same time is not later");
    story.disk.events[1].time = at(11);
    assert_eq!(story.broken(), [Invariant::RecordedFirst]);
    let mut never = Story::new();
    never.disk.events[1].sha256 = Some("another".into());
    assert!(never.broken().contains(&Invariant::RecordedFirst));
}

#[test]
fn an_lsc_beside_another_key_or_that_nobody_recorded_is_found() {
    let mut story = Story::new();
    story.disk.lsc.as_mut().unwrap().1 = "another".into();
    assert_eq!(story.broken(), [Invariant::RecordedFirst]);
    let mut foreign = Story::new();
    let (_, facts) = certificate(DEVICE);
    let key = facts.spki_sha256.clone();
    foreign.disk.lsc = Some((facts, key));
    assert_eq!(foreign.broken(), [Invariant::RecordedFirst]);
}

#[test]
fn a_certificate_of_two_operations_or_a_second_one_for_a_key_or_another_phones_is_found() {
    let story = Story::new();
    let mut twice = story.history();
    let status = &story.versions[1].1;
    twice.push(vec![Seen { at: at(20), operation: operation("run-2", "uid-2", 9, status).into() }]);
    assert_eq!(broken(&twice, std::slice::from_ref(&story.disk)), [Invariant::RecordedOnce]);

    let mut second = Story::new();
    let mut issued = second.issued();
    issued["serialNumber"] = json!("05");
    second.versions.insert(1, (5, json!({ "phase": "InProgress", "certificate": issued })));
    assert!(second.broken().contains(&Invariant::RecordedOnce));

    let mut other = Story::new();
    (other.pem, other.facts) = certificate("SEP00000000FFFF");
    let issued = other.issued();
    other.versions[1].1["certificate"] = issued.clone();
    other.versions[2].1["certificate"] = issued;
    assert!(other.broken().contains(&Invariant::RecordedOnce));
}

#[test]
fn a_serial_number_that_comes_twice_is_found_over_everything_ever_seen() {
    let story = Story::new();
    let mut serials = Serials::from([(story.facts.serial.clone(), "an older certificate".into())]);
    let found = of_history(&story.history(), std::slice::from_ref(&story.disk), &mut serials);
    assert_eq!(found.iter().map(|v| v.invariant).collect::<Vec<_>>(), [Invariant::SerialsUnique]);
    assert_eq!(found[0].object, story.facts.serial);
}

#[test]
fn a_success_before_the_phone_had_stored_it_is_found() {
    let mut early = Story::new();
    early.versions[2].0 = 12;
    assert_eq!(early.broken(), [Invariant::SuccessfulIfDone]);
    let mut never = Story::new();
    never.disk.events.remove(2);
    assert!(never.broken().contains(&Invariant::SuccessfulIfDone));
}

#[test]
fn a_phone_told_that_all_is_done_before_that_is_on_record_is_found() {
    let mut early = Story::new();
    early.versions[2].0 = 16;
    assert_eq!(early.broken(), [Invariant::ToldIfRecorded]);
    let mut never = Story::new();
    never.versions.pop();
    assert_eq!(never.broken(), [Invariant::ToldIfRecorded]);
}

#[test]
fn whatever_is_over_and_changes_or_goes_back_is_found() {
    let mut changed = Story::new();
    let mut status = changed.versions[2].1.clone();
    status["phase"] = json!("Failed");
    changed.versions.push((20, status));
    assert_eq!(changed.broken(), [Invariant::ForwardOnly]);
    let mut message = Story::new();
    let mut status = message.versions[2].1.clone();
    status["message"] = json!("more");
    message.versions.push((20, status));
    assert_eq!(message.broken(), [Invariant::ForwardOnly]);
    let mut back = Story::new();
    back.versions.truncate(2);
    back.versions.push((20, json!({ "phase": "Pending" })));
    assert!(back.broken().contains(&Invariant::ForwardOnly));
    let mut spec = Story::new().history();
    let mut later = spec[0][0].operation.as_ref().clone();
    later.spec.key_size = Some(4096);
    spec[0].insert(1, Seen { at: at(5), operation: later.into() });
    assert!(broken(&spec, &[Story::new().disk]).contains(&Invariant::ForwardOnly));
}

#[test]
fn a_certificate_for_a_key_that_was_sent_too_late_is_found() {
    for late in [0, 1, 2] {
        let mut story = Story::new();
        for (_, status) in story.versions.iter_mut().skip(1) {
            status["phase"] = status["phase"].clone();
        }
        story.versions.iter_mut().for_each(|(second, _)| *second += 90 + late * 10);
        story.disk.events.iter_mut().for_each(|event| event.time += SignedDuration::from_secs(90 + late * 10));
        // Sent at 100 the key is in time, at 110 and 120 it is not.
        assert_eq!(story.broken().contains(&Invariant::InTime), late > 0, "{late}");
    }
    let mut slow = Story::new();
    slow.disk.events[1].time = at(108);
    assert!(slow.broken().contains(&Invariant::InTime), "recorded in time, delivered long after");
}

/// A phone at rest after the story, and its operation.
pub fn rest() -> (Phone, CertificateOperation) {
    let story = Story::new();
    let operation = operation("run-1", "uid-1", 3, &story.versions[2].1);
    let phone = json!({
        "apiVersion": "capf.dev/v1alpha1", "kind": "Phone",
        "metadata": { "name": DEVICE.to_lowercase(), "generation": 1 },
        "spec": { "deviceName": DEVICE, "proxyRef": { "name": "main" }, "certificateOperation": "InstallUpgrade" },
        "status": {
            "observedGeneration": 1, "operationStatus": "Install/Upgrade successful", "lscState": "Installed",
            "lsc": story.issued(),
            "operation": {
                "name": "run-1", "certificateOperation": "InstallUpgrade", "authenticationMode": "ByNullString",
                "requestedBy": "Phone", "phase": "Successful",
            },
        },
    });
    (serde_json::from_value(phone).unwrap(), operation)
}

#[test]
fn a_phone_that_disagrees_with_its_operation_or_an_operation_nobody_waits_for_is_found() {
    let (phone, operation) = rest();
    let found = |phone: &Phone, operation: &CertificateOperation, second| {
        at_rest(phone, std::slice::from_ref(operation), at(second)).into_iter().map(|v| v.seen).collect::<Vec<_>>()
    };
    assert_eq!(found(&phone, &operation, 50), [""; 0]);

    let mut behind = phone.clone();
    behind.metadata.generation = Some(2);
    assert_eq!(found(&behind, &operation, 50).len(), 1);

    let spoil: [fn(&mut Phone); 4] = [
        |phone| phone.status.as_mut().unwrap().operation.as_mut().unwrap().phase = Phase::Pending,
        |phone| phone.status.as_mut().unwrap().operation.as_mut().unwrap().reason = Some(Reason::Expired),
        |phone| phone.status.as_mut().unwrap().operation_status = None,
        |phone| phone.status.as_mut().unwrap().lsc = None,
    ];
    for spoil in spoil {
        let mut phone = phone.clone();
        spoil(&mut phone);
        assert_eq!(found(&phone, &operation, 50).len(), 1);
    }
    let mut gone = phone.clone();
    gone.status.as_mut().unwrap().operation.as_mut().unwrap().name = "run-0".into();
    assert_eq!(found(&gone, &operation, 50).len(), 1);

    let mut waiting = operation.clone();
    waiting.status.as_mut().unwrap().phase = Phase::Pending;
    waiting.status.as_mut().unwrap().certificate = None;
    let mut pending = phone.clone();
    let status = pending.status.as_mut().unwrap();
    status.operation.as_mut().unwrap().phase = Phase::Pending;
    status.operation_status = Some("Install/Upgrade pending".into());
    assert_eq!(found(&pending, &waiting, 50), [""; 0], "a person is waited for");
    assert_eq!(found(&pending, &waiting, 101).len(), 1, "past its deadline");
    waiting.metadata.name = Some("run-2".into());
    assert!(found(&phone, &waiting, 50).iter().any(|seen| seen.contains("not armed")));
}

#[test]
fn whatever_is_written_made_or_gone_at_rest_is_found() {
    let versions = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
    };
    let before = versions(&[("Phone a", "1"), ("Secret b", "2")]);
    assert_eq!(quiet(&before, &before), []);
    for after in [
        versions(&[("Phone a", "3"), ("Secret b", "2")]),
        versions(&[("Phone a", "1")]),
        versions(&[("Phone a", "1"), ("Secret b", "2"), ("Event c", "4")]),
    ] {
        let found = quiet(&before, &after);
        assert_eq!(found.iter().map(|v| v.invariant).collect::<Vec<_>>(), [Invariant::Quiet]);
    }
}

#[test]
fn a_secret_in_a_log_is_found_and_not_told_again() {
    let secrets = [("the string".to_owned(), "8675309421".to_owned())];
    let text = |text: &str| [("log of the controller".to_owned(), text.to_owned())];
    assert_eq!(no_secret(&secrets, &text("nothing of it")), []);
    let found = no_secret(&secrets, &text("phone said 8675309421"));
    assert_eq!((found[0].invariant, found[0].object.as_str()), (Invariant::NoSecret, "log of the controller"));
    assert!(!found[0].to_string().contains("8675309421"));
}
