//! The one place that reads the clock. Decisions get the time as an argument.

use jiff::Timestamp;

/// Names a file with a number of seconds to add to the clock, read at each look; in debug builds only, so that
/// tests can move the clock of a running program.
#[cfg(debug_assertions)]
pub const OFFSET_FILE: &str = "CAPF_TEST_CLOCK_OFFSET_FILE";

/// The present time.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    #[cfg(debug_assertions)]
    let now = moved(now);
    now
}

#[cfg(debug_assertions)]
fn moved(now: Timestamp) -> Timestamp {
    let offset = std::env::var_os(OFFSET_FILE)
        .and_then(|file| std::fs::read_to_string(file).ok())
        .and_then(|text| text.trim().parse().ok());
    offset.map_or(now, |seconds| now + jiff::SignedDuration::from_secs(seconds))
}
