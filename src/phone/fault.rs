//! Faults a simulated phone plays on purpose: which, at which step of a session, and in how many of its attempts.

use std::{fmt, str::FromStr};

/// A point of a session. Those named after a request lie before anything is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The TLS handshake is done, nothing was said.
    Connected,
    /// AUTH_REQ came.
    Auth,
    /// AUTH_RES went out.
    AuthSent,
    /// KEY_GENERATE_REQ came.
    Key,
    /// REQUEST_IN_PROGRESS went out. A phone of version 2 never comes here.
    Progress,
    /// The key is made and not sent.
    KeyMade,
    /// KEY_GENERATE_RES went out.
    KeySent,
    /// STORE_CERT_REQ came: the certificate is received, neither stored nor answered.
    Certificate,
    /// The certificate and its key are on disk, not answered.
    Stored,
    /// STORE_CERT_RES went out.
    Answered,
    /// DELETE_CERT_REQ came.
    Delete,
    /// The certificate is deleted, not answered.
    Deleted,
    /// DELETE_CERT_RES went out.
    DeleteAnswered,
    /// FETCH_CERT_REQ came.
    Fetch,
    /// FETCH_CERT_RES went out.
    FetchAnswered,
}

impl Step {
    /// All steps, in the order of a session.
    pub const ALL: [Self; 15] = [
        Self::Connected,
        Self::Auth,
        Self::AuthSent,
        Self::Key,
        Self::Progress,
        Self::KeyMade,
        Self::KeySent,
        Self::Certificate,
        Self::Stored,
        Self::Answered,
        Self::Delete,
        Self::Deleted,
        Self::DeleteAnswered,
        Self::Fetch,
        Self::FetchAnswered,
    ];

    /// The name on the command line and in the event log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Auth => "auth",
            Self::AuthSent => "auth-sent",
            Self::Key => "key",
            Self::Progress => "progress",
            Self::KeyMade => "key-made",
            Self::KeySent => "key-sent",
            Self::Certificate => "certificate",
            Self::Stored => "stored",
            Self::Answered => "answered",
            Self::Delete => "delete",
            Self::Deleted => "deleted",
            Self::DeleteAnswered => "delete-answered",
            Self::Fetch => "fetch",
            Self::FetchAnswered => "fetch-answered",
        }
    }

    /// Whether the phone owes an answer here that can say "no".
    const fn can_fail(self) -> bool {
        matches!(
            self,
            Self::Key
                | Self::Progress
                | Self::KeyMade
                | Self::Certificate
                | Self::Stored
                | Self::Delete
                | Self::Deleted
                | Self::Fetch
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Closes the connection without a word, as a power failure does.
    Drop,
    /// Says nothing more and waits for the server to end it.
    Stall,
    /// Answers with a failure.
    Fail,
    /// Sends ABORT_REQ, as when the user presses Stop.
    Abort,
}

impl FaultKind {
    /// The name on the command line and in the event log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Stall => "stall",
            Self::Fail => "fail",
            Self::Abort => "abort",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fault and where it happens: `KIND@STEP` or `KIND@STEP:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    kind: FaultKind,
    step: Step,
    /// Only in the first so many attempts; in all without it.
    attempts: Option<u32>,
}

impl Fault {
    /// A fault in all attempts.
    ///
    /// # Errors
    /// [`FaultError::CannotFail`] and [`FaultError::CannotAbort`] where the phone has nothing to say no to, or no session to
    /// give up.
    pub const fn new(kind: FaultKind, step: Step) -> Result<Self, FaultError> {
        match kind {
            FaultKind::Fail if !step.can_fail() => Err(FaultError::CannotFail { step }),
            FaultKind::Abort if matches!(step, Step::Connected) => Err(FaultError::CannotAbort),
            _ => Ok(Self { kind, step, attempts: None }),
        }
    }

    /// The same in the first `attempts` attempts only.
    #[must_use]
    pub const fn in_first(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// What happens at `step` of attempt `number`, the first being 1; the first fault that fits counts.
    pub fn at(faults: &[Self], step: Step, number: u32) -> Option<FaultKind> {
        faults
            .iter()
            .find(|fault| fault.step == step && fault.attempts.is_none_or(|first| number <= first))
            .map(|fault| fault.kind)
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (kind, rest) = text.split_once('@').ok_or(FaultError::Form)?;
        let (step, attempts) = match rest.split_once(':') {
            Some((step, attempts)) => (step, Some(attempts)),
            None => (rest, None),
        };
        let kind = match kind {
            "drop" => FaultKind::Drop,
            "stall" => FaultKind::Stall,
            "fail" => FaultKind::Fail,
            "abort" => FaultKind::Abort,
            _ => return Err(FaultError::Kind),
        };
        let known = Step::ALL.into_iter().find(|known| known.name() == step);
        let fault = Self::new(kind, known.ok_or(FaultError::Step)?)?;
        match attempts.map(str::parse) {
            None => Ok(fault),
            Some(Ok(attempts)) => Ok(fault.in_first(attempts)),
            Some(Err(_)) => Err(FaultError::Attempts),
        }
    }
}

/// Why a text is no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No `@`.
    #[error("read fault: write KIND@STEP or KIND@STEP:N, such as drop@certificate:1")]
    Form,
    /// An unknown kind.
    #[error("read fault: the kind is drop, stall, fail or abort")]
    Kind,
    /// An unknown step.
    #[error("read fault: the step is one of {}", Step::ALL.map(Step::name).join(", "))]
    Step,
    /// Not a number of attempts.
    #[error("read fault: after the colon stands a number of attempts")]
    Attempts,
    /// Nothing to say no to.
    #[error(
        "read fault: a phone has nothing to refuse at {step}; fail is for key, progress, key-made, certificate, stored, delete, deleted and fetch"
    )]
    CannotFail {
        /// Where it was to.
        step: Step,
    },
    /// No session to give up.
    #[error("read fault: before AUTH_REQ there is no session to give up; abort at auth or later")]
    CannotAbort,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_kind_a_step_and_perhaps_a_number_of_attempts() {
        let fault: Fault = "drop@certificate:2".parse().unwrap();
        let at = |step, number| Fault::at(&[fault], step, number);
        assert_eq!(at(Step::Certificate, 1), Some(FaultKind::Drop));
        assert_eq!(at(Step::Certificate, 2), Some(FaultKind::Drop));
        assert_eq!(at(Step::Certificate, 3), None);
        assert_eq!(at(Step::Stored, 1), None);
        let always: Fault = "stall@key-sent".parse().unwrap();
        assert_eq!(Fault::at(&[always], Step::KeySent, 99), Some(FaultKind::Stall));
    }

    #[test]
    fn every_step_can_be_written() {
        for step in Step::ALL {
            let fault: Fault = format!("drop@{step}").parse().unwrap();
            assert_eq!(Fault::at(&[fault], step, 1), Some(FaultKind::Drop));
        }
    }

    #[test]
    fn what_cannot_happen_is_refused_with_advice() {
        for (text, advice) in [
            ("drop", "KIND@STEP"),
            ("burn@key", "drop, stall, fail or abort"),
            ("drop@dinner", "connected, auth"),
            ("drop@key:x", "number of attempts"),
            ("fail@auth", "nothing to refuse"),
            ("abort@connected", "auth or later"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
