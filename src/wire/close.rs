//! Why a server session ends, and what the phone is told about it.
//!
//! The phone learns one of four reasons, and cannot tell one refusal from another. The log learns all of it: every refusal has
//! its own [`CloseReason`], and one table, [`CloseReason::told`], says what goes out.

use std::fmt;

use super::codes::{Command, Reason, Version};
use super::error::{EncodeError, FrameError, ParseError};
use super::frame::SessionId;
use super::question::OutcomeKind;

/// What a session waits for; its driver picks the deadline by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// For a frame.
    Phone(PhoneTurn),
    /// For an answer. A frame that comes now is out of turn (all but ABORT_REQ are refused), so a driver leaves the
    /// connection unread meanwhile.
    Authority(AuthorityTurn),
    /// For nothing: it is over.
    Nothing,
}

/// Which frame is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PhoneTurn {
    /// AUTH_RES.
    Auth,
    /// KEY_GENERATE_RES, which may take minutes; the only turn that may.
    Key,
    /// STORE_CERT_RES.
    Store,
    /// DELETE_CERT_RES.
    Delete,
    /// FETCH_CERT_RES.
    Fetch,
}

impl PhoneTurn {
    /// The command that answers.
    pub const fn command(self) -> Command {
        match self {
            Self::Auth => Command::AUTH_RES,
            Self::Key => Command::KEY_GENERATE_RES,
            Self::Store => Command::STORE_CERT_RES,
            Self::Delete => Command::DELETE_CERT_RES,
            Self::Fetch => Command::FETCH_CERT_RES,
        }
    }
}

/// Which answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorityTurn {
    /// To [`Question::Open`](super::Question::Open).
    Open,
    /// To [`Question::Issue`](super::Question::Issue).
    Issue,
    /// To [`Question::Complete`](super::Question::Complete).
    Complete,
}

impl fmt::Display for AuthorityTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Issue => "issue",
            Self::Complete => "complete",
        })
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phone(turn) => write!(f, "the phone's {}", turn.command()),
            Self::Authority(turn) => write!(f, "the authority's answer to {turn:?}"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// Why a session ended. `Display` is the line for the log; it shows no value of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The operation came to an end, and that is on record.
    #[error("{0}; it is on record")]
    Finished(OutcomeKind),
    /// Nothing waits for this phone.
    #[error("nothing is scheduled for the phone")]
    NothingScheduled {
        /// The phone's version, which decides what it is told.
        version: Version,
    },
    /// No phone of this name.
    #[error("refuse phone: no device of its name is known; make a Phone resource of this name, or see who connects")]
    UnknownDevice,
    /// The authority said no.
    #[error("refuse phone: the authority refused to {question}; its own log and the operation's status say why")]
    Refused {
        /// To which question.
        question: AuthorityTurn,
    },
    /// The authority could not be asked.
    #[error("leave phone: the authority could not be asked to {question}; the phone comes again by itself")]
    Unavailable {
        /// Which question.
        question: AuthorityTurn,
    },
    /// Nothing came in time.
    #[error("leave phone: {waiting} did not come in time; the phone comes again by itself")]
    Deadline {
        /// What was waited for.
        waiting: Waiting,
    },
    /// A frame of another session.
    #[error("refuse phone: its frame belongs to session {found}, this is {expected}; see what connects to the port")]
    WrongSession {
        /// The session's number.
        expected: SessionId,
        /// The frame's.
        found: SessionId,
    },
    /// A frame nobody waited for.
    #[error(
        "refuse phone: it sent {command} where {waiting} was awaited; capture the session if the phone is a real one"
    )]
    UnexpectedCommand {
        /// What it is.
        command: Command,
        /// What was waited for.
        waiting: Waiting,
    },
    /// A phone of a version nobody knows.
    #[error(
        "refuse phone: it speaks protocol version {}, only 2 and 3 are known; capture the session if the phone is a real one",
        .version.0
    )]
    UnsupportedVersion {
        /// Its version.
        version: Version,
    },
    /// Bytes that are no frame.
    #[error("refuse phone: {0}")]
    Frame(FrameError),
    /// A frame that is no message.
    #[error("refuse phone: {0}")]
    Message(ParseError),
    /// What the authority wants cannot be said to this phone.
    #[error("refuse phone: the authority's answer cannot be sent to it: {0}")]
    Unsendable(EncodeError),
    /// The authority answered what was not asked: a fault of this program.
    #[error("leave phone: the authority answered {answer} while the session waited for {waiting}; report this fault")]
    UnexpectedAnswer {
        /// The answer's name.
        answer: &'static str,
        /// What was waited for.
        waiting: Waiting,
    },
}

impl CloseReason {
    /// The reason in the END_SESSION that went out before the close, or `None` when there was none: then the phone takes it
    /// for a communication failure and comes again.
    pub const fn told(&self) -> Option<Reason> {
        match self {
            Self::Finished(outcome) => Some(outcome.end_session_reason()),
            // 7 lets Jabber say "a certificate was already issued" (documented); 0 suits the others (captured).
            Self::NothingScheduled { version: Version::TWO } => Some(Reason::INVALID_ELEMENT),
            Self::NothingScheduled { .. } => Some(Reason::NO_ACTION),
            Self::UnknownDevice => Some(Reason::UNKNOWN_DEVICE),
            Self::Refused { .. }
            | Self::WrongSession { .. }
            | Self::UnexpectedCommand { .. }
            | Self::UnsupportedVersion { .. }
            | Self::Frame(_)
            | Self::Message(_)
            | Self::Unsendable(_) => Some(Reason::INVALID_ELEMENT),
            Self::Unavailable { .. } | Self::Deadline { .. } | Self::UnexpectedAnswer { .. } => None,
        }
    }

    /// A short fixed name, fit for a metric's label: there are thirteen.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Finished(_) => "finished",
            Self::NothingScheduled { .. } => "nothing_scheduled",
            Self::UnknownDevice => "unknown_device",
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
            Self::Deadline { .. } => "deadline",
            Self::WrongSession { .. } => "wrong_session",
            Self::UnexpectedCommand { .. } => "unexpected_command",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::Frame(_) => "malformed_frame",
            Self::Message(_) => "malformed_message",
            Self::Unsendable(_) => "unsendable",
            Self::UnexpectedAnswer { .. } => "unexpected_answer",
        }
    }
}
