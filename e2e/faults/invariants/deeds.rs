//! What must hold of operations that install nothing: deletions and troubleshooting.

use capf::api::{CertificateOperationKind, CertificateTrace, Phase, PhoneCertificate, Reason, TraceVerdict};
use jiff::Timestamp;

use super::super::disk::{PhoneDisk, PhoneEvent};
use super::super::history::Seen;
use super::{DELIVERY, Invariant, Violation, in_session, is_of, successful};

/// A phone is told to delete only when that is on record, and asked for its MIC only when what it was asked before is.
pub fn recorded_first(disk: &PhoneDisk, operations: &[Vec<Seen>]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut violated = |seen: String| found.push(Violation::new(Invariant::RecordedFirst, &disk.device, seen));
    for delete in disk.step("delete") {
        if begun(disk, operations, delete.time).is_none() {
            violated(format!("it was told to delete at {}, and no deletion was in progress", delete.time));
        }
    }
    for fetch in disk.step("fetch").filter(|fetch| asked(disk, fetch) == Some(PhoneCertificate::MIC)) {
        let traced = of(CertificateOperationKind::Troubleshoot, disk, operations).flatten();
        let mut traced = traced.filter(|seen| seen.at <= fetch.time);
        if !traced.any(|seen| traces(seen).iter().any(|trace| trace.asked == PhoneCertificate::LSC)) {
            violated(format!("it was asked for more at {}, and what it had shown was not on record", fetch.time));
        }
    }
    found
}

/// Nothing is deleted after the deadline.
pub fn in_time(disk: &PhoneDisk, operations: &[Vec<Seen>]) -> Vec<Violation> {
    let violated = |delete: &PhoneEvent| {
        let deadline = begun(disk, operations, delete.time)?.operation.completes_by()?;
        let seen = format!("it was told to delete at {}; the deadline was {deadline}", delete.time);
        (delete.time > deadline + DELIVERY).then(|| Violation::new(Invariant::InTime, &disk.device, seen))
    };
    disk.step("delete").filter_map(violated).collect()
}

/// What lacks for a deletion to be called successful.
pub fn not_deleted(versions: &[Seen], done: &Seen, disks: &[&PhoneDisk]) -> Option<String> {
    let begun = versions.iter().find(|seen| seen.operation.phase() == Phase::InProgress);
    let Some(begun) = begun.filter(|begun| begun.at <= done.at) else { return Some("it was never in progress".into()) };
    let reason = done.operation.status.as_ref().and_then(|status| status.reason);
    let deleted = disks.iter().flat_map(|disk| {
        let sessions = disk
            .step("delete")
            .filter(move |delete| in_session(disk, delete, "deleted").is_some_and(|deleted| deleted.time <= done.at));
        sessions.filter(|delete| begun.at <= delete.time)
    });
    // The phone says at `delete` which LSC it has, if it has any.
    let mut deleted = deleted.filter(|delete| match reason {
        None => delete.sha256.is_some(),
        Some(Reason::NothingToDelete) => delete.sha256.is_none(),
        Some(_) => false,
    });
    let lacks = || format!("no phone did that (reason {reason:?}) between {} and {}", begun.at, done.at);
    if deleted.next().is_some() { None } else { Some(lacks()) }
}

/// What lacks for troubleshooting to be called successful: each trace is what the phone showed when it was asked for that.
pub fn not_shown(versions: &[Seen], done: &Seen, disks: &[&PhoneDisk]) -> Option<String> {
    if traces(done).is_empty() {
        return Some("it has no traces".into());
    }
    let made_up = |trace: &&CertificateTrace| {
        let same = |other: &CertificateTrace| other == *trace;
        let first = versions.iter().find(|seen| traces(seen).iter().any(same)).unwrap_or(done);
        let sha256 = trace.certificate.as_ref().map(|certificate| &certificate.sha256_fingerprint);
        // A phone that would not answer has shown nothing that could be compared.
        let answered = sha256.is_some() || trace.verdict == Some(TraceVerdict::Missing);
        let mut shown = disks.iter().flat_map(|disk| {
            let asked_for_it = disk.step("fetch").filter(|fetch| asked(disk, fetch) == Some(trace.asked));
            asked_for_it.filter(|fetch| fetch.time <= first.at && fetch.sha256.as_ref() == sha256)
        });
        answered && shown.next().is_none()
    };
    traces(done).iter().find(made_up).map(|trace| format!("its phone never showed {trace:?}"))
}

/// The version that says that the deletion of this session is done.
pub fn deletion<'a>(disk: &PhoneDisk, operations: &'a [Vec<Seen>], delete: &PhoneEvent) -> Option<&'a Seen> {
    let begun = begun(disk, operations, delete.time)?;
    let uid = &begun.operation.metadata.uid;
    successful(operations.iter().flatten().filter(|seen| seen.operation.metadata.uid == *uid))
}

/// The first version that says that the phone has shown everything.
pub fn troubleshooting<'a>(disk: &PhoneDisk, operations: &'a [Vec<Seen>]) -> Option<&'a Seen> {
    successful(of(CertificateOperationKind::Troubleshoot, disk, operations).flatten())
}

/// The deletion that was in progress last by this time.
fn begun<'a>(disk: &PhoneDisk, operations: &'a [Vec<Seen>], time: Timestamp) -> Option<&'a Seen> {
    let versions = of(CertificateOperationKind::Delete, disk, operations).flatten();
    let in_progress = versions.filter(|seen| seen.operation.phase() == Phase::InProgress && seen.at <= time);
    in_progress.max_by_key(|seen| seen.at)
}

/// The operations of this kind for this phone.
fn of<'a>(
    kind: CertificateOperationKind,
    disk: &PhoneDisk,
    operations: &'a [Vec<Seen>],
) -> impl Iterator<Item = &'a Vec<Seen>> {
    operations.iter().filter(move |versions| {
        versions.first().is_some_and(|first| {
            first.operation.spec.certificate_operation == kind && is_of(&first.operation, &disk.device)
        })
    })
}

/// What a phone was asked for by this request: first for its LSC, then for its MIC.
fn asked(disk: &PhoneDisk, fetch: &PhoneEvent) -> Option<PhoneCertificate> {
    let session = |other: &&PhoneEvent| (other.attempt, &other.session) == (fetch.attempt, &fetch.session);
    match disk.step("fetch").filter(session).position(|other| other == fetch)? {
        0 => Some(PhoneCertificate::LSC),
        1 => Some(PhoneCertificate::MIC),
        _ => None,
    }
}

fn traces(seen: &Seen) -> &[CertificateTrace] {
    seen.operation.status.as_ref().map_or(&[], |status| &status.traces)
}
