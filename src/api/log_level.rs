//! The level at which everything about one phone is logged: the trace settings of the source, for one phone and at run time.
//!
//! An annotation and no field of the spec. It is for the hours of a search: whoever types `kubectl annotate` changes
//! nothing that Git holds, so no GitOps tool takes it back, and it starts no run and makes no new generation.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Phone;

/// The annotation of a Phone.
pub const LOG_LEVEL_ANNOTATION: &str = "capf.dev/log-level";

/// A level of the log. Each holds those before it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Faults of this program.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// Every level.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no level. Holds at most 32 characters of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no level; allowed are error, warn, info, debug and trace")]
pub struct NoLevel(String);

impl FromStr for LogLevel {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Self, NoLevel> {
        let found = Self::ALL.into_iter().find(|level| level.word() == text);
        found.ok_or_else(|| NoLevel(super::conditions::bounded(text.to_owned(), 32)))
    }
}

/// The level that a Phone's annotation asks for, if it has one.
///
/// # Errors
/// When the annotation names no level.
pub fn log_level(phone: &Phone) -> Result<Option<LogLevel>, NoLevel> {
    let annotation = phone.metadata.annotations.as_ref().and_then(|all| all.get(LOG_LEVEL_ANNOTATION));
    annotation.map(|text| text.parse()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_of_five_words() {
        for level in LogLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        let long = "x".repeat(100).parse::<LogLevel>().unwrap_err().to_string();
        assert!(long.contains("allowed are error, warn, info, debug and trace") && long.len() < 110, "{long}");
    }
}
