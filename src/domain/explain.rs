//! How far a phone came, why not further, and what to do: from resource state alone.
//!
//! A session that goes well writes nothing until a certificate is issued, so some hops cannot be told apart by state: a phone
//! that never called, one that does not trust the endpoint, and one that is making its key look alike. [`Explanation::unsure`]
//! then says what else it may be, and where that can be seen.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::api::{
    AuthenticationMode, CertificateAuthorityProxy, CertificateOperation, CertificateOperationKind, ConditionStatus,
    ConditionType, Phase, Phone, Reason,
};

/// Where a phone's way to its certificate has come to, from the manifest to the phone's flash.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Hop {
    /// Nothing is wanted of the phone.
    NothingAsked,
    /// What is wanted does not wait for the phone yet.
    NotArmed,
    /// There is no trace of a call.
    NeverCalled,
    /// It reached an endpoint and said its name, and was not known there.
    Tls,
    /// It had to prove itself.
    Authentication,
    /// It had to make a key.
    Key,
    /// The certificate had to be signed.
    CertificateAuthority,
    /// The phone had to store the certificate, and to say so.
    Store,
    /// It is done.
    Done,
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingAsked => "nothing asked",
            Self::NotArmed => "not armed",
            Self::NeverCalled => "never called",
            Self::Tls => "TLS",
            Self::Authentication => "authentication",
            Self::Key => "key",
            Self::CertificateAuthority => "CA",
            Self::Store => "store",
            Self::Done => "done",
        })
    }
}

/// What is known of the Secret with the string that waits. The string itself never comes here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StringSecret {
    /// Nobody looked, or nobody may.
    NotLookedAt,
    /// It holds 4 to 10 digits.
    Usable,
    /// There is none of that name.
    Missing,
    /// It is of another type, or holds something else.
    Unusable,
}

/// What explains a phone.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Device name in upper case, as asked.
    pub device: &'a str,
    /// The phone, if there is one.
    pub phone: Option<&'a Phone>,
    /// Every operation that refers to it.
    pub operations: &'a [CertificateOperation],
    /// The proxies of its namespace.
    pub proxies: &'a [CertificateAuthorityProxy],
    /// The Secret of the string that waits.
    pub string: StringSecret,
}

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// The last hop reached, or the one that was not passed.
    pub hop: Hop,
    /// The likely cause.
    pub cause: String,
    /// What to do.
    pub fix: String,
    /// What state cannot tell, and where it can be seen.
    pub unsure: Option<String>,
}

fn explained(hop: Hop, cause: impl Into<String>, fix: impl Into<String>) -> Explanation {
    Explanation { hop, cause: cause.into(), fix: fix.into(), unsure: None }
}

/// Runs the checks in order; the first that has something to say explains.
#[must_use]
pub fn explain(facts: &Facts<'_>, now: Timestamp) -> Explanation {
    let Some(phone) = facts.phone else { return without_phone(facts) };
    let Some(proxy) = facts.proxies.iter().find(|p| p.metadata.name.as_ref() == Some(&phone.spec.proxy_ref.name))
    else {
        let name = &phone.spec.proxy_ref.name;
        return explained(
            Hop::NotArmed,
            format!("there is no CertificateAuthorityProxy {name} in this namespace"),
            format!("apply the proxy {name}; proxyRef cannot be changed, so for another proxy make the Phone anew"),
        );
    };
    not_armed(phone, proxy).or_else(|| over(phone, now)).unwrap_or_else(|| waiting(facts, phone, proxy, now))
}

fn without_phone(facts: &Facts<'_>) -> Explanation {
    let device = facts.device;
    match called_at(facts).next() {
        Some((proxy, last)) => explained(
            Hop::Tls,
            format!("{device} called at proxy {proxy}, last seen {last}, and there is no Phone of that name"),
            format!("make one: capf adopt {device} --proxy {proxy}"),
        ),
        None => Explanation {
            unsure: Some(
                "only the newest 100 unknown callers are remembered; an endpoint's log has them all, as device=NAME with \
                 \"unknown device\""
                    .into(),
            ),
            ..explained(
                Hop::NeverCalled,
                format!("there is no Phone {device} here, and no device of that name is known to have called"),
                "apply a Phone, in the namespace of its proxy and under its device name in lower case",
            )
        },
    }
}

/// The proxies at which the device called without being known, and when last.
fn called_at<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (&'a str, Timestamp)> {
    let device = facts.device;
    facts.proxies.iter().filter_map(move |proxy| {
        let calls = &proxy.status.as_ref()?.unknown_callers;
        let call = calls.iter().find(|call| call.device_name == device)?;
        Some((proxy.metadata.name.as_deref().unwrap_or_default(), call.last_seen))
    })
}

/// Why nothing waits for the phone, if it is the manifest or the controllers.
fn not_armed(phone: &Phone, proxy: &CertificateAuthorityProxy) -> Option<Explanation> {
    let status = phone.status.as_ref().filter(|s| Some(s.observed_generation) == phone.metadata.generation);
    let Some(status) = status else {
        return Some(explained(
            Hop::NotArmed,
            "no controller has acted on the newest manifest",
            "see that the controllers run and one of them leads: their log says \"leading\", or what a call failed for",
        ));
    };
    let condition = |type_| status.conditions.iter().find(|c| c.type_ == type_);
    if let Some(stalled) = condition(ConditionType::Stalled).filter(|c| c.status == ConditionStatus::True) {
        let cause = format!("the manifest cannot be acted on: {}", stalled.reason);
        return Some(explained(Hop::NotArmed, cause, stalled.message.clone()));
    }
    let ready = condition(ConditionType::Ready);
    if let Some(waiting) = ready.filter(|c| c.status == ConditionStatus::False) {
        let cause = format!("something that the manifest refers to is not there: {}", waiting.message);
        return Some(explained(Hop::NotArmed, cause, "apply it; it is looked for again by itself"));
    }
    if ready.is_some_and(|c| c.reason == "Suspended") {
        let name = proxy.metadata.name.as_deref().unwrap_or_default();
        let fix = format!("set suspend: false on proxy {name}");
        return Some(explained(Hop::NotArmed, "the proxy is suspended: nothing new is armed", fix));
    }
    None
}

/// How the newest operation ended, or that there is none.
fn over(phone: &Phone, now: Timestamp) -> Option<Explanation> {
    let status = phone.status.as_ref()?;
    let Some(operation) = &status.operation else {
        let fix = "set certificateOperation, for example to InstallUpgrade";
        return Some(explained(Hop::NothingAsked, "nothing was asked of the phone", fix));
    };
    match operation.phase {
        Phase::Successful => {
            let ended = status.lsc.as_ref().map(|lsc| lsc.not_after).filter(|end| *end <= now);
            let installed = operation.certificate_operation == CertificateOperationKind::InstallUpgrade;
            Some(match ended.filter(|_| installed) {
                Some(end) => explained(
                    Hop::Done,
                    format!("the LSC was installed and has expired at {end}"),
                    "set a new revision: the phone gets another one",
                ),
                None => explained(
                    Hop::Done,
                    format!("{} is done: the phone said so", operation.certificate_operation.words()),
                    "nothing; a new revision runs it again",
                ),
            })
        }
        Phase::Failed => Some(failed(operation.reason)),
        Phase::Pending | Phase::InProgress => None,
    }
}

fn failed(reason: Option<Reason>) -> Explanation {
    let again = "set a new revision to run again";
    let Some(reason) = reason else { return explained(Hop::NotArmed, "the operation failed", again) };
    let (hop, fix) = match reason {
        Reason::LockedOut => (Hop::Authentication, "find out who entered the strings, then: capf unlock PHONE"),
        Reason::UserAborted => (Hop::Key, "ask the phone's user, then set a new revision"),
        Reason::KeyGenerationFailed => (
            Hop::Key,
            "ask for a key that this model makes (keyType, keySize), or restart the phone and set a new revision",
        ),
        Reason::KeyGenerationTimeout => {
            (Hop::Key, "ask for a smaller key, or raise maximumKeyGenerationMinutes, and set a new revision")
        }
        Reason::KeyRejected => (
            Hop::Key,
            "ask for a key that this model makes (keyType, keySize); a phone of protocol version 2 makes RSA only",
        ),
        Reason::CACommunicationFailure | Reason::CARejected => {
            (Hop::CertificateAuthority, "see what ails the CA: capf explain --proxy NAME; then set a new revision")
        }
        Reason::StoreRejected => (
            Hop::Store,
            "see the phone's own log; a full flash or a wrong clock in the phone is likely; then set a new revision",
        ),
        Reason::PhoneRejected => (Hop::Store, "see the phone's own log; then set a new revision"),
        Reason::NothingToDelete => (Hop::Done, "nothing: the phone holds no LSC"),
        Reason::Expired => (
            Hop::NeverCalled,
            "see that the phone is on, knows the CAPF address and port, and trusts the service certificate (CTL); then set a new \
             revision and a later operationCompletesBy",
        ),
        Reason::Superseded => (Hop::NotArmed, "nothing: a newer request took its place, or it was cancelled"),
        Reason::PolicyDenied => (Hop::NotArmed, "change the mode, or permit it on the proxy, and set a new revision"),
        Reason::AuthenticationStringMalformed | Reason::AuthenticationStringReused => {
            (Hop::NotArmed, "write 4 to 10 new digits into the Secret, and set a new revision")
        }
        Reason::PhoneCommunicationFailure => {
            (Hop::Tls, "see the endpoint's log for the phone's name, and the network between; then set a new revision")
        }
        // What remains is about certificates that the phone holds or does not hold.
        _ => (Hop::Authentication, "use another authenticationMode, such as ByAuthenticationString"),
    };
    explained(hop, reason.meaning(), fix)
}

/// What a pending operation waits for.
fn waiting(facts: &Facts<'_>, phone: &Phone, proxy: &CertificateAuthorityProxy, now: Timestamp) -> Explanation {
    let named = phone.status.as_ref().and_then(|s| s.operation.as_ref()).map(|o| o.name.as_str()).unwrap_or_default();
    let Some(operation) = facts.operations.iter().find(|o| o.metadata.name.as_deref() == Some(named)) else {
        return explained(
            Hop::NotArmed,
            format!("operation {named} is gone; somebody deleted it"),
            "wait a moment: the leading controller makes it anew; if it does not, see whether one leads",
        );
    };
    let status = operation.status_or_default();
    if let Some(certificate) = &status.certificate {
        let since = certificate.issued_at;
        let fix = "wait: the phone comes again by itself, and gets the same or a new certificate";
        return Explanation {
            unsure: Some("whether it arrived, the endpoint's log tells (device=NAME, at that time)".into()),
            ..explained(
                Hop::Store,
                format!("a certificate was issued at {since}, and the phone has not said that it stored it"),
                fix,
            )
        };
    }
    if status.phase == Phase::InProgress {
        let what = operation.spec.certificate_operation.words();
        return Explanation {
            unsure: Some("whether it heard, the endpoint's log tells (device=NAME)".into()),
            ..explained(
                Hop::Store,
                format!("the phone was let in and told what to do ({what}), and has not said that it is done"),
                "wait: the phone comes again by itself",
            )
        };
    }
    let late = operation.completes_by().filter(|end| now.duration_since(*end) > SignedDuration::from_mins(2));
    if let Some(end) = late {
        let cause = format!(
            "it had to be completed by {end}, and no controller has ended it: none leads, or its clock is wrong"
        );
        return explained(Hop::NotArmed, cause, "see the controllers' log and clock: capf explain --proxy NAME");
    }
    if let Some(obstacle) = unready(proxy) {
        let fix = format!(
            "mend the proxy first: capf explain --proxy {}",
            proxy.metadata.name.as_deref().unwrap_or_default()
        );
        return explained(Hop::CertificateAuthority, format!("the proxy is not ready to sign: {obstacle}"), fix);
    }
    let attempts = status.attempts.unwrap_or_default();
    if attempts.key_generation > 0 {
        let limit = proxy.spec.maximum_key_generation_attempts;
        return explained(
            Hop::Key,
            format!(
                "the phone was let in, and failed to make its key in {} of {limit} attempts",
                attempts.key_generation
            ),
            "wait for its next try; or ask for a smaller key, or for one that this model makes (keyType, keySize)",
        );
    }
    let by_string = operation.spec.authentication_mode == AuthenticationMode::ByAuthenticationString;
    if by_string && matches!(facts.string, StringSecret::Missing | StringSecret::Unusable) {
        let what = match facts.string {
            StringSecret::Missing => "is not there",
            _ => "is of another type, or does not hold 4 to 10 digits",
        };
        return explained(
            Hop::Authentication,
            format!("the Secret with the authentication string {what}: no string can be right"),
            "a generated one: capf renew-string PHONE; a given one: apply it again, with type capf.dev/authentication-string",
        );
    }
    if attempts.authentication > 0 {
        let limit = proxy.spec.maximum_authentication_attempts;
        return explained(
            Hop::Authentication,
            format!("{} of {limit} wrong authentication strings were entered", attempts.authentication),
            "enter the right one: capf auth-strings shows it; capf renew-string PHONE makes another",
        );
    }
    if operation.spec.authentication_mode == AuthenticationMode::ByNullString && !proxy.spec.permit_null_string {
        return explained(
            Hop::Authentication,
            "By Null String is no longer permitted: permitNullString is false on the proxy",
            "permit it, or set authenticationMode: ByAuthenticationString on the Phone",
        );
    }
    no_trace(facts, proxy, operation.spec.authentication_mode)
}

fn unready(proxy: &CertificateAuthorityProxy) -> Option<String> {
    let conditions = proxy.status.as_ref().map_or(&[][..], |s| &s.conditions);
    match conditions.iter().find(|c| c.type_ == ConditionType::Ready) {
        None => Some("no controller has looked at it".into()),
        Some(ready) if ready.status != ConditionStatus::True => Some(format!("{}: {}", ready.reason, ready.message)),
        Some(_) => None,
    }
}

/// Nothing was written since the operation was armed.
fn no_trace(facts: &Facts<'_>, proxy: &CertificateAuthorityProxy, mode: AuthenticationMode) -> Explanation {
    let by_string = mode == AuthenticationMode::ByAuthenticationString;
    let own = proxy.metadata.name.as_deref().unwrap_or_default();
    if let Some((other, last)) = called_at(facts).find(|(name, _)| *name != own) {
        return explained(
            Hop::Tls,
            format!("the phone called at proxy {other}, last seen {last}, and its Phone belongs to proxy {own}"),
            format!(
                "give the phone the CAPF address of proxy {own}, or delete its Phone and make one for proxy {other}"
            ),
        );
    }
    let status = proxy.status.clone().unwrap_or_default();
    let holds = |type_| status.conditions.iter().any(|c| c.type_ == type_ && c.status == ConditionStatus::True);
    if holds(ConditionType::CredentialExpiring) {
        return explained(
            Hop::NeverCalled,
            "the endpoints' client certificate has expired: they serve phones and get no answer for them",
            format!("see why: capf explain --proxy {own}; then export it again: capf endpoint-bundle --proxy {own}"),
        );
    }
    let log = "a phone that fails TLS, one that is making its key, and one whose right string was lost with its connection \
               leave no trace either: see the endpoint's log for device=NAME, or end=\"handshake_failed\" without a name";
    let by_certificate = matches!(
        mode,
        AuthenticationMode::ByExistingCertificatePrecedenceToLSC
            | AuthenticationMode::ByExistingCertificatePrecedenceToMIC
    );
    let log = match by_certificate {
        true => format!(
            "a phone whose certificates are refused leaves no trace, and its reason stands in the endpoint's log; {log}"
        ),
        false => log.to_owned(),
    };
    let unsure = match status.guessing_blocks.first().filter(|_| by_string) {
        Some(block) => format!("strings from {} are not checked for the moment; {log}", block.source_block),
        None => log,
    };
    let said = if holds(ConditionType::CTLUpdateRequired) {
        let service = status.service_certificate.map(|c| c.common_name).unwrap_or_default();
        explained(
            Hop::NeverCalled,
            format!("the phones' CTL is not known to hold {service}: without it they refuse the endpoint in TLS"),
            format!("update the CTL, then set ctlCertificate: {service} on proxy {own}"),
        )
    } else if by_string {
        explained(
            Hop::NeverCalled,
            "nobody has entered the authentication string on the phone yet",
            "enter it: Settings > Security Configuration > LSC > Update; capf auth-strings shows it",
        )
    } else {
        explained(
            Hop::NeverCalled,
            "the phone has not called yet",
            "reset the phone, and see that it is on and knows the CAPF address and port",
        )
    };
    Explanation { unsure: Some(unsure), ..said }
}
