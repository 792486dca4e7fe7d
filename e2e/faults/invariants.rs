//! What must hold whatever went wrong, checked from the API server's words and the phones' disks, never from the product's.
//!
//! Each check is a function from what was seen to violations; a violation names the invariant and the object.
//!
//! | Invariant | Says |
//! |---|---|
//! | [`Invariant::RecordedFirst`] | A certificate was in its operation's status before the phone received it. |
//! | [`Invariant::RecordedOnce`] | It is there for one operation, for that phone and that key, and a key has one certificate. |
//! | [`Invariant::SerialsUnique`] | No two certificates have one serial number, over everything ever seen. |
//! | [`Invariant::SuccessfulIfStored`] | `Successful` stands only for a certificate that the phone had on disk before. |
//! | [`Invariant::ToldIfRecorded`] | The phone hears END_SESSION 1 only when `Successful` is on record. |
//! | [`Invariant::ForwardOnly`] | Specs and finished statuses never change, and phases never go back. |
//! | [`Invariant::InTime`] | No key sent after the deadline is answered with a certificate. |
//! | [`Invariant::Settled`] | At rest, phones agree with their operations, and open operations wait for somebody. |
//! | [`Invariant::Quiet`] | At rest nothing is written but Leases. |
//! | [`Invariant::NoSecret`] | No secret stands anywhere but in its Secret. |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use capf::api::{CertificateOperation, IssuedCertificateStatus, Phase, Phone};
use capf::pki::CertificateFacts;
use jiff::{SignedDuration, Timestamp};

use super::disk::{PhoneDisk, PhoneEvent};
use super::history::Seen;

/// How long after its deadline a certificate that was put on record before may still reach the phone: a question's time.
const DELIVERY: SignedDuration = SignedDuration::from_secs(7);
/// How long an operation past its deadline may wait for the answer to a certificate: `SESSION_TAIL` of the product.
const TAIL: SignedDuration = SignedDuration::from_secs(254);

/// What must hold.
#[allow(missing_docs, reason = "the table of the module says it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    RecordedFirst,
    RecordedOnce,
    SerialsUnique,
    SuccessfulIfStored,
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
        found.extend(told_if_recorded(disk, operations));
        found.extend(in_time(disk, operations));
    }
    found.extend(recorded_once(operations));
    for versions in operations {
        found.extend(forward_only(versions));
        found.extend(successful_if_stored(versions, disks));
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

fn successful_if_stored(versions: &[Seen], disks: &[PhoneDisk]) -> Option<Violation> {
    let done = versions.iter().find(|seen| seen.operation.phase() == Phase::Successful)?;
    let violated = |seen: String| Some(Violation::new(Invariant::SuccessfulIfStored, name_of(&done.operation), seen));
    let Some(issued) = certificate(&done.operation) else { return violated("it has no certificate".into()) };
    let sha256 = &issued.summary.sha256_fingerprint;
    let stored = disks
        .iter()
        .filter(|disk| is_of(&done.operation, &disk.device))
        .flat_map(|disk| disk.step("stored"))
        .any(|event| event.sha256.as_ref() == Some(sha256) && event.time <= done.at);
    if stored {
        None
    } else {
        violated(format!("its phone had not stored {sha256} when that was seen, at {}", done.at))
    }
}

fn told_if_recorded(disk: &PhoneDisk, operations: &[Vec<Seen>]) -> Vec<Violation> {
    let ended = disk.step("ended").filter(|event| event.reason == Some(1));
    let violated = |event: &PhoneEvent| {
        let stored = in_session(disk, event, "stored").and_then(|stored| stored.sha256.as_deref());
        let recorded = stored.into_iter().flat_map(|sha256| record(operations, sha256));
        let recorded = recorded.filter(|seen| seen.operation.phase() == Phase::Successful);
        let seen = format!("it was told that all is done, at {}, and that was not on record", event.time);
        let in_time = recorded.into_iter().any(|seen| seen.at <= event.time);
        (!in_time).then(|| Violation::new(Invariant::ToldIfRecorded, &disk.device, seen))
    };
    ended.filter_map(violated).collect()
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

/// Whether a phone at rest agrees with its operations: those of its name, as they are.
pub fn at_rest(phone: &Phone, operations: &[CertificateOperation], now: Timestamp) -> Vec<Violation> {
    let name = phone.metadata.name.clone().unwrap_or_default();
    let mut found = Vec::new();
    let mut violated = |seen: String| found.push(Violation::new(Invariant::Settled, &name, seen));
    let status = phone.status.clone().unwrap_or_default();
    if Some(status.observed_generation) != phone.metadata.generation {
        violated(format!("observed {} of {:?}", status.observed_generation, phone.metadata.generation));
    }
    let armed = status.operation.as_ref();
    for operation in operations.iter().filter(|o| o.spec.phone_ref.name == name) {
        let phase = operation.phase();
        let is_armed = armed.is_some_and(|armed| armed.name == name_of(operation));
        if !phase.is_terminal() {
            let ends = operation.completes_by().map(|deadline| match certificate(operation) {
                Some(issued) => deadline.max(issued.issued_at + TAIL),
                None => deadline,
            });
            match ends {
                None => violated(format!("{} is open without a deadline", name_of(operation))),
                Some(ends) if ends <= now => violated(format!("{} is open past {ends}", name_of(operation))),
                Some(_) if !is_armed => violated(format!("{} is open and not armed", name_of(operation))),
                Some(_) => {}
            }
        }
    }
    if let Some(armed) = armed {
        let Some(operation) = operations.iter().find(|o| name_of(o) == armed.name) else {
            violated(format!("{} is armed and does not exist", armed.name));
            return found;
        };
        let phase = if operation.phase() == Phase::InProgress { Phase::Pending } else { operation.phase() };
        let reason = operation.status.as_ref().and_then(|s| s.reason);
        let words = format!("{} {}", operation.spec.certificate_operation.words(), phase.word());
        if (armed.phase, armed.reason, status.operation_status.as_ref()) != (phase, reason, Some(&words)) {
            let said = (armed.phase, armed.reason, &status.operation_status);
            violated(format!("it says {said:?} of {}, which is {phase:?} {reason:?}", armed.name));
        }
        let live = status.lsc.as_ref().map(|lsc| &lsc.sha256_fingerprint);
        let stored = certificate(operation).map(|issued| &issued.summary.sha256_fingerprint);
        if phase == Phase::Successful && live != stored {
            violated(format!("its LSC is {live:?}, {} installed {stored:?}", armed.name));
        }
    }
    found
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
