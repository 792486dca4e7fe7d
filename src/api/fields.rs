//! Field types that several kinds share, in the words of Table 4-5.

use jiff::Timestamp;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::pki::{CertificateFacts, Curve, KeyKind, RsaBits};

/// Schema of an RFC 3339 date and time.
pub(crate) fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}

/// Schema of a date and time that people write.
///
/// The API server takes times for a `date-time` that [`Timestamp`] cannot hold, such as 9999-12-31T23:59:59Z. A single
/// such object would make every list and watch of its kind fail, so the pattern keeps to what is surely understood.
pub(crate) fn deadline(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "date-time",
        "maxLength": 35,
        "pattern": r"^(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])$",
    })
}

/// Makes a field that may be left out one that is not `null`: the API server then drops a null that somebody writes,
/// instead of storing it (objects, numbers) or refusing it (enumerations). Keeps the field's description, in place of
/// which `kube` would show that of the enumeration.
pub(crate) fn absent_not_null(schema: &mut Schema) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for property in properties.values_mut().filter_map(Value::as_object_mut) {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|t| t != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                property.insert("type".to_owned(), only);
            }
        }
        let Some(Value::Array(choices)) = property.get("anyOf") else { continue };
        if let [Value::Object(value), null] = choices.as_slice()
            && null.get("type").is_some_and(|t| t == "null")
        {
            let value = value.clone();
            property.remove("anyOf");
            for (key, inner) in value {
                property.entry(key).or_insert(inner);
            }
        }
    }
}

/// Name of an object in the same namespace (RFC 1123 subdomain).
pub type Name = String;

/// Names an object in the same namespace; nothing refers across a namespace.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct ObjectReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: Name,
}

/// Certificate Operation of Table 4-5.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum CertificateOperationKind {
    /// No certificate operation is wanted; cancels one that is pending.
    #[default]
    NoPendingOperation,
    /// Installs a new or upgrades an existing locally significant certificate in the phone.
    InstallUpgrade,
    /// Deletes the locally significant certificate that exists in the phone, never the MIC.
    Delete,
    /// Retrieves the LSC and the MIC so that they can be viewed.
    Troubleshoot,
}

impl CertificateOperationKind {
    /// The words of the phone window, as in "Install/Upgrade pending".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NoPendingOperation => "No Pending Operation",
            Self::InstallUpgrade => "Install/Upgrade",
            Self::Delete => "Delete",
            Self::Troubleshoot => "Troubleshoot",
        }
    }
}

/// Authentication Mode of Table 4-5: how the phone proves itself to CAPF.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum AuthenticationMode {
    /// Only when the user enters the authentication string on the phone.
    ByAuthenticationString,
    /// Without any proof. No security: only where the proxy's `permitNullString` allows it.
    ByNullString,
    /// By the LSC if the phone holds one, else by its MIC.
    ByExistingCertificatePrecedenceToLSC,
    /// By the MIC if the phone holds one, else by its LSC.
    ByExistingCertificatePrecedenceToMIC,
}

impl AuthenticationMode {
    /// The words of the phone window.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::ByAuthenticationString => "By Authentication String",
            Self::ByNullString => "By Null String",
            Self::ByExistingCertificatePrecedenceToLSC => "By Existing Certificate (Precedence to LSC)",
            Self::ByExistingCertificatePrecedenceToMIC => "By Existing Certificate (Precedence to MIC)",
        }
    }
}

/// Family of a key pair.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum KeyType {
    /// RSA; sizes 512, 1024, 2048, 3072, 4096.
    RSA,
    /// Elliptic curve; sizes 256, 384 and 521 stand for P-256, P-384 and P-521.
    EC,
}

/// A key type and size that do not go together.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("keySize {size} is not a size of keyType {key_type:?}: choose one of {choices}")]
pub struct ResolveKeyError {
    key_type: KeyType,
    size: u16,
    choices: &'static str,
}

/// The kind of key that a type and a size, as written, stand for. Unwritten: RSA, and 2048 or P-256.
///
/// The source defaults to RSA 1024; 2048 here, because SHA-256 certificates over 1024-bit keys are refused by
/// today's TLS stacks and every phone that still receives firmware makes 2048-bit keys.
///
/// # Errors
/// When the size is none of the type's; the CRD refuses such a manifest before.
pub fn resolve_key(key_type: Option<KeyType>, size: Option<u16>) -> Result<KeyKind, ResolveKeyError> {
    let key_type = key_type.unwrap_or(KeyType::RSA);
    match (key_type, size) {
        (KeyType::RSA, Some(512)) => Ok(KeyKind::Rsa(RsaBits::B512)),
        (KeyType::RSA, Some(1024)) => Ok(KeyKind::Rsa(RsaBits::B1024)),
        (KeyType::RSA, None | Some(2048)) => Ok(KeyKind::Rsa(RsaBits::B2048)),
        (KeyType::RSA, Some(3072)) => Ok(KeyKind::Rsa(RsaBits::B3072)),
        (KeyType::RSA, Some(4096)) => Ok(KeyKind::Rsa(RsaBits::B4096)),
        (KeyType::EC, None | Some(256)) => Ok(KeyKind::Ec(Curve::P256)),
        (KeyType::EC, Some(384)) => Ok(KeyKind::Ec(Curve::P384)),
        (KeyType::EC, Some(521)) => Ok(KeyKind::Ec(Curve::P521)),
        (KeyType::RSA, Some(size)) => Err(ResolveKeyError { key_type, size, choices: "512, 1024, 2048, 3072, 4096" }),
        (KeyType::EC, Some(size)) => Err(ResolveKeyError { key_type, size, choices: "256, 384, 521" }),
    }
}

/// Where the authentication string comes from.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
#[x_kube(
    validation = Rule::new("has(self.secretRef) != (has(self.generate) && self.generate)")
        .message("authenticationString: give either secretRef or generate: true")
)]
pub struct AuthenticationStringSource {
    /// A Secret of type `capf.dev/authentication-string` whose key `authenticationString` holds 4 to 10 digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectReference>,
    /// Generate String: CAPF makes 10 digits in a Secret of its own, named in status, and deletes it after use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<bool>,
}

/// Who asked for an operation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum RequestedBy {
    /// The controller, because the Phone's spec asks for it.
    Phone,
    /// A person, who applied the operation.
    Person,
    /// A bulk rollout.
    Rollout,
    /// Renewal before the LSC ends.
    Renewal,
}

/// What is known of a phone's locally significant certificate.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct LscSummary {
    /// Serial number in lower-case hexadecimal.
    #[schemars(length(max = 48))]
    pub serial_number: String,
    /// SHA-256 of the certificate (DER) in lower-case hexadecimal.
    #[schemars(length(max = 64))]
    pub sha256_fingerprint: String,
    /// SHA-256 of the SPKI (DER) in lower-case hexadecimal.
    #[schemars(length(max = 64))]
    pub public_key_sha256: String,
    /// Distinguished name of the issuer.
    #[schemars(length(max = 512))]
    pub issuer: String,
    /// Start of validity.
    #[schemars(schema_with = "date_time")]
    pub not_before: Timestamp,
    /// End of validity.
    #[schemars(schema_with = "date_time")]
    pub not_after: Timestamp,
}

/// What is known of a phone's manufacturing installed certificate, by what the phone showed. CAPF never makes or deletes one.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct MicSummary {
    /// Distinguished name of the subject; its common name is `CP-`, the model, `-` and the device name.
    #[schemars(length(max = 128))]
    pub subject: String,
    /// Distinguished name of the issuer.
    #[schemars(length(max = 128))]
    pub issuer: String,
    /// Serial number in lower-case hexadecimal.
    #[schemars(length(max = 48))]
    pub serial_number: String,
    /// SHA-256 of the certificate (DER) in lower-case hexadecimal.
    #[schemars(length(max = 64))]
    pub sha256_fingerprint: String,
    /// End of validity.
    #[schemars(schema_with = "date_time")]
    pub not_after: Timestamp,
    /// When the phone showed it.
    #[schemars(schema_with = "date_time")]
    pub seen_at: Timestamp,
    /// Whether it proved the phone: its chain, its name and its signatures were found right By Existing Certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
}

impl MicSummary {
    /// The summary of a certificate that a phone showed at `seen_at`. Whether it is a MIC is the caller's to know.
    #[must_use]
    pub fn of(facts: &CertificateFacts, seen_at: Timestamp) -> Self {
        Self {
            subject: super::bounded(facts.subject.clone(), 128),
            issuer: super::bounded(facts.issuer.clone(), 128),
            serial_number: super::bounded(facts.serial.clone(), 48),
            sha256_fingerprint: facts.sha256.clone(),
            not_after: facts.not_after,
            seen_at,
            verified: false,
        }
    }

    /// Which is to be remembered when the phone shows this one: one that proved the phone gives way to another such only,
    /// because what is shown without a proof may be anything.
    #[must_use]
    pub fn remembered_over(self, known: Option<Self>) -> Self {
        match known.filter(|known| known.verified && !self.verified) {
            Some(known) if known.sha256_fingerprint == self.sha256_fingerprint => Self { verified: true, ..self },
            Some(known) => known,
            None => self,
        }
    }
}

/// A certificate that a phone holds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum PhoneCertificate {
    /// The locally significant certificate: its common name is the device name.
    LSC,
    /// The manufacturing installed certificate: the model stands before the device name.
    MIC,
}

impl std::fmt::Display for PhoneCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LSC => "LSC",
            Self::MIC => "MIC",
        })
    }
}

/// How a certificate that a phone showed compares with what is on record of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum TraceVerdict {
    /// It is the one on record: the live LSC, or the MIC that was seen before.
    Same,
    /// It is not the one on record, and CAPF did not issue it.
    Other,
    /// CAPF issued it, and it is not the live LSC: replaced, never answered for, or forgotten by a restore.
    Stale,
    /// The phone answered that it holds none.
    Missing,
    /// It is past the end of its validity, whatever else it is.
    Expired,
}

/// One certificate of a phone, as Troubleshoot found it. Nothing of it is verified: it is what the phone showed.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct CertificateTrace {
    /// What the phone was asked for.
    pub asked: PhoneCertificate,
    /// What it showed, judged by the certificate itself; absent when it showed none, or neither an LSC nor a MIC of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PhoneCertificate>,
    /// How it compares with what is on record; absent where there is nothing to compare with, as for the first MIC seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<TraceVerdict>,
    /// What a person should know besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 96))]
    pub note: Option<String>,
    /// What the certificate says of itself; absent when there is none, or none that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<TracedCertificate>,
    /// When the phone answered.
    #[schemars(schema_with = "date_time")]
    pub seen_at: Timestamp,
}

/// The decoded fields of a certificate that a phone showed.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct TracedCertificate {
    /// Distinguished name of the subject.
    #[schemars(length(max = 128))]
    pub subject: String,
    /// Distinguished name of the issuer.
    #[schemars(length(max = 128))]
    pub issuer: String,
    /// Serial number in lower-case hexadecimal.
    #[schemars(length(max = 48))]
    pub serial_number: String,
    /// Start of validity.
    #[schemars(schema_with = "date_time")]
    pub not_before: Timestamp,
    /// End of validity.
    #[schemars(schema_with = "date_time")]
    pub not_after: Timestamp,
    /// Kind of its key, as in `RSA-2048`; absent for a kind that CAPF does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub key: Option<String>,
    /// SHA-256 of the certificate (DER) in lower-case hexadecimal.
    #[schemars(length(max = 64))]
    pub sha256_fingerprint: String,
    /// The certificate itself, PEM; left out when it is longer than 2304 characters, or 3328 with the one before it, or was shown before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2304))]
    pub pem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwritten_key_is_rsa_2048_and_a_written_type_alone_takes_its_smallest_modern_size() {
        assert_eq!(resolve_key(None, None).unwrap(), KeyKind::Rsa(RsaBits::B2048));
        assert_eq!(resolve_key(Some(KeyType::EC), None).unwrap(), KeyKind::Ec(Curve::P256));
    }

    #[test]
    fn a_size_of_the_other_type_is_refused_with_the_choices() {
        let error = resolve_key(Some(KeyType::EC), Some(2048)).unwrap_err().to_string();
        assert!(error.contains("256, 384, 521"), "{error}");
    }
}
