//! Reading certificates: what is shown of them, and their PEM form.
//!
//! Made for certificates of any origin: X.509 v1, odd names and serial numbers, and the MICs of twenty years.
//! Nothing is verified here.

use der::{
    Encode,
    pem::{LineEnding, encode_string},
};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_cert::{Certificate, ext::pkix::SubjectKeyIdentifier, name::Name, time::Time};

use super::{KeyKind, PublicKey, hex, sha256};

/// The longest certificate read, in octets of DER. A LSC takes about 1 KiB, a MIC up to 1.5 KiB.
pub const MAX_CERTIFICATE: usize = 8 * 1024;

/// The longest PEM text read, in octets: a certificate in base64 and text around it, as `openssl x509 -text` writes
/// it.
pub const MAX_PEM: usize = 64 * 1024;

/// Characters of a name kept in [`CertificateFacts`]; the rest becomes an ellipsis.
const MAX_NAME: usize = 512;

/// `id-at-commonName`, RFC 5280 appendix A.1.
const COMMON_NAME: der::asn1::ObjectIdentifier = der::asn1::ObjectIdentifier::new_unwrap("2.5.4.3");

/// Why a certificate cannot be read. Waiting does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// More octets than any certificate here has.
    #[error("cannot read the certificate: {octets} octets are more than {limit}")]
    TooLong {
        /// Its length.
        octets: usize,
        /// The limit, [`MAX_CERTIFICATE`] or [`MAX_PEM`].
        limit: usize,
    },
    /// Not an X.509 certificate in DER, or something follows it.
    #[error("cannot read the certificate: not X.509 in DER: {0}")]
    Encoding(#[from] der::Error),
    /// No certificate, or more than one, in PEM text.
    #[error(
        "cannot read the certificate: the text holds {found} of them; exactly one block BEGIN CERTIFICATE is wanted"
    )]
    Pem {
        /// How many were found; broken ones count.
        found: usize,
    },
}

/// What a certificate says of itself. Fit to be shown: names are cut at 512 characters and hold no control
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The subject's common name; none when there is none, more than one, or one that is no text. A control
    /// character is replaced by U+FFFD and a long name ends in an ellipsis, so that neither can equal a device
    /// name.
    pub subject_common_name: Option<String>,
    /// The subject as RFC 4514 writes it, most specific attribute first.
    pub subject: String,
    /// The issuer as RFC 4514 writes it.
    pub issuer: String,
    /// The serial number: lower-case hexadecimal, whole octets, without the leading zeros of the encoding; `00` for
    /// zero; a negative one (which old authorities issued) has a minus sign before its magnitude, as OpenSSL shows
    /// it.
    pub serial: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity, inclusive. "No well-defined end" (RFC 5280 section 4.1.2.5) and what else lies beyond
    /// jiff's range is [`Timestamp::MAX`].
    pub not_after: Timestamp,
    /// SHA-256 of the DER, lower-case hexadecimal.
    pub sha256: String,
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hexadecimal: equals the hash of [`PublicKey::sha256`].
    pub spki_sha256: String,
    /// The kind of its key; none for a kind that is not offered here.
    pub key_kind: Option<KeyKind>,
    /// The subject key identifier, lower-case hexadecimal.
    pub subject_key_id: Option<String>,
}

impl CertificateFacts {
    /// Reads one certificate in DER with nothing after it.
    ///
    /// # Errors
    /// [`CertificateError`] when it is longer than [`MAX_CERTIFICATE`] or no certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let tbs = certificate.tbs_certificate();
        let spki = tbs.subject_public_key_info().to_der()?;
        let validity = tbs.validity();
        // An identifier that is broken or there twice is shown as none: it identifies nothing.
        let subject_key_id = tbs.get_extension::<SubjectKeyIdentifier>().ok().flatten();
        Ok(Self {
            subject_common_name: common_name(tbs.subject()),
            subject: shown(&tbs.subject().to_string()),
            issuer: shown(&tbs.issuer().to_string()),
            serial: serial(tbs.serial_number().as_bytes()),
            not_before: timestamp(validity.not_before),
            not_after: timestamp(validity.not_after),
            sha256: hex(&sha256(der)),
            spki_sha256: hex(&sha256(&spki)),
            key_kind: PublicKey::from_spki(&spki).ok().map(|key| key.kind()),
            subject_key_id: subject_key_id.map(|(_, id)| hex(id.as_ref().as_bytes())),
        })
    }

    /// Whether `now` lies within the validity, both ends included.
    #[must_use]
    pub fn valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// Writes a certificate as PEM: one block, lines of 64 characters, ending in a line feed.
///
/// # Errors
/// [`CertificateError::TooLong`] beyond [`MAX_CERTIFICATE`].
pub fn to_pem(der: &[u8]) -> Result<String, CertificateError> {
    bounded(der.len(), MAX_CERTIFICATE)?;
    encode_string("CERTIFICATE", LineEnding::LF, der).map_err(|error| CertificateError::Encoding(error.into()))
}

/// Reads the one certificate in PEM text; text around it and blocks of other kinds are skipped.
///
/// # Errors
/// [`CertificateError`] when the text is longer than [`MAX_PEM`], or holds no or several certificates, or a broken
/// one.
pub fn from_pem(pem: &str) -> Result<Vec<u8>, CertificateError> {
    bounded(pem.len(), MAX_PEM)?;
    let mut found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match (found.pop(), found.len()) {
        (Some(Ok(der)), 0) => {
            parse(&der)?;
            Ok(der.to_vec())
        }
        (last, others) => Err(CertificateError::Pem { found: others + usize::from(last.is_some()) }),
    }
}

/// Reads the structure, bounded, for the rest of this ring.
pub(super) fn parse(der: &[u8]) -> Result<Certificate, CertificateError> {
    bounded(der.len(), MAX_CERTIFICATE)?;
    Ok(der::Decode::from_der(der)?)
}

fn bounded(octets: usize, limit: usize) -> Result<(), CertificateError> {
    if octets > limit {
        return Err(CertificateError::TooLong { octets, limit });
    }
    Ok(())
}

fn common_name(subject: &Name) -> Option<String> {
    // With two common names it is anybody's guess which one counts, so neither does.
    let mut names = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME);
    if names.next().is_none() || names.next().is_some() {
        return None;
    }
    let name = subject.common_name().ok().flatten()?;
    Some(shown(&name.value()))
}

/// What may be shown of a text that somebody else wrote.
pub(super) fn shown(text: &str) -> String {
    let mut rest = text.chars();
    let mut out: String =
        rest.by_ref().take(MAX_NAME).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if rest.next().is_some() {
        out.push('…');
    }
    out
}

/// `octets` are the contents of a DER INTEGER: big endian, two's complement.
fn serial(octets: &[u8]) -> String {
    let negative = octets.first().is_some_and(|first| first & 0x80 != 0);
    let mut magnitude = octets.to_vec();
    if negative {
        let mut carry = true;
        for octet in magnitude.iter_mut().rev() {
            let (value, overflow) = (!*octet).overflowing_add(u8::from(carry));
            *octet = value;
            carry = overflow;
        }
    }
    let digits = hex(&magnitude);
    let digits = match digits.len() {
        0 => "00".to_owned(),
        _ => {
            let zeros = magnitude.iter().take_while(|octet| **octet == 0).count();
            digits[2 * zeros.min(magnitude.len() - 1)..].to_owned()
        }
    };
    format!("{}{digits}", if negative { "-" } else { "" })
}

pub(super) fn timestamp(time: Time) -> Timestamp {
    i64::try_from(time.to_unix_duration().as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}
