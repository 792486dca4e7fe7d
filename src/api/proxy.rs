//! `CertificateAuthorityProxy`: the service, with the source's service and enterprise parameters (Tables 4-3, 4-4).

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoints::Endpoints;
use super::fields::{AuthenticationMode, KeyType, ObjectReference, deadline};
use super::limits::{EndpointLimits, five, ten, thirty};
use super::proxy_status::CertificateAuthorityProxyStatus;
use crate::pki::PastEnd;

/// The Certificate Authority Proxy Function. Creating one activates CAPF: its key pairs are made, its
/// certificates published and its endpoints given what they need.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "capf.dev",
    version = "v1alpha1",
    kind = "CertificateAuthorityProxy",
    plural = "certificateauthorityproxies",
    shortname = "capf",
    category = "capf-all",
    namespaced,
    status = "CertificateAuthorityProxyStatus",
    derive = "PartialEq",
    doc = "The Certificate Authority Proxy Function: its service and enterprise parameters.",
    validation = Rule::new("size(self.metadata.name) <= 40")
        .message("metadata.name: at most 40 characters, because the names of its Secrets are made from it"),
    validation = Rule::new(
        "(has(self.spec.placement) && self.spec.placement == 'External') || self.metadata.name.matches('^[a-z][-a-z0-9]*$')"
    ).message("metadata.name: with placement: InCluster a letter, then letters, digits and dashes, because a Service is named after it"),
    printcolumn(name = "Service", type_ = "string", json_path = ".status.serviceCertificate.commonName"),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".status.issuerCertificate.commonName"),
    printcolumn(name = "Port", type_ = "integer", json_path = ".spec.phonePort"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Endpoints", type_ = "integer", json_path = ".status.endpoints.ready"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.endpoints.address", priority = 1),
    printcolumn(name = "CTL Update", type_ = "string", json_path = ".status.conditions[?(@.type==\"CTLUpdateRequired\")].status", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[x_kube(
    validation = Rule::new("!has(self.endpoints) || !has(self.placement) || self.placement == 'InCluster'")
        .message("endpoints: says how pods run, and there are none with placement: External; remove it"),
    validation = Rule::new(
        "!has(self.keonJurisdictionID) && !has(self.scepPort) && !has(self.certificateAuthorityAddress)"
    ).message("keonJurisdictionID, scepPort, certificateAuthorityAddress: belong to certificate issuers that this version does not support; remove them"),
    validation = Rule::new(
        "!has(self.keySize) || ((!has(self.keyType) || self.keyType == 'RSA') ? \
         self.keySize in [2048, 3072, 4096] : self.keySize in [256, 384, 521])"
    ).message("keySize: CAPF's own keys must be 2048, 3072 or 4096 for keyType RSA, or 256, 384 or 521 for keyType EC")
)]
pub struct CertificateAuthorityProxySpec {
    /// Certificate Issuer: the entity that issues the locally significant certificates. After a change the CTL
    /// file must be updated.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == 'CAPF'").message("certificateIssuer: this version supports CAPF only"))]
    pub certificate_issuer: CertificateIssuer,
    /// Keon Jurisdiction ID. Refused until that issuer is supported.
    #[serde(default, rename = "keonJurisdictionID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub keon_jurisdiction_id: Option<String>,
    /// SCEP Port Number. Refused until that issuer is supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub scep_port: Option<u16>,
    /// Certificate Authority Address. Refused until such an issuer is supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub certificate_authority_address: Option<String>,
    /// Duration of Certificate Validity (years) of LSCs, cut to the end of the issuer's own certificate.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 20))]
    pub certificate_validity_years: u16,
    /// Family of CAPF's own keys. Takes effect when keys are made: at activation and with `certificateRevision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<KeyType>,
    /// Key Size (bits) of CAPF's own keys; 2048 for RSA and 256 for EC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 256, max = 4096))]
    pub key_size: Option<u16>,
    /// Maximum Allowable Time for Key Generation (minutes): for CAPF's own keys, and for a phone's.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 120))]
    pub maximum_key_generation_minutes: u16,
    /// Maximum Allowable Attempts for Key Generation: for CAPF's own keys, and for a phone's.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    pub maximum_key_generation_attempts: u16,
    /// CAPF Phone Port: the TCP port that phones connect to.
    #[serde(default = "phone_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub phone_port: u16,
    /// CAPF Operation Expires in (days), for runs that are started from now on.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 365))]
    pub operation_expires_in_days: u16,
    /// Whether phones may be enrolled By Null String. It is no proof at all: whoever reaches the port and names
    /// a waiting phone gets its certificate. For closed networks only.
    #[serde(default)]
    pub permit_null_string: bool,
    /// Wrong authentication strings after which an operation is `LockedOut`.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    pub maximum_authentication_attempts: u16,
    /// Names put into every LSC after the device name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_subject: Option<CertificateSubject>,
    /// What a Phone means that leaves a setting out. Resolved when a run starts; a change starts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_defaults: Option<PhoneDefaults>,
    /// Roots, and the authorities below them, that the phones' MICs come from. Without them no MIC is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mic_roots: Option<MicRoots>,
    /// What is done about a MIC past its end date, or of an authority past its own; rejected when absent. Phones outlive
    /// their MICs, which nobody can renew.
    #[serde(default, rename = "expiredMIC", skip_serializing_if = "Option::is_none")]
    pub expired_mic: Option<ExpiredMic>,
    /// Whether Troubleshoot asks for the MIC after the LSC; true when absent. How phones are asked for a MIC is a guess (the
    /// certificate's type in the request): switch it off where phones take it amiss.
    #[serde(default, rename = "fetchMIC", skip_serializing_if = "Option::is_none")]
    pub fetch_mic: Option<bool>,
    /// Finished operations that are kept of each phone, besides the one its status names; 3 when absent. Only those that the
    /// controller made are deleted. One number for successes and failures: what is looked for later is what happened last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub operations_history_limit: Option<u16>,
    /// Days after which a finished operation is deleted although the limit would keep it; 90 when absent. Looked at whenever
    /// something happens to the phone, and when a replica begins to lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_650))]
    pub operations_history_days: Option<u16>,
    /// Arms nothing new, for restores and rebuilds from Git. Operations that are armed go on.
    #[serde(default)]
    pub suspend: bool,
    /// A higher number makes CAPF's own keys and certificates anew. The phones' CTL must be updated afterwards.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub certificate_revision: i64,
    /// Common name (`CAPF-` and eight hex digits) of the service certificate in the phones' CTL file. While it is
    /// not the published one, `CTLUpdateRequired` is True.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ctl_certificate: Option<String>,
    /// Where the endpoints run.
    #[serde(default)]
    pub placement: Placement,
    /// How they run as pods; only with `placement: InCluster`. A change rolls them out one by one, and open sessions may finish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// Bounds on what callers may cost an endpoint.
    #[serde(default)]
    pub limits: EndpointLimits,
}

fn three() -> u16 {
    3
}
fn phone_port() -> u16 {
    3804
}

/// Who signs LSCs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum CertificateIssuer {
    /// CAPF itself, with the issuer key of this proxy.
    #[default]
    CAPF,
    /// Microsoft Certificate Services over SCEP.
    MicrosoftCertificateServices,
    /// Keon over SCEP.
    Keon,
}

/// Where endpoints run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Placement {
    /// As pods that the controller keeps.
    #[default]
    InCluster,
    /// Outside the cluster, near the phones, with the bundle that `capf endpoint-bundle` exports.
    External,
}

/// O, OU, L, ST and C of every LSC.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct CertificateSubject {
    /// Organization (O).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub organization: Option<String>,
    /// Organizational unit (OU).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub organizational_unit: Option<String>,
    /// Locality (L).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub locality: Option<String>,
    /// State or province (ST).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub state: Option<String>,
    /// Country (C), two letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 2), regex(pattern = r"^[A-Z]{2}$"))]
    pub country: Option<String>,
}

/// Where the roots of MICs stand: certificates in PEM, at most 64, those whose issuer is their own subject are roots.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[x_kube(
    validation = Rule::new("has(self.configMapRef) != has(self.secretRef)")
        .message("micRoots: give either configMapRef or secretRef")
)]
pub struct MicRoots {
    /// A ConfigMap in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ObjectReference>,
    /// A Secret of type `capf.dev/mic-roots` in the same namespace. One of any other type is never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectReference>,
    /// The key in it that holds the certificates.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// What is done about a MIC past its end date.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[x_kube(
    validation = Rule::new("has(self.until) == (self.policy == 'AllowUntil')")
        .message("expiredMIC: until goes with policy AllowUntil, and with no other")
)]
pub struct ExpiredMic {
    /// Reject, Allow, or AllowUntil a date.
    pub policy: ExpiredMicPolicy,
    /// Date and time (RFC 3339) from which they are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "deadline")]
    pub until: Option<Timestamp>,
}

/// Policy for MICs past their end date.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ExpiredMicPolicy {
    /// Their phones are refused: MICExpired.
    Reject,
    /// The end date does not matter.
    Allow,
    /// The end date does not matter until a date.
    AllowUntil,
}

impl CertificateAuthorityProxySpec {
    /// The policy for certificates past their end, as decisions take it.
    #[must_use]
    pub fn past_end(&self) -> PastEnd {
        match &self.expired_mic {
            Some(ExpiredMic { policy: ExpiredMicPolicy::Allow, .. }) => PastEnd::Allow,
            Some(ExpiredMic { policy: ExpiredMicPolicy::AllowUntil, until: Some(until) }) => {
                PastEnd::AllowUntil(*until)
            }
            Some(_) | None => PastEnd::Reject,
        }
    }
}

/// Defaults for settings that a Phone leaves out.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[x_kube(
    validation = Rule::new(
        "!has(self.keySize) || ((!has(self.keyType) || self.keyType == 'RSA') ? \
         self.keySize in [512, 1024, 2048, 3072, 4096] : self.keySize in [256, 384, 521])"
    ).message("keySize: must be 512, 1024, 2048, 3072 or 4096 for keyType RSA, or 256, 384 or 521 for keyType EC")
)]
pub struct PhoneDefaults {
    /// Authentication Mode; ByAuthenticationString when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_mode: Option<AuthenticationMode>,
    /// Key family; RSA when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<KeyType>,
    /// Key Size (bits); 2048 for RSA and 256 for EC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 256, max = 4096))]
    pub key_size: Option<u16>,
}
