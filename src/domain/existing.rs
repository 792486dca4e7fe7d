//! By Existing Certificate: which of the certificates that a phone offers lets it in.
//!
//! The mode says which comes first. The other takes its place where the first is *absent*, never where it is invalid: who
//! cannot use a stolen certificate any more must not get in by leaving out the better one.
//!
//! A MIC is believed with the fresh signatures of SUDI_DATA only. A phone that was once let in, or seen, with a verified MIC
//! must show it ever after, whichever certificate is used: phones send both together, and only SUDI_DATA cannot be replayed.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{AuthenticationMode, CertificateEvidence, MicSummary, OfferedCertificate, PhoneCertificate, Reason};
use crate::pki::possession::{prove, signed_data, sudi_data};
use crate::pki::trust::check_issuer;
use crate::pki::{Anchors, CertificateFacts, NotProven, PastEnd, PublicKey, Signatures, Untrusted};

/// One certificate and the signatures that came with it. `Debug` shows lengths only.
#[derive(Clone, Default)]
pub struct Shown {
    /// The certificate (DER).
    pub certificate: Vec<u8>,
    /// Signature with SHA-1.
    pub sha1: Option<Vec<u8>>,
    /// Signature with SHA-512.
    pub sha512: Option<Vec<u8>>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shown({} octets)", self.certificate.len())
    }
}

/// What a phone offers.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The device name in the case it was sent in.
    pub name_as_sent: String,
    /// Session id on the wire.
    pub session_id: u32,
    /// What came in CERTIFICATE, SIGNED_DATA and SHA2_SIGNED_DATA.
    pub certificate: Option<Shown>,
    /// What came in SUDI_DATA.
    pub sudi: Option<Shown>,
}

/// What MICs are verified against.
#[derive(Clone, Debug)]
pub enum MicTrust {
    /// The proxy names no roots.
    NotConfigured,
    /// What it names cannot be used.
    Unusable(String),
    /// They could not be read just now.
    Unreachable(String),
    /// The roots.
    Anchors(Arc<Anchors>),
}

/// What the phone is measured by.
#[derive(Clone, Debug)]
pub struct Measure<'a> {
    /// Precedence to the LSC or to the MIC.
    pub mode: AuthenticationMode,
    /// The device name in upper case.
    pub device: &'a str,
    /// Fingerprints of the phone's live LSC, and of one on record for it that it has not answered for.
    pub live: Vec<&'a str>,
    /// The MIC it was once seen with.
    pub remembered: Option<&'a MicSummary>,
    /// The proxy's issuer (DER).
    pub issuer: &'a [u8],
    /// The roots of MICs.
    pub mic_trust: MicTrust,
    /// What is done about a MIC past its end.
    pub past_end: PastEnd,
    /// The time.
    pub now: Timestamp,
}

/// What a phone was let in by. Goes with the ticket.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proven {
    /// What it offered, what was verified, which was used.
    pub evidence: CertificateEvidence,
    /// Its MIC, if that was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mic: Option<MicSummary>,
}

/// Why a phone is not let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotLetIn {
    /// It is refused.
    Refused(Reason, String),
    /// It cannot be said now; the phone shall come again.
    Later(String),
}

type Checked<T> = Result<T, NotLetIn>;

fn refused<T>(reason: Reason, why: impl fmt::Display) -> Checked<T> {
    Err(NotLetIn::Refused(reason, why.to_string()))
}

impl Measure<'_> {
    /// Whether the phone is let in, and by what.
    ///
    /// # Errors
    /// [`NotLetIn`], with the reason of the first check that fails.
    pub fn judge(&self, offer: &Offer) -> Checked<Proven> {
        let offered = self.sort(offer);
        match (self.mode, &offered.lsc, &offered.mic) {
            (AuthenticationMode::ByExistingCertificatePrecedenceToMIC, lsc, Some(mic)) => {
                let verified = self.mic(offer, mic)?;
                let lsc = lsc.as_ref().map(|lsc| noted(lsc, self.lsc(offer, lsc).is_ok()));
                Ok(by(PhoneCertificate::MIC, lsc, Some(verified)))
            }
            (AuthenticationMode::ByExistingCertificatePrecedenceToMIC, _, None) if self.remembered.is_some() => {
                refused(Reason::InvalidMIC, MIC_ABSENT)
            }
            (
                AuthenticationMode::ByExistingCertificatePrecedenceToLSC
                | AuthenticationMode::ByExistingCertificatePrecedenceToMIC,
                Some(lsc),
                mic,
            ) => {
                self.lsc(offer, lsc)?;
                let mic = self.mic_beside(offer, mic.as_ref())?;
                Ok(by(PhoneCertificate::LSC, Some(noted(lsc, true)), mic))
            }
            (AuthenticationMode::ByExistingCertificatePrecedenceToLSC, None, Some(mic)) => {
                let verified = self.mic(offer, mic)?;
                Ok(by(PhoneCertificate::MIC, None, Some(verified)))
            }
            (_, None, None) if self.remembered.is_some() => refused(Reason::InvalidMIC, MIC_ABSENT),
            (_, None, None) => refused(Reason::NoCertificate, "the phone offered neither an LSC nor a MIC"),
            (_, _, _) => refused(Reason::InvalidCredentials, "a certificate is not what this operation asks for"),
        }
    }

    /// Tells LSC from MIC by what it is: phones without an LSC send their MIC in CERTIFICATE, too, under the type of an LSC.
    fn sort<'o>(&self, offer: &'o Offer) -> Offered<'o> {
        let ours = CertificateFacts::from_der(self.issuer).map(|facts| facts.subject).unwrap_or_default();
        let is_mic = |shown: &&Shown| {
            CertificateFacts::from_der(&shown.certificate).is_ok_and(|facts| {
                let name = facts.subject_common_name.unwrap_or_default();
                facts.issuer != ours && name != self.device && name.starts_with(MIC_PREFIX)
            })
        };
        let in_certificate = offer.certificate.as_ref().filter(|shown| !shown.certificate.is_empty());
        let copy = in_certificate.filter(is_mic);
        Offered {
            lsc: in_certificate.filter(|_| copy.is_none()),
            mic: match (&offer.sudi, copy) {
                (None, None) => None,
                (sudi, copy) => Some(Mic { sudi: sudi.as_ref(), copy }),
            },
        }
    }

    /// The checks of an LSC, in order.
    fn lsc(&self, offer: &Offer, shown: &Shown) -> Checked<()> {
        let invalid = |why: &dyn fmt::Display| NotLetIn::Refused(Reason::InvalidLSC, format!("LSC: {why}"));
        let facts = CertificateFacts::from_der(&shown.certificate).map_err(|why| invalid(&why))?;
        let key = PublicKey::from_certificate(&shown.certificate).map_err(|why| invalid(&why))?;
        match &facts.subject_common_name {
            Some(name) if name == self.device => {}
            other => {
                let other = other.as_deref().unwrap_or(&facts.subject);
                return refused(Reason::IdentityMismatch, format!("the LSC is the one of {other}"));
            }
        }
        check_issuer(&shown.certificate, self.issuer).map_err(|why| invalid(&why))?;
        if !self.live.contains(&facts.sha256.as_str()) {
            let serial = &facts.serial;
            return match self.live.is_empty() {
                true => Err(invalid(&format!("{serial} is of this issuer, but no LSC of this phone is on record"))),
                false => refused(Reason::Superseded, format!("LSC {serial} was replaced by a newer one")),
            };
        }
        if !facts.valid_at(self.now) {
            let (from, to) = (facts.not_before, facts.not_after);
            return Err(invalid(&format!("it is valid from {from} to {to} only")));
        }
        let message = signed_data(&offer.name_as_sent, &shown.certificate);
        prove(&key, &message, shown.signatures()).map_err(|why| invalid(&why))
    }

    /// The checks of a MIC, in order.
    fn mic(&self, offer: &Offer, mic: &Mic<'_>) -> Checked<MicSummary> {
        let invalid = |why: &dyn fmt::Display| NotLetIn::Refused(Reason::InvalidMIC, format!("MIC: {why}"));
        let sudi = mic.sudi.ok_or_else(|| invalid(&"it came without SUDI_DATA, so nothing fresh proves it"))?;
        let facts = CertificateFacts::from_der(&sudi.certificate).map_err(|why| invalid(&why))?;
        let name = facts.subject_common_name.as_deref();
        if !name.and_then(device_of_mic).is_some_and(|device| device.eq_ignore_ascii_case(self.device)) {
            let name = name.unwrap_or(&facts.subject);
            return refused(Reason::IdentityMismatch, format!("the MIC is the one of {name}"));
        }
        let anchors = match &self.mic_trust {
            MicTrust::Anchors(anchors) => anchors,
            MicTrust::Unreachable(why) => return Err(NotLetIn::Later(why.clone())),
            MicTrust::Unusable(why) => return refused(Reason::PolicyDenied, why),
            MicTrust::NotConfigured => return refused(Reason::PolicyDenied, "the proxy names no micRoots"),
        };
        anchors.check(&sudi.certificate, self.now, self.past_end).map_err(|why| match why {
            Untrusted::PastEnd { .. } => NotLetIn::Refused(Reason::MICExpired, format!("MIC: {why}")),
            why => invalid(&why),
        })?;
        self.fresh(offer, sudi).map_err(|why| invalid(&why))?;
        if let Some(copy) = mic.copy {
            if copy.certificate != sudi.certificate {
                return Err(invalid(&"CERTIFICATE and SUDI_DATA hold different ones"));
            }
            let key = PublicKey::from_certificate(&copy.certificate).map_err(|why| invalid(&why))?;
            let message = signed_data(&offer.name_as_sent, &copy.certificate);
            prove(&key, &message, copy.signatures()).map_err(|why| invalid(&why))?;
        }
        Ok(MicSummary { verified: true, ..MicSummary::of(&facts, self.now) })
    }

    /// The MIC beside an LSC that was found right.
    fn mic_beside(&self, offer: &Offer, mic: Option<&Mic<'_>>) -> Checked<Option<MicSummary>> {
        let sudi = mic.and_then(|mic| mic.sudi);
        let facts = sudi.and_then(|sudi| CertificateFacts::from_der(&sudi.certificate).ok());
        match (self.remembered, mic, sudi, facts) {
            (Some(_), None, ..) => refused(Reason::InvalidMIC, MIC_ABSENT),
            (Some(known), _, Some(sudi), Some(facts)) if facts.sha256 == known.sha256_fingerprint => {
                // It was verified when it was first seen; what is asked for is that the phone still has its key.
                let invalid = |why: NotProven| NotLetIn::Refused(Reason::InvalidMIC, format!("MIC: {why}"));
                self.fresh(offer, sudi).map_err(invalid)?;
                Ok(Some(MicSummary { verified: true, ..MicSummary::of(&facts, self.now) }))
            }
            (Some(_), Some(mic), ..) => self.mic(offer, mic).map(Some),
            (None, Some(mic), Some(_), Some(facts)) => {
                let verified = self.mic(offer, mic).is_ok();
                Ok(Some(MicSummary { verified, ..MicSummary::of(&facts, self.now) }))
            }
            (None, ..) => Ok(None),
        }
    }

    /// Whether the signatures of this session are the key's.
    fn fresh(&self, offer: &Offer, sudi: &Shown) -> Result<(), NotProven> {
        let Ok(key) = PublicKey::from_certificate(&sudi.certificate) else { return Err(NotProven::Wrong("SHA-1")) };
        prove(&key, &sudi_data(offer.session_id, &sudi.certificate), sudi.signatures())
    }
}

const MIC_ABSENT: &str = "the phone offered no MIC, with which it has been seen before";
/// How the common name of a MIC begins: `CP-<model>-<device name>`.
const MIC_PREFIX: &str = "CP-";

/// The device a MIC's common name tells of. A model holds no dash, so that no name can be read in two ways.
fn device_of_mic(common_name: &str) -> Option<&str> {
    let (model, device) = common_name.strip_prefix(MIC_PREFIX)?.split_once('-')?;
    (!model.is_empty()).then_some(device)
}

struct Offered<'o> {
    lsc: Option<&'o Shown>,
    mic: Option<Mic<'o>>,
}

struct Mic<'o> {
    sudi: Option<&'o Shown>,
    /// The same in CERTIFICATE.
    copy: Option<&'o Shown>,
}

impl Shown {
    fn signatures(&self) -> Signatures<'_> {
        Signatures { sha1: self.sha1.as_deref(), sha512: self.sha512.as_deref() }
    }
}

fn by(used: PhoneCertificate, lsc: Option<OfferedCertificate>, mic: Option<MicSummary>) -> Proven {
    let offered = mic
        .as_ref()
        .map(|mic| OfferedCertificate { sha256_fingerprint: mic.sha256_fingerprint.clone(), verified: mic.verified });
    Proven { evidence: CertificateEvidence { used, lsc, mic: offered }, mic: mic.filter(|mic| mic.verified) }
}

fn noted(shown: &Shown, verified: bool) -> OfferedCertificate {
    OfferedCertificate { sha256_fingerprint: crate::pki::hex(&crate::pki::sha256(&shown.certificate)), verified }
}
