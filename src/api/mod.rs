//! The resources people write and read: group `capf.dev`, version `v1alpha1`.
//!
//! Doc comments in this module become the descriptions in the CRDs, so they are written for the person who
//! runs `kubectl explain`. Words are those of the source (Tables 4-3, 4-4 and 4-5).
//!
//! # Guarantees
//! A value that the API server accepted satisfies every rule stated here: schema bounds, CEL rules, and
//! forward-only phases. Code behind this module does not check them again.

mod conditions;
mod endpoints;
mod evidence;
mod fields;
mod limits;
mod log_level;
mod operation;
mod phone;
mod proxy;
mod proxy_status;
mod reason;

pub(crate) use conditions::bounded;
pub use conditions::{Condition, ConditionStatus, ConditionType, Conditions};
pub use endpoints::{
    EndpointResources, EndpointService, EndpointSpread, EndpointToleration, Endpoints, ResourceAmounts, ServiceType,
    SpreadPolicy, TaintEffect, TolerationOperator,
};
pub use evidence::{CertificateEvidence, OfferedCertificate};
pub use fields::{
    AuthenticationMode, AuthenticationStringSource, CertificateOperationKind, CertificateTrace, KeyType, LscSummary,
    MicSummary, Name, ObjectReference, PhoneCertificate, RequestedBy, ResolveKeyError, TraceVerdict, TracedCertificate,
    resolve_key,
};
pub use limits::EndpointLimits;
pub use log_level::{LOG_LEVEL_ANNOTATION, LogLevel, NoLevel, log_level};
pub use operation::{
    Attempts, CertificateOperation, CertificateOperationSpec, CertificateOperationStatus, IssuedCertificateStatus,
    Phase,
};
pub use phone::{ArmedOperation, DeviceSecurityMode, LscState, Phone, PhoneSpec, PhoneStatus, Written};
pub use proxy::{
    CertificateAuthorityProxy, CertificateAuthorityProxySpec, CertificateIssuer, CertificateSubject, ExpiredMic,
    ExpiredMicPolicy, MicRoots, PhoneDefaults, Placement,
};
pub use proxy_status::{
    CertificateAuthorityProxyStatus, EndpointsStatus, GuessingBlock, PublishedCertificate, UnknownCaller,
};
pub use reason::Reason;

/// API group of every kind; the only place it is named in code (attributes need literals, a test compares them).
pub const GROUP: &str = "capf.dev";
/// API version of every kind.
pub const VERSION: &str = "v1alpha1";
/// Field manager of the reconciling loops.
pub const LOOPS_MANAGER: &str = "capf-controller";
/// Field manager of the objects that endpoints run by, which are applied: Deployment, Service and PodDisruptionBudget.
pub const ENDPOINTS_MANAGER: &str = "capf-endpoints";
/// Field manager of the three questions.
pub const QUESTIONS_MANAGER: &str = "capf-questions";
/// Type of the Secrets that hold an authentication string; a Secret of any other type is never read as one.
pub const AUTHENTICATION_STRING_TYPE: &str = "capf.dev/authentication-string";
/// Key, in such a Secret, of the 4 to 10 digits.
pub const AUTHENTICATION_STRING_KEY: &str = "authenticationString";
/// Type of the Secrets that may hold the roots of MICs; a Secret of any other type is never read as such.
pub const MIC_ROOTS_TYPE: &str = "capf.dev/mic-roots";
/// Label on every object made for a proxy; its value is the proxy's name.
pub const PROXY_LABEL: &str = "capf.dev/proxy";
