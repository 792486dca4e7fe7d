//! What the phone that just connected may do: the ordered checks behind the question *open*.

use jiff::Timestamp;

use super::phone::string_secret;
use super::resolve::deletable;
use crate::api::{AuthenticationMode, CertificateAuthorityProxy, CertificateOperation, Phase, Phone, Reason};

/// Evidence that came with the device name, as far as decisions need to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EvidenceKind {
    /// Digits were entered.
    String,
    /// Nothing, or an empty password.
    Null,
    /// Certificates and signatures.
    Certificate,
}

/// What the checks found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// No phone of this name belongs to the proxy.
    UnknownDevice,
    /// The phone is known and nothing is wanted of it.
    NothingScheduled,
    /// Not let in.
    Refused(Reason, String),
    /// The digits decide; they are compared with what this Secret holds.
    CheckString {
        /// Name of the Secret.
        secret: String,
    },
    /// The certificates that came decide, or that none did; see [`super::existing`].
    CheckCertificates,
    /// Let in without proof, as the proxy permits.
    AdmitByNullString,
}

/// Runs the checks, in order; the first that has something to say decides.
#[must_use]
pub fn open(
    proxy: &CertificateAuthorityProxy,
    phone: Option<&Phone>,
    armed: Option<&CertificateOperation>,
    evidence: EvidenceKind,
    now: Timestamp,
) -> Verdict {
    let Some(phone) = phone.filter(|p| belongs_to(p, proxy)) else { return Verdict::UnknownDevice };
    let Some(operation) = armed.filter(|o| is_armed(o, phone) && !o.phase().is_terminal()) else {
        return Verdict::NothingScheduled;
    };
    if let Some(deadline) = operation.completes_by().filter(|deadline| *deadline <= now) {
        return Verdict::Refused(Reason::Expired, format!("had to be completed by {deadline}"));
    }
    // The phone's security mode may have been raised since the deletion was armed.
    if let Err((reason, message)) = deletable(operation.spec.certificate_operation, phone) {
        return Verdict::Refused(reason, message);
    }
    match (operation.spec.authentication_mode, evidence) {
        (AuthenticationMode::ByNullString, _) if !proxy.spec.permit_null_string => Verdict::Refused(
            Reason::PolicyDenied,
            "By Null String is no longer permitted: permitNullString is false on the proxy".into(),
        ),
        (AuthenticationMode::ByNullString, _) => Verdict::AdmitByNullString,
        (AuthenticationMode::ByAuthenticationString, EvidenceKind::String) => match string_secret(operation) {
            Some(secret) => Verdict::CheckString { secret },
            None => Verdict::NothingScheduled,
        },
        (AuthenticationMode::ByAuthenticationString, EvidenceKind::Null | EvidenceKind::Certificate) => {
            Verdict::Refused(
                Reason::InvalidCredentials,
                "the authentication string must be entered on the phone".into(),
            )
        }
        (
            AuthenticationMode::ByExistingCertificatePrecedenceToLSC
            | AuthenticationMode::ByExistingCertificatePrecedenceToMIC,
            _,
        ) => Verdict::CheckCertificates,
    }
}

fn belongs_to(phone: &Phone, proxy: &CertificateAuthorityProxy) -> bool {
    Some(&phone.spec.proxy_ref.name) == proxy.metadata.name.as_ref()
        && phone.metadata.namespace == proxy.metadata.namespace
        && phone.metadata.deletion_timestamp.is_none()
}

fn is_armed(operation: &CertificateOperation, phone: &Phone) -> bool {
    let named = phone.status.as_ref().and_then(|s| s.operation.as_ref());
    named.is_some_and(|named| Some(&named.name) == operation.metadata.name.as_ref() && named.phase == Phase::Pending)
        && Some(&operation.spec.phone_ref.name) == phone.metadata.name.as_ref()
        && operation.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{at, operation, phone, proxy};
    use serde_json::json;

    fn armed_phone() -> Phone {
        let mut phone = phone(json!({}));
        phone.status = serde_json::from_value(json!({"operation": {
            "name": "sep001-1", "certificateOperation": "InstallUpgrade", "authenticationMode": "ByNullString",
            "requestedBy": "Phone", "phase": "Pending"
        }}))
        .unwrap();
        phone
    }

    fn with_mode(mode: AuthenticationMode) -> CertificateOperation {
        let mut operation = operation("sep001-1", at(100));
        operation.spec.authentication_mode = mode;
        operation
    }

    #[test]
    fn a_phone_of_another_proxy_is_unknown() {
        let mut other = proxy();
        other.metadata.name = Some("other".into());
        let operation = with_mode(AuthenticationMode::ByNullString);
        let phone = armed_phone();
        assert_eq!(open(&other, Some(&phone), Some(&operation), EvidenceKind::Null, at(1)), Verdict::UnknownDevice);
        assert_eq!(open(&proxy(), None, None, EvidenceKind::Null, at(1)), Verdict::UnknownDevice);
    }

    #[test]
    fn only_the_operation_named_in_the_phones_status_is_answered() {
        let stray = operation("sep001-2", at(100));
        let verdict = open(&proxy(), Some(&armed_phone()), Some(&stray), EvidenceKind::Null, at(1));
        assert_eq!(verdict, Verdict::NothingScheduled);
    }

    #[test]
    fn null_evidence_never_admits_where_a_string_is_asked_for() {
        let operation = with_mode(AuthenticationMode::ByAuthenticationString);
        for evidence in [EvidenceKind::Null, EvidenceKind::Certificate] {
            let verdict = open(&proxy(), Some(&armed_phone()), Some(&operation), evidence, at(1));
            assert!(matches!(verdict, Verdict::Refused(Reason::InvalidCredentials, _)), "{verdict:?}");
        }
        let verdict = open(&proxy(), Some(&armed_phone()), Some(&operation), EvidenceKind::String, at(1));
        assert_eq!(verdict, Verdict::CheckString { secret: "sep001-1-string".into() });
    }

    #[test]
    fn the_null_string_is_refused_when_the_proxy_no_longer_permits_it() {
        let mut strict = proxy();
        strict.spec.permit_null_string = false;
        let operation = with_mode(AuthenticationMode::ByNullString);
        let verdict = open(&strict, Some(&armed_phone()), Some(&operation), EvidenceKind::Null, at(1));
        assert!(matches!(&verdict, Verdict::Refused(Reason::PolicyDenied, m) if m.contains("permitNullString")));
    }

    #[test]
    fn an_operation_past_its_deadline_admits_nobody() {
        let operation = with_mode(AuthenticationMode::ByNullString);
        let verdict = open(&proxy(), Some(&armed_phone()), Some(&operation), EvidenceKind::Null, at(100));
        assert!(matches!(verdict, Verdict::Refused(Reason::Expired, _)));
    }

    #[test]
    fn authentication_by_certificate_is_decided_by_the_certificates_whatever_else_came() {
        let operation = with_mode(AuthenticationMode::ByExistingCertificatePrecedenceToLSC);
        for evidence in [EvidenceKind::Null, EvidenceKind::String, EvidenceKind::Certificate] {
            let verdict = open(&proxy(), Some(&armed_phone()), Some(&operation), evidence, at(1));
            assert_eq!(verdict, Verdict::CheckCertificates);
        }
        let late = open(&proxy(), Some(&armed_phone()), Some(&operation), EvidenceKind::Certificate, at(100));
        assert!(matches!(late, Verdict::Refused(Reason::Expired, _)));
    }
}
