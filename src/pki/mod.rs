//! Keys and certificates: what CAPF makes, signs, reads and never shows.
//!
//! A pure ring: no cluster, no socket, no file, and no clock: `now` is an argument. Making an RSA key takes from a
//! tenth of a second to several seconds of CPU and cannot be interrupted: callers run the `generate_*` functions on
//! a blocking thread, and it is they who bound time and attempts.

pub mod certificate;
pub mod control;
mod error;
pub mod issue;
pub mod key;
pub mod kind;
pub mod mac;
pub mod possession;
mod signer;
pub mod trust;
mod weak;

pub use certificate::{CertificateError, CertificateFacts};
pub use control::ControllerCa;
pub use error::IssueError;
pub use issue::{IssuerRequest, LscRequest, LscSubject, OwnIssuer, ServiceRequest, generate_issuer, generate_service};
pub use key::{KeyRejected, PublicKey};
pub use kind::{Curve, KeyKind, OwnKey, OwnKeyTooWeak, RsaBits, UnknownKeyKind};
pub use mac::{MacKey, MacKeyError};
pub use possession::{NotProven, Signatures};
pub use signer::{IssuedCertificate, OwnPair};
pub use trust::{Anchors, BundleError, PastEnd, Untrusted};

/// SHA-256 of `data`.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref());
    out
}

/// Lower-case hexadecimal, two digits an octet.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
