//! What a server session asks its authority, and what it may be told.

use std::fmt;

use super::auth::Opening;
use super::codes::{CertType, Reason};
use super::key::KeyRequest;
use super::octets::Octets;

/// A question to the authority. One is open at a time; the next thing the session wants is its [`Answer`].
#[derive(Clone, Debug)]
pub enum Question {
    /// A phone presents itself: what shall be done?
    Open(Opening),
    /// The phone made this key (a SubjectPublicKeyInfo in DER, as it came): its certificate, please.
    Issue {
        /// The key.
        public_key: Octets,
    },
    /// Put on record how it went.
    Complete(Outcome),
}

/// How an operation went, by the phone's own word or its silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The phone says that it keeps the certificate. The only evidence there is that the certificate fits its key.
    Stored,
    /// The phone did not keep the certificate.
    StoreRejected {
        /// What it says about that.
        reason: Reason,
    },
    /// The phone could not make the key.
    KeyGenerationFailed {
        /// What it says about that.
        reason: Reason,
    },
    /// The time for making a key is over.
    KeyGenerationTimedOut,
    /// The phone sent ABORT_REQ: its user gave up. A guess, the command is known by name only.
    Aborted,
    /// The phone says that its LSC is deleted.
    Deleted,
    /// The phone had no LSC.
    NothingToDelete,
    /// The phone did not delete its LSC.
    DeleteRejected {
        /// What it says about that.
        reason: Reason,
    },
    /// The phone showed a certificate.
    Fetched {
        /// What was asked for.
        asked: CertType,
        /// What the phone calls it: always the LSC from the known phone. Judge the certificate by what it is.
        cert_type: CertType,
        /// The certificate in DER, unverified.
        certificate_der: Octets,
    },
    /// The phone has no such certificate.
    NothingFetched {
        /// What was asked for.
        asked: CertType,
    },
    /// The phone did not show the certificate.
    FetchRejected {
        /// What was asked for.
        asked: CertType,
        /// What it says about that.
        reason: Reason,
    },
}

impl Outcome {
    /// The outcome without what came with it.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Stored => OutcomeKind::Stored,
            Self::StoreRejected { .. } => OutcomeKind::StoreRejected,
            Self::KeyGenerationFailed { .. } => OutcomeKind::KeyGenerationFailed,
            Self::KeyGenerationTimedOut => OutcomeKind::KeyGenerationTimedOut,
            Self::Aborted => OutcomeKind::Aborted,
            Self::Deleted => OutcomeKind::Deleted,
            Self::NothingToDelete => OutcomeKind::NothingToDelete,
            Self::DeleteRejected { .. } => OutcomeKind::DeleteRejected,
            Self::Fetched { .. } => OutcomeKind::Fetched,
            Self::NothingFetched { .. } => OutcomeKind::NothingFetched,
            Self::FetchRejected { .. } => OutcomeKind::FetchRejected,
        }
    }
}

/// The kinds of [`Outcome`], for logs and the reason at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is explained at the variant of Outcome with its name")]
pub enum OutcomeKind {
    Stored,
    StoreRejected,
    KeyGenerationFailed,
    KeyGenerationTimedOut,
    Aborted,
    Deleted,
    NothingToDelete,
    DeleteRejected,
    Fetched,
    NothingFetched,
    FetchRejected,
}

impl OutcomeKind {
    /// The reason in END_SESSION once the outcome is on record: 1 where the phone's certificate was changed or none was left to
    /// delete, 0 after a fetch, however it went (captured, all of them); 7 where an install or a deletion failed; 0 after an
    /// abort, because nothing was done (a guess).
    pub const fn end_session_reason(self) -> Reason {
        match self {
            Self::Stored | Self::Deleted | Self::NothingToDelete => Reason::OK,
            Self::Fetched | Self::NothingFetched | Self::FetchRejected | Self::Aborted => Reason::NO_ACTION,
            Self::StoreRejected | Self::KeyGenerationFailed | Self::KeyGenerationTimedOut | Self::DeleteRejected => {
                Reason::INVALID_ELEMENT
            }
        }
    }

    /// Whether it ends one fetch, after which the authority may ask for the other certificate.
    pub(super) const fn is_of_fetch(self) -> bool {
        matches!(self, Self::Fetched | Self::NothingFetched | Self::FetchRejected)
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "the phone stored its certificate",
            Self::StoreRejected => "the phone did not store the certificate",
            Self::KeyGenerationFailed => "the phone could not make a key",
            Self::KeyGenerationTimedOut => "the phone did not make a key in time",
            Self::Aborted => "the phone's user gave up",
            Self::Deleted => "the phone deleted its certificate",
            Self::NothingToDelete => "the phone had no certificate to delete",
            Self::DeleteRejected => "the phone did not delete its certificate",
            Self::Fetched => "the phone showed a certificate",
            Self::NothingFetched => "the phone had no certificate to show",
            Self::FetchRejected => "the phone did not show a certificate",
        })
    }
}

/// An answer of the authority to the last [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To *open*: have the phone make this key. EC is for phones of version 3 only.
    Install {
        /// The key.
        key: KeyRequest,
    },
    /// To *open*: have it delete its LSC. Given only when the operation is on record as begun.
    Delete,
    /// To *open*: have it show this certificate. To *complete* after a fetch: on record, and now the other one; each type once.
    Fetch {
        /// The LSC is asked for with an empty body (captured); any other type with CERT_TYPE (a guess).
        certificate: CertType,
    },
    /// To *open*: nothing waits for this phone.
    NothingScheduled,
    /// To *open*: no phone of this name.
    UnknownDevice,
    /// To any question: no, and the phone need not try again soon.
    Refused,
    /// To any question: no answer was to be had, the phone shall come again. It closes without END_SESSION, which a phone
    /// takes for a communication failure and retries by itself (documented).
    Unavailable,
    /// To *issue*: the certificate, on record already.
    Issued {
        /// The certificate in DER.
        certificate_der: Octets,
    },
    /// To *complete*: on record.
    Recorded,
}

impl Answer {
    /// The variant's name, for logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Install { .. } => "Install",
            Self::Delete => "Delete",
            Self::Fetch { .. } => "Fetch",
            Self::NothingScheduled => "NothingScheduled",
            Self::UnknownDevice => "UnknownDevice",
            Self::Refused => "Refused",
            Self::Unavailable => "Unavailable",
            Self::Issued { .. } => "Issued",
            Self::Recorded => "Recorded",
        }
    }
}
