//! `CertificateOperation`: one run of one operation on one phone.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::{
    AuthenticationMode, AuthenticationStringSource, CertificateOperationKind, CertificateTrace, KeyType, LscSummary,
    MicSummary, ObjectReference, RequestedBy, date_time, deadline,
};
use super::{CertificateEvidence, Condition};

/// One run of one certificate operation on one phone. The spec never changes; the status only moves forward and
/// ends `Successful` or `Failed`. Made by the controller from a Phone, or applied by a person.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "capf.dev",
    version = "v1alpha1",
    kind = "CertificateOperation",
    plural = "certificateoperations",
    shortname = "certop",
    category = "capf-all",
    namespaced,
    status = "CertificateOperationStatus",
    derive = "PartialEq",
    doc = "One run of one certificate operation on one phone.",
    selectable = ".spec.phoneRef.name",
    selectable = ".status.phase",
    validation = Rule::new("self.spec == oldSelf.spec")
        .message("spec: a CertificateOperation never changes; apply one with another name"),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in ['Successful', 'Failed']) || \
         (has(self.status) && self.status == oldSelf.status)"
    ).message("status: a finished operation never changes"),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'InProgress' || \
         (has(self.status) && has(self.status.phase) && self.status.phase != 'Pending')"
    ).message("status.phase: moves forward only, from Pending over InProgress to Successful or Failed"),
    printcolumn(name = "Phone", type_ = "string", json_path = ".spec.phoneRef.name"),
    printcolumn(name = "Certificate Operation", type_ = "string", json_path = ".spec.certificateOperation"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Operation Status", type_ = "string", json_path = ".status.operationStatus", priority = 1),
    printcolumn(name = "Authentication Mode", type_ = "string", json_path = ".spec.authenticationMode", priority = 1),
    printcolumn(name = "Completes By", type_ = "string", json_path = ".spec.operationCompletesBy"),
    printcolumn(name = "Requested By", type_ = "string", json_path = ".spec.requestedBy", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[x_kube(
    validation = Rule::new(
        "!has(self.authenticationString) || self.authenticationMode == 'ByAuthenticationString'"
    ).message("authenticationString: applies only to authenticationMode ByAuthenticationString"),
    validation = Rule::new(
        "!has(self.keySize) || ((!has(self.keyType) || self.keyType == 'RSA') ? \
         self.keySize in [512, 1024, 2048, 3072, 4096] : self.keySize in [256, 384, 521])"
    ).message("keySize: must be 512, 1024, 2048, 3072 or 4096 for keyType RSA, or 256, 384 or 521 for keyType EC")
)]
pub struct CertificateOperationSpec {
    /// The phone, in the same namespace.
    pub phone_ref: ObjectReference,
    /// What is to be done.
    #[x_kube(
        validation = Rule::new("self != 'NoPendingOperation'")
            .message("certificateOperation: must be InstallUpgrade, Delete or Troubleshoot; to cancel, delete this object or set NoPendingOperation on the Phone")
    )]
    pub certificate_operation: CertificateOperationKind,
    /// How the phone proves itself.
    pub authentication_mode: AuthenticationMode,
    /// Where the authentication string comes from; generated when this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_string: Option<AuthenticationStringSource>,
    /// Family of the key the phone is asked to make; RSA when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<KeyType>,
    /// Size of that key in bits; 2048 for RSA and 256 for EC when absent. Larger RSA keys take phones minutes to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 256, max = 4096))]
    pub key_size: Option<u16>,
    /// Date and time by which the operation must be completed. When absent, the proxy's days after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "deadline")]
    pub operation_completes_by: Option<Timestamp>,
    /// Who asked. Only operations of the controller's own making are pruned by it.
    pub requested_by: RequestedBy,
}

/// Where an operation stands. Moves forward only.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Phase {
    /// Waits for the phone.
    #[default]
    Pending,
    /// The phone was let in and what it is given, or told, is on record; it has not answered to the end yet.
    InProgress,
    /// The phone answered that it is done.
    Successful,
    /// Ended without success; the reason says why.
    Failed,
}

impl Phase {
    /// Whether the operation is over.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Successful | Self::Failed)
    }

    /// The source's word: pending, failed or successful.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending | Self::InProgress => "pending",
            Self::Successful => "successful",
            Self::Failed => "failed",
        }
    }
}

/// What has happened to the operation. Written by the controller only.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[schemars(extend("default" = {"phase": "Pending"}))]
pub struct CertificateOperationStatus {
    /// Pending, InProgress, Successful or Failed.
    #[serde(default)]
    pub phase: Phase,
    /// Why it failed; of a success only `NothingToDelete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<super::Reason>,
    /// The cause and the remedy, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
    /// The text of the phone window, as in "Install/Upgrade successful".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub operation_status: Option<String>,
    /// The deadline resolved for an operation that was applied without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub operation_completes_by: Option<Timestamp>,
    /// Tries that were spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Attempts>,
    /// The certificate on record for this operation, written before the phone is given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<IssuedCertificateStatus>,
    /// When the phone was last told to delete, or last showed a certificate: its session may go on for some minutes from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub begun_at: Option<Timestamp>,
    /// What Troubleshoot found: one trace for each certificate the phone was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub traces: Vec<CertificateTrace>,
    /// The MIC that the phone showed in this operation, or proved itself with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mic: Option<MicSummary>,
    /// Serial numbers, oldest first, of certificates issued here earlier and replaced because the phone came
    /// again with a new key. None of them is live. At most the newest 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 48)))]
    pub superseded_serial_numbers: Vec<String>,
    /// Which evidence the phone gave when it was last let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub authenticated_by: Option<String>,
    /// By Existing Certificate: what the phone offered when it was last let in, what was verified, which was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<CertificateEvidence>,
    /// Keyed digest of a given string that this operation used up, so that the string is refused ever after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub spent_string: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub completed_at: Option<Timestamp>,
    /// `Ready` (accepted, or over), `Succeeded`, and `Stalled` when it was refused as written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub conditions: Vec<Condition>,
}

/// Tries spent by an operation. Lost connections are not tries.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct Attempts {
    /// Wrong authentication strings that were checked.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub authentication: u16,
    /// Key generations that the phone failed or did not finish in time.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub key_generation: u16,
    /// Session in which the newest try was counted: a question that is asked again within it counts no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub last_session: Option<u32>,
}

/// A certificate on record.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct IssuedCertificateStatus {
    /// Serial number, fingerprints, issuer and dates.
    #[serde(flatten)]
    pub summary: LscSummary,
    /// The certificate itself, PEM.
    #[schemars(length(max = 4096))]
    pub pem: String,
    /// When it was put on record.
    #[schemars(schema_with = "date_time")]
    pub issued_at: Timestamp,
}

impl CertificateOperation {
    /// The status on record, or that of an operation nothing has happened to.
    #[must_use]
    pub fn status_or_default(&self) -> CertificateOperationStatus {
        self.status.clone().unwrap_or_default()
    }

    /// Where the operation stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.status.as_ref().map_or(Phase::Pending, |status| status.phase)
    }

    /// The deadline on record: as written, else as resolved when it was armed.
    #[must_use]
    pub fn completes_by(&self) -> Option<Timestamp> {
        self.spec.operation_completes_by.or_else(|| self.status.as_ref()?.operation_completes_by)
    }
}
