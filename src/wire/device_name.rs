//! The name a phone goes by, the one thing that ties a session to a resource.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A device name in upper case: `SEP` and twelve hex digits for a desk phone, `CSF...` for Jabber.
///
/// Upper-cased it matches `^[A-Z][A-Z0-9.-]{2,14}$`: 3 to 15 characters, so it is also a valid common name. Case does not
/// count: [`parse`](Self::parse) makes upper case of ASCII letters, and two names that differ in case only are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(String);

impl DeviceName {
    /// Fewest characters of a name.
    pub const MIN_LENGTH: usize = 3;
    /// Most characters of a name.
    pub const MAX_LENGTH: usize = 15;

    /// Takes a name in either case.
    ///
    /// # Errors
    /// When the name is too short, too long, or holds a character outside the pattern; the text itself is not in the error.
    pub fn parse(text: &str) -> Result<Self, DeviceNameError> {
        let length = text.chars().count();
        if !(Self::MIN_LENGTH..=Self::MAX_LENGTH).contains(&length) {
            return Err(DeviceNameError::Length { length });
        }
        for (index, character) in text.chars().enumerate() {
            let allowed = match index {
                0 => character.is_ascii_alphabetic(),
                _ => character.is_ascii_alphanumeric() || matches!(character, '.' | '-'),
            };
            if !allowed {
                return Err(DeviceNameError::Character { position: index + 1, character });
            }
        }
        Ok(Self(text.to_ascii_uppercase()))
    }

    /// The name in upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for DeviceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for DeviceName {
    type Error = DeviceNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.0
    }
}

/// Why a text is no device name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceNameError {
    /// It has fewer than 3 or more than 15 characters.
    #[error(
        "read device name: it has {length} characters; give 3 to 15, such as SEP and the twelve digits of the MAC address"
    )]
    Length {
        /// Characters it has.
        length: usize,
    },
    /// It has a character outside the pattern.
    #[error(
        "read device name: character {position} is {character:?}; begin with a letter and use only letters, digits, dots and hyphens"
    )]
    Character {
        /// Where, the first character being 1.
        position: usize,
        /// What stands there.
        character: char,
    },
}

/// The name a phone claims, and the bytes it claimed it with.
///
/// Resources are found by [`name`](Self::name). The signatures of a certificate cover the name *as sent*, so that is kept too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedName {
    name: DeviceName,
    as_sent: String,
}

impl ClaimedName {
    /// Takes the name in the case it was sent in.
    ///
    /// # Errors
    /// Those of [`DeviceName::parse`].
    pub fn parse(text: &str) -> Result<Self, DeviceNameError> {
        Ok(Self { name: DeviceName::parse(text)?, as_sent: text.to_owned() })
    }

    /// The name to look up.
    pub fn name(&self) -> &DeviceName {
        &self.name
    }

    /// The name as it stood in the frame, without its NUL.
    pub fn as_sent(&self) -> &str {
        &self.as_sent
    }
}

impl From<DeviceName> for ClaimedName {
    fn from(name: DeviceName) -> Self {
        Self { as_sent: name.0.clone(), name }
    }
}
