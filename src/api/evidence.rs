//! What is kept of the certificates that phones prove themselves with.

use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::date_time;

/// A certificate that a phone may hold and prove itself with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ExistingCertificate {
    /// The locally significant certificate that CAPF installed.
    LSC,
    /// The certificate that its manufacturer installed.
    MIC,
}

/// What is known of a phone's manufacturing installed certificate.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct MicSummary {
    /// SHA-256 of the certificate (DER) in lower-case hexadecimal.
    #[schemars(length(max = 64))]
    pub sha256_fingerprint: String,
    /// Distinguished name of the phone, its first 128 characters.
    #[schemars(length(max = 128))]
    pub subject: String,
    /// Distinguished name of the issuer, its first 128 characters.
    #[schemars(length(max = 128))]
    pub issuer: String,
    /// End of validity.
    #[schemars(schema_with = "date_time")]
    pub not_after: Timestamp,
}

/// The certificates a phone offered when it was let in, which of them were verified, and which was used.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct CertificateEvidence {
    /// The one it was let in by.
    pub used: ExistingCertificate,
    /// The LSC it offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsc: Option<OfferedLsc>,
    /// The MIC it offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mic: Option<OfferedMic>,
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

/// A MIC that a phone offered.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct OfferedMic {
    /// What it says of itself.
    #[serde(flatten)]
    pub summary: MicSummary,
    /// Whether its chain, its name and its signatures were found right.
    pub verified: bool,
}
