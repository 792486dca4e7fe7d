//! Bytes this ring carries without looking into them.

use std::{fmt, ops::Deref};

/// A certificate, a public key or a signature as it is on the wire. Its `Debug` shows the length only: a log that shows a
/// signature of SIGNED_DATA has given away a credential, because the same bytes are good every time.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Octets(Vec<u8>);

impl Octets {
    /// The bytes themselves.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl From<Vec<u8>> for Octets {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Octets {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}
