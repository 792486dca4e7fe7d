//! A budget of so many per second, that can be reserved and given back.

use jiff::Timestamp;

/// A token bucket: holds up to one second's worth.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: f64,
    at: Timestamp,
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn full(per_second: u16, now: Timestamp) -> Self {
        Self { left: f64::from(per_second), at: now }
    }

    /// Reserves one; false when there is none left.
    #[must_use]
    pub fn reserve(&mut self, per_second: u16, now: Timestamp) -> bool {
        // A clock set back gives nothing and takes nothing.
        let elapsed = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.at = now;
        self.left = (self.left + elapsed * f64::from(per_second)).min(f64::from(per_second));
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }

    /// Gives one back.
    pub fn give_back(&mut self) {
        self.left += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::at;

    #[test]
    fn a_budget_grants_its_rate_and_what_is_given_back() {
        let mut budget = Budget::full(3, at(0));
        assert_eq!((0..5).filter(|_| budget.reserve(3, at(0))).count(), 3);
        budget.give_back();
        assert!(budget.reserve(3, at(0)));
        assert!(!budget.reserve(3, at(0)));
        assert_eq!((0..9).filter(|_| budget.reserve(3, at(100))).count(), 3, "unused seconds do not add up");
        assert!(!budget.reserve(3, at(50)), "nor does a clock set back");
    }
}
