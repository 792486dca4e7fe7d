//! The level at which one phone is logged, by its annotation.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::world::ObjectKey;
use crate::api::{LOG_LEVEL_ANNOTATION, LogLevel, Phone, log_level};

/// Phones whose annotation names no level, with the warning that was written about it.
static WARNED: Mutex<BTreeMap<ObjectKey, String>> = Mutex::new(BTreeMap::new());
/// So many are remembered; beyond them, what was warned of may be warned of again.
const MOST_WARNED: usize = 1024;

/// The level for this phone, if its annotation names one. One that names none is warned of, once.
#[must_use]
pub fn level_of(phone: &Phone) -> Option<LogLevel> {
    let asked = log_level(phone);
    if matches!(asked, Ok(None)) {
        return None;
    }
    let key = ObjectKey::of(phone);
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    match asked {
        Ok(level) => {
            warned.remove(&key);
            level
        }
        Err(error) => {
            let text = error.to_string();
            if warned.get(&key) != Some(&text) {
                tracing::warn!(phone = %key, "its annotation {LOG_LEVEL_ANNOTATION} is passed over: {text}");
                if warned.len() >= MOST_WARNED {
                    warned.clear();
                }
                warned.insert(key, text);
            }
            None
        }
    }
}
