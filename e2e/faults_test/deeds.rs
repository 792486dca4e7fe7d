//! What is checked of deletions and of troubleshooting can be seen to be broken, too.

use capf::api::{CertificateOperation, CertificateOperationKind, LscState, Phase, Phone};
use serde_json::{Value, json};

use crate::faults::disk::{PhoneDisk, PhoneEvent};
use crate::faults::history::History;
use crate::faults::invariants::{Invariant, at_rest, holds};

use super::invariants::{DEVICE, at, broken, certificate, operation, rest};

/// What the API server saw, and what the phone says.
struct Story {
    kind: CertificateOperationKind,
    versions: Vec<(i64, Value)>,
    disk: PhoneDisk,
}

impl Story {
    /// Pending at 0, in progress at 11, told to delete at 12, deleted at 13, recorded at 14, told at 15.
    fn deletion() -> Self {
        let versions = vec![
            (0, json!({ "phase": "Pending" })),
            (11, json!({ "phase": "InProgress", "begunAt": at(11) })),
            (14, json!({ "phase": "Successful", "begunAt": at(11) })),
        ];
        let held = Some("lsc");
        let events = [(12, "delete", held, None), (13, "deleted", None, None), (15, "ended", None, Some(1))];
        Self { kind: CertificateOperationKind::Delete, versions, disk: disk(&events) }
    }

    /// Pending at 0; asked at 12, recorded at 14, asked for more at 15, recorded at 17, told at 18.
    fn troubleshooting() -> Self {
        let traces = [trace("LSC", "lsc", 14), trace("MIC", "mic", 17)];
        let versions = vec![
            (0, json!({ "phase": "Pending" })),
            (14, json!({ "phase": "InProgress", "traces": traces[..1] })),
            (17, json!({ "phase": "Successful", "traces": traces })),
        ];
        let events = [
            (12, "fetch", Some("lsc"), None),
            (13, "fetch-answered", None, None),
            (15, "fetch", Some("mic"), None),
            (16, "fetch-answered", None, None),
            (18, "ended", None, Some(0)),
        ];
        Self { kind: CertificateOperationKind::Troubleshoot, versions, disk: disk(&events) }
    }

    fn broken(&self) -> Vec<Invariant> {
        let history = History::default();
        for (version, (second, status)) in self.versions.iter().enumerate() {
            history.enter_at(of_kind(self.kind, version, status), at(*second));
        }
        broken(&history.operations(), std::slice::from_ref(&self.disk))
    }

    /// The second trace of the end.
    fn last_trace(&mut self) -> &mut Value {
        &mut self.versions[2].1["traces"][1]
    }
}

fn of_kind(kind: CertificateOperationKind, version: usize, status: &Value) -> CertificateOperation {
    let mut operation = operation("run-1", "uid-1", version, status);
    operation.spec.certificate_operation = kind;
    operation
}

fn disk(events: &[(i64, &str, Option<&str>, Option<u8>)]) -> PhoneDisk {
    let event = |&(second, step, held, reason): &(i64, &str, Option<&str>, Option<u8>)| PhoneEvent {
        time: at(second),
        attempt: 1,
        step: step.into(),
        session: Some("0x1".into()),
        serial: held.map(|held| format!("serial of {held}")),
        sha256: held.map(str::to_owned),
        reason,
        problem: None,
    };
    PhoneDisk { device: DEVICE.into(), lsc: None, events: events.iter().map(event).collect() }
}

fn trace(kind: &str, sha256: &str, second: i64) -> Value {
    json!({
        "asked": kind, "kind": kind, "verdict": "Same", "seenAt": at(second),
        "certificate": {
            "subject": "a", "issuer": "b", "serialNumber": "01", "notBefore": at(0), "notAfter": at(1),
            "sha256Fingerprint": sha256,
        },
    })
}

#[test]
fn good_histories_of_a_deletion_and_of_troubleshooting_break_nothing() {
    assert_eq!(Story::deletion().broken(), []);
    assert_eq!(Story::troubleshooting().broken(), []);
    let mut nothing = Story::deletion();
    nothing.versions[2].1["reason"] = json!("NothingToDelete");
    nothing.disk.events[0].sha256 = None;
    assert_eq!(nothing.broken(), []);
    let mut missing = Story::troubleshooting();
    *missing.last_trace() = json!({ "asked": "MIC", "verdict": "Missing", "seenAt": at(17) });
    missing.disk.events[2].sha256 = None;
    assert_eq!(missing.broken(), []);
}

#[test]
fn a_phone_told_to_delete_before_that_is_on_record_is_found() {
    let all = [Invariant::RecordedFirst, Invariant::SuccessfulIfDone, Invariant::ToldIfRecorded];
    let mut story = Story::deletion();
    story.versions[1].0 = 12;
    assert_eq!(story.broken(), [], "at the same time is not later");
    story.disk.events[0].time = at(11);
    assert_eq!(story.broken(), all);
    let mut never = Story::deletion();
    never.versions.remove(1);
    assert_eq!(never.broken(), all);
    let mut begun = Story::deletion();
    begun.versions[2].1["phase"] = json!("InProgress");
    begun.disk.events.truncate(2);
    assert_eq!(begun.broken(), [], "it is not over");
}

#[test]
fn a_deletion_called_successful_that_the_phone_did_not_do_is_found() {
    let mut early = Story::deletion();
    early.versions[2].0 = 12;
    assert_eq!(early.broken(), [Invariant::SuccessfulIfDone]);
    let mut never = Story::deletion();
    never.disk.events.remove(1);
    assert_eq!(never.broken(), [Invariant::SuccessfulIfDone]);
    let mut had_none = Story::deletion();
    had_none.disk.events[0].sha256 = None;
    assert_eq!(had_none.broken(), [Invariant::SuccessfulIfDone]);
    let mut had_one = Story::deletion();
    had_one.versions[2].1["reason"] = json!("NothingToDelete");
    assert_eq!(had_one.broken(), [Invariant::SuccessfulIfDone]);
    let mut another = Story::deletion();
    another.disk.device = "SEP00000000FFFF".into();
    assert!(another.broken().contains(&Invariant::SuccessfulIfDone));
}

#[test]
fn a_phone_told_that_it_is_deleted_or_shown_before_that_is_on_record_is_found() {
    for (mut story, told) in [(Story::deletion(), 15), (Story::troubleshooting(), 18)] {
        story.versions[2].0 = told;
        assert_eq!(story.broken(), [], "at the same time is not later");
        story.versions[2].0 = told + 1;
        assert_eq!(story.broken(), [Invariant::ToldIfRecorded]);
        story.versions.pop();
        assert_eq!(story.broken(), [Invariant::ToldIfRecorded]);
    }
}

#[test]
fn a_deletion_after_the_deadline_is_found() {
    // The deadline is at 100, and what was on record by then may still be on its way for a while.
    for (second, late) in [(99, false), (107, false), (108, true)] {
        let mut story = Story::deletion();
        story.disk.events[0].time = at(second);
        story.disk.events[1].time = at(second);
        story.disk.events[2].time = at(second + 2);
        story.versions[2].0 = second + 1;
        assert_eq!(story.broken().contains(&Invariant::InTime), late, "{second}");
    }
}

#[test]
fn a_phone_asked_for_more_before_what_it_showed_is_on_record_is_found() {
    let mut story = Story::troubleshooting();
    story.versions[1].0 = 16;
    assert_eq!(story.broken(), [Invariant::RecordedFirst]);
    let mut never = Story::troubleshooting();
    never.versions[1].1["traces"] = json!([]);
    assert_eq!(never.broken(), [Invariant::RecordedFirst]);
}

#[test]
fn traces_of_what_the_phone_did_not_show_are_found() {
    let spoil: [fn(&mut Story); 6] = [
        |story| story.last_trace()["certificate"]["sha256Fingerprint"] = json!("another"),
        |story| story.last_trace()["certificate"]["sha256Fingerprint"] = json!("lsc"),
        |story| *story.last_trace() = json!({ "asked": "MIC", "verdict": "Missing", "seenAt": at(17) }),
        |story| story.disk.events[2].sha256 = None,
        |story| story.versions[2].1["traces"] = json!([]),
        |story| story.versions[2].0 = 14,
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        let mut story = Story::troubleshooting();
        spoil(&mut story);
        assert_eq!(story.broken(), [Invariant::SuccessfulIfDone], "{number}");
    }
}

/// A phone at rest after an operation of this kind, with this status.
fn after(kind: CertificateOperationKind, status: &Value) -> (Phone, CertificateOperation) {
    let (mut phone, _) = rest();
    let status_of_phone = phone.status.as_mut().unwrap();
    status_of_phone.operation_status = Some(format!("{} successful", kind.words()));
    status_of_phone.operation.as_mut().unwrap().certificate_operation = kind;
    (phone, of_kind(kind, 3, status))
}

#[test]
fn an_lsc_that_does_not_agree_with_the_last_operation_is_found() {
    use CertificateOperationKind::{Delete, Troubleshoot};
    let missing = json!([{ "asked": "LSC", "verdict": "Missing", "seenAt": at(17) }]);
    let shown = json!([trace("LSC", "lsc", 14)]);
    let deleted = (Delete, json!({ "phase": "Successful" }));
    let holds_none = (Troubleshoot, json!({ "phase": "Successful", "traces": missing }));
    let shows_one = (Troubleshoot, json!({ "phase": "Successful", "traces": shown }));
    for (story, with_lsc) in [(deleted, false), (holds_none, false), (shows_one, true)] {
        for (state, lsc, right) in [
            (LscState::Installed, true, with_lsc),
            (LscState::NotInstalled, false, !with_lsc),
            (LscState::Unknown, false, false),
            (LscState::NotInstalled, true, false),
        ] {
            let (mut phone, operation) = after(story.0, &story.1);
            let status = phone.status.as_mut().unwrap();
            status.lsc_state = state;
            status.lsc = status.lsc.take().filter(|_| lsc);
            let found = at_rest(&phone, std::slice::from_ref(&operation), at(50));
            assert_eq!(found.is_empty(), right, "{story:?}, {state:?}, {lsc}: {found:?}");
        }
    }
}

#[test]
fn a_phone_that_holds_another_lsc_than_its_status_tells_is_found() {
    let (phone, operation) = rest();
    let told = operation.status.unwrap().certificate.unwrap().summary.sha256_fingerprint;
    let mut disk = disk(&[]);
    assert!(holds(&phone, &disk).is_some(), "it holds none");
    let (_, mut facts) = certificate(DEVICE);
    disk.lsc = Some((facts.clone(), String::new()));
    assert!(holds(&phone, &disk).is_some(), "it holds another");
    let mut unknown = phone.clone();
    unknown.status.as_mut().unwrap().lsc = None;
    assert_eq!(holds(&unknown, &disk), None, "seen, and not on record");
    let mut deleted = unknown.clone();
    deleted.status.as_mut().unwrap().lsc_state = LscState::NotInstalled;
    assert!(holds(&deleted, &disk).is_some(), "it has not deleted it");
    facts.sha256 = told;
    disk.lsc = Some((facts, String::new()));
    assert_eq!(holds(&phone, &disk), None);
    let mut waiting = deleted;
    waiting.status.as_mut().unwrap().operation.as_mut().unwrap().phase = Phase::Pending;
    assert_eq!(holds(&waiting, &disk), None, "it is not over");
}

#[test]
fn a_deletion_that_stays_open_is_found_when_its_session_must_be_over() {
    let (mut phone, operation) =
        after(CertificateOperationKind::Delete, &json!({ "phase": "InProgress", "begunAt": at(90) }));
    let status = phone.status.as_mut().unwrap();
    status.operation.as_mut().unwrap().phase = Phase::Pending;
    status.operation_status = Some("Delete pending".into());
    let found = |second| at_rest(&phone, std::slice::from_ref(&operation), at(second)).len();
    // Begun at 90, with a deadline at 100 and a session that lasts 254 s at the most.
    assert_eq!((found(101), found(343), found(344)), (0, 0, 1));
}
