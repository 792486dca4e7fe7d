//! A budget that is spent one by one and fills up again with time.

use jiff::Timestamp;

/// The most a budget holds, and what it gains a second.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    most: f64,
    per_second: f64,
}

impl Rate {
    /// So many a second; holds one second's worth.
    #[must_use]
    pub fn a_second(most: u16) -> Self {
        Self { most: most.into(), per_second: most.into() }
    }

    /// So many an hour; holds one hour's worth.
    #[must_use]
    pub fn an_hour(most: u32) -> Self {
        Self { most: most.into(), per_second: f64::from(most) / 3600.0 }
    }
}

/// How much of a budget is left, and since when that is so; full before the first use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget(Option<(f64, Timestamp)>);

impl Budget {
    fn left(&mut self, rate: Rate, now: Timestamp) -> f64 {
        let (left, at) = self.0.unwrap_or((rate.most, now));
        // A clock set back gives nothing and takes nothing.
        let elapsed = now.duration_since(at).as_secs_f64().max(0.0);
        let left = (left + elapsed * rate.per_second).min(rate.most);
        self.0 = Some((left, now));
        left
    }

    /// Whether one is left.
    #[must_use]
    pub fn has_one(&mut self, rate: Rate, now: Timestamp) -> bool {
        self.left(rate, now) >= 1.0
    }

    /// Takes one, also of what is not there: later takers wait for it, up to as long again as the budget lasts.
    pub fn take(&mut self, rate: Rate, now: Timestamp) {
        let left = self.left(rate, now);
        self.0 = Some(((left - 1.0).max(-rate.most), now));
    }

    /// Takes one if it is left; whether it was.
    #[must_use]
    pub fn reserve(&mut self, rate: Rate, now: Timestamp) -> bool {
        let granted = self.has_one(rate, now);
        if granted {
            self.take(rate, now);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::at;

    #[test]
    fn a_budget_grants_its_rate_and_saves_nothing_beyond_it() {
        let (mut budget, rate) = (Budget::default(), Rate::a_second(3));
        assert_eq!((0..5).filter(|_| budget.reserve(rate, at(0))).count(), 3);
        assert_eq!((0..9).filter(|_| budget.reserve(rate, at(100))).count(), 3, "unused seconds do not add up");
        assert!(!budget.reserve(rate, at(50)), "nor does a clock set back");
    }

    #[test]
    fn what_is_taken_beyond_the_budget_is_paid_back_first() {
        let (mut budget, rate) = (Budget::default(), Rate::a_second(2));
        (0..9).for_each(|_| budget.take(rate, at(0)));
        assert!(!budget.has_one(rate, at(1)));
        assert!(budget.has_one(rate, at(2)));
    }
}
