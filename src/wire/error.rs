//! What can be wrong with bytes: the errors of reading and of writing.
//!
//! They are logged on the side that meets the fault, where an operator must find the place again in a capture: offsets count
//! from the frame's first byte, the 0x55, which is 0. No error holds a value from a frame but names and numbers, so that none
//! can show an authentication string.

use std::fmt;

use super::codes::{Command, Curve, ElementTag, HashId, KeyType};
use super::device_name::DeviceNameError;

/// Why bytes are no frame. The decoder that gave it gives it again for whatever comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte is not 0x55.
    #[error(
        "read frame: byte 0 is {found:#04x}, not 0x55; something other than CAPF talks in this TLS session, or a frame before \
         it had a wrong length: see what connects to the port"
    )]
    Magic {
        /// What stands there.
        found: u8,
    },
    /// The header announces a longer body than the receiver takes from this command; none of the body was read.
    #[error(
        "read frame {command}: bytes 6 and 7 announce a body of {announced} bytes, at most {limit} are taken; no known phone \
         sends that much: see what connects to the port"
    )]
    BodyTooLong {
        /// The command in the header.
        command: Command,
        /// The length in the header.
        announced: usize,
        /// Bytes taken from this command.
        limit: usize,
    },
    /// The stream ended inside a frame.
    #[error(
        "read frame: the stream ends after byte {have} of {wanted}; the peer hung up in the middle and may come again"
    )]
    Truncated {
        /// Bytes that came.
        have: usize,
        /// Bytes of the frame as far as known: the header's eight until all of it is there.
        wanted: usize,
    },
}

/// Why the body of a frame is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The frame's command.
    pub command: Command,
    /// The element it is about; `None` when it is about the row of elements.
    pub element: Option<ElementTag>,
    /// Where it begins to be wrong, from the frame's first byte; for something missing, the frame's length.
    pub offset: usize,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parse {}", self.command)?;
        if let Some(element) = self.element {
            write!(f, ", element {element}")?;
        }
        write!(f, ", at byte {}: {}", self.offset, self.problem)
    }
}

impl std::error::Error for ParseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Name(error) => Some(error),
            _ => None,
        }
    }
}

/// What is wrong at one place of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Lengths that reach over the end.
    #[error(
        "{wanted} bytes belong here, {left} are left; a length before it is wrong or the frame is cut: compare with a capture"
    )]
    BreaksOff {
        /// Bytes the lengths call for.
        wanted: usize,
        /// Bytes there are.
        left: usize,
    },
    /// Lengths that leave bytes unread.
    #[error("{left} bytes are left over; a length before them is wrong: compare with a capture")]
    LeftOver {
        /// Bytes nobody claimed.
        left: usize,
    },
    /// An element that may stand once only.
    #[error("it stands there a second time; which of the two counts is anyone's guess, so neither does: send it once")]
    Duplicate,
    /// An element that must stand.
    #[error("it is missing; this command cannot do without it: send it")]
    Missing,
    /// A value without a byte where some are needed.
    #[error("it is empty; leave it out, or send a value")]
    Empty,
    /// A value longer than any real one.
    #[error(
        "it holds {length} bytes, at most {limit} are taken; no known phone sends that much: see what connects to the port"
    )]
    TooLong {
        /// Bytes it holds.
        length: usize,
        /// Bytes taken.
        limit: usize,
    },
    /// Text that does not end in NUL.
    #[error(
        "it does not end in a NUL; the last character may be cut off: end it in one NUL and count that in the length"
    )]
    NoNul,
    /// Text with a NUL before its end.
    #[error("it has a NUL before its end; end it in exactly one")]
    InnerNul,
    /// Text that is not UTF-8.
    #[error("it is no text (not UTF-8); use ASCII")]
    NotText,
    /// A device name outside the pattern.
    #[error("{0}")]
    Name(DeviceNameError),
    /// SUDI_DATA without its certificate.
    #[error("it holds no certificate, so its signatures prove nothing: send the certificate as sub-element 0")]
    SudiCertificateMissing,
    /// SUDI_DATA with two certificates.
    #[error("it holds a second certificate; which of the two counts is anyone's guess: send one")]
    SudiCertificateTwice,
    /// SUDI_DATA with two signatures of one hash.
    #[error("it holds a second signature with {0}; which of the two counts is anyone's guess: send one")]
    SudiSignatureTwice(HashId),
    /// SUDI_DATA with more signatures than there are hashes.
    #[error("it holds more than {limit} signatures; send one with SHA-1 and one with SHA-512")]
    SudiSignatures {
        /// Signatures taken.
        limit: usize,
    },
}

/// Why a frame cannot be written. All of these are about what we were asked to send, none about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A value does not fit the two bytes of its length.
    #[error(
        "write {element}: the value holds {length} bytes, the format takes 65535; send a smaller certificate or key"
    )]
    ValueTooLong {
        /// The element.
        element: ElementTag,
        /// Bytes of the value.
        length: usize,
    },
    /// The elements together do not fit the two bytes of the body's length.
    #[error(
        "write frame {command}: the body holds {length} bytes, the format takes 65535; send a smaller certificate or key"
    )]
    BodyTooLong {
        /// The command.
        command: Command,
        /// Bytes of the body.
        length: usize,
    },
    /// The frame is for a phone, carries no certificate, and is longer than what Jabber reads at once.
    #[error("write frame {command}: {length} bytes, a phone reads at most 4096 at once; leave elements out")]
    TooLongForPhone {
        /// The command.
        command: Command,
        /// Bytes of the frame, header included.
        length: usize,
    },
    /// A text for an element has a NUL inside, which would end it early.
    #[error("write {element}: the text has a NUL inside; take it out")]
    InnerNul {
        /// The element.
        element: ElementTag,
    },
    /// A key that the protocol, or a phone of this version, cannot be asked for.
    #[error("write KEY_GENERATE_REQ: {0}")]
    Key(#[from] KeyError),
}

/// Why a key cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An RSA size outside the list.
    #[error("RSA of {bits} bits is not in use; ask for 512, 1024, 2048, 3072 or 4096")]
    RsaBits {
        /// The size.
        bits: u16,
    },
    /// A curve nobody has explained.
    #[error("the curve {0} is not known; ask for P-256, P-384 or P-521")]
    Curve(Curve),
    /// A key type nobody has explained.
    #[error("the key type {0} is not known; ask for RSA or EC")]
    KeyType(KeyType),
    /// Neither a size nor a curve is said.
    #[error("nothing says which key; RSA needs KEY_SIZE, EC needs KEY_TYPE and CURVE")]
    Unsaid,
    /// An EC key for a phone of version 2, which has no word for it.
    #[error("a phone of protocol version 2 makes RSA keys only; ask it for one, or upgrade the phone")]
    EcForVersionTwo,
}
