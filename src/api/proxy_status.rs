//! What has become of a `CertificateAuthorityProxy`, and what was noticed at its door.

use jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::Condition;
use super::fields::date_time;

/// What has become of the proxy. Written by the controller only.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct CertificateAuthorityProxyStatus {
    /// The generation of the spec that was acted on; -1 before the first.
    #[serde(default)]
    pub observed_generation: i64,
    /// The certificate that 3804 presents and that the phones' CTL must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_certificate: Option<PublishedCertificate>,
    /// The certificate that signs LSCs, for servers that verify them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_certificate: Option<PublishedCertificate>,
    /// The `certificateRevision` that the two were made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_revision: Option<i64>,
    /// The ConfigMap with `CAPF.cer` (DER), `<common name>.0` (PEM) and `issuer.pem`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub certificates_config_map: Option<String>,
    /// The Secret that endpoints mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub endpoint_secret: Option<String>,
    /// What has become of the endpoint pods; absent with `placement: External`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<EndpointsStatus>,
    /// Devices that called and that no Phone of this proxy stands for, by name: at most 100. `capf find --unknown` shows
    /// them. Beyond 100 the oldest of the source block with most of them goes, so that one caller cannot push out all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub unknown_callers: Vec<UnknownCaller>,
    /// Source blocks whose authentication strings were answered without a check within the last hour: at most 16, the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub guessing_blocks: Vec<GuessingBlock>,
    /// `Ready`, `Stalled`, `CTLUpdateRequired`, `KeySizeDiffers`, `CredentialExpiring`, `MICRootsUnusable`,
    /// `GuessingSuspected`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}

/// The endpoint pods, as their Deployment and Service tell of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct EndpointsStatus {
    /// Pods that are wanted.
    #[serde(default)]
    #[schemars(range(min = 0, max = 16))]
    pub replicas: u16,
    /// Pods that are as wanted now and take phones.
    #[serde(default)]
    #[schemars(range(min = 0, max = 16))]
    pub ready: u16,
    /// Where phones connect, without the port: the load balancer's address or name once there is one, else that of the
    /// Service, which is reached from within the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub address: Option<String>,
    /// Why pods cannot be made, or do not come up within ten minutes; absent while all goes well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 384))]
    pub failure: Option<String>,
}

/// A device that called and that no Phone stands for. Whoever reaches the port can make one up.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct UnknownCaller {
    /// Device name, in upper case.
    #[schemars(length(max = 15))]
    pub device_name: String,
    /// When it first called, as far as is remembered.
    #[schemars(schema_with = "date_time")]
    pub first_seen: Timestamp,
    /// When it last called before this list was last written: it is written only for names that are new.
    #[schemars(schema_with = "date_time")]
    pub last_seen: Timestamp,
    /// The part of the network it last called from: an IPv4 /24 or an IPv6 /56.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 43))]
    pub source_block: Option<String>,
    /// Calls until then.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub calls: u32,
}

/// A source block from which authentication strings are guessed, or mistyped in numbers.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct GuessingBlock {
    /// An IPv4 /24 or an IPv6 /56.
    #[schemars(length(max = 43))]
    pub source_block: String,
    /// When its strings were first answered without a check.
    #[schemars(schema_with = "date_time")]
    pub first_seen: Timestamp,
    /// When that was last written down: at most every half hour while it lasts.
    #[schemars(schema_with = "date_time")]
    pub last_seen: Timestamp,
}

/// A certificate of CAPF's own, as published.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct PublishedCertificate {
    /// Common name.
    #[schemars(length(max = 64))]
    pub common_name: String,
    /// SHA-256 of the certificate (DER) in lower-case hexadecimal.
    #[schemars(length(max = 64))]
    pub sha256_fingerprint: String,
    /// End of validity.
    #[schemars(schema_with = "date_time")]
    pub not_after: Timestamp,
}
