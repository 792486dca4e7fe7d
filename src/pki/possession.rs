//! Whether a phone holds the key of the certificate it shows: the signatures of AUTH_RES.
//!
//! A phone signs with two hashes, SHA-1 and SHA-512, and both are asked for. SIGNED_DATA and SHA2_SIGNED_DATA cover the
//! device name as sent, a NUL and the certificate: nothing fresh, so whoever saw them can send them again. Those in
//! SUDI_DATA cover the session id, *little* endian, and the certificate. All of it is captured.
//!
//! An RSA signature is the bare hash in a PKCS#1 type 1 block, `00 01 FF.. 00 hash` without a DigestInfo. The whole block is
//! compared, for with an exponent of 3 a block of which only the end counts can be made without the key. An EC signature is
//! ECDSA in DER.

use aws_lc_rs::{
    digest::{self, Digest},
    signature::ParsedPublicKey,
};
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey, traits::SignatureScheme as _};

use super::{Curve, KeyKind, PublicKey, key};

/// The signatures that came with one certificate; each may be missing.
#[derive(Clone, Copy, Default)]
pub struct Signatures<'a> {
    /// With SHA-1.
    pub sha1: Option<&'a [u8]>,
    /// With SHA-512.
    pub sha512: Option<&'a [u8]>,
}

/// Why the signatures prove nothing. Waiting does not help.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotProven {
    /// One of the two did not come.
    #[error("the signature with {0} is missing")]
    Missing(&'static str),
    /// Not made by the certificate's key over what it must cover.
    #[error("the signature with {0} is not one of the certificate's key")]
    Wrong(&'static str),
    /// A SHA-512 block is longer than the modulus.
    #[error("a key of {0} bits is too short to authenticate with: a SHA-512 signature does not fit into it")]
    KeyTooShort(u16),
}

/// What SIGNED_DATA and SHA2_SIGNED_DATA cover. `name` is the device name in the case it was sent in.
#[must_use]
pub fn signed_data(name: &str, certificate: &[u8]) -> Vec<u8> {
    [name.as_bytes(), &[0], certificate].concat()
}

/// What the signatures in SUDI_DATA cover.
#[must_use]
pub fn sudi_data(session_id: u32, certificate: &[u8]) -> Vec<u8> {
    [&session_id.to_le_bytes(), certificate].concat()
}

/// Whether both signatures are `key`'s over `message`.
///
/// # Errors
/// [`NotProven`].
pub fn prove(key: &PublicKey, message: &[u8], signatures: Signatures<'_>) -> Result<(), NotProven> {
    // 11 octets around the hash, RFC 8017 section 9.2.
    let octets = usize::from(key.kind().bits()).div_ceil(8);
    if key.kind().is_rsa() && octets < digest::SHA512.output_len() + 11 {
        return Err(NotProven::KeyTooShort(key.kind().bits()));
    }
    for (name, algorithm, signature) in
        [("SHA-1", &digest::SHA1_FOR_LEGACY_USE_ONLY, signatures.sha1), ("SHA-512", &digest::SHA512, signatures.sha512)]
    {
        let signature = signature.ok_or(NotProven::Missing(name))?;
        let hash = digest::digest(algorithm, message);
        if !is_signed(key, hash.as_ref(), signature) {
            return Err(NotProven::Wrong(name));
        }
    }
    Ok(())
}

fn is_signed(key: &PublicKey, hash: &[u8], signature: &[u8]) -> bool {
    match key.kind() {
        KeyKind::Rsa(_) => is_rsa_signed(key, hash, signature).unwrap_or(false),
        KeyKind::Ec(curve) => is_ecdsa_signed(curve, key, hash, signature).unwrap_or(false),
    }
}

/// A public operation only, so that the timing of the private one (RUSTSEC-2023-0071) does not matter.
fn is_rsa_signed(key: &PublicKey, hash: &[u8], signature: &[u8]) -> Option<bool> {
    let (modulus, exponent) = key.rsa_numbers()?;
    let key = RsaPublicKey::new(BigUint::from_bytes_be(&modulus), BigUint::from_bytes_be(&exponent)).ok()?;
    Some(Pkcs1v15Sign::new_unprefixed().verify(&key, hash, signature).is_ok())
}

fn is_ecdsa_signed(curve: Curve, key: &PublicKey, hash: &[u8], signature: &[u8]) -> Option<bool> {
    let point = key.point()?;
    let key = ParsedPublicKey::new(key::verification(curve), point).ok()?;
    Some(key.verify_digest_sig(&ecdsa_hash(curve, hash)?, signature).is_ok())
}

/// A hash of any length as ECDSA over this curve takes it (FIPS 186-5 section 6.4.1), in the clothes of the one length that
/// the library pairs with the curve: what ECDSA sees is a number, the leftmost bits of a hash that is longer than the order,
/// else the whole hash, to which leading zeros add nothing.
#[must_use]
pub fn ecdsa_hash(curve: Curve, hash: &[u8]) -> Option<Digest> {
    let algorithm = match curve {
        Curve::P256 => &digest::SHA256,
        Curve::P384 => &digest::SHA384,
        Curve::P521 => &digest::SHA512,
    };
    let length = algorithm.output_len();
    let kept = &hash[..hash.len().min(length)];
    let mut number = vec![0; length - kept.len()];
    number.extend_from_slice(kept);
    Digest::import_less_safe(&number, algorithm).ok()
}
