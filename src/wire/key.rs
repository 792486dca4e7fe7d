//! Which key a phone shall make, and how a phone of either version is told.

use serde::{Deserialize, Serialize};

use super::codes::{Command, Curve, ElementTag, KeyType, Version};
use super::element::{BodyWriter, Elements};
use super::error::{EncodeError, KeyError, ParseError};
use super::frame::{Frame, SessionId};

/// RSA sizes that can be asked for: the vendor's 512, 1024 and 2048, and those of newer phones. Observed.
const RSA_BITS: [u16; 5] = [512, 1024, 2048, 3072, 4096];

/// The key a phone shall make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyRequest {
    /// An RSA key.
    Rsa {
        /// Its size in bits: 512, 1024, 2048, 3072 or 4096.
        bits: u16,
    },
    /// A key on a curve: P-256, P-384 or P-521.
    Ec(Curve),
}

impl KeyRequest {
    /// Whether the protocol has a way to ask for this key.
    ///
    /// # Errors
    /// When the size or the curve is not in the lists above.
    pub fn check(self) -> Result<(), KeyError> {
        match self {
            Self::Rsa { bits } if !RSA_BITS.contains(&bits) => Err(KeyError::RsaBits { bits }),
            Self::Ec(curve) if curve.name().is_none() => Err(KeyError::Curve(curve)),
            Self::Rsa { .. } | Self::Ec(_) => Ok(()),
        }
    }
}

/// KEY_GENERATE_REQ as its elements say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyGenerateReq {
    /// Bits of an RSA key.
    pub key_size: Option<u16>,
    /// The algorithm; without it RSA is meant.
    pub key_type: Option<KeyType>,
    /// The curve of an EC key.
    pub curve: Option<Curve>,
}

impl KeyGenerateReq {
    const USED: [ElementTag; 3] = [ElementTag::KEY_SIZE, ElementTag::KEY_TYPE, ElementTag::CURVE];

    /// The request in the words a phone of this version knows: to version 3 KEY_SIZE and KEY_TYPE 0, or KEY_TYPE 1 and CURVE
    /// (captured); to version 2 KEY_SIZE alone (documented: a real call manager and Jabber).
    ///
    /// # Errors
    /// When nobody can make that key ([`KeyRequest::check`]), or when it is an EC key and the phone of version 2.
    pub fn for_phone(key: KeyRequest, version: Version) -> Result<Self, KeyError> {
        key.check()?;
        match key {
            KeyRequest::Rsa { bits } => {
                let key_type = (version != Version::TWO).then_some(KeyType::RSA);
                Ok(Self { key_size: Some(bits), key_type, curve: None })
            }
            KeyRequest::Ec(_) if version == Version::TWO => Err(KeyError::EcForVersionTwo),
            KeyRequest::Ec(curve) => Ok(Self { key_size: None, key_type: Some(KeyType::EC), curve: Some(curve) }),
        }
    }

    /// The key that is meant.
    ///
    /// # Errors
    /// When the elements do not say one, or one that nobody can make.
    pub fn key(&self) -> Result<KeyRequest, KeyError> {
        let key = match (self.key_type.unwrap_or(KeyType::RSA), self.key_size, self.curve) {
            (KeyType::RSA, Some(bits), _) => KeyRequest::Rsa { bits },
            (KeyType::EC, _, Some(curve)) => KeyRequest::Ec(curve),
            (KeyType::RSA | KeyType::EC, _, _) => return Err(KeyError::Unsaid),
            (other, _, _) => return Err(KeyError::KeyType(other)),
        };
        key.check().map(|()| key)
    }

    pub(super) fn read(frame: &Frame) -> Result<(Self, super::Skipped), ParseError> {
        let mut elements = Elements::of(frame, &Self::USED)?;
        let skipped = elements.skipped();
        let request = Self {
            key_size: elements.optional(ElementTag::KEY_SIZE, super::reader::Reader::u16)?,
            key_type: elements.optional(ElementTag::KEY_TYPE, |value| value.u8().map(KeyType))?,
            curve: elements.optional(ElementTag::CURVE, |value| value.u8().map(Curve))?,
        };
        Ok((request, skipped))
    }

    pub(super) fn write(&self, session_id: SessionId) -> Result<Frame, EncodeError> {
        let mut body = BodyWriter::new(Command::KEY_GENERATE_REQ, &[2, 1, 1]);
        if let Some(bits) = self.key_size {
            body.element(ElementTag::KEY_SIZE, &[&bits.to_be_bytes()])?;
        }
        body.number(ElementTag::KEY_TYPE, self.key_type.map(|code| code.0))?;
        body.number(ElementTag::CURVE, self.curve.map(|code| code.0))?;
        body.frame(session_id)
    }
}
