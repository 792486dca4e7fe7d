//! What every signature here has in common: a certificate authority kept ready, validity, serial numbers.

use std::{fmt, time::Duration};

use aws_lc_rs::rand;
use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData, RsaKeySize, SerialNumber, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::{
    CertificateError, CertificateFacts, Curve, IssueError, KeyKind, OwnKey, RsaBits,
    certificate::{self, from_pem, parse, to_pem},
};

/// How far back a certificate's validity starts: phones without a good clock must not find it in the future.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// Years a certificate may be asked to last; 0 would be over at once.
const YEARS: std::ops::RangeInclusive<u16> = 1..=100;

/// Days a certificate may be asked to last.
const DAYS: std::ops::RangeInclusive<u16> = 1..=3_650;

/// A certificate made here. `Debug` shows its facts, not its octets.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    der: Vec<u8>,
    pem: String,
    facts: CertificateFacts,
}

impl IssuedCertificate {
    pub(super) fn new(der: Vec<u8>) -> Result<Self, CertificateError> {
        let facts = CertificateFacts::from_der(&der)?;
        let pem = to_pem(&der)?;
        Ok(Self { der, pem, facts })
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM, one block.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What it says of itself.
    #[must_use]
    pub const fn facts(&self) -> &CertificateFacts {
        &self.facts
    }
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.fmt(f)
    }
}

/// A key pair made here, with its certificate. `Debug` hides the private key.
#[derive(Clone, Debug)]
pub struct OwnPair {
    /// The certificate.
    pub certificate: IssuedCertificate,
    /// The private key: PKCS#8 in PEM, not encrypted.
    pub private_key: SecretString,
}

/// A certificate authority whose key is parsed once and kept ready.
pub(super) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: IssuedCertificate,
}

impl Signer {
    pub(super) fn from_pem(certificate: &str, private_key: &SecretString) -> Result<Self, IssueError> {
        let certificate = IssuedCertificate::new(from_pem(certificate)?)?;
        let issuer = certificate.facts().subject.clone();
        if let Some(problem) = unfit(&certificate)? {
            return Err(IssueError::NotAnIssuer { issuer, problem });
        }
        let Some(key) = read_key(private_key) else {
            return Err(IssueError::PrivateKey { issuer });
        };
        let spki = super::hex(&super::sha256(&key.subject_public_key_info()));
        if spki != certificate.facts().spki_sha256 {
            return Err(IssueError::KeyMismatch { issuer });
        }
        let der = CertificateDer::from(certificate.der());
        match Issuer::from_ca_cert_der(&der, key) {
            Ok(issuer) => Ok(Self { issuer, certificate }),
            Err(_) => Err(IssueError::NotAnIssuer {
                issuer,
                problem: "its name or extensions are in a form that cannot be repeated",
            }),
        }
    }

    pub(super) const fn certificate(&self) -> &IssuedCertificate {
        &self.certificate
    }

    /// Signs for `public_key`; the end of validity is clamped to the authority's own.
    pub(super) fn sign(
        &self,
        mut params: CertificateParams,
        public_key: &impl PublicKeyData,
        lifetime: Lifetime,
        now: Timestamp,
    ) -> Result<IssuedCertificate, IssueError> {
        let facts = self.certificate.facts();
        if now < facts.not_before {
            return Err(IssueError::IssuerNotYetValid { issuer: facts.subject.clone(), not_before: facts.not_before });
        }
        check_not_over(&facts.subject, facts.not_after, now)?;
        lifetime.apply(&mut params, now, facts.not_after)?;
        params.serial_number = Some(serial_number()?);
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(public_key, &self.issuer);
        let signed = signed.map_err(|source| sign_error(&params, source))?;
        Ok(IssuedCertificate::new(signed.der().to_vec())?)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.certificate.facts().subject)
    }
}

/// What keeps a certificate from signing others here, if anything does.
fn unfit(certificate: &IssuedCertificate) -> Result<Option<&'static str>, CertificateError> {
    let parsed = parse(certificate.der())?;
    let tbs = parsed.tbs_certificate();
    let constraints = tbs.get_extension::<BasicConstraints>()?;
    if !constraints.is_some_and(|(_, constraints)| constraints.ca) {
        return Ok(Some("its basic constraints do not say CA:TRUE"));
    }
    let usage = tbs.get_extension::<KeyUsage>()?;
    if !usage.is_some_and(|(_, usage)| usage.key_cert_sign()) {
        return Ok(Some("its key usage does not include keyCertSign"));
    }
    // rcgen keeps one value of each attribute type: repeating such a name would drop a part, and nothing would
    // verify.
    let name = tbs.subject();
    let mut types: Vec<_> = name.iter().map(|attribute| attribute.oid).collect();
    types.sort_unstable();
    types.dedup();
    let repeatable = !name.is_empty() && types.len() == name.len() && name.iter_rdn().all(|rdn| rdn.len() == 1);
    Ok((!repeatable).then_some("its subject is empty or has an attribute type twice (two OU, say)"))
}

fn read_key(pem: &SecretString) -> Option<KeyPair> {
    let pem = pem.expose_secret().as_bytes();
    if pem.len() > certificate::MAX_PEM {
        return None;
    }
    let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
    KeyPair::try_from(&key).ok()
}

/// Makes a self-signed pair of `kind`.
pub(super) fn self_signed(
    mut params: CertificateParams,
    key: OwnKey,
    lifetime: Lifetime,
    now: Timestamp,
    not_later_than: Timestamp,
) -> Result<OwnPair, IssueError> {
    lifetime.apply(&mut params, now, not_later_than)?;
    params.serial_number = Some(serial_number()?);
    let key = generate_key(key)?;
    let signed = params.self_signed(&key);
    let signed = signed.map_err(|source| sign_error(&params, source))?;
    Ok(OwnPair { certificate: IssuedCertificate::new(signed.der().to_vec())?, private_key: key.serialize_pem().into() })
}

/// Makes a key pair, with the hash that fits it: SHA-256, or on the larger curves the one of their size.
pub(super) fn generate_key(key: OwnKey) -> Result<KeyPair, IssueError> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
    let made = match key.kind() {
        KeyKind::Rsa(RsaBits::B3072) => rsa(RsaKeySize::_3072),
        KeyKind::Rsa(RsaBits::B4096) => rsa(RsaKeySize::_4096),
        // An OwnKey is never smaller than this one.
        KeyKind::Rsa(RsaBits::B512 | RsaBits::B1024 | RsaBits::B2048) => rsa(RsaKeySize::_2048),
        KeyKind::Ec(Curve::P256) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyKind::Ec(Curve::P384) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyKind::Ec(Curve::P521) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
    };
    made.map_err(|source| IssueError::GenerateKey { kind: key.kind(), source })
}

/// How long a certificate is asked to last, from `now` on.
#[derive(Clone, Copy)]
pub(super) enum Lifetime {
    /// Calendar years.
    Years(u16),
    /// Days of 24 hours.
    Days(u16),
}

impl Lifetime {
    /// Sets the validity: from one hour before `now`, at most to `not_later_than`.
    fn apply(
        self,
        params: &mut CertificateParams,
        now: Timestamp,
        not_later_than: Timestamp,
    ) -> Result<(), IssueError> {
        let end = self.end(now).ok_or_else(|| IssueError::Lifetime { asked: self.to_string() });
        let end = end?.min(not_later_than);
        let start = now.checked_sub(BACKDATED).unwrap_or(Timestamp::MIN);
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_epoch(start)?;
        params.not_after = epoch + since_epoch(end)?;
        Ok(())
    }

    fn end(self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_zoned(TimeZone::UTC);
        let span = match self {
            Self::Years(years) => YEARS.contains(&years).then(|| i64::from(years).years()),
            Self::Days(days) => DAYS.contains(&days).then(|| i64::from(days).days()),
        };
        Some(now.checked_add(span?).ok()?.timestamp())
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Years(years) => write!(f, "{years} years"),
            Self::Days(days) => write!(f, "{days} days"),
        }
    }
}

/// Whole seconds since 1970; nothing here is older.
fn since_epoch(at: Timestamp) -> Result<Duration, IssueError> {
    let seconds =
        u64::try_from(at.as_second()).map_err(|_| IssueError::Lifetime { asked: format!("from or to {at}") })?;
    Ok(Duration::from_secs(seconds))
}

/// Refuses an issuer whose validity is over at `now`.
pub(super) fn check_not_over(issuer: &str, not_after: Timestamp, now: Timestamp) -> Result<(), IssueError> {
    if now < not_after {
        return Ok(());
    }
    Err(IssueError::IssuerExpired { issuer: issuer.to_owned(), not_after })
}

/// 128 random bits, positive and not zero (RFC 5280 section 4.1.2.2).
fn serial_number() -> Result<SerialNumber, IssueError> {
    let purpose = "a serial number";
    let octets: [u8; 16] = random(purpose)?;
    if octets == [0; 16] {
        return Err(IssueError::Random { purpose });
    }
    Ok(SerialNumber::from_slice(&octets))
}

/// `prefix` and eight random lower-case hexadecimal digits.
pub(super) fn random_name(prefix: &str) -> Result<String, IssueError> {
    let octets: [u8; 4] = random("a name")?;
    Ok(format!("{prefix}{}", super::hex(&octets)))
}

fn random<const N: usize>(purpose: &'static str) -> Result<[u8; N], IssueError> {
    let mut octets = [0; N];
    match rand::fill(&mut octets) {
        Ok(()) => Ok(octets),
        Err(_) => Err(IssueError::Random { purpose }),
    }
}

fn sign_error(params: &CertificateParams, source: rcgen::Error) -> IssueError {
    let name = params.distinguished_name.get(&rcgen::DnType::CommonName);
    let subject = match name {
        Some(rcgen::DnValue::Utf8String(name)) => name.clone(),
        _ => "a certificate without common name".to_owned(),
    };
    IssueError::Sign { subject, source }
}
