//! When to look again, derived from what is on record rather than counted in memory.

use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(5);
const LAST: SignedDuration = SignedDuration::from_secs(300);

/// The next time to look at something that has been waiting since `since`: after as long again as it has waited
/// already, at least 5 seconds and at most 5 minutes. A restart of the controller does not start over.
#[must_use]
pub fn look_again(since: Timestamp, now: Timestamp) -> Timestamp {
    let waited = now.duration_since(since);
    let pause = waited.clamp(FIRST, LAST);
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::at;

    #[test]
    fn the_pause_grows_with_the_wait_between_its_bounds() {
        assert_eq!(look_again(at(100), at(100)), at(105));
        assert_eq!(look_again(at(100), at(160)), at(220));
        assert_eq!(look_again(at(0), at(10_000)), at(10_300));
        assert_eq!(look_again(at(200), at(100)), at(105), "a clock set back does not wait backwards");
    }
}
