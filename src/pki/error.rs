//! Why a certificate or a key pair was not made.

use jiff::Timestamp;

use super::{CertificateError, KeyKind};

/// Why nothing was made or signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The system gives no random octets. Waiting may help.
    #[error("cannot draw random octets for {purpose}: the system gives none; try again")]
    Random {
        /// What they were for.
        purpose: &'static str,
    },
    /// The key pair was not made. Waiting may help.
    #[error("cannot make an {kind} key pair: {source}; try again")]
    GenerateKey {
        /// What was asked for.
        kind: KeyKind,
        /// What the generator says.
        source: rcgen::Error,
    },
    /// The signature failed. Waiting may help.
    #[error("cannot sign the certificate of {subject}: {source}")]
    Sign {
        /// Its common name.
        subject: String,
        /// What the signer says.
        source: rcgen::Error,
    },
    /// A part of the subject cannot stand in a certificate. Waiting does not help.
    #[error("cannot put the {attribute} into the certificate: {problem}")]
    Attribute {
        /// Which part.
        attribute: &'static str,
        /// What is wrong with it, and what is right.
        problem: String,
    },
    /// A lifetime nobody means, or one that ends beyond the calendar. Waiting does not help.
    #[error("cannot make a certificate that lasts {asked}: ask for 1 to 100 years, or 1 to 3650 days")]
    Lifetime {
        /// What was asked for.
        asked: String,
    },
    /// The issuer is not valid yet. Waiting helps, or a clock set right.
    #[error("cannot sign with {issuer}: it is valid only from {not_before}; check the clock")]
    IssuerNotYetValid {
        /// Its subject.
        issuer: String,
        /// Start of its validity.
        not_before: Timestamp,
    },
    /// The issuer is over. Waiting does not help.
    #[error("cannot sign with {issuer}: it expired at {not_after}; have it made anew")]
    IssuerExpired {
        /// Its subject.
        issuer: String,
        /// End of its validity.
        not_after: Timestamp,
    },
    /// The authority's certificate cannot be read. Waiting does not help.
    #[error("cannot load the certificate authority: {0}")]
    Certificate(#[from] CertificateError),
    /// The authority's private key cannot be read; the text is no part of this. Waiting does not help.
    #[error(
        "cannot load the private key of {issuer}: want one block of unencrypted PEM, RSA from 2048 bits or EC P-256, P-384, P-521"
    )]
    PrivateKey {
        /// The subject of its certificate.
        issuer: String,
    },
    /// Certificate and private key are of two pairs. Waiting does not help.
    #[error("cannot use {issuer}: its private key belongs to another certificate; restore both from the same backup")]
    KeyMismatch {
        /// The subject of the certificate.
        issuer: String,
    },
    /// Not the certificate of an authority that can sign here. Waiting does not help.
    #[error("cannot sign with {issuer}: {problem}")]
    NotAnIssuer {
        /// Its subject.
        issuer: String,
        /// What is missing.
        problem: &'static str,
    },
}
