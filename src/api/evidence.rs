//! What is kept of the certificates that a phone proved itself with.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{MicSummary, PhoneCertificate};

/// The certificates a phone offered when it was let in, which of them were verified, and which was used.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct CertificateEvidence {
    /// The one it was let in by.
    pub used: PhoneCertificate,
    /// The LSC it offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsc: Option<OfferedLsc>,
    /// The MIC it offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mic: Option<MicSummary>,
}

/// An LSC that a phone offered.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct OfferedLsc {
    /// SHA-256 of the certificate (DER) in lower-case hexadecimal.
    #[schemars(length(max = 64))]
    pub sha256_fingerprint: String,
    /// Whether it was found to be the phone's live one and its signatures right.
    pub verified: bool,
}
