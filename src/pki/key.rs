//! The public keys phones send, and why one is refused.
//!
//! A phone sends its new public key as a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7). [`PublicKey::from_spki`]
//! is the only way to a [`PublicKey`], so whatever signs one need not ask again whether it is a key at all.

use std::fmt;

use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, ParsedPublicKey};
use der::{
    Decode, Encode, Reader, SliceReader,
    asn1::{AnyRef, ObjectIdentifier, UintRef},
};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::{Curve, KeyKind, RsaBits};

/// `rsaEncryption`, RFC 8017 appendix C.
pub(super) const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey`, RFC 5480 section 2.1.1.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// Bits an RSA exponent may have: the limit of both verifiers used here (aws-lc and the `rsa` crate), so that a key
/// accepted for a certificate can later prove possession of it, and no phone buys a slow verification.
const MAX_EXPONENT_BITS: usize = 33;

/// A public key that was checked: of a kind offered here, well formed, and byte for byte as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    spki: Box<[u8]>,
}

impl PublicKey {
    /// The longest SubjectPublicKeyInfo read, in octets: RSA 4096 with the largest exponent takes 552.
    pub const MAX_SPKI: usize = 600;

    /// Reads a SubjectPublicKeyInfo in DER, with nothing after it.
    ///
    /// # Errors
    /// [`KeyRejected`] when the encoding is not DER or too long, the algorithm, curve or size is not one offered,
    /// the RSA modulus is even, the exponent even, 1 or over 33 bits, or the EC point is not an uncompressed point
    /// of its curve.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyRejected> {
        if spki.len() > Self::MAX_SPKI {
            return Err(KeyRejected::TooLong { octets: spki.len() });
        }
        let info = SubjectPublicKeyInfoRef::from_der(spki)?;
        let bits = info.subject_public_key.as_bytes().ok_or(KeyRejected::PartialOctet)?;
        let kind = match info.algorithm.oid {
            RSA_ENCRYPTION => rsa_kind(info.algorithm.parameters, bits)?,
            EC_PUBLIC_KEY => ec_kind(info.algorithm.parameters, bits)?,
            other => {
                return Err(KeyRejected::Algorithm { oid: other.to_string() });
            }
        };
        Ok(Self { kind, spki: spki.into() })
    }

    /// The key of a certificate in DER.
    ///
    /// # Errors
    /// [`KeyRejected`] as for [`Self::from_spki`], and for what is no certificate.
    pub fn from_certificate(der: &[u8]) -> Result<Self, KeyRejected> {
        let certificate = x509_cert::Certificate::from_der(der)?;
        Self::from_spki(&certificate.tbs_certificate().subject_public_key_info().to_der()?)
    }

    /// What kind of key it is.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The SubjectPublicKeyInfo in DER, as it was read.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`Self::spki`]: names the key in tickets and statuses.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        super::sha256(&self.spki)
    }

    /// Modulus and exponent of an RSA key, big endian without leading zeros.
    pub(super) fn rsa_numbers(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.kind.is_rsa().then_some(())?;
        let bits = self.bits()?;
        let mut reader = SliceReader::new(bits).ok()?;
        let read = |inner: &mut SliceReader<'_>| {
            let (modulus, exponent) = (UintRef::decode(inner)?, UintRef::decode(inner)?);
            Ok::<_, der::Error>((modulus.as_bytes().to_vec(), exponent.as_bytes().to_vec()))
        };
        reader.sequence(read).ok()
    }

    /// The uncompressed point of an EC key.
    pub(super) fn point(&self) -> Option<&[u8]> {
        (!self.kind.is_rsa()).then(|| self.bits()).flatten()
    }

    fn bits(&self) -> Option<&[u8]> {
        SubjectPublicKeyInfoRef::from_der(&self.spki).ok()?.subject_public_key.as_bytes()
    }

    /// Whether this is the kind of key that was asked for.
    ///
    /// # Errors
    /// [`KeyRejected::NotAsked`], naming both.
    pub fn matches(&self, asked: KeyKind) -> Result<(), KeyRejected> {
        let came = self.kind;
        if came == asked { Ok(()) } else { Err(KeyRejected::NotAsked { asked, came }) }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sha256 = super::hex(&self.sha256());
        write!(f, "PublicKey({}, sha256 {sha256})", self.kind)
    }
}

/// Why a public key is not signed. Waiting helps in no case: the phone must make another key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRejected {
    /// Longer than any key offered.
    #[error(
        "cannot accept the public key: {octets} octets, no key offered here takes more than {}",
        PublicKey::MAX_SPKI
    )]
    TooLong {
        /// Its length.
        octets: usize,
    },
    /// Not a SubjectPublicKeyInfo in DER, or something follows it.
    #[error("cannot read the public key as a SubjectPublicKeyInfo in DER: {0}")]
    Encoding(#[from] der::Error),
    /// The key's bit string does not end with an octet.
    #[error("cannot read the public key: its bit string does not end with an octet")]
    PartialOctet,
    /// Neither RSA nor an EC key.
    #[error(
        "cannot accept a public key of algorithm {oid}: only RSA (1.2.840.113549.1.1.1) and EC (1.2.840.10045.2.1) are"
    )]
    Algorithm {
        /// The algorithm that came.
        oid: String,
    },
    /// RSA without its NULL, or EC without a named curve.
    #[error("cannot accept the {algorithm} public key: its parameters must be {wanted}")]
    Parameters {
        /// RSA or EC.
        algorithm: &'static str,
        /// What stands there in a proper key.
        wanted: &'static str,
    },
    /// A curve that is not offered.
    #[error("cannot accept an EC public key of curve {oid}: only P-256, P-384 and P-521 are")]
    UnknownCurve {
        /// The curve that came.
        oid: String,
    },
    /// Compressed, hybrid, infinite or of another length.
    #[error(
        "cannot accept the {} public key: not an uncompressed point of {} octets",
        KeyKind::Ec(*curve),
        point_octets(*curve)
    )]
    PointForm {
        /// The curve named.
        curve: Curve,
    },
    /// The point does not satisfy the curve's equation.
    #[error("cannot accept the {} public key: the point is not on the curve", KeyKind::Ec(*curve))]
    NotOnCurve {
        /// The curve named.
        curve: Curve,
    },
    /// A modulus of a size that is not offered.
    #[error("cannot accept an RSA public key of {bits} bits: only 512, 1024, 2048, 3072 and 4096 are")]
    Modulus {
        /// The bits that came.
        bits: usize,
    },
    /// No product of two odd primes is even.
    #[error("cannot accept the RSA public key: its modulus is even")]
    EvenModulus,
    /// Even, one, or too large.
    #[error(
        "cannot accept the RSA public key: its exponent must be odd, above 1 and of at most {MAX_EXPONENT_BITS} bits"
    )]
    Exponent,
    /// Made by the library of CVE-2017-15361.
    #[error(
        "cannot accept the RSA public key: it bears the mark of a faulty generator (ROCA, CVE-2017-15361), whose keys can be factored; the phone's firmware must be replaced"
    )]
    Roca,
    /// A product of more than two primes, or of a tiny one.
    #[error("cannot accept the RSA public key: its modulus is divisible by {factor}")]
    SmallFactor {
        /// The factor.
        factor: u32,
    },
    /// Its primes lie next to each other.
    #[error("cannot accept the RSA public key: its two primes are so close that Fermat's method finds them")]
    ClosePrimes,
    /// A sound key, but not what was asked for.
    #[error("cannot accept the public key: {asked} was asked for, {came} came")]
    NotAsked {
        /// The kind asked for.
        asked: KeyKind,
        /// The kind that came.
        came: KeyKind,
    },
}

/// Reads `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn rsa_kind(parameters: Option<AnyRef<'_>>, key: &[u8]) -> Result<KeyKind, KeyRejected> {
    // RFC 3279 section 2.3.1: MUST be NULL. Without it the certificate would not carry the key byte for byte.
    if parameters != Some(AnyRef::NULL) {
        return Err(KeyRejected::Parameters { algorithm: "RSA", wanted: "NULL" });
    }
    let mut reader = SliceReader::new(key)?;
    let (modulus, exponent) =
        reader.sequence(|inner| Ok::<_, der::Error>((UintRef::decode(inner)?, UintRef::decode(inner)?)))?;
    reader.finish()?;

    let bits = bit_length(modulus);
    let size = RsaBits::from_bits(bits).ok_or(KeyRejected::Modulus { bits })?;
    if !is_odd(modulus) {
        return Err(KeyRejected::EvenModulus);
    }
    if !is_odd(exponent) || !(2..=MAX_EXPONENT_BITS).contains(&bit_length(exponent)) {
        return Err(KeyRejected::Exponent);
    }
    Ok(KeyKind::Rsa(size))
}

/// Reads `ECPoint` under a named curve (RFC 5480 section 2).
fn ec_kind(parameters: Option<AnyRef<'_>>, point: &[u8]) -> Result<KeyKind, KeyRejected> {
    let named = parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let named = named.ok_or(KeyRejected::Parameters { algorithm: "EC", wanted: "a named curve" })?;
    let curve = Curve::ALL
        .into_iter()
        .find(|curve| curve_oid(*curve) == named)
        .ok_or_else(|| KeyRejected::UnknownCurve { oid: named.to_string() })?;
    if point.len() != point_octets(curve) || point.first() != Some(&4) {
        return Err(KeyRejected::PointForm { curve });
    }
    // aws-lc checks the equation when it reads a point, and the whole key once more (EC_KEY_check_key).
    ParsedPublicKey::new(verification(curve), point).map_err(|_| KeyRejected::NotOnCurve { curve })?;
    Ok(KeyKind::Ec(curve))
}

fn bit_length(number: UintRef<'_>) -> usize {
    let octets = number.as_bytes();
    octets.first().map_or(0, |first| octets.len() * 8 - first.leading_zeros() as usize)
}

fn is_odd(number: UintRef<'_>) -> bool {
    number.as_bytes().last().is_some_and(|last| last & 1 == 1)
}

/// The named-curve identifier, RFC 5480 section 2.1.1.1.
const fn curve_oid(curve: Curve) -> ObjectIdentifier {
    match curve {
        Curve::P256 => ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
        Curve::P384 => ObjectIdentifier::new_unwrap("1.3.132.0.34"),
        Curve::P521 => ObjectIdentifier::new_unwrap("1.3.132.0.35"),
    }
}

/// The octets of an uncompressed point, `04 || x || y` (SEC 1 section 2.3.3).
const fn point_octets(curve: Curve) -> usize {
    1 + 2 * (curve.bits() as usize).div_ceil(8)
}

/// An algorithm of this curve; only its curve matters, to have a point checked.
pub(super) fn verification(curve: Curve) -> &'static EcdsaVerificationAlgorithm {
    match curve {
        Curve::P256 => &signature::ECDSA_P256_SHA256_ASN1,
        Curve::P384 => &signature::ECDSA_P384_SHA384_ASN1,
        Curve::P521 => &signature::ECDSA_P521_SHA512_ASN1,
    }
}
