//! The numbers CAPF speaks in: one newtype a kind of number, one constant a number whose meaning is known.
//!
//! The protocol has no public specification, so a number nobody has explained is an ordinary event: every newtype holds any
//! `u8` and gives it back unchanged, and only [`name`](Command::name) says whether it is known.
//!
//! Where a number comes from is said at each constant. *Captured* means seen in the sessions of `tests/vectors/sessions.txt`;
//! *observed* means run or read in an existing CAPF peer; *documented* means told by a public document; *named only* means that
//! a peer has a name for the number and nobody has shown its body; *guess* means inference, to be proved by a capture.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares a protocol number: a `u8` newtype, its known values, their names.
macro_rules! code {
    ($(#[$doc:meta])* $name:ident { $($(#[$known_doc:meta])* $known:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u8);

        impl $name {
            $($(#[$known_doc])* pub const $known: Self = Self($value);)*

            /// The name of a known number, as in the constant; `None` for a number nobody has explained.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$known => Some(stringify!($known)),)*
                    _ => None,
                }
            }
        }

        /// The name and the number, `AUTH_REQ (1)`, or `unknown (99)`: what a log line shows.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} ({})", self.name().unwrap_or("unknown"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}::{}({:#04x})", stringify!($name), self.name().unwrap_or("unknown"), self.0)
            }
        }
    };
}

code! {
    /// What a frame is: the second byte of its header. Odd numbers are requests, even ones their answers, with the exceptions
    /// noted.
    Command {
        /// Server to phone, the first frame: who are you? Captured.
        AUTH_REQ = 0x01,
        /// Phone to server: the name and what proves it. Captured.
        AUTH_RES = 0x02,
        /// Server to phone: make a key pair of this kind. Captured.
        KEY_GENERATE_REQ = 0x03,
        /// Phone to server: the public key, or why there is none. Captured; the failure is observed.
        KEY_GENERATE_RES = 0x04,
        /// Named only, and against the odd = request pattern.
        ENCRYPT_RES = 0x05,
        /// Named only, and against the odd = request pattern.
        ENCRYPT_REQ = 0x06,
        /// Named only.
        DECRYPT_REQ = 0x07,
        /// Named only.
        DECRYPT_RES = 0x08,
        /// Server to phone: keep this certificate. Captured.
        STORE_CERT_REQ = 0x09,
        /// Phone to server: kept, or not. Captured.
        STORE_CERT_RES = 0x0a,
        /// Server to phone: show a certificate. Captured with an empty body, which asks for the LSC.
        FETCH_CERT_REQ = 0x0b,
        /// Phone to server: the certificate, or that there is none. Captured.
        FETCH_CERT_RES = 0x0c,
        /// Server to phone: delete the LSC. Captured.
        DELETE_CERT_REQ = 0x0d,
        /// Phone to server: deleted, or there was none. Captured.
        DELETE_CERT_RES = 0x0e,
        /// Server to phone, the last frame: how it ended. Captured.
        END_SESSION = 0x0f,
        /// Named only; presumably server to phone with a RETRY_DELAY. Existing clients do not understand it: never sent.
        RETRY_LATER = 0x10,
        /// Phone to server: the key is being made. Captured, once, with an empty body. Existing clients do not understand it from
        /// a server: never sent.
        REQUEST_IN_PROGRESS = 0x11,
        /// Named only.
        STATUS_REQ = 0x12,
        /// Named only.
        STATUS_RES = 0x13,
        /// Named only. A phone that sends it is taken to say that its user gave up: a guess.
        ABORT_REQ = 0x14,
        /// Named only.
        ABORT_RES = 0x15,
        /// Named only.
        SIGN_CERT_REQ = 0x16,
        /// Named only.
        SIGN_CERT_RES = 0x17,
    }
}

code! {
    /// What an element of a frame's body is: its first byte.
    ElementTag {
        /// [`Reason`], one byte. Captured.
        REASON = 0x01,
        /// Text for a person. Never sent by a known peer; its NUL is a guess.
        REASON_INFO = 0x02,
        /// [`CertType`], one byte. Captured.
        CERT_TYPE = 0x03,
        /// A certificate with five bytes in front, see [`Certificate`](super::Certificate). Captured.
        CERTIFICATE = 0x04,
        /// Named only.
        CERT_ID = 0x05,
        /// The signature with SHA-1 that goes with CERTIFICATE. Captured.
        SIGNED_DATA = 0x06,
        /// [`Version`], one byte. Captured.
        VERSION = 0x07,
        /// [`AuthType`], one byte. Captured.
        AUTH_TYPE = 0x08,
        /// A SubjectPublicKeyInfo in DER. Captured.
        PUBLIC_KEY = 0x09,
        /// Bits of an RSA key, two bytes, big endian. Captured.
        KEY_SIZE = 0x0a,
        /// The authentication string with a NUL. Captured.
        PASSWORD = 0x0b,
        /// Named only.
        RETRY_DELAY = 0x0c,
        /// The name the phone goes by, with a NUL. Captured.
        DEVICE_NAME = 0x0d,
        /// A second certificate with its own signatures, see [`SudiData`](super::SudiData). Captured.
        SUDI_DATA = 0x10,
        /// [`KeyType`], one byte. Captured.
        KEY_TYPE = 0x11,
        /// [`Curve`], one byte. Captured.
        CURVE = 0x12,
        /// Named only.
        DIGEST_TYPE = 0x13,
        /// The signature with a hash of the SHA-2 family that goes with CERTIFICATE. Captured.
        SHA2_SIGNED_DATA = 0x14,
    }
}

code! {
    /// How something went, as the element REASON says it.
    Reason {
        /// Nothing was to be done; also the end of a fetch. Captured.
        NO_ACTION = 0x00,
        /// It went well; at the end: the phone's certificate was changed. Captured.
        OK = 0x01,
        /// Refused, or "I have none". Captured. To Jabber it reads "a certificate was already issued": documented.
        INVALID_ELEMENT = 0x07,
        /// The server knows no device of this name. Captured.
        UNKNOWN_DEVICE = 0x09,
    }
}

code! {
    /// The version of the protocol a side speaks.
    Version {
        /// Jabber's: RSA keys only, no KEY_TYPE, no PASSWORD element. Documented.
        TWO = 0x02,
        /// The server's, and that of phones with EC keys. Captured.
        THREE = 0x03,
    }
}

code! {
    /// Which proof AUTH_REQ asks for. The known server always says 0 and the phone goes by its own settings. Observed.
    AuthType {
        /// Whatever the phone is set to. Captured.
        NONE = 0x00,
        /// The authentication string. Observed as a name.
        PASSWORD = 0x01,
        /// The empty string. Observed as a name.
        NO_PASSWORD = 0x02,
        /// The LSC. Observed as a name.
        LSC = 0x03,
        /// The MIC. Observed as a name.
        MIC = 0x04,
    }
}

code! {
    /// The algorithm of the key to be made.
    KeyType {
        /// RSA. Captured.
        RSA = 0x00,
        /// An elliptic curve. Captured.
        EC = 0x01,
    }
}

code! {
    /// The curve of an EC key to be made.
    Curve {
        /// NIST P-256. Captured.
        P256 = 0x00,
        /// NIST P-384. Observed.
        P384 = 0x01,
        /// NIST P-521. Observed.
        P521 = 0x02,
    }
}

code! {
    /// Which of a phone's certificates is meant.
    CertType {
        /// The locally significant certificate, which CAPF installs and deletes. Captured.
        LSC = 0x01,
        /// The manufacturing installed certificate, which stays. Observed as a name; how one is fetched is not known.
        MIC = 0x02,
    }
}

code! {
    /// The hash under a signature, in SHA2_SIGNED_DATA and SUDI_DATA.
    HashId {
        /// SHA-1. Captured, in SUDI_DATA.
        SHA1 = 0x01,
        /// SHA-256. Observed as a name.
        SHA256 = 0x02,
        /// SHA-512, the only one phones are known to use beside SHA-1. Captured.
        SHA512 = 0x03,
    }
}

impl Version {
    /// Whether a phone of this version is served: 2 and 3 are.
    pub const fn is_supported(self) -> bool {
        matches!(self, Self::TWO | Self::THREE)
    }
}

impl Command {
    /// Whether a server sends it to a phone; RETRY_LATER is presumed to be one. The commands of unknown direction count as the
    /// phone's, whose bounds are the tighter ones.
    pub const fn is_from_server(self) -> bool {
        matches!(
            self,
            Self::AUTH_REQ
                | Self::KEY_GENERATE_REQ
                | Self::STORE_CERT_REQ
                | Self::FETCH_CERT_REQ
                | Self::DELETE_CERT_REQ
                | Self::END_SESSION
                | Self::RETRY_LATER
        )
    }
}
