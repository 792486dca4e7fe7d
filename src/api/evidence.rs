//! What is kept of the certificates that a phone proved itself with.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::PhoneCertificate;

/// The certificates a phone offered when it was let in, which of them were verified, and which was used.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct CertificateEvidence {
    /// The one it was let in by.
    pub used: PhoneCertificate,
    /// The LSC it offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsc: Option<OfferedCertificate>,
    /// The MIC it offered. What one that was verified says of itself stands in `mic` of the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mic: Option<OfferedCertificate>,
}

/// A certificate that a phone offered.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct OfferedCertificate {
    /// SHA-256 of the certificate (DER) in lower-case hexadecimal.
    #[schemars(length(max = 64))]
    pub sha256_fingerprint: String,
    /// Whether it passed all checks, its signatures included.
    pub verified: bool,
}
