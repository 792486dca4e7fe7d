//! The CRDs as files: generated from the types, committed under `crds/`, and checked to be current by a test.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::api::{CertificateAuthorityProxy, CertificateOperation, Phone};

/// Every CRD of the product, in the order they are applied.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![CertificateAuthorityProxy::crd(), Phone::crd(), CertificateOperation::crd()]
}

/// One CRD as a YAML document.
///
/// # Panics
/// Never: a CRD is plain data.
#[must_use]
pub fn yaml(crd: &CustomResourceDefinition) -> String {
    serde_saphyr::to_string(crd).expect("a CRD is plain data")
}

/// File name of a CRD under `crds/`, for example `capf.dev_phones.yaml`.
#[must_use]
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural)
}
