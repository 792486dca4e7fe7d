//! Objects for the tests of this ring.

use jiff::Timestamp;
use kube::api::ObjectMeta;
use serde_json::json;

use crate::api::{
    AuthenticationMode, CertificateAuthorityProxy, CertificateAuthorityProxySpec, CertificateOperation,
    CertificateOperationKind, CertificateOperationSpec, IssuedCertificateStatus, LscSummary, ObjectReference, Phone,
    PhoneSpec, RequestedBy,
};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn meta(name: &str, uid: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some("voice".into()),
        uid: Some(uid.into()),
        generation: Some(1),
        creation_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0))),
        ..ObjectMeta::default()
    }
}

pub(crate) fn proxy() -> CertificateAuthorityProxy {
    let spec: CertificateAuthorityProxySpec =
        serde_json::from_value(json!({"placement": "External", "permitNullString": true})).unwrap();
    CertificateAuthorityProxy { metadata: meta("main", "proxy-uid"), spec, status: None }
}

pub(crate) fn phone(spec: serde_json::Value) -> Phone {
    let mut whole = json!({"deviceName": "SEP001", "proxyRef": {"name": "main"}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let spec: PhoneSpec = serde_json::from_value(whole).unwrap();
    Phone { metadata: meta("sep001", "phone-uid"), spec, status: None }
}

pub(crate) fn operation(name: &str, completes_by: Timestamp) -> CertificateOperation {
    let spec = CertificateOperationSpec {
        phone_ref: ObjectReference { name: "sep001".into() },
        certificate_operation: CertificateOperationKind::InstallUpgrade,
        authentication_mode: AuthenticationMode::ByNullString,
        authentication_string: None,
        key_type: None,
        key_size: None,
        operation_completes_by: Some(completes_by),
        requested_by: RequestedBy::Phone,
    };
    CertificateOperation { metadata: meta(name, &format!("uid-{name}")), spec, status: None }
}

pub(crate) fn issued(fingerprint: &str, at: Timestamp) -> IssuedCertificateStatus {
    IssuedCertificateStatus {
        summary: LscSummary {
            serial_number: format!("serial-{fingerprint}"),
            sha256_fingerprint: fingerprint.into(),
            public_key_sha256: format!("key-{fingerprint}"),
            issuer: "CN=CAPF".into(),
            not_before: at,
            not_after: at,
        },
        pem: "PEM".into(),
        issued_at: at,
    }
}
