//! The three questions that endpoints ask, as they cross the wire: JSON under `/v1/`.
//!
//! Version N and N−1 understand each other: unknown fields are ignored, new ones are optional, and an answer that
//! is not understood counts as no answer, so that the phone comes again.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::proof::CertificateProof;
use crate::api::{LogLevel, PhoneCertificate, Reason};
use crate::domain::question::EvidenceKind;
use crate::pki::KeyKind;

/// Path of [`OpenRequest`].
pub const OPEN: &str = "/v1/open";
/// Path of [`IssueRequest`].
pub const ISSUE: &str = "/v1/issue";
/// Path of [`CompleteRequest`].
pub const COMPLETE: &str = "/v1/complete";
/// Largest request or answer, in octets. The largest honest one holds a certificate of 8 KiB that a phone showed, and a ticket.
pub const MAX_BODY: usize = 32 * 1024;
/// The name in every replica's certificate. Endpoints check it whatever address they connect to.
pub const SERVER_NAME: &str = "controller.capf.dev";

/// Digits as the phone's user entered them; `Debug` shows nothing of them.
#[derive(Clone, Debug)]
pub struct Digits(pub SecretString);

impl Serialize for Digits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

/// *Open*: this phone has connected; what is to be done?
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenRequest {
    /// Device name, in upper case.
    pub device_name: String,
    /// The phone's protocol version.
    pub version: u8,
    /// Session id on the wire.
    pub session_id: u32,
    /// Non-empty PASSWORD of the phone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digits: Option<Digits>,
    /// Whether certificates and signatures came.
    #[serde(default)]
    pub certificate: bool,
    /// The certificates and signatures. Absent from an endpoint of a version that did not pass them on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<CertificateProof>,
    /// Address that the phone connects from, as the endpoint sees it; an endpoint of the version before does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
}

impl OpenRequest {
    /// The kind of evidence that came.
    #[must_use]
    pub fn evidence(&self) -> EvidenceKind {
        match (&self.digits, self.certificate) {
            (Some(_), _) => EvidenceKind::String,
            (None, true) => EvidenceKind::Certificate,
            (None, false) => EvidenceKind::Null,
        }
    }
}

/// Answer to *open*.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "answer")]
pub enum OpenAnswer {
    /// Have the phone make a key, then ask *issue*.
    Install {
        /// To be presented with *issue*, or with *complete* when there is no key.
        ticket: String,
        /// The key to ask for.
        key: KeyKind,
        /// Seconds within which the phone must have made it.
        key_generation_seconds: u32,
    },
    /// On record as begun: have the phone delete its LSC, then ask *complete*.
    Delete {
        /// To be presented with *complete*.
        ticket: String,
    },
    /// Have the phone show a certificate, then ask *complete*.
    Fetch {
        /// To be presented with *complete*.
        ticket: String,
        /// Which.
        certificate: PhoneCertificate,
    },
    /// The phone is known and nothing is wanted of it.
    NothingScheduled,
    /// No phone of this name belongs to the proxy.
    UnknownDevice,
    /// Not let in.
    Refused {
        /// Why, for the endpoint's log; the phone is not told.
        reason: Reason,
    },
}

/// *Issue*: the phone made this key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssueRequest {
    /// The ticket of *open*.
    pub ticket: String,
    /// Session id on the wire.
    pub session_id: u32,
    /// SPKI (DER), base64.
    #[serde(with = "base64_octets")]
    pub public_key: Vec<u8>,
}

/// Answer to *issue*.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "answer")]
pub enum IssueAnswer {
    /// On record; deliver it, then ask *complete*.
    Issued {
        /// The certificate (DER), base64.
        #[serde(with = "base64_octets")]
        certificate: Vec<u8>,
        /// To be presented with *complete*.
        receipt: String,
    },
    /// Not signed.
    Refused {
        /// Why.
        reason: Reason,
    },
}

/// *Complete*: how it went, by the phone's own word.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CompleteRequest {
    /// The receipt of *issue*, or the ticket of *open* when no certificate was made.
    pub ticket: String,
    /// Session id on the wire.
    pub session_id: u32,
    /// How it went.
    pub outcome: CompleteOutcome,
}

/// How it went.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "outcome")]
pub enum CompleteOutcome {
    /// The phone stored the certificate.
    Stored,
    /// The phone did not store it.
    StoreRejected {
        /// REASON of the phone.
        reason: u8,
    },
    /// The phone could not make a key.
    KeyGenerationFailed {
        /// REASON of the phone.
        reason: u8,
    },
    /// The phone did not make a key in time.
    KeyGenerationTimedOut,
    /// The phone's user stopped the operation.
    Aborted,
    /// The phone deleted its LSC.
    Deleted,
    /// The phone had no LSC to delete.
    NothingToDelete,
    /// The phone did not delete its LSC.
    DeleteRejected {
        /// REASON of the phone.
        reason: u8,
    },
    /// The phone showed a certificate.
    Fetched {
        /// What it was asked for.
        asked: PhoneCertificate,
        /// What it showed (DER, unverified), base64.
        #[serde(with = "base64_octets")]
        certificate: Vec<u8>,
    },
    /// The phone holds no such certificate.
    NothingFetched {
        /// What it was asked for.
        asked: PhoneCertificate,
    },
    /// The phone would not show the certificate.
    FetchRejected {
        /// What it was asked for.
        asked: PhoneCertificate,
        /// REASON of the phone.
        reason: u8,
    },
}

/// Answer to *complete*.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "answer")]
pub enum CompleteAnswer {
    /// On record.
    Recorded,
    /// On record; now have the phone show this one, and ask *complete* again with the same ticket.
    Fetch {
        /// Which.
        certificate: PhoneCertificate,
    },
    /// Not recorded: the operation is over, or it has another certificate by now.
    Refused {
        /// Why.
        reason: Reason,
    },
}

/// No answer was to be had; the phone shall come again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the controller gave no answer: {0}")]
pub struct Unavailable(pub String);

/// Whoever answers the three questions: over the network in an endpoint, by rote in a test.
pub trait Authority: Send + Sync + 'static {
    /// *Open*.
    fn open(&self, request: OpenRequest) -> impl Future<Output = Result<OpenReply, Unavailable>> + Send;
    /// *Issue*.
    fn issue(&self, request: IssueRequest) -> impl Future<Output = Result<IssueAnswer, Unavailable>> + Send;
    /// *Complete*.
    fn complete(&self, request: CompleteRequest) -> impl Future<Output = Result<CompleteAnswer, Unavailable>> + Send;
}

/// What an answer says in two fixed words, fit for a metric's labels: the answer, and the reason of a refusal.
pub trait Answered {
    /// Answer and reason; no reason is empty.
    fn labels(&self) -> (&'static str, &'static str);
}

impl Answered for OpenAnswer {
    fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Install { .. } => ("install", ""),
            Self::Delete { .. } => ("delete", ""),
            Self::Fetch { .. } => ("fetch", ""),
            Self::NothingScheduled => ("nothing_scheduled", ""),
            Self::UnknownDevice => ("unknown_device", ""),
            Self::Refused { reason } => ("refused", reason.as_str()),
        }
    }
}

impl Answered for IssueAnswer {
    fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Issued { .. } => ("issued", ""),
            Self::Refused { reason } => ("refused", reason.as_str()),
        }
    }
}

impl Answered for CompleteAnswer {
    fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Recorded => ("recorded", ""),
            Self::Fetch { .. } => ("fetch", ""),
            Self::Refused { reason } => ("refused", reason.as_str()),
        }
    }
}

impl<T: Answered> Answered for Result<T, Unavailable> {
    fn labels(&self) -> (&'static str, &'static str) {
        self.as_ref().map_or(("unanswered", ""), T::labels)
    }
}

/// *Open* with what goes along with its answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenReply {
    /// The answer.
    #[serde(flatten)]
    pub answer: OpenAnswer,
    /// The level at which the rest of the session is to be logged, where its Phone says so. A level of a newer version counts as
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_level")]
    pub log_level: Option<LogLevel>,
}

impl From<OpenAnswer> for OpenReply {
    fn from(answer: OpenAnswer) -> Self {
        Self { answer, log_level: None }
    }
}

impl Answered for OpenReply {
    fn labels(&self) -> (&'static str, &'static str) {
        self.answer.labels()
    }
}

fn known_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LogLevel>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| text.parse().ok()))
}

impl fmt::Display for OpenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install { key, .. } => write!(f, "install a certificate for a key {key}"),
            Self::Delete { .. } => f.write_str("delete the LSC"),
            Self::Fetch { certificate, .. } => write!(f, "show the {certificate}"),
            Self::NothingScheduled => f.write_str("nothing is scheduled"),
            Self::UnknownDevice => f.write_str("unknown device"),
            Self::Refused { reason } => write!(f, "refused: {reason}"),
        }
    }
}

/// Octets as base64 text.
pub(super) mod base64_octets {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(in super::super) fn serialize<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(octets))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_a_stable_form_on_the_wire() {
        let open = OpenRequest {
            device_name: "SEP001".into(),
            version: 3,
            session_id: 7,
            digits: Some(Digits("4711".to_owned().into())),
            certificate: false,
            proof: None,
            source: Some([192, 0, 2, 1].into()),
        };
        assert_eq!(
            serde_json::to_string(&open).unwrap(),
            r#"{"deviceName":"SEP001","version":3,"sessionId":7,"digits":"4711","certificate":false,"source":"192.0.2.1"}"#
        );
        assert!(!format!("{open:?}").contains("4711"));
        let answer = OpenAnswer::Refused { reason: Reason::LockedOut };
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"answer":"refused","reason":"LockedOut"}"#);
        let complete = CompleteOutcome::StoreRejected { reason: 7 };
        assert_eq!(serde_json::to_string(&complete).unwrap(), r#"{"outcome":"storeRejected","reason":7}"#);
    }

    #[test]
    fn a_level_goes_along_with_an_answer_and_is_not_missed() {
        let answer = OpenAnswer::Delete { ticket: "t".into() };
        let with = OpenReply { answer: answer.clone(), log_level: Some(LogLevel::Trace) };
        let text = serde_json::to_string(&with).unwrap();
        assert_eq!(text, r#"{"answer":"delete","ticket":"t","logLevel":"trace"}"#);
        assert_eq!(serde_json::from_str::<OpenAnswer>(&text).unwrap(), answer, "the version before reads the answer");
        let without: OpenReply = serde_json::from_str(r#"{"answer":"delete","ticket":"t"}"#).unwrap();
        assert_eq!((without.answer, without.log_level), (answer, None), "and its answer is read here");
        let newer: OpenReply = serde_json::from_str(r#"{"answer":"unknownDevice","logLevel":"everything"}"#).unwrap();
        assert_eq!((newer.answer, newer.log_level), (OpenAnswer::UnknownDevice, None));
    }

    #[test]
    fn a_newer_peer_may_send_more_than_is_known_here() {
        let open: OpenRequest =
            serde_json::from_str(r#"{"deviceName":"SEP001","version":3,"sessionId":7,"newer":[1]}"#).unwrap();
        assert_eq!((open.evidence(), open.source), (EvidenceKind::Null, None));
    }
}
