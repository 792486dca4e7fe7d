//! What a phone's session tells its driver: what to do, what it is doing, and why it failed.

use std::fmt;

use super::codes::{AuthType, CertType, Command, Reason, Version};
use super::error::{EncodeError, FrameError, ParseError};
use super::frame::{Frame, SessionId};
use super::key::KeyRequest;
use super::octets::Octets;

/// What the driver of a phone's session is to do.
#[derive(Clone, Debug)]
pub enum PhoneAction {
    /// Send this frame, in one write.
    Send(Frame),
    /// Give the proof to [`on_proof`](super::PhoneSession::on_proof). The signatures of SUDI_DATA cover the session's number.
    Prove {
        /// The session's number.
        session_id: SessionId,
        /// The version the server speaks.
        version: Version,
        /// Which proof the server asks for; known phones go by their own settings instead.
        auth_type: Option<AuthType>,
    },
    /// Make this key: [`on_key`](super::PhoneSession::on_key) or [`on_key_failed`](super::PhoneSession::on_key_failed), and
    /// [`on_progress`](super::PhoneSession::on_progress) meanwhile.
    MakeKey(KeyRequest),
    /// Keep this certificate: [`PhoneSession::on_stored`](super::PhoneSession::on_stored).
    Store {
        /// The certificate in DER.
        certificate_der: Octets,
        /// What the server calls it.
        cert_type: CertType,
    },
    /// Delete this certificate: [`PhoneSession::on_deleted`](super::PhoneSession::on_deleted).
    Delete {
        /// Which; the LSC where the server names none.
        certificate: CertType,
    },
    /// Show this certificate: [`PhoneSession::on_fetched`](super::PhoneSession::on_fetched).
    Fetch {
        /// Which; the LSC where the server names none.
        certificate: CertType,
    },
    /// The server ended the session; close the connection.
    Ended {
        /// What it said.
        reason: Reason,
    },
    /// The session failed; close the connection.
    Failed(PhoneFailure),
}

/// Why a session failed on the phone's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneFailure {
    /// Bytes that are no frame.
    #[error("hear server: {0}")]
    Frame(FrameError),
    /// A frame that is no message.
    #[error("hear server: {0}")]
    Message(ParseError),
    /// A frame of another session than AUTH_REQ began.
    #[error(
        "hear server: its frame belongs to session {found}, AUTH_REQ began {expected}; look for a fault in the server"
    )]
    WrongSession {
        /// The number in AUTH_REQ.
        expected: SessionId,
        /// The frame's.
        found: SessionId,
    },
    /// A frame nobody waited for.
    #[error("hear server: it sent {command} to a phone {doing}; look for a fault in the server")]
    UnexpectedCommand {
        /// What it is.
        command: Command,
        /// What the phone was doing.
        doing: PhoneState,
    },
    /// Something does not fit into a frame.
    #[error("answer server: {0}")]
    Unsendable(#[from] EncodeError),
    /// The driver did what nobody asked it for.
    #[error("drive phone: {call} was called for a phone {doing}; mend the driver")]
    OutOfTurn {
        /// The method.
        call: &'static str,
        /// What the phone was doing.
        doing: PhoneState,
    },
    /// The server was silent for too long.
    #[error("hear server: nothing came in time for a phone {doing}; try again later")]
    Deadline {
        /// What the phone was doing.
        doing: PhoneState,
    },
    /// The server hung up without END_SESSION, which is how it says that it cannot work just now.
    #[error("hear server: it hung up on a phone {doing}; try again later")]
    HungUp {
        /// What the phone was doing.
        doing: PhoneState,
    },
}

/// What a phone is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PhoneState {
    /// Waiting for AUTH_REQ.
    AwaitingGreeting,
    /// Its driver finds the proof.
    Proving,
    /// Waiting to be told what to do.
    AwaitingOperation,
    /// Its driver makes a key.
    MakingKey,
    /// Waiting for the certificate.
    AwaitingCertificate,
    /// Its driver keeps the certificate.
    Storing,
    /// Its driver deletes a certificate.
    Deleting,
    /// Its driver finds a certificate.
    Fetching,
    /// Waiting for the end, or to be asked for another certificate.
    AwaitingFetchOrEnd,
    /// Waiting for the end.
    AwaitingEnd,
    /// Done.
    Over,
}

impl PhoneState {
    /// Whether the next word is the server's; known phones wait 8 to 10 s for it.
    pub const fn awaits_server(self) -> bool {
        matches!(
            self,
            Self::AwaitingGreeting
                | Self::AwaitingOperation
                | Self::AwaitingCertificate
                | Self::AwaitingFetchOrEnd
                | Self::AwaitingEnd
        )
    }
}

impl fmt::Display for PhoneState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwaitingGreeting => "awaiting AUTH_REQ",
            Self::Proving => "finding its proof",
            Self::AwaitingOperation => "awaiting what to do",
            Self::MakingKey => "making a key",
            Self::AwaitingCertificate => "awaiting its certificate",
            Self::Storing => "storing its certificate",
            Self::Deleting => "deleting a certificate",
            Self::Fetching => "finding a certificate",
            Self::AwaitingFetchOrEnd | Self::AwaitingEnd => "awaiting the end",
            Self::Over => "that is done",
        })
    }
}
