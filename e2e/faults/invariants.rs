//! What must hold whatever went wrong, checked from the API server's words and the phones' disks, never from the product's.
//!
//! Each check is a function from what was seen to violations; a violation names the invariant and the object.
//!
//! | Invariant | Says |
//! |---|---|
//! | [`Invariant::RecordedFirst`] | A certificate was in its operation's status before the phone received it; `InProgress` before it was told to delete. |
//! | [`Invariant::RecordedOnce`] | It is there for one operation, for that phone and that key, and a key has one certificate. |
//! | [`Invariant::SerialsUnique`] | No two certificates have one serial number, over everything ever seen. |
//! | [`Invariant::SuccessfulIfDone`] | `Successful` stands only for what the phone had done before: a certificate stored, its LSC deleted, certificates shown. |
//! | [`Invariant::ToldIfRecorded`] | The phone hears that all is done only when `Successful` is on record. |
//! | [`Invariant::ForwardOnly`] | Specs and finished statuses never change, and phases never go back. |
//! | [`Invariant::InTime`] | No key sent after the deadline is answered with a certificate, and nothing is deleted after it. |
//! | [`Invariant::Settled`] | At rest, phones agree with their operations and with what they hold, and open operations wait for somebody. |
//! | [`Invariant::Quiet`] | At rest nothing is written but Leases. |
//! | [`Invariant::NoSecret`] | No secret stands anywhere but in its Secret. |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use capf::api::{CertificateOperation, CertificateOperationKind, IssuedCertificateStatus, Phase};
use capf::pki::CertificateFacts;
use jiff::SignedDuration;

use super::disk::{PhoneDisk, PhoneEvent};
use super::history::Seen;

mod at_rest;
mod deeds;

pub use at_rest::{at_rest, holds};

/// How long after its deadline what was put on record before may still reach the phone: a question's time.
const DELIVERY: SignedDuration = SignedDuration::from_secs(7);

/// What must hold.
#[allow(missing_docs, reason = "the table of the module says it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    RecordedFirst,
    RecordedOnce,
    SerialsUnique,
    SuccessfulIfDone,
    ToldIfRecorded,
    ForwardOnly,
    InTime,
    Settled,
    Quiet,
    NoSecret,
}

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which invariant does not hold.
    pub invariant: Invariant,
    /// Of which object.
    pub object: String,
    /// What was seen.
    pub seen: String,
}

impl Violation {
    /// A violation of `invariant` by `object`.
    pub fn new(invariant: Invariant, object: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { invariant, object: object.into(), seen: seen.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} does not hold for {}: {}", self.invariant, self.object, self.seen)
    }
}

/// Every serial number ever seen, and the certificate it belongs to.
pub type Serials = BTreeMap<String, String>;

/// Every check of what happened: of operations, each with its versions in order, and of phones.
pub fn of_history(operations: &[Vec<Seen>], disks: &[PhoneDisk], serials: &mut Serials) -> Vec<Violation> {
    let mut found = Vec::new();
    for disk in disks {
        found.extend(recorded_first(disk, operations));
        found.extend(deeds::recorded_first(disk, operations));
        found.extend(told_if_recorded(disk, operations));
        found.extend(in_time(disk, operations));
        found.extend(deeds::in_time(disk, operations));
    }
    found.extend(recorded_once(operations));
    for versions in operations {
        found.extend(forward_only(versions));
        found.extend(successful_if_done(versions, disks));
    }
    found.extend(serials_unique(operations, disks, serials));
    found
}

fn recorded_first(disk: &PhoneDisk, operations: &[Vec<Seen>]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut violated = |seen: String| found.push(Violation::new(Invariant::RecordedFirst, &disk.device, seen));
    for event in disk.step("certificate") {
        let Some(sha256) = &event.sha256 else {
            violated("it was given what is no certificate".into());
            continue;
        };
        match record(operations, sha256).find(|seen| is_of(&seen.operation, &disk.device)) {
            None => violated(format!("{sha256} was given to it and is nowhere on record for it")),
            Some(seen) if seen.at > event.time => {
                violated(format!("{sha256} came at {} and was on record at {} only", event.time, seen.at));
            }
            Some(_) => {}
        }
    }
    if let Some((facts, key)) = &disk.lsc {
        let recorded = record(operations, &facts.sha256).find(|seen| is_of(&seen.operation, &disk.device));
        let recorded = recorded.and_then(|seen| certificate(&seen.operation));
        if facts.spki_sha256 != *key || recorded.is_none_or(|c| c.summary.public_key_sha256 != *key) {
            violated(format!("its LSC {} is not on record for the key it holds", facts.sha256));
        }
    }
    found
}

fn recorded_once(operations: &[Vec<Seen>]) -> Vec<Violation> {
    let mut owners: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut of_key: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for seen in operations.iter().flatten() {
        let Some(issued) = certificate(&seen.operation) else { continue };
        let (name, summary) = (name_of(&seen.operation), &issued.summary);
        owners.entry(&summary.sha256_fingerprint).or_default().insert(name);
        of_key.entry((name, &summary.public_key_sha256)).or_default().insert(&summary.serial_number);
        let read = capf::pki::certificate::from_pem(&issued.pem).ok();
        let facts = read.and_then(|der| CertificateFacts::from_der(&der).ok());
        let told = |facts: &CertificateFacts| {
            facts.sha256 == summary.sha256_fingerprint
                && facts.serial == summary.serial_number
                && facts.spki_sha256 == summary.public_key_sha256
                && facts.subject_common_name.as_deref().is_some_and(|device| is_of(&seen.operation, device))
        };
        if !facts.as_ref().is_some_and(told) {
            let what = format!("{} is not what its summary says, or another phone's", summary.sha256_fingerprint);
            found.insert(Violation::new(Invariant::RecordedOnce, name, what));
        }
    }
    for (sha256, owners) in owners.iter().filter(|(_, owners)| owners.len() > 1) {
        found.insert(Violation::new(Invariant::RecordedOnce, *sha256, format!("it is on record in {owners:?}")));
    }
    for ((name, key), serials) in of_key.iter().filter(|(_, serials)| serials.len() > 1) {
        let seen = format!("its key {key} was given {serials:?}");
        found.insert(Violation::new(Invariant::RecordedOnce, *name, seen));
    }
    found.into_iter().collect()
}

fn serials_unique(operations: &[Vec<Seen>], disks: &[PhoneDisk], serials: &mut Serials) -> Vec<Violation> {
    let recorded = operations.iter().flatten().filter_map(|seen| certificate(&seen.operation));
    let recorded = recorded.map(|c| (c.summary.serial_number.clone(), c.summary.sha256_fingerprint.clone()));
    let given = disks.iter().flat_map(|disk| &disk.events);
    let given = given.filter_map(|event| Some((event.serial.clone()?, event.sha256.clone()?)));
    let mut found = BTreeSet::new();
    for (serial, sha256) in recorded.chain(given) {
        let known = serials.entry(serial.clone()).or_insert_with(|| sha256.clone());
        if *known != sha256 {
            found.insert(Violation::new(Invariant::SerialsUnique, serial, format!("of {known} and of {sha256}")));
        }
    }
    found.into_iter().collect()
}

fn successful_if_done(versions: &[Seen], disks: &[PhoneDisk]) -> Option<Violation> {
    let done = successful(versions)?;
    let disks: Vec<&PhoneDisk> = disks.iter().filter(|disk| is_of(&done.operation, &disk.device)).collect();
    let lacking = match done.operation.spec.certificate_operation {
        CertificateOperationKind::Delete => deeds::not_deleted(versions, done, &disks),
        CertificateOperationKind::Troubleshoot => deeds::not_shown(versions, done, &disks),
        _ => not_stored(done, &disks),
    };
    lacking.map(|seen| Violation::new(Invariant::SuccessfulIfDone, name_of(&done.operation), seen))
}

/// What lacks for an installation to be called successful.
fn not_stored(done: &Seen, disks: &[&PhoneDisk]) -> Option<String> {
    let Some(issued) = certificate(&done.operation) else { return Some("it has no certificate".into()) };
    let sha256 = &issued.summary.sha256_fingerprint;
    let mut stored = disks.iter().flat_map(|disk| disk.step("stored"));
    let is_stored = stored.any(|event| event.sha256.as_ref() == Some(sha256) && event.time <= done.at);
    (!is_stored).then(|| format!("its phone had not stored {sha256} when that was seen, at {}", done.at))
}

fn told_if_recorded(disk: &PhoneDisk, operations: &[Vec<Seen>]) -> Vec<Violation> {
    let violated = |event: &PhoneEvent| {
        let done = |step| in_session(disk, event, step);
        let recorded = match (event.reason, done("stored"), done("delete"), done("fetch")) {
            (Some(1), Some(stored), ..) => successful(record(operations, stored.sha256.as_deref()?)),
            (Some(1), None, Some(delete), _) => deeds::deletion(disk, operations, delete),
            (Some(1), ..) => None,
            // That nothing is wanted is all a phone hears that has shown what it was asked for.
            (Some(0), _, _, Some(_)) => deeds::troubleshooting(disk, operations),
            _ => return None,
        };
        let seen = format!("it was told that all is done, at {}, and that was not on record", event.time);
        let in_time = recorded.is_some_and(|recorded| recorded.at <= event.time);
        (!in_time).then(|| Violation::new(Invariant::ToldIfRecorded, &disk.device, seen))
    };
    disk.step("ended").filter_map(violated).collect()
}

fn forward_only(versions: &[Seen]) -> Vec<Violation> {
    let violated = |pair: &[Seen]| {
        let (before, after) = (&pair[0].operation, &pair[1].operation);
        let what = if before.spec != after.spec {
            "its spec changed".to_owned()
        } else if before.phase().is_terminal() && before.status != after.status {
            format!("it was over and changed: {:?}, then {:?}", before.status, after.status)
        } else if after.phase() < before.phase() {
            format!("{:?} came after {:?}", after.phase(), before.phase())
        } else {
            return None;
        };
        Some(Violation::new(Invariant::ForwardOnly, name_of(after), what))
    };
    versions.windows(2).filter_map(violated).collect()
}

fn in_time(disk: &PhoneDisk, operations: &[Vec<Seen>]) -> Vec<Violation> {
    let violated = |event: &PhoneEvent| {
        let deadline = record(operations, event.sha256.as_deref()?).next()?.operation.completes_by()?;
        let key_sent = in_session(disk, event, "key-sent").map_or(event.time, |sent| sent.time);
        let late = key_sent > deadline || event.time > deadline + DELIVERY;
        let seen = format!("its key, sent at {key_sent}, was given a certificate; the deadline was {deadline}");
        late.then(|| Violation::new(Invariant::InTime, &disk.device, seen))
    };
    disk.step("certificate").filter_map(violated).collect()
}

/// Versions of objects by kind and name, at two moments with nothing to do between them.
pub fn quiet(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Violation> {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let seen = |name: &String| format!("version {:?} became {:?}", before.get(name), after.get(name));
    changed.map(|name| Violation::new(Invariant::Quiet, name, seen(name))).collect()
}

/// Secrets, each with what it is, in texts, each with where it stands.
pub fn no_secret(secrets: &[(String, String)], texts: &[(String, String)]) -> Vec<Violation> {
    let pairs = texts.iter().flat_map(|text| secrets.iter().map(move |secret| (text, secret)));
    let found = pairs.filter(|((_, text), (_, secret))| text.contains(secret.as_str()));
    found
        .map(|((place, _), (what, _))| Violation::new(Invariant::NoSecret, place, format!("{what} stands in it")))
        .collect()
}

/// The versions that hold this certificate, the oldest of each operation first.
fn record<'a>(operations: &'a [Vec<Seen>], sha256: &'a str) -> impl Iterator<Item = &'a Seen> {
    operations
        .iter()
        .flatten()
        .filter(move |seen| certificate(&seen.operation).is_some_and(|c| c.summary.sha256_fingerprint == sha256))
}

/// The first of these versions that says `Successful`.
fn successful<'a>(versions: impl IntoIterator<Item = &'a Seen>) -> Option<&'a Seen> {
    versions.into_iter().find(|seen| seen.operation.phase() == Phase::Successful)
}

fn certificate(operation: &CertificateOperation) -> Option<&IssuedCertificateStatus> {
    operation.status.as_ref()?.certificate.as_ref()
}

/// The event of a step in the session of another event.
fn in_session<'a>(disk: &'a PhoneDisk, event: &PhoneEvent, step: &'a str) -> Option<&'a PhoneEvent> {
    disk.step(step).find(|other| (other.attempt, &other.session) == (event.attempt, &event.session))
}

fn is_of(operation: &CertificateOperation, device: &str) -> bool {
    operation.spec.phone_ref.name.eq_ignore_ascii_case(device)
}

fn name_of(operation: &CertificateOperation) -> &str {
    operation.metadata.name.as_deref().unwrap_or_default()
}
