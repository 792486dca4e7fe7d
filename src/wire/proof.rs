//! What a phone proves itself with: certificates and signatures as they are encoded. Nothing here verifies them.
//!
//! What the signatures cover, as the captures show: SIGNED_DATA (SHA-1) and SHA2_SIGNED_DATA cover the device name as sent, a
//! NUL and the certificate, and are the same bytes every time; those in SUDI_DATA cover the session id, *little* endian, and
//! the certificate. RSA signatures hold the bare hash in a PKCS#1 type 1 block without a DigestInfo, EC ones are ECDSA in DER.

use super::codes::{CertType, ElementTag, HashId};
use super::element::{BodyWriter, length_bytes, octets};
use super::error::{EncodeError, ParseError, Problem};
use super::octets::Octets;
use super::reader::Reader;

/// The sub-element of SUDI_DATA that holds the certificate. Captured.
const SUDI_CERTIFICATE: u8 = 0x00;
/// Most signatures SUDI_DATA may hold; phones send two.
const SUDI_SIGNATURES: usize = 4;

/// A certificate and the five bytes in front of it: `lead | length of the rest, 2 bytes | pad | type | DER`.
///
/// The captures always have 01 for `lead`, 00 for `pad` and 01 for the type, a MIC's included. What the first two mean is not
/// known (a count or a sub-tag, and the high half of the type: guesses), known peers skip them unread, so any value is taken and
/// given back. The type, too, is what the peer says, not what the certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The first byte; 01 in all captures.
    pub lead: u8,
    /// The byte before the type; 00 in all captures.
    pub pad: u8,
    /// What the sender calls it.
    pub cert_type: CertType,
    /// The certificate in DER, never empty when it came from a frame.
    pub der: Octets,
}

impl Certificate {
    /// A certificate with the first bytes of the captures.
    pub fn new(cert_type: CertType, der: impl Into<Octets>) -> Self {
        Self { lead: 0x01, pad: 0x00, cert_type, der: der.into() }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let lead = reader.u8()?;
        let mut inner = reader.counted()?;
        let pad = inner.u8()?;
        let cert_type = CertType(inner.u8()?);
        Ok(Self { lead, pad, cert_type, der: octets(&mut inner)? })
    }

    pub(super) fn write(&self, body: &mut BodyWriter) -> Result<(), EncodeError> {
        let tag = ElementTag::CERTIFICATE;
        let [high, low] = length_bytes(tag, 2 + self.der.len())?;
        body.element(tag, &[&[self.lead, high, low, self.pad, self.cert_type.0], &self.der])
    }

    pub(super) fn value_length(&self) -> usize {
        5 + self.der.len()
    }
}

/// A signature and the hash it was made with: `hash | length, 2 bytes | signature`, the value of SHA2_SIGNED_DATA and a
/// sub-element of SUDI_DATA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The hash, as the sender says.
    pub hash: HashId,
    /// The signature, never empty when it came from a frame.
    pub signature: Octets,
}

impl Signature {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let hash = HashId(reader.u8()?);
        Ok(Self { hash, signature: octets(&mut reader.counted()?)? })
    }

    pub(super) fn write(&self, body: &mut BodyWriter, tag: ElementTag) -> Result<(), EncodeError> {
        body.element(tag, &[&self.head(tag)?, &self.signature])
    }

    pub(super) fn value_length(&self) -> usize {
        3 + self.signature.len()
    }

    fn head(&self, tag: ElementTag) -> Result<[u8; 3], EncodeError> {
        let [high, low] = length_bytes(tag, self.signature.len())?;
        Ok([self.hash.0, high, low])
    }
}

/// A certificate of the hardware with its signatures: `00 | length | DER`, then a [`Signature`] for each hash. Captured with
/// the MIC and two signatures, SHA-1 and SHA-512, both RSA; which of them are needed is for the verifier to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SudiData {
    /// The certificate in DER.
    pub certificate: Octets,
    /// At most four signatures in the order sent, no two with the same hash.
    pub signatures: Vec<Signature>,
}

impl SudiData {
    /// The signature with this hash.
    pub fn signature(&self, hash: HashId) -> Option<&Octets> {
        self.signatures.iter().find(|signature| signature.hash == hash).map(|found| &found.signature)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let mut certificate = None;
        let mut signatures: Vec<Signature> = Vec::new();
        while !reader.is_empty() {
            let place = reader.clone();
            if place.clone().u8()? == SUDI_CERTIFICATE {
                reader.u8()?;
                if certificate.replace(octets(&mut reader.counted()?)?).is_some() {
                    return Err(place.error(Problem::SudiCertificateTwice));
                }
                continue;
            }
            let signature = Signature::read(reader)?;
            if signatures.iter().any(|other| other.hash == signature.hash) {
                return Err(place.error(Problem::SudiSignatureTwice(signature.hash)));
            }
            if signatures.len() == SUDI_SIGNATURES {
                return Err(place.error(Problem::SudiSignatures { limit: SUDI_SIGNATURES }));
            }
            signatures.push(signature);
        }
        let certificate = certificate.ok_or_else(|| reader.error(Problem::SudiCertificateMissing))?;
        Ok(Self { certificate, signatures })
    }

    pub(super) fn write(&self, body: &mut BodyWriter) -> Result<(), EncodeError> {
        let tag = ElementTag::SUDI_DATA;
        let [high, low] = length_bytes(tag, self.certificate.len())?;
        let certificate_head = [SUDI_CERTIFICATE, high, low];
        let heads = self.signatures.iter().map(|one| one.head(tag)).collect::<Result<Vec<_>, _>>()?;
        let mut parts: Vec<&[u8]> = vec![&certificate_head, &self.certificate];
        for (head, signature) in heads.iter().zip(&self.signatures) {
            parts.push(head);
            parts.push(&signature.signature);
        }
        body.element(tag, &parts)
    }

    pub(super) fn value_length(&self) -> usize {
        3 + self.certificate.len() + self.signatures.iter().map(Signature::value_length).sum::<usize>()
    }
}
