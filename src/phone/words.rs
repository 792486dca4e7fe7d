//! Outcomes in the words of the phone's window.

use crate::wire::{CertType, Version};

use super::outcome::AttemptOutcome;

/// What the phone's window shows at the end.
pub(super) fn shown(outcome: &AttemptOutcome, version: Version) -> String {
    let hint = match outcome {
        AttemptOutcome::Refused { .. } if version == Version::TWO => {
            " (a phone of version 2 hears the same when nothing is scheduled for it)"
        }
        _ => "",
    };
    format!("{}{hint}", told(outcome))
}

/// The outcome in words.
pub(super) fn told(outcome: &AttemptOutcome) -> String {
    let list = |kinds: &[CertType]| {
        let names = kinds.iter().map(|kind| kind.name().unwrap_or("unknown"));
        names.collect::<Vec<_>>().join(", ")
    };
    match outcome {
        AttemptOutcome::Installed { .. } => "Installed. Success".to_owned(),
        AttemptOutcome::Deleted { had_one: true } => "Not Installed. Success: deleted".to_owned(),
        AttemptOutcome::Deleted { had_one: false } => "Not Installed. Success: there was none to delete".to_owned(),
        AttemptOutcome::Fetched { shown, missing } => match (&shown[..], &missing[..]) {
            (shown, []) => format!("Success: showed {}", list(shown)),
            ([], missing) => format!("Success: has no {} to show", list(missing)),
            (shown, missing) => {
                format!("Success: showed {}, has no {}", list(shown), list(missing))
            }
        },
        AttemptOutcome::NothingScheduled => "No operation: nothing is scheduled for this phone".to_owned(),
        AttemptOutcome::UnknownDevice => {
            "Failure: the server knows no device of this name; see that the Phone exists".to_owned()
        }
        AttemptOutcome::Refused { reason } => format!(
            "Failure: refused by the server, {reason}; a wrong authentication string, or the phone is not enabled for upgrade: see the Phone's status"
        ),
        AttemptOutcome::Aborted { reason } => {
            format!("Failure: stopped by the user; the server said {reason}")
        }
        AttemptOutcome::Failed { why, reason } => {
            format!("Failure: the phone answered with a failure: {why}; the server said {reason}")
        }
    }
}
