//! Authentication strings: 4 to 10 digits, for one time, seen by as little code as possible.

use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::pki::MacKey;

/// Digits of a generated string: the most that Table 4-5 allows.
pub const GENERATED_DIGITS: usize = 10;

/// An authentication string that is known to be 4 to 10 digits. `Debug` shows nothing of it.
#[derive(Clone, Debug)]
pub struct AuthenticationString(SecretString);

/// What stands in the Secret is not 4 to 10 digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Too short or too long.
    #[error("has {0} characters; an authentication string has 4 to 10 digits")]
    Length(usize),
    /// Something else than a digit.
    #[error("has something else than a digit at position {0}; an authentication string has 4 to 10 digits")]
    NotADigit(usize),
}

impl AuthenticationString {
    /// Takes the digits; one line end after them, as editors and `echo` leave it, is forgiven.
    ///
    /// # Errors
    /// [`Malformed`], which never repeats what was given.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let digits = text.strip_suffix('\n').unwrap_or(text);
        let digits = digits.strip_suffix('\r').unwrap_or(digits);
        if let Some(at) = digits.chars().position(|c| !c.is_ascii_digit()) {
            return Err(Malformed::NotADigit(at + 1));
        }
        match digits.len() {
            4..=10 => Ok(Self(digits.into())),
            other => Err(Malformed::Length(other)),
        }
    }

    /// Makes a string of ten digits from at least 16 random octets.
    #[must_use]
    pub fn from_random(octets: [u8; 16]) -> Self {
        // 128 random bits modulo 10^10: the bias is below 2^-94.
        let number = u128::from_be_bytes(octets) % 10u128.pow(10);
        Self(format!("{number:0GENERATED_DIGITS$}").into())
    }

    /// Whether the phone's user entered these digits; takes the same time wherever they differ.
    #[must_use]
    pub fn matches(&self, entered: &SecretString) -> bool {
        self.0.expose_secret().as_bytes().ct_eq(entered.expose_secret().as_bytes()).into()
    }

    /// Keyed digest by which a used string of this phone is known again, in hexadecimal.
    #[must_use]
    pub fn digest(&self, key: &MacKey, phone: &str) -> String {
        crate::pki::hex(&key.sign(&[b"capf spent string", phone.as_bytes(), self.0.expose_secret().as_bytes()]))
    }

    /// The digits, for the Secret they are kept in.
    #[must_use]
    pub fn digits(&self) -> &SecretString {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_to_ten_digits_are_a_string_and_nothing_else_is() {
        for good in ["0000", "1234567890", "12345\n", "12345\r\n"] {
            assert!(AuthenticationString::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "123", "12345678901", "12a4", "1234 ", " 1234", "1234\n\n", "１２３４", "-1234"] {
            let error = AuthenticationString::parse(bad).unwrap_err().to_string();
            assert!(bad.len() < 3 || !error.contains(bad), "the error repeats what was given: {error}");
        }
    }

    #[test]
    fn a_generated_string_has_ten_digits_also_when_the_number_is_small() {
        let string = AuthenticationString::from_random([0; 16]);
        assert!(string.matches(&"0000000000".to_owned().into()));
    }

    #[test]
    fn only_the_same_digits_match() {
        let string = AuthenticationString::parse("4711\n").unwrap();
        assert!(string.matches(&"4711".to_owned().into()));
        for other in ["471", "47110", "4712", ""] {
            assert!(!string.matches(&other.to_owned().into()));
        }
        assert!(!format!("{string:?}").contains("4711"));
    }
}
