//! Who signed a certificate: chains from a manufacturing installed certificate (MIC) to its manufacturer's root.
//!
//! webpki, which TLS uses, refuses what MICs of twenty years are: X.509 v1, RSA of 1024 bits, SHA-1, past their end. Here a
//! chain is followed name by name and signature by signature through certificates that an administrator has given, never
//! through one that a phone sent.

use std::collections::BTreeSet;

use aws_lc_rs::{digest, signature as sig};
use der::{Encode, Reader, SliceReader, asn1::ObjectIdentifier};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_cert::{
    Certificate,
    certificate::Version,
    ext::pkix::{BasicConstraints, KeyUsage},
};

use super::{
    CertificateError, KeyKind, PublicKey,
    certificate::{parse, shown, timestamp},
    key,
    possession::ecdsa_hash,
};

/// Octets of a bundle of roots and intermediates.
pub const MAX_BUNDLE: usize = 256 * 1024;
/// Certificates in a bundle. The manufacturer of most phones has had about ten.
pub const MAX_AUTHORITIES: usize = 64;
/// Authorities from a MIC to its root, the root included.
const MAX_DEPTH: usize = 4;
/// Signatures verified for one MIC, so that many authorities of one name buy no slow answer.
const MAX_CHECKS: usize = 16;

/// Extensions that are understood here; RFC 5280 section 4.2 has a critical one that is not refused.
const UNDERSTOOD: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"), // key usage
    ObjectIdentifier::new_unwrap("2.5.29.17"), // subject alternative name
    ObjectIdentifier::new_unwrap("2.5.29.19"), // basic constraints
    ObjectIdentifier::new_unwrap("2.5.29.32"), // certificate policies
    ObjectIdentifier::new_unwrap("2.5.29.37"), // extended key usage
];

/// What is done about a certificate past its end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PastEnd {
    /// It is refused.
    #[default]
    Reject,
    /// Its end does not matter.
    Allow,
    /// Its end does not matter before this time, and does from then on.
    AllowUntil(Timestamp),
}

/// Roots, and the authorities between them and the phones, as an administrator gave them.
#[derive(Debug)]
pub struct Anchors(Vec<Authority>);

#[derive(Debug)]
struct Authority {
    read: Read,
    root: bool,
    /// Authorities that may follow below it; none for any number.
    path_length: Option<u8>,
}

/// A certificate and the octets that its signature covers, as they came.
#[derive(Debug)]
struct Read {
    signed: Vec<u8>,
    certificate: Certificate,
}

/// Why a bundle cannot be used. Waiting does not help.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BundleError {
    /// More than is read.
    #[error("{0} octets are more than {MAX_BUNDLE}")]
    TooLong(usize),
    /// More than are kept.
    #[error("it holds more than {MAX_AUTHORITIES} certificates")]
    TooMany,
    /// Nothing to trust.
    #[error("it holds no block BEGIN CERTIFICATE")]
    Empty,
    /// Intermediates only.
    #[error("none of its certificates is a root: one whose issuer is its own subject is needed")]
    NoRoot,
    /// A block that is no certificate.
    #[error("certificate {number}: {problem}")]
    Certificate {
        /// Its place, from 1.
        number: usize,
        /// What is wrong.
        problem: String,
    },
}

/// Why a certificate is not believed to come from where it says. Waiting does not help, but with a clock set wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Untrusted {
    /// Not a certificate.
    #[error(transparent)]
    Unreadable(#[from] CertificateError),
    /// Its parts disagree, or hold something that is not understood.
    #[error("{0}")]
    Form(&'static str),
    /// None of the authorities of its issuer's name signed it, or there is none.
    #[error("no authority named {issuer} that is trusted has signed it")]
    NoIssuer {
        /// The issuer it names.
        issuer: String,
    },
    /// The way to a root is too long, or there are too many ways.
    #[error("no root within {MAX_DEPTH} authorities")]
    TooDeep,
    /// It, or an authority above it, is not valid yet.
    #[error("{subject} is valid only from {not_before}; is the clock right?")]
    NotYetValid {
        /// Whose time has not come.
        subject: String,
        /// When it comes.
        not_before: Timestamp,
    },
    /// It, or an authority above it, is past its end, and that is not allowed.
    #[error("{subject} ended at {not_after}")]
    PastEnd {
        /// Whose time is over.
        subject: String,
        /// Its end.
        not_after: Timestamp,
    },
}

impl Anchors {
    /// Reads a bundle in PEM. Certificates whose issuer is their own subject are roots, the others lead there.
    ///
    /// # Errors
    /// [`BundleError`], naming the certificate by its place.
    pub fn from_pem(pem: &str) -> Result<Self, BundleError> {
        if pem.len() > MAX_BUNDLE {
            return Err(BundleError::TooLong(pem.len()));
        }
        let mut authorities = Vec::new();
        for (at, block) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
            if at == MAX_AUTHORITIES {
                return Err(BundleError::TooMany);
            }
            let read = block.map_err(|_| "not PEM".to_owned()).and_then(|der| Authority::read(&der));
            authorities.push(read.map_err(|problem| BundleError::Certificate { number: at + 1, problem })?);
        }
        match authorities.iter().any(|authority| authority.root) {
            true => Ok(Self(authorities)),
            false if authorities.is_empty() => Err(BundleError::Empty),
            false => Err(BundleError::NoRoot),
        }
    }

    /// Whether a certificate (DER) chains to one of the roots, each in its time.
    ///
    /// # Errors
    /// [`Untrusted`]; [`Untrusted::PastEnd`] only where nothing else is wrong.
    pub fn check(&self, der: &[u8], now: Timestamp, past_end: PastEnd) -> Result<(), Untrusted> {
        let leaf = Read::new(der)?;
        leaf.understood()?;
        if leaf.constraints().map_err(Untrusted::Form)?.is_some_and(|found| found.ca) {
            return Err(Untrusted::Form("it is the certificate of an authority"));
        }
        let mut checks = 0;
        self.climb(&leaf, 0, (now, past_end), &mut checks)?;
        leaf.in_time(now, past_end)
    }

    /// Finds a way from `child`, which has `below` authorities below it, to a root.
    fn climb(
        &self,
        child: &Read,
        below: usize,
        (now, past_end): (Timestamp, PastEnd),
        checks: &mut usize,
    ) -> Result<(), Untrusted> {
        let issuer = child.certificate.tbs_certificate().issuer();
        let mut why = Untrusted::NoIssuer { issuer: shown(&issuer.to_string()) };
        if below == MAX_DEPTH {
            return Err(Untrusted::TooDeep);
        }
        for authority in self.0.iter().filter(|one| one.read.certificate.tbs_certificate().subject() == issuer) {
            *checks += 1;
            if *checks > MAX_CHECKS {
                return Err(Untrusted::TooDeep);
            }
            if authority.path_length.is_some_and(|most| below > usize::from(most))
                || !child.is_signed_by(&authority.read)
            {
                continue;
            }
            let above = match authority.root {
                true => Ok(()),
                false => self.climb(&authority.read, below + 1, (now, past_end), checks),
            };
            match above.and_then(|()| authority.read.in_time(now, past_end)) {
                Ok(()) => return Ok(()),
                Err(found) => why = found,
            }
        }
        Err(why)
    }
}

/// Whether the certificate (DER) names this authority (DER) as its issuer and is signed by it.
///
/// # Errors
/// [`Untrusted`] where it is not, or one of the two cannot be read.
pub fn check_issuer(der: &[u8], authority: &[u8]) -> Result<(), Untrusted> {
    let (read, authority) = (Read::new(der)?, Read::new(authority)?);
    let issuer = read.certificate.tbs_certificate().issuer();
    if issuer != authority.certificate.tbs_certificate().subject() || !read.is_signed_by(&authority) {
        return Err(Untrusted::NoIssuer { issuer: shown(&issuer.to_string()) });
    }
    Ok(())
}

impl Authority {
    fn read(der: &[u8]) -> Result<Self, String> {
        let read = Read::new(der).map_err(|error| error.to_string())?;
        read.understood().map_err(|error| error.to_string())?;
        let tbs = read.certificate.tbs_certificate();
        let root = tbs.issuer() == tbs.subject();
        let constraints = read.constraints()?;
        let signs = tbs.get_extension::<KeyUsage>().map_err(|_| "its key usage cannot be read")?;
        if signs.is_some_and(|(_, usage)| !usage.key_cert_sign()) {
            return Err(format!("{} may not sign certificates", shown(&tbs.subject().to_string())));
        }
        let path_length = match (tbs.version(), constraints) {
            (_, Some(found)) if found.ca => found.path_len_constraint,
            // Before v3 nothing says what is an authority; a root is one because it was given as one.
            (Version::V1 | Version::V2, None) if root => None,
            _ => return Err(format!("{} is not the certificate of an authority", shown(&tbs.subject().to_string()))),
        };
        Ok(Self { read, root, path_length })
    }
}

impl Read {
    fn new(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        // What was signed are the octets as they came, which another encoder need not write.
        let mut reader = SliceReader::new(der)?;
        let signed = reader.sequence(|inner: &mut SliceReader<'_>| {
            let signed = inner.tlv_bytes()?.to_vec();
            inner.tlv_bytes()?;
            inner.tlv_bytes()?;
            Ok::<_, der::Error>(signed)
        })?;
        Ok(Self { signed, certificate })
    }

    /// Refuses what cannot be judged: a critical extension that is not known here, and one that is there twice.
    fn understood(&self) -> Result<(), Untrusted> {
        let mut seen = BTreeSet::new();
        for extension in self.certificate.tbs_certificate().extensions().into_iter().flatten() {
            if extension.critical && !UNDERSTOOD.contains(&extension.extn_id) {
                return Err(Untrusted::Form("it has a critical extension that is not understood"));
            }
            if !seen.insert(extension.extn_id) {
                return Err(Untrusted::Form("it has an extension twice"));
            }
        }
        Ok(())
    }

    fn constraints(&self) -> Result<Option<BasicConstraints>, &'static str> {
        let found = self.certificate.tbs_certificate().get_extension::<BasicConstraints>();
        Ok(found.map_err(|_| "its basic constraints cannot be read")?.map(|(_, constraints)| constraints))
    }

    fn in_time(&self, now: Timestamp, past_end: PastEnd) -> Result<(), Untrusted> {
        let tbs = self.certificate.tbs_certificate();
        let subject = || shown(&tbs.subject().to_string());
        let (not_before, not_after) = (timestamp(tbs.validity().not_before), timestamp(tbs.validity().not_after));
        let allowed = match past_end {
            PastEnd::Reject => false,
            PastEnd::Allow => true,
            PastEnd::AllowUntil(until) => now < until,
        };
        match () {
            () if now < not_before => Err(Untrusted::NotYetValid { subject: subject(), not_before }),
            () if now > not_after && !allowed => Err(Untrusted::PastEnd { subject: subject(), not_after }),
            () => Ok(()),
        }
    }

    /// Whether the authority's key made the signature, names left aside.
    fn is_signed_by(&self, authority: &Self) -> bool {
        self.verify(authority).unwrap_or(false)
    }

    fn verify(&self, authority: &Self) -> Option<bool> {
        let (certificate, tbs) = (&self.certificate, self.certificate.tbs_certificate());
        // RFC 5280 section 4.1.1.2: the algorithm outside, which nobody signed, must be the one inside.
        (certificate.signature_algorithm() == tbs.signature()).then_some(())?;
        let signature = certificate.signature().as_bytes()?;
        let info = authority.certificate.tbs_certificate().subject_public_key_info();
        match info.algorithm.oid {
            key::RSA_ENCRYPTION => {
                let algorithm = rsa_algorithm(certificate.signature_algorithm().oid)?;
                let key = sig::UnparsedPublicKey::new(algorithm, info.subject_public_key.as_bytes()?);
                Some(key.verify(&self.signed, signature).is_ok())
            }
            _ => {
                let key = PublicKey::from_spki(&info.to_der().ok()?).ok()?;
                let KeyKind::Ec(curve) = key.kind() else { return None };
                let hash = digest::digest(ecdsa_digest(certificate.signature_algorithm().oid)?, &self.signed);
                let key = sig::ParsedPublicKey::new(key::verification(curve), key.point()?).ok()?;
                Some(key.verify_digest_sig(&ecdsa_hash(curve, hash.as_ref())?, signature).is_ok())
            }
        }
    }
}

/// RFC 8017 appendix A.2.4, keys from 1024 bits (2048 with SHA-384, which no old MIC has). RSASSA-PSS is not known in MICs.
fn rsa_algorithm(oid: ObjectIdentifier) -> Option<&'static sig::RsaParameters> {
    const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
    const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
    const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
    const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
    Some(match oid {
        SHA1 => &sig::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        SHA256 => &sig::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        SHA384 => &sig::RSA_PKCS1_2048_8192_SHA384,
        SHA512 => &sig::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        _ => return None,
    })
}

/// RFC 5758 section 3.2 and RFC 3279 section 2.2.3.
fn ecdsa_digest(oid: ObjectIdentifier) -> Option<&'static digest::Algorithm> {
    const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
    const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
    const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
    const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
    Some(match oid {
        SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        SHA256 => &digest::SHA256,
        SHA384 => &digest::SHA384,
        SHA512 => &digest::SHA512,
        _ => return None,
    })
}
