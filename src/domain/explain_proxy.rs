//! What ails a proxy: its certificates, its endpoints, the controllers' clock, the phones' trust. From resource state alone.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::endpoints::in_cluster;
use super::proxy::OwnKeyRole;
use crate::api::{CertificateAuthorityProxy, CertificateOperation, ConditionStatus, ConditionType, PROXY_LABEL};

/// A clock that differs by more is wrong.
const SKEW: SignedDuration = SignedDuration::from_mins(1);
/// A certificate that ends within this is told of.
const ENDING: SignedDuration = SignedDuration::from_hours(24 * 30);

/// What is looked at.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Topic {
    /// CAPF's own key pairs and certificates.
    Certificates,
    /// Whoever serves phones with the proxy's bundle.
    Endpoints,
    /// The controllers' clock beside the API server's and the caller's.
    Clock,
    /// Whether phones trust the service certificate, and who is guessing.
    Trust,
}

/// How it fares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// Nothing is wrong as far as state tells.
    Fine,
    /// Something is to be done.
    Fault,
    /// State does not tell.
    Unknown,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fine => "fine",
            Self::Fault => "FAULT",
            Self::Unknown => "cannot tell",
        })
    }
}

/// What was found about one topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What was looked at.
    pub topic: Topic,
    /// How it fares.
    pub health: Health,
    /// What is known, or the cause.
    pub cause: String,
    /// What to do; empty where there is nothing.
    pub fix: String,
}

/// What is known of a Secret of the proxy's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretFact {
    /// Nobody may look.
    NotLookedAt,
    /// It is there, of its type.
    There,
    /// There is none.
    Missing,
    /// One of another type has its name.
    OtherType,
}

/// What explains a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The proxy.
    pub proxy: &'a CertificateAuthorityProxy,
    /// Operations of its phones.
    pub operations: &'a [CertificateOperation],
    /// The Secret of the issuer's key pair.
    pub issuer: SecretFact,
    /// The Secret of the service key pair.
    pub service: SecretFact,
    /// The Secret of the endpoints' bundle.
    pub bundle: SecretFact,
}

/// The findings, each topic once or more.
#[must_use]
pub fn explain(facts: &Facts<'_>, now: Timestamp) -> Vec<Finding> {
    let mut findings = certificates(facts, now);
    findings.extend(endpoints(facts));
    findings.push(clock(facts, now));
    findings.extend(trust(facts));
    findings
}

fn fault(topic: Topic, cause: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { topic, health: Health::Fault, cause: cause.into(), fix: fix.into() }
}

fn fine(topic: Topic, cause: impl Into<String>) -> Finding {
    Finding { topic, health: Health::Fine, cause: cause.into(), fix: String::new() }
}

/// The fault that a Secret is, if it is one.
fn of_secret(topic: Topic, name: &str, fact: SecretFact, missing: &str) -> Option<Finding> {
    match fact {
        SecretFact::There | SecretFact::NotLookedAt => None,
        SecretFact::Missing => Some(fault(topic, format!("Secret {name} is gone"), missing)),
        SecretFact::OtherType => Some(fault(
            topic,
            format!("Secret {name} is of another type: it is not of this product"),
            "remove it, or rename the proxy",
        )),
    }
}

fn certificates(facts: &Facts<'_>, now: Timestamp) -> Vec<Finding> {
    let topic = Topic::Certificates;
    let name = facts.proxy.metadata.name.as_deref().unwrap_or_default();
    let status = facts.proxy.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|c| c.type_ == ConditionType::Ready);
    let Some(ready) = ready.filter(|_| Some(status.observed_generation) == facts.proxy.metadata.generation) else {
        let cause = "no controller has acted on the proxy's newest manifest";
        return vec![fault(
            topic,
            cause,
            "see that the controllers run, watch this namespace, and that one of them leads",
        )];
    };
    let mut found = Vec::new();
    if ready.status != ConditionStatus::True && !is_about_endpoints(&ready.reason) {
        found.push(fault(topic, format!("not activated: {}", ready.reason), ready.message.clone()));
    }
    let restore =
        "restore it from a backup; or raise certificateRevision to make the keys anew, and update the CTL after it";
    if found.is_empty() {
        for (role, fact) in [(OwnKeyRole::Issuer, facts.issuer), (OwnKeyRole::Service, facts.service)] {
            found.extend(of_secret(topic, &role.secret_name(name), fact, restore));
        }
    }
    for (what, certificate) in [("issuer", &status.issuer_certificate), ("service", &status.service_certificate)] {
        let Some(certificate) = certificate else { continue };
        let end = certificate.not_after;
        let left = end.duration_since(now);
        if left < ENDING {
            let ends = if left.is_positive() { "ends" } else { "has ended" };
            let fix = "raise certificateRevision, and update the CTL after it";
            found.push(fault(
                topic,
                format!("the {what} certificate {} {ends} at {end}", certificate.common_name),
                fix,
            ));
        }
    }
    if let Some(differs) = condition(facts, ConditionType::KeySizeDiffers) {
        found.push(fault(topic, "CAPF's keys are of another kind than the spec asks for", differs));
    }
    if found.is_empty() {
        found.push(fine(topic, "both key pairs are in place and published"));
    }
    found
}

/// Whether a proxy that is not Ready for this reason has its keys and certificates.
fn is_about_endpoints(reason: &str) -> bool {
    matches!(reason, "EndpointsUnavailable" | "EndpointsRefused")
}

/// The message of a condition that is True.
fn condition(facts: &Facts<'_>, type_: ConditionType) -> Option<String> {
    let conditions = &facts.proxy.status.as_ref()?.conditions;
    conditions.iter().find(|c| c.type_ == type_ && c.status == ConditionStatus::True).map(|c| c.message.clone())
}

fn endpoints(facts: &Facts<'_>) -> Vec<Finding> {
    let topic = Topic::Endpoints;
    let name = facts.proxy.metadata.name.as_deref().unwrap_or_default();
    let secret = super::proxy::endpoint_secret(name);
    let pods = in_cluster(facts.proxy);
    let then = |external: &str| if pods { String::new() } else { format!("; then {external}") };
    let remake = format!("wait: the leading controller makes it anew{}", then("export it again"));
    let mut found: Vec<_> = of_secret(topic, &secret, facts.bundle, &remake).into_iter().collect();
    if let Some(expired) = condition(facts, ConditionType::CredentialExpiring) {
        let fix = format!("see the controllers' log{}", then(&format!("run capf endpoint-bundle --proxy {name}")));
        found.push(fault(topic, expired, fix));
    }
    found.extend(pods_missing(facts, name));
    if !found.is_empty() {
        return found;
    }
    let log = "see an endpoint's log: \"phones are awaited\", then a line for each session";
    let at = facts.proxy.status.as_ref().and_then(|s| s.endpoints.as_ref()).filter(|_| pods);
    if let Some(seen) = at {
        let (address, port) = (seen.address.as_deref().unwrap_or("no address"), facts.proxy.spec.phone_port);
        let last =
            last_heard(facts).map_or_else(String::new, |last| format!("; the last phone on record came at {last}"));
        let cause = format!("{} of {} pods take phones at {address}, port {port}{last}", seen.ready, seen.replicas);
        return vec![fine(topic, cause)];
    }
    vec![match last_heard(facts) {
        Some(last) => fine(topic, format!("an endpoint last brought a phone at {last}, as far as is written down")),
        None => Finding {
            topic,
            health: Health::Unknown,
            cause: "no phone that came through an endpoint has left a trace; endpoints write nothing by themselves"
                .into(),
            fix: log.into(),
        },
    }]
}

/// What the Ready condition says against endpoint pods.
fn pods_missing(facts: &Facts<'_>, name: &str) -> Option<Finding> {
    let conditions = &facts.proxy.status.as_ref()?.conditions;
    let ready = conditions.iter().find(|c| c.type_ == ConditionType::Ready && c.status != ConditionStatus::True)?;
    let namespace = facts.proxy.metadata.namespace.as_deref().unwrap_or_default();
    is_about_endpoints(&ready.reason).then(|| {
        let fix = format!("see: kubectl -n {namespace} describe deployment,pods -l {PROXY_LABEL}={name}");
        fault(Topic::Endpoints, format!("{}: {}", ready.reason, ready.message), fix)
    })
}

/// The newest thing on record that an endpoint must have brought.
fn last_heard(facts: &Facts<'_>) -> Option<Timestamp> {
    let callers = facts.proxy.status.iter().flat_map(|s| &s.unknown_callers).map(|call| call.last_seen);
    let issued = facts.operations.iter().filter_map(|o| Some(o.status.as_ref()?.certificate.as_ref()?.issued_at));
    callers.chain(issued).max()
}

fn clock(facts: &Facts<'_>, now: Timestamp) -> Finding {
    let topic = Topic::Clock;
    let fix = "set the clocks of the controllers' nodes (NTP): deadlines and certificates go by them";
    let conditions = facts.proxy.status.iter().flat_map(|s| &s.conditions).map(|c| c.last_transition_time);
    let written: Vec<Timestamp> = conditions.chain(last_heard(facts)).collect();
    let Some(newest) = written.iter().max().copied() else {
        let cause = "no controller has written a time yet".into();
        return Finding { topic, health: Health::Unknown, cause, fix: String::new() };
    };
    let created = facts.proxy.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let ahead = newest.duration_since(now);
    if ahead > SKEW {
        return fault(
            topic,
            format!("a controller wrote a time that is {} s ahead of this machine's", ahead.as_secs()),
            fix,
        );
    }
    let oldest = written.iter().min().copied().unwrap_or(newest);
    match created.map(|created| created.duration_since(oldest)).filter(|behind| *behind > SKEW) {
        Some(behind) => fault(
            topic,
            format!("a controller wrote a time {} s before the API server made the proxy", behind.as_secs()),
            fix,
        ),
        None => fine(topic, "no time that a controller wrote is in the future, or before the proxy was made"),
    }
}

fn trust(facts: &Facts<'_>) -> Vec<Finding> {
    let topic = Topic::Trust;
    let mut found = Vec::new();
    if let Some(message) = condition(facts, ConditionType::CTLUpdateRequired) {
        found.push(fault(
            topic,
            "phones may refuse the endpoint in TLS: their CTL is not known to hold its certificate",
            message,
        ));
    }
    if let Some(message) = condition(facts, ConditionType::GuessingSuspected) {
        found.push(fault(topic, "authentication strings are guessed, or mistyped in numbers", message));
    }
    if facts.proxy.spec.permit_null_string {
        found.push(fault(
            topic,
            "permitNullString is on: whoever reaches the port and names a phone that waits so gets its certificate",
            "switch it off when it has served, or keep the port to a closed network",
        ));
    }
    if found.is_empty() {
        found.push(fine(topic, "the CTL is said to hold the service certificate"));
    }
    found
}
