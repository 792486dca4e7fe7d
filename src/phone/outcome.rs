//! How an attempt and an enrolment end.

use std::{io, time::Duration};

use crate::wire::{CertType, PhoneFailure, Reason};

use super::fault::{FaultKind, Step};
use super::tls::NotInCtl;

/// How a session ended that the server ended, with END_SESSION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The certificate is stored and the server has heard so.
    Installed {
        /// The certificate in DER.
        certificate_der: Vec<u8>,
    },
    /// The LSC is deleted.
    Deleted {
        /// Whether there was one.
        had_one: bool,
    },
    /// Certificates were shown.
    Fetched {
        /// Those the phone had, in the order asked for.
        shown: Vec<CertType>,
        /// Those it did not have.
        missing: Vec<CertType>,
    },
    /// Nothing waits for this phone.
    NothingScheduled,
    /// The server knows no phone of this name.
    UnknownDevice,
    /// The server said no. It does not say why: look at the phone's status in the cluster.
    Refused {
        /// What it said: 7 from every known server.
        reason: Reason,
    },
    /// The phone gave up.
    Aborted {
        /// What the server said to that.
        reason: Reason,
    },
    /// The phone answered that it could not do what was asked.
    Failed {
        /// Why it could not.
        why: PhoneTrouble,
        /// What the server said to that.
        reason: Reason,
    },
}

impl AttemptOutcome {
    /// Whether the operation was done, or there was none.
    pub const fn is_fine(&self) -> bool {
        matches!(self, Self::Installed { .. } | Self::Deleted { .. } | Self::Fetched { .. } | Self::NothingScheduled)
    }

    /// A word for it, for counting: few, and nothing of the phone in them.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Installed { .. } => "installed",
            Self::Deleted { .. } => "deleted",
            Self::Fetched { .. } => "fetched",
            Self::NothingScheduled => "nothing-scheduled",
            Self::UnknownDevice => "unknown-device",
            Self::Refused { .. } => "refused",
            Self::Aborted { .. } => "aborted",
            Self::Failed { .. } => "failed-by-phone",
        }
    }
}

/// What the phone did so far, to make sense of END_SESSION.
#[derive(Default)]
pub(super) struct Done {
    pub installed: Option<Vec<u8>>,
    pub deleted: Option<bool>,
    pub shown: Vec<CertType>,
    pub missing: Vec<CertType>,
    pub trouble: Option<PhoneTrouble>,
}

impl Done {
    /// What the server's last word means after this.
    pub fn outcome(self, reason: Reason) -> AttemptOutcome {
        let asked_to_show = !self.shown.is_empty() || !self.missing.is_empty();
        match (reason, self) {
            (Reason::UNKNOWN_DEVICE, _) => AttemptOutcome::UnknownDevice,
            (reason, Self { trouble: Some(why), .. }) => AttemptOutcome::Failed { why, reason },
            (Reason::OK, Self { installed: Some(certificate_der), .. }) => {
                AttemptOutcome::Installed { certificate_der }
            }
            (Reason::OK, Self { deleted: Some(had_one), .. }) => AttemptOutcome::Deleted { had_one },
            (Reason::NO_ACTION, Self { shown, missing, .. }) if asked_to_show => {
                AttemptOutcome::Fetched { shown, missing }
            }
            (Reason::NO_ACTION, Self { installed: None, deleted: None, .. }) => AttemptOutcome::NothingScheduled,
            (reason, _) => AttemptOutcome::Refused { reason },
        }
    }
}

/// Why a phone answered with a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneTrouble {
    /// It was told to: a fault.
    #[error("it was told to fail at {0}")]
    Fault(Step),
    /// The key could not be made, or the prepared one is not what was asked for.
    #[error("{0}")]
    Key(String),
    /// The certificate is over another key than the phone's.
    #[error("the certificate that came is over another key than the phone's")]
    ForeignCertificate,
    /// What came is no certificate, or not one that phones are given.
    #[error("what came cannot be kept: {0}")]
    Certificate(String),
    /// The disk.
    #[error("{0}")]
    Store(String),
}

/// Why a session ended before the server ended it; the phone tries again.
#[derive(Debug, thiserror::Error)]
pub enum CommunicationFailure {
    /// No connection.
    #[error("connect to {server}: {source}; see whether the endpoint runs and the address is right")]
    Connect {
        /// Whereto.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answered.
    #[error("connect to {server}: no answer in {} s; see whether the endpoint runs and nothing is in the way", limit.as_secs())]
    ConnectTimeout {
        /// Whereto.
        server: String,
        /// How long it was waited.
        limit: Duration,
    },
    /// Connected, and no TLS.
    #[error("shake hands with {server}: {source}")]
    Handshake {
        /// With whom.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// The handshake took too long.
    #[error("shake hands with {server}: not done in {} s", limit.as_secs())]
    HandshakeTimeout {
        /// With whom.
        server: String,
        /// How long it was waited.
        limit: Duration,
    },
    /// Not the server of the CTL. Not tried again.
    #[error(transparent)]
    NotInCtl(#[from] NotInCtl),
    /// The session broke off: silence, a hang-up or nonsense.
    #[error(transparent)]
    Session(#[from] PhoneFailure),
    /// Its user stopped it where there was no session to give up. Not tried again.
    #[error("the user stopped it before there was a session")]
    Stopped,
    /// A fault ended it.
    #[error("the fault {kind}@{step} ended the session")]
    Fault {
        /// What happened.
        kind: FaultKind,
        /// Where.
        step: Step,
    },
}

impl CommunicationFailure {
    /// Whether the same may go well later.
    pub const fn may_pass(&self) -> bool {
        !matches!(self, Self::NotInCtl(_) | Self::Stopped)
    }

    /// A word for it, for counting: few, and nothing of the phone in them.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::ConnectTimeout { .. } => "connect-timeout",
            Self::Handshake { .. } => "handshake",
            Self::HandshakeTimeout { .. } => "handshake-timeout",
            Self::NotInCtl(_) => "not-in-ctl",
            Self::Session(PhoneFailure::Deadline { .. }) => "silence",
            Self::Session(PhoneFailure::HungUp { .. }) => "hung-up",
            Self::Session(_) => "protocol",
            Self::Stopped => "stopped",
            Self::Fault { .. } => "fault",
        }
    }
}

/// How an enrolment ended, retries included.
#[derive(Debug)]
pub struct EnrolOutcome {
    /// How the last attempt ended.
    pub last: Result<AttemptOutcome, CommunicationFailure>,
    /// Attempts made, 1 or more.
    pub attempts: u32,
    /// Time of the last attempt, from the start of its connection to END_SESSION or the failure.
    pub session_time: Duration,
}

/// A communication failure, and that another attempt follows.
#[derive(Debug)]
pub struct Retry<'a> {
    /// What went wrong.
    pub failure: &'a CommunicationFailure,
    /// Which retry follows, the first being 1.
    pub number: u32,
    /// Of how many.
    pub of: u32,
    /// After how long.
    pub after: Duration,
}
