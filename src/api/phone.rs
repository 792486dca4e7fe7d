//! `Phone`: a phone and its CAPF settings (Table 4-5), and what is known of its certificates.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::{
    AuthenticationMode, AuthenticationStringSource, CertificateOperationKind, KeyType, LscSummary, MicSummary,
    ObjectReference, RequestedBy, date_time, deadline,
};
use super::{Condition, Phase};

/// A phone and its CAPF settings. Its name is the device name in lower case.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "capf.dev",
    version = "v1alpha1",
    kind = "Phone",
    plural = "phones",
    shortname = "ph",
    category = "capf-all",
    namespaced,
    status = "PhoneStatus",
    derive = "PartialEq",
    doc = "A phone and its CAPF settings; in status what is known of its certificates and of its operation.",
    selectable = ".spec.proxyRef.name",
    selectable = ".status.operation.phase",
    validation = Rule::new("self.metadata.name == self.spec.deviceName.lowerAscii()")
        .message("metadata.name: must be spec.deviceName in lower case"),
    printcolumn(name = "Operation Status", type_ = "string", json_path = ".status.operationStatus"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.operation.reason"),
    printcolumn(name = "LSC", type_ = "string", json_path = ".status.lscState"),
    printcolumn(name = "LSC Expires", type_ = "string", json_path = ".status.lsc.notAfter", priority = 1),
    printcolumn(name = "Authentication Mode", type_ = "string", json_path = ".status.operation.authenticationMode"),
    printcolumn(name = "Completes By", type_ = "string", json_path = ".status.operation.operationCompletesBy"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", priority = 1),
    printcolumn(name = "Proxy", type_ = "string", json_path = ".spec.proxyRef.name", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[x_kube(
    validation = Rule::new(
        "!has(self.authenticationString) || !has(self.authenticationMode) || \
         self.authenticationMode == 'ByAuthenticationString'"
    ).message("authenticationString: applies only to authenticationMode ByAuthenticationString"),
    validation = Rule::new(
        "!has(self.keySize) || ((!has(self.keyType) || self.keyType == 'RSA') ? \
         self.keySize in [512, 1024, 2048, 3072, 4096] : self.keySize in [256, 384, 521])"
    ).message("keySize: must be 512, 1024, 2048, 3072 or 4096 for keyType RSA, or 256, 384 or 521 for keyType EC")
)]
pub struct PhoneSpec {
    /// Device name, as the phone sends it: SEP and the MAC address, or for example CSF and a name. Immutable.
    #[schemars(length(min = 3, max = 15), regex(pattern = r"^[A-Za-z][A-Za-z0-9.-]{2,14}$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("deviceName: is immutable; make another Phone"))]
    pub device_name: String,
    /// The CertificateAuthorityProxy that serves this phone. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("proxyRef: is immutable; make another Phone"))]
    pub proxy_ref: ObjectReference,
    /// Certificate Operation. A run starts when this, the key or `revision` differ from what was last handled;
    /// `NoPendingOperation` cancels a pending one.
    #[serde(default)]
    pub certificate_operation: CertificateOperationKind,
    /// Authentication Mode; when absent the proxy's default. Changed while an operation is pending it replaces
    /// that operation, later it starts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_mode: Option<AuthenticationMode>,
    /// Authentication String or Generate String; generated when absent. Digits never stand here, only in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_string: Option<AuthenticationStringSource>,
    /// Family of the key the phone makes; when absent the proxy's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<KeyType>,
    /// Key Size (bits); when absent the proxy's default. A larger key takes the phone longer to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 256, max = 4096))]
    pub key_size: Option<u16>,
    /// Operation Completes by: date and time (RFC 3339) by which the operation must be completed; when absent the
    /// proxy's `operationExpiresInDays` from the start of the run. One in the past ends the run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "deadline")]
    pub operation_completes_by: Option<Timestamp>,
    /// Device Security Mode of the phone's security profile. CAPF cannot see it, so it is what somebody states here. A phone
    /// without a MIC needs its LSC to register in any mode but NonSecure, so Delete is refused unless this says NonSecure or
    /// a MIC was seen. Absent means unknown, and unknown is not NonSecure: a wrong guess leaves a phone that nobody reaches
    /// from afar. Changed alone it starts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_security_mode: Option<DeviceSecurityMode>,
    /// Any new number starts a new run of the same operation, for example after a lock-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub revision: Option<i64>,
}

/// Device Security Mode, in the source's words.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum DeviceSecurityMode {
    /// No security but image authentication: the phone needs no certificate to register.
    NonSecure,
    /// Integrity and authentication: the phone registers over TLS with a certificate.
    Authenticated,
    /// Authenticated, and encrypted besides.
    Encrypted,
}

/// The settings of a Phone as written, without any default filled in.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct Written {
    /// Certificate Operation.
    #[serde(default)]
    pub certificate_operation: CertificateOperationKind,
    /// Key family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<KeyType>,
    /// Key size in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_size: Option<u16>,
    /// Revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Authentication Mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_mode: Option<AuthenticationMode>,
    /// Source of the string, never the string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_string: Option<AuthenticationStringSource>,
    /// Operation Completes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub operation_completes_by: Option<Timestamp>,
}

impl Written {
    /// Whether `self` asks for another run than `handled` did: operation, key and revision say *what* is wanted.
    #[must_use]
    pub fn asks_for_another_run_than(&self, handled: Option<&Self>) -> bool {
        let what = |w: &Self| (w.certificate_operation, w.key_type, w.key_size, w.revision);
        match handled {
            Some(handled) => what(self) != what(handled),
            None => self.certificate_operation != CertificateOperationKind::NoPendingOperation,
        }
    }

    /// Whether `self` asks for the same run in another way: mode, string and completes-by say *how*.
    #[must_use]
    pub fn asks_in_another_way_than(&self, handled: Option<&Self>) -> bool {
        let how = |w: &Self| (w.authentication_mode, w.authentication_string.clone(), w.operation_completes_by);
        handled.is_some_and(|handled| how(self) != how(handled))
    }
}

impl From<&PhoneSpec> for Written {
    fn from(spec: &PhoneSpec) -> Self {
        Self {
            certificate_operation: spec.certificate_operation,
            key_type: spec.key_type,
            key_size: spec.key_size,
            revision: spec.revision,
            authentication_mode: spec.authentication_mode,
            authentication_string: spec.authentication_string.clone(),
            operation_completes_by: spec.operation_completes_by,
        }
    }
}

/// Whether the phone holds an LSC, as far as CAPF knows.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum LscState {
    /// CAPF has not installed or seen one, or has told the phone to delete it and not heard what came of that.
    #[default]
    Unknown,
    /// The phone answered that it stored the one in `lsc`, or showed one (which `lsc` need not be: see the trace).
    Installed,
    /// The phone answered that it holds none.
    NotInstalled,
}

/// What is known of the phone. Written by the controller only.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct PhoneStatus {
    /// The generation of the spec that was acted on; -1 before the first.
    #[serde(default)]
    pub observed_generation: i64,
    /// The settings, as written, of the run that was last started. Restored with the spec, nothing starts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<Written>,
    /// The one operation that the phone is answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<ArmedOperation>,
    /// Operation Status of the phone window, as in "Install/Upgrade pending".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub operation_status: Option<String>,
    /// LSC: Installed, NotInstalled or Unknown.
    #[serde(default)]
    pub lsc_state: LscState,
    /// The live LSC: the newest one that the phone said it stored. No other authenticates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsc: Option<LscSummary>,
    /// The MIC that the phone showed last, but a verified one rather than one that is not. It stays when the phone shows none
    /// later: a MIC does not go. One that is verified must be shown ever after By Existing Certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mic: Option<MicSummary>,
    /// The first 16 digits of the keyed digests of given strings that this phone's finished operations used up, oldest first:
    /// they are refused also when the operations are pruned. At most the newest 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 16)))]
    pub spent_strings: Vec<String>,
    /// `Ready`, `Succeeded`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub conditions: Vec<Condition>,
}

/// The armed operation, in brief.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct ArmedOperation {
    /// Name of the CertificateOperation.
    #[schemars(length(max = 253))]
    pub name: String,
    /// What it does.
    pub certificate_operation: CertificateOperationKind,
    /// How the phone proves itself.
    pub authentication_mode: AuthenticationMode,
    /// Who asked for it.
    pub requested_by: RequestedBy,
    /// Where it stands; Pending stands for InProgress too.
    pub phase: Phase,
    /// Why it failed; of a success only `NothingToDelete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<super::Reason>,
    /// Its deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub operation_completes_by: Option<Timestamp>,
    /// The Secret that holds its authentication string, while it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub authentication_string_secret: Option<String>,
}
