//! How a connection came to its end, and its line in the log.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::wire::{CloseReason, FrameError, Waiting};

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum End {
    /// The session ended.
    Closed(CloseReason),
    /// The phone hung up, in the middle of a frame perhaps.
    HungUp(Waiting, Option<FrameError>),
    /// The connection broke.
    Broken(Waiting, io::Error),
    /// The phone does not take what is sent to it.
    Stuck,
    /// The session wants nothing: a fault of this program.
    Idle(Waiting),
}

impl End {
    /// Writes the session's line. `because` is what the authority said, where the session itself does not know.
    pub(super) fn log(&self, because: Option<&str>, took: Duration) {
        let end = self.label();
        let seconds = took.as_secs_f32();
        match because {
            Some(because) => tracing::info!(end, because, seconds, "{self}"),
            None => tracing::info!(end, seconds, "{self}"),
        }
    }

    /// A short fixed name, fit for a metric's label.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Closed(reason) => reason.label(),
            Self::HungUp(..) => "hung_up",
            Self::Broken(..) => "broken",
            Self::Stuck => "stuck",
            Self::Idle(_) => "idle",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => reason.fmt(f),
            Self::HungUp(waiting, None) => {
                write!(f, "leave phone: it hung up while {waiting} was awaited; it may come again")
            }
            Self::HungUp(waiting, Some(cut)) => {
                write!(f, "leave phone: it hung up while {waiting} was awaited: {cut}")
            }
            Self::Broken(waiting, error) => {
                write!(f, "leave phone: the connection broke while {waiting} was awaited: {error}; it may come again")
            }
            Self::Stuck => f.write_str("leave phone: it did not take what was sent to it; it may come again"),
            Self::Idle(waiting) => {
                write!(f, "leave phone: its session waits for {waiting} and wants nothing done; report this fault")
            }
        }
    }
}
