//! What to do next about one phone and its operations: one step at a time, from what is on record.
//!
//! The loop calls [`decide`], does the step, and calls again with what the API server answered, until there is
//! nothing left. A crash between two steps therefore needs no clean-up: the next leader goes on from the record.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::resolve::{deadline, deletable, permitted, resolve};
use super::{history, phone_status, retry};
use crate::api::{
    AuthenticationMode, AuthenticationStringSource, CertificateAuthorityProxy, CertificateOperation,
    CertificateOperationKind, CertificateOperationSpec, ConditionType, Phone, PhoneStatus, Reason, RequestedBy,
    Written,
};

/// How long after a certificate was put on record, or a deletion or fetch begun, its session may still be open: the longest
/// answer time of an endpoint for taking what is sent and again for answering, and 7 seconds each for the questions before
/// and after.
const SESSION_TAIL: SignedDuration = SignedDuration::from_secs(254);

/// Everything that the decision looks at.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The phone, unless it is gone or going.
    pub phone: Option<&'a Phone>,
    /// Every operation that refers to it.
    pub operations: &'a [Arc<CertificateOperation>],
    /// The proxy that the phone refers to.
    pub proxy: Option<&'a CertificateAuthorityProxy>,
    /// The given authentication strings that have been looked at, by the name of their Secret.
    pub strings: &'a BTreeMap<String, StringFact>,
}

/// What is known of a given authentication string. The string itself never comes here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StringFact {
    /// Four to ten digits that were not used before.
    Usable,
    /// There is no such Secret yet.
    Missing(String),
    /// It cannot be used: the manifest or the Secret must change.
    Unusable(Reason, String),
}

/// One thing to do. After it, decide again.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until something changes, or until `wake`.
    Rest {
        /// When a deadline or another look is due.
        wake: Option<Timestamp>,
    },
    /// Read the Secret with the given string and decide again knowing about it.
    LookAtString {
        /// Its name.
        secret: String,
    },
    /// Create the operation.
    Create {
        /// Its deterministic name.
        name: String,
        /// Its spec, with every default resolved.
        spec: Box<CertificateOperationSpec>,
    },
    /// Record the deadline of an operation that was applied without one.
    ResolveDeadline {
        /// Name of the operation.
        operation: String,
        /// The deadline.
        completes_by: Timestamp,
    },
    /// End an operation without success.
    End {
        /// Name of the operation.
        operation: String,
        /// Why.
        reason: Reason,
        /// The cause and the remedy.
        message: String,
    },
    /// Delete finished operations that have outlived their use.
    Prune {
        /// Their names.
        operations: Vec<String>,
    },
    /// Write the phone's status. Strings are made before it and discarded before it.
    WriteStatus {
        /// The whole new status.
        status: Box<PhoneStatus>,
        /// The operation that is being armed and needs a generated string.
        make_string_for: Option<String>,
        /// The operations whose generated strings are of no more use: the one that is over, the one that was replaced.
        discard_strings_of: Vec<String>,
    },
}

/// How the phone's spec fares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Accepted and acted on.
    Accepted,
    /// Accepted, but the proxy arms nothing new.
    Suspended,
    /// Something that the manifest refers to is not there yet.
    Waiting(&'static str, String),
    /// The manifest must change.
    Stalled(Reason, String),
}

/// The next step for one phone.
#[must_use]
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Step {
    let open = || observed.operations.iter().filter(|o| !o.phase().is_terminal());
    for operation in open() {
        let Some(deadline) = operation.completes_by() else { continue };
        // Nothing is issued after the deadline; what was delivered before it may still be answered for.
        if deadline.max(delivered_by(operation).unwrap_or(deadline)) <= now {
            return end(
                operation,
                Reason::Expired,
                format!("not completed by {deadline}; set a new revision to run again"),
            );
        }
    }
    let ends = |o: &CertificateOperation| Some(o.completes_by()?.max(delivered_by(o).unwrap_or(Timestamp::MIN)));
    let first_deadline = open().filter_map(|o| ends(o)).min();
    let Some(phone) = observed.phone else { return Step::Rest { wake: first_deadline } };
    let status = phone.status.clone().unwrap_or_default();
    let written = Written::from(&phone.spec);
    let armed = status.operation.as_ref().and_then(|a| find(observed.operations, &a.name));

    let (target, verdict) = match wanted_run(phone, &status, &written, armed.map(AsRef::as_ref)) {
        Wanted::Nothing => (armed, Verdict::Accepted),
        Wanted::Cancelled => match armed.filter(|o| !o.phase().is_terminal()) {
            Some(operation) => {
                return supersede(operation, "cancelled: certificateOperation is NoPendingOperation", now);
            }
            None => (armed, Verdict::Accepted),
        },
        Wanted::Run => match start(observed, phone, &written, armed, now) {
            Start::Step(step) => return step,
            Start::Armed(operation) => (Some(operation), Verdict::Accepted),
            Start::Not(verdict) => (armed, verdict),
        },
    };
    let (target, waits_since) = match applied_by_a_person(observed, target, now) {
        Ok(found) => found,
        Err(step) => return *step,
    };
    let accepted = verdict == Verdict::Accepted;
    let operations = (armed.map(AsRef::as_ref), target.map(AsRef::as_ref));
    let accepted = accepted.then_some(written);
    let next = phone_status::roll_up(phone, operations, observed.operations, accepted, &verdict, now);
    if next != status {
        return write(observed, &status, next, target.map(AsRef::as_ref));
    }
    let outlived = observed.proxy.map(|proxy| history::outlived(phone, observed.operations, proxy, now));
    if let Some(operations) = outlived.filter(|names| !names.is_empty()) {
        return Step::Prune { operations };
    }
    let of_a_string = [Reason::AuthenticationStringMalformed, Reason::AuthenticationStringReused];
    let looks_again = match &verdict {
        // Secrets are not watched.
        Verdict::Stalled(reason, _) if !of_a_string.contains(reason) => None,
        Verdict::Waiting(..) | Verdict::Stalled(..) => {
            status.conditions.iter().find(|c| c.type_ == ConditionType::Ready)
        }
        _ => None,
    };
    let since = [looks_again.map(|ready| ready.last_transition_time), waits_since].into_iter().flatten().max();
    let look_again = since.map(|since| retry::look_again(since, now));
    Step::Rest { wake: [first_deadline, look_again].into_iter().flatten().min() }
}

/// What the spec asks for, beside what was handled.
enum Wanted {
    Nothing,
    Cancelled,
    Run,
}

fn wanted_run(phone: &Phone, status: &PhoneStatus, written: &Written, armed: Option<&CertificateOperation>) -> Wanted {
    let handled = status.last_handled.as_ref();
    let another = written.asks_for_another_run_than(handled);
    if written.certificate_operation == CertificateOperationKind::NoPendingOperation {
        return if another { Wanted::Cancelled } else { Wanted::Nothing };
    }
    let pending = status.operation.as_ref().filter(|o| !o.phase.is_terminal() && o.requested_by == RequestedBy::Phone);
    // Superseded and not rolled up: the old run is out of the way and the new one still to be made.
    let replaceable = |o: &CertificateOperation| {
        !o.phase().is_terminal() || o.status.as_ref().and_then(|s| s.reason) == Some(Reason::Superseded)
    };
    let in_another_way =
        pending.is_some() && armed.is_none_or(replaceable) && written.asks_in_another_way_than(handled);
    // Named as pending, and nowhere to be found: somebody deleted it, or a backup did not hold it.
    let lost = pending.is_some() && armed.is_none() && phone.metadata.deletion_timestamp.is_none();
    if another || in_another_way || lost { Wanted::Run } else { Wanted::Nothing }
}

enum Start<'a> {
    Step(Step),
    Armed(&'a Arc<CertificateOperation>),
    Not(Verdict),
}

/// Towards a new run of the phone's own: checks, the old run out of the way, the operation itself.
fn start<'a>(
    observed: &Observed<'a>,
    phone: &Phone,
    written: &Written,
    armed: Option<&'a Arc<CertificateOperation>>,
    now: Timestamp,
) -> Start<'a> {
    let name = operation_name(phone);
    // One of that name that somebody else applied is not ours; creating finds it in the way and says so.
    let existing = find(observed.operations, &name).filter(|o| o.spec.requested_by == RequestedBy::Phone);
    if existing.is_none() {
        let Some(proxy) = observed.proxy else {
            let message =
                format!("there is no CertificateAuthorityProxy {} in this namespace", phone.spec.proxy_ref.name);
            return Start::Not(Verdict::Waiting("ProxyNotFound", message));
        };
        if proxy.spec.suspend {
            return Start::Not(Verdict::Suspended);
        }
        let spec = match resolve(phone, written, proxy, now) {
            Ok(spec) => spec,
            Err((reason, message)) => return Start::Not(Verdict::Stalled(reason, message)),
        };
        if let Some(step) = look_at_string(observed, spec.authentication_string.as_ref()) {
            return step;
        }
        return match armed.filter(|o| !o.phase().is_terminal()) {
            Some(old) => Start::Step(supersede(old, "replaced by a newer request", now)),
            None => Start::Step(Step::Create { name, spec: Box::new(spec) }),
        };
    }
    match armed.filter(|o| !o.phase().is_terminal() && o.metadata.name.as_ref() != Some(&name)) {
        Some(old) => Start::Step(supersede(old, "replaced by a newer request", now)),
        None => existing.map_or(Start::Not(Verdict::Accepted), Start::Armed),
    }
}

/// What stands in the way of a given string, if anything does.
fn look_at_string<'a>(observed: &Observed<'_>, source: Option<&AuthenticationStringSource>) -> Option<Start<'a>> {
    let secret = &source?.secret_ref.as_ref()?.name;
    let Some(fact) = observed.strings.get(secret) else {
        return Some(Start::Step(Step::LookAtString { secret: secret.clone() }));
    };
    match fact {
        StringFact::Usable => None,
        StringFact::Missing(message) => Some(Start::Not(Verdict::Waiting("SecretNotFound", message.clone()))),
        StringFact::Unusable(reason, message) => Some(Start::Not(Verdict::Stalled(*reason, message.clone()))),
    }
}

/// The operation to answer the phone with, and since when one that was applied waits for its Secret.
type Found<'a> = (Option<&'a Arc<CertificateOperation>>, Option<Timestamp>);

/// Operations that people (or rollouts) applied: the newest takes over, every other one that is open ends.
fn applied_by_a_person<'a>(
    observed: &Observed<'a>,
    target: Option<&'a Arc<CertificateOperation>>,
    now: Timestamp,
) -> Result<Found<'a>, Box<Step>> {
    let age = |o: &CertificateOperation| (o.metadata.creation_timestamp.clone().map(|t| t.0), o.metadata.name.clone());
    let others =
        || observed.operations.iter().filter(|o| !o.phase().is_terminal() && target.is_none_or(|t| !Arc::ptr_eq(t, o)));
    let applied = others().filter(|o| o.spec.requested_by != RequestedBy::Phone);
    let newest = applied.max_by_key(|o| age(o)).filter(|o| target.is_none_or(|t| age(t) <= age(o)));
    if let Some(other) = others().find(|o| newest.is_none_or(|n| !Arc::ptr_eq(n, o))) {
        return Err(Box::new(supersede(other, "replaced by a newer request", now)));
    }
    let (Some(newest), Some(proxy)) = (newest, observed.proxy) else { return Ok((target, None)) };
    let created = newest.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    if newest.completes_by().is_none() {
        let operation = newest.metadata.name.clone().unwrap_or_default();
        return Err(Box::new(Step::ResolveDeadline { operation, completes_by: deadline(created, proxy) }));
    }
    if proxy.spec.suspend {
        return Ok((target, None));
    }
    let of_phone = |phone| deletable(newest.spec.certificate_operation, phone);
    let refused = permitted(newest.spec.authentication_mode, proxy).and(observed.phone.map_or(Ok(()), of_phone));
    if let Err((reason, message)) = refused {
        return Err(Box::new(end(newest, reason, message)));
    }
    match look_at_string(observed, newest.spec.authentication_string.as_ref()) {
        Some(Start::Step(step)) => return Err(Box::new(step)),
        Some(Start::Not(Verdict::Stalled(reason, message))) => return Err(Box::new(end(newest, reason, message))),
        Some(_) => return Ok((target, Some(created))),
        None => {}
    }
    match target.filter(|t| !t.phase().is_terminal()) {
        Some(old) => Err(Box::new(supersede(old, "replaced by a newer request", now))),
        None => Ok((Some(newest), None)),
    }
}

/// When the session is over at the latest that delivers the certificate on record, or that was begun for a deletion or fetch.
fn delivered_by(operation: &CertificateOperation) -> Option<Timestamp> {
    let status = operation.status.as_ref()?;
    let delivered = status.certificate.as_ref().and_then(|c| c.issued_at.checked_add(SESSION_TAIL).ok());
    let begun = status.begun_at.and_then(|at| at.checked_add(SESSION_TAIL).ok());
    delivered.max(begun)
}

fn supersede(operation: &CertificateOperation, message: &str, now: Timestamp) -> Step {
    match delivered_by(operation) {
        // The phone may be about to answer: its answer counts, and the newer request takes over after it.
        Some(over) if now < over => Step::Rest { wake: Some(over) },
        _ => end(operation, Reason::Superseded, message.into()),
    }
}

fn end(operation: &CertificateOperation, reason: Reason, message: String) -> Step {
    Step::End { operation: operation.metadata.name.clone().unwrap_or_default(), reason, message }
}

fn write(
    observed: &Observed<'_>,
    before: &PhoneStatus,
    status: PhoneStatus,
    target: Option<&CertificateOperation>,
) -> Step {
    let named = |s: &PhoneStatus| s.operation.as_ref().map(|o| o.name.clone());
    let generated = |o: &CertificateOperation| o.metadata.name.clone().filter(|_| generates_string(&o.spec));
    let pending = status.operation.as_ref().is_some_and(|o| !o.phase.is_terminal());
    let was_pending = before.operation.as_ref().is_some_and(|o| !o.phase.is_terminal());
    let newly_armed = named(before) != named(&status);
    let armed = target.and_then(generated);
    // This write is the last that knows of it. Discarding at the moment it ended would be forgotten in a crash.
    let replaced = named(before).filter(|_| was_pending && newly_armed);
    let replaced = replaced.and_then(|name| generated(find(observed.operations, &name)?));
    let over = armed.clone().filter(|_| !pending && (was_pending || newly_armed));
    Step::WriteStatus {
        make_string_for: armed.filter(|_| pending && newly_armed),
        discard_strings_of: replaced.into_iter().chain(over).collect(),
        status: Box::new(status),
    }
}

/// Whether CAPF makes the operation's string.
#[must_use]
pub fn generates_string(spec: &CertificateOperationSpec) -> bool {
    spec.authentication_mode == AuthenticationMode::ByAuthenticationString
        && spec.authentication_string.as_ref().is_none_or(|s| s.secret_ref.is_none())
}

/// The Secret that holds the operation's string, given or generated; none for other modes.
#[must_use]
pub fn string_secret(operation: &CertificateOperation) -> Option<String> {
    if operation.spec.authentication_mode != AuthenticationMode::ByAuthenticationString {
        return None;
    }
    let given = operation.spec.authentication_string.as_ref().and_then(|s| s.secret_ref.as_ref());
    given.map_or_else(|| operation.metadata.name.as_deref().map(generated_secret), |given| Some(given.name.clone()))
}

/// Name of the Secret with the generated string of an operation.
#[must_use]
pub fn generated_secret(operation: &str) -> String {
    format!("{operation}-string")
}

/// The name of the run that a phone's present generation asks for: the same for every controller at any time.
#[must_use]
pub fn operation_name(phone: &Phone) -> String {
    let uid = phone.metadata.uid.as_deref().unwrap_or_default();
    let generation = phone.metadata.generation.unwrap_or_default();
    let hex = crate::pki::hex(&crate::pki::sha256(format!("{uid}/{generation}").as_bytes())[..4]);
    format!("{}-{hex}", phone.metadata.name.as_deref().unwrap_or_default())
}

fn find<'a>(operations: &'a [Arc<CertificateOperation>], name: &str) -> Option<&'a Arc<CertificateOperation>> {
    operations.iter().find(|o| o.metadata.name.as_deref() == Some(name))
}
