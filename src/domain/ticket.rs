//! Tickets: what `open` found, carried by the endpoint, presented to any replica, believed only with its seal.
//!
//! An endpoint cannot make or change one. Signing asks for a [`SigningGrant`], and the only way to one is a
//! ticket whose seal was verified and a public key that is bound to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::existing::Proven;
use crate::api::CertificateOperationKind;
use crate::pki::{MacKey, PublicKey};

const PURPOSE: &[u8] = b"capf ticket 1";
/// Longest ticket that is looked at, in characters.
const MAX_LENGTH: usize = 4096;

/// What a ticket says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Namespace of the proxy and of everything else named here.
    pub namespace: String,
    /// The proxy whose endpoint asked.
    pub proxy: String,
    /// Device name of the phone, in upper case.
    pub device: String,
    /// Name of the operation.
    pub operation: String,
    /// UID of the operation: one of the same name made later is another.
    pub operation_uid: String,
    /// What the operation does: nothing is signed for a deletion, nothing deleted for an installation.
    pub certificate_operation: CertificateOperationKind,
    /// The kind of evidence that let the phone in.
    pub evidence: String,
    /// The certificates that the phone offered, where it was let in by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Proven>,
    /// Session id on the wire.
    pub session_id: u32,
    /// Keyed digest of the given string that was used, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent_string: Option<String>,
    /// SHA-256 of the certificate that this session delivers; in the receipt that `issue` returns only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256_fingerprint: Option<String>,
    /// The end of its use.
    pub expires: Timestamp,
}

/// Why a ticket is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotBelieved {
    /// Not in the form of a ticket.
    #[error("the ticket is malformed")]
    Malformed,
    /// The seal is not ours.
    #[error("the ticket's seal is not of this installation")]
    Seal,
    /// Too old.
    #[error("the ticket has expired")]
    Expired,
    /// Presented by the endpoint of another proxy.
    #[error("the ticket belongs to another proxy")]
    OtherProxy,
    /// Presented for another session.
    #[error("the ticket belongs to another session")]
    OtherSession,
    /// It is a receipt where a ticket is asked, or the other way round.
    #[error("the ticket is for another question")]
    OtherQuestion,
}

impl Ticket {
    /// Seals the ticket for its way through the endpoint.
    ///
    /// # Panics
    /// Never: a ticket is plain data.
    #[must_use]
    pub fn seal(&self, key: &MacKey) -> String {
        let body = serde_json::to_string(self).expect("a ticket is plain data");
        let seal = crate::pki::hex(&key.sign(&[PURPOSE, body.as_bytes()]));
        format!("{seal}.{body}")
    }

    /// Believes a ticket that comes back.
    ///
    /// # Errors
    /// [`NotBelieved`] for anything but an unexpired ticket of ours for this proxy and session.
    pub fn verify(
        sealed: &str,
        key: &MacKey,
        (namespace, proxy): (&str, &str),
        session_id: u32,
        now: Timestamp,
    ) -> Result<VerifiedTicket, NotBelieved> {
        if sealed.len() > MAX_LENGTH {
            return Err(NotBelieved::Malformed);
        }
        let (seal, body) = sealed.split_once('.').ok_or(NotBelieved::Malformed)?;
        let seal = unhex(seal).ok_or(NotBelieved::Malformed)?;
        if !key.verify(&[PURPOSE, body.as_bytes()], &seal) {
            return Err(NotBelieved::Seal);
        }
        let ticket: Self = serde_json::from_str(body).map_err(|_| NotBelieved::Malformed)?;
        if ticket.expires <= now {
            return Err(NotBelieved::Expired);
        }
        if (ticket.namespace.as_str(), ticket.proxy.as_str()) != (namespace, proxy) {
            return Err(NotBelieved::OtherProxy);
        }
        if ticket.session_id != session_id {
            return Err(NotBelieved::OtherSession);
        }
        Ok(VerifiedTicket(ticket))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// A ticket whose seal, proxy, session and time were verified. There is no other way to make one.
#[derive(Clone, Debug)]
pub struct VerifiedTicket(Ticket);

impl VerifiedTicket {
    /// What it says.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.0
    }

    /// The right to have this one public key signed for this ticket's device.
    ///
    /// # Errors
    /// [`NotBelieved::OtherQuestion`] for a receipt, and for a ticket of an operation that makes no certificate.
    pub fn grant(self, public_key: PublicKey) -> Result<SigningGrant, NotBelieved> {
        let installs = self.0.certificate_operation == CertificateOperationKind::InstallUpgrade;
        if self.0.sha256_fingerprint.is_some() || !installs {
            return Err(NotBelieved::OtherQuestion);
        }
        Ok(SigningGrant { ticket: self.0, public_key })
    }
}

/// The right to have one public key signed for one device; made from a verified ticket only.
#[derive(Clone, Debug)]
pub struct SigningGrant {
    ticket: Ticket,
    public_key: PublicKey,
}

impl SigningGrant {
    /// The ticket.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// The key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The receipt for the certificate that was issued: the ticket that `complete` asks for.
    #[must_use]
    pub fn receipt(&self, sha256_fingerprint: String) -> Ticket {
        Ticket { sha256_fingerprint: Some(sha256_fingerprint), ..self.ticket.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::at;
    use rcgen::PublicKeyData as _;

    fn ticket() -> Ticket {
        Ticket {
            namespace: "voice".into(),
            proxy: "main".into(),
            device: "SEP001".into(),
            operation: "sep001-1".into(),
            operation_uid: "uid".into(),
            certificate_operation: CertificateOperationKind::InstallUpgrade,
            evidence: "NullString".into(),
            certificates: None,
            session_id: 7,
            spent_string: None,
            sha256_fingerprint: None,
            expires: at(100),
        }
    }

    fn verify(sealed: &str, key: &MacKey) -> Result<Ticket, NotBelieved> {
        Ticket::verify(sealed, key, ("voice", "main"), 7, at(50)).map(|t| t.ticket().clone())
    }

    #[test]
    fn a_ticket_of_ours_is_believed_and_nothing_else_is() {
        let (key, other) = (MacKey::generate().unwrap(), MacKey::generate().unwrap());
        let sealed = ticket().seal(&key);
        assert_eq!(verify(&sealed, &key).unwrap(), ticket());
        assert_eq!(verify(&sealed, &other), Err(NotBelieved::Seal));
        assert_eq!(verify(&sealed.replace("SEP001", "SEP002"), &key), Err(NotBelieved::Seal));
        for malformed in
            ["", ".", "00.{}", &"f".repeat(5000), &format!("{}.{{}}", "zz".repeat(32)), "é".repeat(32).as_str()]
        {
            assert_eq!(verify(malformed, &key), Err(NotBelieved::Malformed), "{malformed}");
        }
    }

    #[test]
    fn only_the_ticket_of_an_installation_is_a_right_to_sign() {
        let key = MacKey::generate().unwrap();
        let public = PublicKey::from_spki(&rcgen::KeyPair::generate().unwrap().subject_public_key_info()).unwrap();
        for (kind, signs) in [
            (CertificateOperationKind::InstallUpgrade, true),
            (CertificateOperationKind::Delete, false),
            (CertificateOperationKind::Troubleshoot, false),
            (CertificateOperationKind::NoPendingOperation, false),
        ] {
            let sealed = Ticket { certificate_operation: kind, ..ticket() }.seal(&key);
            let verified = Ticket::verify(&sealed, &key, ("voice", "main"), 7, at(50)).unwrap();
            assert_eq!(verified.grant(public.clone()).is_ok(), signs, "{kind:?}");
        }
    }

    #[test]
    fn a_ticket_serves_its_own_proxy_session_and_time_only() {
        let key = MacKey::generate().unwrap();
        let sealed = ticket().seal(&key);
        let case = |namespace, proxy, session, now| {
            Ticket::verify(&sealed, &key, (namespace, proxy), session, at(now)).map(|_| ()).unwrap_err()
        };
        assert_eq!(case("voice", "other", 7, 50), NotBelieved::OtherProxy);
        assert_eq!(case("other", "main", 7, 50), NotBelieved::OtherProxy);
        assert_eq!(case("voice", "main", 8, 50), NotBelieved::OtherSession);
        assert_eq!(case("voice", "main", 7, 100), NotBelieved::Expired);
    }
}
