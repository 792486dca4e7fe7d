//! What can go wrong in the harness itself.

use std::{io, time::Duration};

/// A failure of the harness, not of what is tested with it.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A build script under `e2e/` failed; it has said why on stderr.
    #[error("cannot run {script}: it ended with {status}; what it said stands above")]
    Build {
        /// The script, below the root of the repository.
        script: String,
        /// Its exit status.
        status: String,
    },
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    Io {
        /// Verb and object.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// The control plane did not start; `reason` holds the end of the guilty part's log.
    #[error("cannot start a control plane: {reason}")]
    Start {
        /// What the supervisor said.
        reason: String,
    },
    /// The supervisor did not do what it was told.
    #[error("cannot {command}: {reason}")]
    Control {
        /// The command as given.
        command: String,
        /// What the supervisor said.
        reason: String,
    },
    /// kubectl ended with an error.
    #[error("kubectl {args} ended with {status}: {stderr}")]
    Kubectl {
        /// Its arguments.
        args: String,
        /// Its exit status.
        status: String,
        /// What it said on stderr, trimmed.
        stderr: String,
    },
    /// A program that was to do something and end, ended with an error.
    #[error("{program} ended with {status}: {stderr}")]
    Program {
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// What it said on stderr, trimmed.
        stderr: String,
    },
    /// A pod has no running container.
    #[error("no container of pod {pod} runs")]
    NoContainer {
        /// Namespace and name.
        pod: String,
    },
    /// The API server refused, or could not be asked.
    #[error("cannot {action}: {source}")]
    Kube {
        /// Verb and object.
        action: String,
        /// What the client said.
        source: Box<kube::Error>,
    },
    /// A program did not start, or ended when it should not have.
    #[error("{name} ended with status {status}; the end of its log:\n{log}")]
    Ended {
        /// The program, by the name of its log.
        name: String,
        /// As a shell has it: 128 plus the signal for one that died of a signal.
        status: i32,
        /// The last lines of its log.
        log: String,
    },
    /// Something awaited did not happen in time.
    #[error("{what}: not within {timeout:?}; last seen: {last}")]
    TimedOut {
        /// What was awaited.
        what: String,
        /// How long.
        timeout: Duration,
        /// The state at the last look.
        last: String,
    },
}

impl HarnessError {
    /// Names the action that an [`io::Error`] ended, for `map_err`.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: action.into(), source }
    }

    /// Names the action that a [`kube::Error`] ended, for `map_err`.
    pub fn kube(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kube { action: action.into(), source: Box::new(source) }
    }
}
