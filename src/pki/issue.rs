//! The certificates of a proxy: its two own key pairs, and the LSCs it signs.
//!
//! The *issuer* signs LSCs and its key stays with the controllers. The *service* certificate is what phones see on
//! TCP 3804, and its key is the only one an endpoint holds.

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use secrecy::SecretString;

use super::{
    IssueError, IssuedCertificate, OwnKey, OwnPair, PublicKey,
    signer::{Lifetime, Signer, check_not_over, random_name, self_signed},
};

/// `id-kp-ipsecEndSystem`, what the vendor's LSCs carry as third purpose.
const IPSEC_END_SYSTEM: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 5];

/// The parts of a subject that come from the proxy; each may be absent. Bounds are those of X.520 (RFC 5280
/// appendix A.1), in characters; control characters are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LscSubject {
    /// O, 1 to 64 characters.
    pub organization: Option<String>,
    /// OU, 1 to 64 characters.
    pub organizational_unit: Option<String>,
    /// L, 1 to 128 characters.
    pub locality: Option<String>,
    /// ST, 1 to 128 characters.
    pub state: Option<String>,
    /// C, two capital letters (ISO 3166).
    pub country: Option<String>,
}

impl LscSubject {
    /// CN first, then O, OU, L, ST, C, as far as they are there.
    pub(super) fn name(&self, common_name: &str) -> Result<DistinguishedName, IssueError> {
        let mut name = DistinguishedName::new();
        for (kind, attribute, value, limit) in [
            (DnType::CommonName, "common name", Some(common_name), 64),
            (DnType::OrganizationName, "organization", self.organization.as_deref(), 64),
            (DnType::OrganizationalUnitName, "organizational unit", self.organizational_unit.as_deref(), 64),
            (DnType::LocalityName, "locality", self.locality.as_deref(), 128),
            (DnType::StateOrProvinceName, "state", self.state.as_deref(), 128),
        ] {
            if let Some(value) = value {
                check_text(attribute, value, limit)?;
                name.push(kind, value);
            }
        }
        if let Some(country) = &self.country {
            name.push(DnType::CountryName, country_value(country)?);
        }
        Ok(name)
    }
}

fn check_text(attribute: &'static str, value: &str, limit: usize) -> Result<(), IssueError> {
    let length = value.chars().count();
    let problem = if length == 0 {
        "it is empty; leave it out".to_owned()
    } else if length > limit {
        format!("it has {length} characters, at most {limit} fit")
    } else if value.chars().any(char::is_control) {
        "it holds control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(IssueError::Attribute { attribute, problem })
}

fn country_value(country: &str) -> Result<DnValue, IssueError> {
    let capitals = country.bytes().all(|octet| octet.is_ascii_uppercase());
    match country.try_into() {
        Ok(printable) if capitals && country.len() == 2 => Ok(DnValue::PrintableString(printable)),
        _ => Err(IssueError::Attribute {
            attribute: "country",
            problem: format!("{country:?} is not two capital letters"),
        }),
    }
}

/// What an issuer is to be.
#[derive(Clone, Copy, Debug)]
pub struct IssuerRequest<'a> {
    /// The common name; when absent, `CAPF-issuer-` and eight random hexadecimal digits. Random because two issuers
    /// of one proxy must not share a name, or servers that hold the old and the new one may try the wrong one; and
    /// unlike the service's name, so that nobody puts the issuer into a CTL in place of the service certificate.
    pub common_name: Option<&'a str>,
    /// The rest of the subject.
    pub subject: &'a LscSubject,
    /// The key to make.
    pub key: OwnKey,
    /// How long it is to last, 1 to 100 years.
    pub years: u16,
    /// The time.
    pub now: Timestamp,
}

/// Makes the pair that signs LSCs: self-signed, critical CA:TRUE with path length 0, critical key usage
/// digitalSignature, keyCertSign and cRLSign. Blocks for as long as the key takes: run it where blocking is
/// allowed, under a time limit.
///
/// # Errors
/// [`IssueError`] when the subject or the years are out of bounds, or no key or random octets are to be had.
pub fn generate_issuer(request: &IssuerRequest<'_>) -> Result<OwnPair, IssueError> {
    let common_name = match request.common_name {
        Some(name) => name.to_owned(),
        None => random_name("CAPF-issuer-")?,
    };
    let params = authority(request.subject.name(&common_name)?);
    let lifetime = Lifetime::Years(request.years);
    self_signed(params, request.key, lifetime, request.now, Timestamp::MAX)
}

/// A certificate authority that signs end entities only.
pub(super) fn authority(name: DistinguishedName) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What a service certificate is to be.
#[derive(Clone, Copy, Debug)]
pub struct ServiceRequest<'a> {
    /// The subject beside the common name.
    pub subject: &'a LscSubject,
    /// The key to make.
    pub key: OwnKey,
    /// How long it is to last, 1 to 100 years.
    pub years: u16,
    /// The issuer's end of validity; the service certificate ends no later.
    pub issuer_not_after: Timestamp,
    /// The time.
    pub now: Timestamp,
}

/// Makes the pair that TCP 3804 presents: common name `CAPF-` and eight random hexadecimal digits, self-signed,
/// critical CA:FALSE, critical key usage digitalSignature and (RSA only) keyEncipherment, purpose serverAuth.
/// Blocks for as long as the key takes: run it where blocking is allowed, under a time limit.
///
/// # Errors
/// [`IssueError`] when the subject or the years are out of bounds, the issuer is over, or no key or random octets
/// are to be had.
pub fn generate_service(request: &ServiceRequest<'_>) -> Result<OwnPair, IssueError> {
    let common_name = random_name("CAPF-")?;
    check_not_over("the issuer", request.issuer_not_after, request.now)?;
    let mut params = end_entity(request.subject.name(&common_name)?, request.key.kind().is_rsa());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let lifetime = Lifetime::Years(request.years);
    self_signed(params, request.key, lifetime, request.now, request.issuer_not_after)
}

/// A certificate that signs no others. RFC 8813 forbids keyEncipherment beside an EC key.
pub(super) fn end_entity(name: DistinguishedName, rsa: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if rsa {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params
}

/// What a LSC is to say.
#[derive(Clone, Copy, Debug)]
pub struct LscRequest<'a> {
    /// The device name: common name, and the URI name among the alternative names. 1 to 64 printable ASCII
    /// characters.
    pub device_name: &'a str,
    /// The phone's new key, checked; whether it is the kind asked for is the caller's question
    /// ([`PublicKey::matches`]).
    pub public_key: &'a PublicKey,
    /// The rest of the subject.
    pub subject: &'a LscSubject,
    /// How long it is to last, 1 to 100 years; never beyond the issuer's end.
    pub years: u16,
    /// The time.
    pub now: Timestamp,
}

/// The issuer of a proxy, its key parsed once and kept ready. Shared between threads; `Debug` shows its name only.
#[derive(Debug)]
pub struct OwnIssuer(Signer);

impl OwnIssuer {
    /// Loads an issuer from its certificate and private key, both in PEM.
    ///
    /// # Errors
    /// [`IssueError`] when either cannot be read, they are of two pairs, or the certificate cannot sign others.
    pub fn from_pem(certificate: &str, private_key: &SecretString) -> Result<Self, IssueError> {
        Signer::from_pem(certificate, private_key).map(Self)
    }

    /// The issuer's certificate.
    #[must_use]
    pub const fn certificate(&self) -> &IssuedCertificate {
        self.0.certificate()
    }

    /// Signs a LSC: subject CN, O, OU, L, ST, C; critical CA:FALSE; critical key usage digitalSignature, and
    /// keyEncipherment for RSA; purposes serverAuth, clientAuth and IPsec end system; the bare device name as URI
    /// (no URI at all: a deliberate oddity of the field); both key identifiers; a random 128-bit serial number;
    /// valid from one hour before `now` for the years asked for, at most to the issuer's end.
    ///
    /// # Errors
    /// [`IssueError`] when the issuer is not valid at `now`, the name, subject or years are out of bounds, or the
    /// signature fails.
    pub fn sign_lsc(&self, request: &LscRequest<'_>) -> Result<IssuedCertificate, IssueError> {
        let device_name = request.device_name;
        let key = request.public_key;
        let mut params = end_entity(request.subject.name(device_name)?, key.kind().is_rsa());
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::Other(IPSEC_END_SYSTEM.to_vec()),
        ];
        params.subject_alt_names = vec![uri(device_name, "device name")?];
        let sign_error = |source| IssueError::Sign { subject: device_name.to_owned(), source };
        let spki = SubjectPublicKeyInfo::from_der(key.spki()).map_err(sign_error)?;
        self.0.sign(params, &spki, Lifetime::Years(request.years), request.now)
    }
}

/// An alternative name of type URI, whatever its form; ASCII only.
pub(super) fn uri(text: &str, attribute: &'static str) -> Result<SanType, IssueError> {
    match text.try_into() {
        Ok(ascii) => Ok(SanType::URI(ascii)),
        Err(_) => Err(IssueError::Attribute { attribute, problem: format!("{text:?} is not ASCII") }),
    }
}
