//! Keys of a simulated phone: made as asked, or prepared beforehand.

use std::fmt;

use aws_lc_rs::signature::{self, EcdsaKeyPair};
use der::pem::{LineEnding, encode_string};
use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};
use rsa::{
    Pkcs1v15Sign, RsaPrivateKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};

use crate::pki::{Curve, KeyKind, KeyRejected, PublicKey, RsaBits, possession::ecdsa_hash};
use crate::wire;

/// A key pair. `Debug` shows the public key's hash only.
#[derive(Clone)]
pub struct PhoneKey {
    public: PublicKey,
    pem: SecretString,
}

impl PhoneKey {
    /// Makes a key. Blocks: an RSA key takes a tenth of a second or more.
    ///
    /// # Errors
    /// [`PhoneKeyError::Make`] when the library cannot.
    pub fn generate(kind: KeyKind) -> Result<Self, PhoneKeyError> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        let pair = match kind {
            // Below what the provider makes.
            KeyKind::Rsa(bits @ (RsaBits::B512 | RsaBits::B1024)) => return small_rsa(bits),
            KeyKind::Rsa(RsaBits::B2048) => rsa(RsaKeySize::_2048),
            KeyKind::Rsa(RsaBits::B3072) => rsa(RsaKeySize::_3072),
            KeyKind::Rsa(RsaBits::B4096) => rsa(RsaKeySize::_4096),
            KeyKind::Ec(Curve::P256) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyKind::Ec(Curve::P384) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyKind::Ec(Curve::P521) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        };
        match pair {
            Ok(pair) => Self::new(&pair.subject_public_key_info(), pair.serialize_pem()),
            Err(error) => Err(PhoneKeyError::Make { kind, problem: error.to_string() }),
        }
    }

    /// Reads the first private key in PEM text; certificates and other text around it are skipped. RSA of 512 and 1024 bits
    /// must be in PKCS#8.
    ///
    /// # Errors
    /// [`PhoneKeyError`] when there is none, or none of a kind known here.
    pub fn from_pem(text: &SecretString) -> Result<Self, PhoneKeyError> {
        let found = PrivateKeyDer::from_pem_slice(text.expose_secret().as_bytes());
        Self::from_der(&found.map_err(|_| PhoneKeyError::NoKey)?)
    }

    /// Reads all private keys in PEM text.
    ///
    /// # Errors
    /// [`PhoneKeyError`] when one cannot be read.
    pub fn all_from_pem(text: &SecretString) -> Result<Vec<Self>, PhoneKeyError> {
        PrivateKeyDer::pem_slice_iter(text.expose_secret().as_bytes())
            .map(|found| Self::from_der(&found.map_err(|_| PhoneKeyError::NoKey)?))
            .collect()
    }

    fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, PhoneKeyError> {
        if let Ok(pair) = KeyPair::try_from(der) {
            return Self::new(&pair.subject_public_key_info(), pair.serialize_pem());
        }
        match RsaPrivateKey::from_pkcs8_der(der.secret_der()) {
            Ok(key) => Self::of_rsa(&key),
            Err(_) => Err(PhoneKeyError::UnknownKey),
        }
    }

    fn of_rsa(key: &RsaPrivateKey) -> Result<Self, PhoneKeyError> {
        let unknown = |_| PhoneKeyError::UnknownKey;
        let public = key.to_public_key().to_public_key_der().map_err(|_| PhoneKeyError::UnknownKey)?;
        let private = key.to_pkcs8_der().map_err(|_| PhoneKeyError::UnknownKey)?;
        let pem = encode_string("PRIVATE KEY", LineEnding::LF, private.as_bytes());
        Self::new(public.as_bytes(), pem.map_err(unknown)?)
    }

    fn new(spki: &[u8], pem: String) -> Result<Self, PhoneKeyError> {
        Ok(Self { public: PublicKey::from_spki(spki)?, pem: pem.into() })
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The private key: PKCS#8 in PEM, not encrypted.
    pub const fn pem(&self) -> &SecretString {
        &self.pem
    }

    /// A signature over a hash as phones make it: RSA over the bare hash in a PKCS#1 block, ECDSA in DER. None where the
    /// hash does not fit into the key.
    ///
    /// The RSA operation is that of the `rsa` crate, whose timing tells of the key (RUSTSEC-2023-0071): for simulated phones,
    /// whose keys protect nothing.
    pub fn sign_hash(&self, hash: &[u8]) -> Option<Vec<u8>> {
        let der = PrivateKeyDer::from_pem_slice(self.pem.expose_secret().as_bytes()).ok()?;
        let KeyKind::Ec(curve) = self.public.kind() else {
            let key = RsaPrivateKey::from_pkcs8_der(der.secret_der()).ok()?;
            return key.sign(Pkcs1v15Sign::new_unprefixed(), hash).ok();
        };
        let algorithm = match curve {
            Curve::P256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            Curve::P521 => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        };
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.secret_der()).ok()?;
        Some(pair.sign_digest(&ecdsa_hash(curve, hash)?).ok()?.as_ref().to_vec())
    }

    /// The private key followed by whatever comes before it in a file, wiped when dropped.
    pub(super) fn pem_after(&self, text: &str) -> Zeroizing<String> {
        let pem = self.pem.expose_secret();
        let mut out = Zeroizing::new(String::with_capacity(text.len() + pem.len() + 1));
        out.push_str(text);
        out.push_str(pem);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }
}

impl fmt::Debug for PhoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PhoneKey").field(&self.public).finish()
    }
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneKeyError {
    /// The library could not make one.
    #[error("make {kind} key: {problem}")]
    Make {
        /// What was to be made.
        kind: KeyKind,
        /// What the library says.
        problem: String,
    },
    /// No private key in the text.
    #[error("read private key: the text holds no whole private key in PEM; PKCS#8 is what is wanted")]
    NoKey,
    /// Of a kind no phone has.
    #[error("read private key: neither RSA nor EC P-256, P-384 or P-521, or an RSA key under 2048 bits not in PKCS#8")]
    UnknownKey,
    /// The public half is of no kind offered here.
    #[error("read private key: {0}")]
    Rejected(#[from] KeyRejected),
}

fn small_rsa(bits: RsaBits) -> Result<PhoneKey, PhoneKeyError> {
    let made = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits.bits().into());
    match made {
        Ok(key) => PhoneKey::of_rsa(&key),
        Err(error) => Err(PhoneKeyError::Make { kind: KeyKind::Rsa(bits), problem: error.to_string() }),
    }
}

/// The kind of key a server asks for; `None` for one nobody here makes.
pub fn kind_asked(request: wire::KeyRequest) -> Option<KeyKind> {
    match request {
        wire::KeyRequest::Rsa { bits } => RsaBits::from_bits(bits.into()).map(KeyKind::Rsa),
        wire::KeyRequest::Ec(wire::Curve::P256) => Some(KeyKind::Ec(Curve::P256)),
        wire::KeyRequest::Ec(wire::Curve::P384) => Some(KeyKind::Ec(Curve::P384)),
        wire::KeyRequest::Ec(wire::Curve::P521) => Some(KeyKind::Ec(Curve::P521)),
        wire::KeyRequest::Ec(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_kind_are_made_and_read_again() {
        for kind in KeyKind::ALL {
            if kind == KeyKind::Rsa(RsaBits::B4096) || kind == KeyKind::Rsa(RsaBits::B3072) {
                continue; // The same code as 2048, at several seconds each.
            }
            let key = PhoneKey::generate(kind).unwrap();
            assert_eq!(key.public().kind(), kind);
            let again = PhoneKey::from_pem(key.pem()).unwrap();
            assert_eq!(again.public(), key.public());
        }
    }

    #[test]
    fn debug_shows_no_private_key() {
        let key = PhoneKey::generate(KeyKind::Ec(Curve::P256)).unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains("EC P-256") && !shown.contains("PRIVATE"), "{shown}");
    }

    #[test]
    fn text_without_a_key_is_refused() {
        let error = PhoneKey::from_pem(&"nothing here".into()).unwrap_err();
        assert_eq!(error, PhoneKeyError::NoKey);
    }
}
