//! Kinds of keys: what a phone may be asked to make, and what CAPF makes for itself.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Modulus sizes an RSA key may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RsaBits {
    /// 512 bits: too short to authenticate with later (a SHA-512 block does not fit), kept because the source
    /// offers it.
    B512,
    /// 1024 bits: the source's default, within reach of an attacker with means.
    B1024,
    /// 2048 bits: the default here.
    B2048,
    /// 3072 bits.
    B3072,
    /// 4096 bits: minutes of work for an old phone.
    B4096,
}

impl RsaBits {
    /// All sizes, ascending.
    pub const ALL: [Self; 5] = [Self::B512, Self::B1024, Self::B2048, Self::B3072, Self::B4096];

    /// The size of the modulus in bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        match self {
            Self::B512 => 512,
            Self::B1024 => 1024,
            Self::B2048 => 2048,
            Self::B3072 => 3072,
            Self::B4096 => 4096,
        }
    }

    /// The size of exactly `bits` bits, if it is one of those offered.
    #[must_use]
    pub fn from_bits(bits: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|size| usize::from(size.bits()) == bits)
    }
}

/// Curves an EC key may be asked for (FIPS 186-5 names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl Curve {
    /// All curves, ascending.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The size of the field in bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        match self {
            Self::P256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
        }
    }
}

/// The kind of a key: algorithm and size. Shown to people as `RSA 2048` or `EC P-256`; written in resources and
/// messages as `RSA-2048` or `EC-P256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyKind {
    /// RSA with a modulus of this size.
    Rsa(RsaBits),
    /// Elliptic curve.
    Ec(Curve),
}

impl KeyKind {
    /// All eight kinds, RSA first, ascending.
    pub const ALL: [Self; 8] = [
        Self::Rsa(RsaBits::B512),
        Self::Rsa(RsaBits::B1024),
        Self::Rsa(RsaBits::B2048),
        Self::Rsa(RsaBits::B3072),
        Self::Rsa(RsaBits::B4096),
        Self::Ec(Curve::P256),
        Self::Ec(Curve::P384),
        Self::Ec(Curve::P521),
    ];

    /// Bits of the modulus, or of the curve's field.
    #[must_use]
    pub const fn bits(self) -> u16 {
        match self {
            Self::Rsa(size) => size.bits(),
            Self::Ec(curve) => curve.bits(),
        }
    }

    /// Whether this is an RSA kind.
    #[must_use]
    pub const fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa(_))
    }

    /// The compact form, the one that is parsed and serialized.
    fn compact(self) -> String {
        match self {
            Self::Rsa(size) => format!("RSA-{}", size.bits()),
            Self::Ec(curve) => format!("EC-P{}", curve.bits()),
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(size) => write!(f, "RSA {}", size.bits()),
            Self::Ec(curve) => write!(f, "EC P-{}", curve.bits()),
        }
    }
}

/// The text names no kind of key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read {text:?} as a kind of key: write RSA-512, RSA-1024, RSA-2048, RSA-3072, RSA-4096, EC-P256, EC-P384 or EC-P521"
)]
pub struct UnknownKeyKind {
    /// What was written, its first 32 characters.
    pub text: String,
}

impl FromStr for KeyKind {
    type Err = UnknownKeyKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.compact() == text)
            .ok_or_else(|| UnknownKeyKind { text: text.chars().take(32).collect() })
    }
}

impl TryFrom<String> for KeyKind {
    type Error = UnknownKeyKind;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KeyKind> for String {
    fn from(kind: KeyKind) -> Self {
        kind.compact()
    }
}

/// The kind of a key that CAPF makes and signs with: RSA from 2048 bits or EC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnKey(KeyKind);

impl OwnKey {
    /// RSA 2048, the default of issuer and service: every phone verifies it.
    pub const RSA_2048: Self = Self(KeyKind::Rsa(RsaBits::B2048));

    /// EC P-256, used between endpoints and controllers.
    pub const EC_P256: Self = Self(KeyKind::Ec(Curve::P256));

    /// The kind, any but RSA 512 and 1024.
    #[must_use]
    pub const fn kind(self) -> KeyKind {
        self.0
    }
}

/// Too weak to sign with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use an {kind} key for CAPF itself: choose RSA 2048, 3072 or 4096, or an EC curve")]
pub struct OwnKeyTooWeak {
    /// What was asked for.
    pub kind: KeyKind,
}

impl TryFrom<KeyKind> for OwnKey {
    type Error = OwnKeyTooWeak;

    fn try_from(kind: KeyKind) -> Result<Self, Self::Error> {
        match kind {
            KeyKind::Rsa(RsaBits::B512 | RsaBits::B1024) => Err(OwnKeyTooWeak { kind }),
            _ => Ok(Self(kind)),
        }
    }
}
