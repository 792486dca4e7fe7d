//! Message authentication with a key only controllers hold: tickets, and the memory of used-up strings.

use std::fmt;

use aws_lc_rs::{hmac, rand};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretBox, SecretString, zeroize::Zeroize};
use subtle::ConstantTimeEq;

/// Octets of a key and of a code.
const OCTETS: usize = 32;

/// A key for HMAC-SHA-256 (RFC 2104) of 32 octets. `Debug` shows nothing of it.
pub struct MacKey(SecretBox<[u8; OCTETS]>);

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacKeyError {
    /// The system gives no random octets.
    #[error("cannot make an authentication key: the system gives no random octets; try again")]
    Random,
    /// The text is not what [`MacKey::to_base64`] writes.
    #[error("cannot read the authentication key: not 32 octets in base64; delete its Secret to have one made anew")]
    Malformed,
}

impl MacKey {
    /// Makes a random key.
    ///
    /// # Errors
    /// [`MacKeyError::Random`]; waiting may help.
    pub fn generate() -> Result<Self, MacKeyError> {
        let mut filled = Ok(());
        let key = SecretBox::init_with_mut(|octets: &mut [u8; OCTETS]| filled = rand::fill(octets));
        filled.map_err(|_| MacKeyError::Random)?;
        Ok(Self(key))
    }

    /// Reads a key in base64 (RFC 4648 section 4, padded); white space around it is skipped.
    ///
    /// # Errors
    /// [`MacKeyError::Malformed`]; the text is not part of it.
    pub fn from_base64(text: &SecretString) -> Result<Self, MacKeyError> {
        let text = text.expose_secret().trim();
        // 44 characters hold 32 octets; nothing longer is worth decoding.
        if text.len() != OCTETS.div_ceil(3) * 4 {
            return Err(MacKeyError::Malformed);
        }
        let mut decoded = STANDARD.decode(text).map_err(|_| MacKeyError::Malformed)?;
        let fits = decoded.len() == OCTETS;
        let key = SecretBox::init_with_mut(|octets: &mut [u8; OCTETS]| {
            if fits {
                octets.copy_from_slice(&decoded);
            }
        });
        decoded.zeroize();
        if fits { Ok(Self(key)) } else { Err(MacKeyError::Malformed) }
    }

    /// The key in base64, to be kept in a Secret.
    #[must_use]
    pub fn to_base64(&self) -> SecretString {
        STANDARD.encode(self.0.expose_secret()).into()
    }

    /// The code over `parts`. Each part is preceded by its length (64 bits, big endian), so that no two different
    /// lists of parts authenticate the same octets. The first part should say what the code is for.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; OCTETS] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret());
        let mut context = hmac::Context::with_key(&key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut code = [0; OCTETS];
        code.copy_from_slice(context.sign().as_ref());
        code
    }

    /// Whether `code` is the code over `parts`; compared in constant time.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], code: &[u8]) -> bool {
        self.sign(parts).as_slice().ct_eq(code).into()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey([hidden])")
    }
}
