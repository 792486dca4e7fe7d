//! The credentials by which endpoints and controllers know each other.
//!
//! A certificate authority of the controllers' own signs both sides: the controllers' server certificate by DNS
//! name, and for each proxy a client certificate whose URI says which one it is. Nothing of this reaches a phone.
//! Keys are EC P-256: cheap to make and to shake hands with, and both peers are ours.

use jiff::Timestamp;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType};
use rustls::pki_types::DnsName;
use secrecy::SecretString;
use x509_cert::ext::pkix::{SubjectAltName, name::GeneralName};

use super::{
    CertificateFacts, IssueError, IssuedCertificate, LscSubject, OwnKey, OwnPair,
    certificate::parse,
    issue::{authority, end_entity, uri},
    signer::{Lifetime, Signer, generate_key, random_name, self_signed},
};

/// Years the controllers' authority lasts.
const CA_YEARS: u16 = 10;

/// What a proxy's URI starts with.
const SCHEME: &str = "capf://";

/// Makes the controllers' authority: EC P-256, ten years, path length 0, common name `capf-controllers-` and eight
/// random hexadecimal digits.
///
/// # Errors
/// [`IssueError`] when no key or random octets are to be had.
pub fn generate_controller_ca(now: Timestamp) -> Result<OwnPair, IssueError> {
    let name = LscSubject::default().name(&random_name("capf-controllers-")?)?;
    let lifetime = Lifetime::Years(CA_YEARS);
    self_signed(authority(name), OwnKey::EC_P256, lifetime, now, Timestamp::MAX)
}

/// The controllers' authority, its key parsed once and kept ready. `Debug` shows its name only.
#[derive(Debug)]
pub struct ControllerCa(Signer);

impl ControllerCa {
    /// Loads the authority from its certificate and private key, both in PEM.
    ///
    /// # Errors
    /// [`IssueError`] when either cannot be read, they are of two pairs, or the certificate cannot sign others.
    pub fn from_pem(certificate: &str, private_key: &SecretString) -> Result<Self, IssueError> {
        Signer::from_pem(certificate, private_key).map(Self)
    }

    /// The authority's certificate, which both sides trust.
    #[must_use]
    pub const fn certificate(&self) -> &IssuedCertificate {
        self.0.certificate()
    }

    /// Makes what controllers present: purpose serverAuth, for this one DNS name, for 1 to 3650 days but not beyond
    /// the authority's end.
    ///
    /// # Errors
    /// [`IssueError`] when the name is no DNS name, the days are out of bounds, the authority is not valid at
    /// `now`, or the signature fails.
    pub fn server_credential(&self, dns_name: &str, now: Timestamp, days: u16) -> Result<OwnPair, IssueError> {
        let malformed =
            || IssueError::Attribute { attribute: "DNS name", problem: format!("{dns_name:?} is not a DNS name") };
        DnsName::try_from(dns_name).map_err(|_| malformed())?;
        let mut params = credential("capf-controller", ExtendedKeyUsagePurpose::ServerAuth)?;
        params.subject_alt_names = vec![SanType::DnsName(dns_name.try_into().map_err(|_| malformed())?)];
        self.pair(params, now, days)
    }

    /// Makes what the endpoints of one proxy present: purpose clientAuth, for this one URI (see [`proxy_uri`]), for
    /// 1 to 3650 days but not beyond the authority's end.
    ///
    /// # Errors
    /// [`IssueError`] when the URI names no proxy, the days are out of bounds, the authority is not valid at `now`,
    /// or the signature fails.
    pub fn client_credential(&self, uri_of_proxy: &str, now: Timestamp, days: u16) -> Result<OwnPair, IssueError> {
        if proxy_of(uri_of_proxy).is_none() {
            return Err(IssueError::Attribute {
                attribute: "URI",
                problem: format!("{uri_of_proxy:?} is not capf://<namespace>/<proxy>"),
            });
        }
        let mut params = credential("capf-endpoint", ExtendedKeyUsagePurpose::ClientAuth)?;
        params.subject_alt_names = vec![uri(uri_of_proxy, "URI")?];
        self.pair(params, now, days)
    }

    fn pair(&self, params: CertificateParams, now: Timestamp, days: u16) -> Result<OwnPair, IssueError> {
        let key = generate_key(OwnKey::EC_P256)?;
        Ok(OwnPair {
            certificate: self.0.sign(params, &key, Lifetime::Days(days), now)?,
            private_key: key.serialize_pem().into(),
        })
    }
}

fn credential(common_name: &str, purpose: ExtendedKeyUsagePurpose) -> Result<CertificateParams, IssueError> {
    let mut params = end_entity(LscSubject::default().name(common_name)?, false);
    params.extended_key_usages = vec![purpose];
    Ok(params)
}

/// The URI of a proxy, `capf://<namespace>/<proxy>`.
#[must_use]
pub fn proxy_uri(namespace: &str, proxy: &str) -> String {
    format!("{SCHEME}{namespace}/{proxy}")
}

/// Namespace and name of the proxy that a URI names; none when it names none. Both are checked for the characters and
/// the length of names in Kubernetes, so that they may be looked up as they are.
#[must_use]
pub fn proxy_of(uri: &str) -> Option<(&str, &str)> {
    let is_name = |text: &str, limit: usize, dots: bool| {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || (dots && c == b'.');
        (1..=limit).contains(&text.len()) && text.bytes().all(allowed)
    };
    let (namespace, proxy) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    (is_name(namespace, 63, false) && is_name(proxy, 253, true)).then_some((namespace, proxy))
}

/// The URI that a certificate is for: none unless it is the only alternative name. The certificate must have been
/// verified before.
#[must_use]
pub fn uri_san(certificate: &[u8]) -> Option<String> {
    let parsed = parse(certificate).ok()?;
    let tbs = parsed.tbs_certificate();
    let (_, names) = tbs.get_extension::<SubjectAltName>().ok().flatten()?;
    match names.0.as_slice() {
        [GeneralName::UniformResourceIdentifier(uri)] => Some(uri.as_str().to_owned()),
        _ => None,
    }
}

/// When a credential is to be renewed: after two thirds of its life, which leaves a third for trouble.
#[must_use]
pub fn renew_at(facts: &CertificateFacts) -> Timestamp {
    let life = facts.not_before.duration_until(facts.not_after);
    facts.not_before.saturating_add(life / 3 * 2).unwrap_or(facts.not_after)
}
