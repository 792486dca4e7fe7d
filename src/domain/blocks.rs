//! Who is guessing: wrong authentication strings by the part of the network they come from, and the budgets of wrong tries.
//!
//! A *block* is what one attacker is likely to hold: an IPv4 /24 or an IPv6 /56. A block that fails pays before the device it
//! names does: its strings are answered without a check, so they cost that device no try and the API server no write. What is
//! spent:
//!
//! - Each wrong string counts against its block; each right one, and every `FORGIVEN_EVERY`, takes one off again.
//! - At `wrongStringsPerBlock` the block is penalised for `blockPenaltySeconds`. A failure after that penalises it for twice as
//!   long, up to `LONGEST_PENALTY`; so does going on at a rate that no person has, without any further check.
//! - Wrong strings of the whole proxy have a budget a second and one an hour. When either is spent, blocks that have failed are
//!   answered without a check. A block that has not failed is checked always.
//!
//! All of it is one replica's own and forgotten with it: what must survive stands in status.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::HashMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::budget::{Budget, Rate};
use crate::api::EndpointLimits;

/// Blocks remembered for a proxy; beyond them the one not heard of for longest is forgotten.
const MOST_BLOCKS: usize = 4096;
/// Longest penalty, however often a block fails.
const LONGEST_PENALTY: SignedDuration = SignedDuration::from_hours(1);
/// A block that is not penalised is forgiven one failure for each of these.
const FORGIVEN_EVERY: SignedDuration = SignedDuration::from_mins(6);

/// An IPv4 /24 or an IPv6 /56.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceBlock(IpAddr);

impl SourceBlock {
    /// The block of an address. An IPv4 address written as IPv6 is an IPv4 one.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8))),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 72))),
        })
    }
}

impl fmt::Display for SourceBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 56 })
    }
}

/// Whether what came is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// The string is checked, and counts.
    Check,
    /// It is answered as a wrong one is, without a check: its block is penalised until then.
    Penalised(Timestamp),
    /// The same, because a budget is spent and its block has failed before.
    BudgetSpent,
}

/// What one replica has seen go wrong at one proxy.
#[derive(Debug, Default)]
pub struct Guesses {
    blocks: HashMap<SourceBlock, Record>,
    second: Budget,
    hour: Budget,
}

/// What is remembered of a block that failed.
#[derive(Debug)]
struct Record {
    failures: u16,
    /// From when on failures are forgiven; moves with each that was.
    since: Timestamp,
    penalty: Option<Penalty>,
    /// How long the newest penalty was.
    length: SignedDuration,
    heard: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Penalty {
    until: Timestamp,
    /// Strings answered without a check during it.
    turned_away: u32,
}

impl Guesses {
    /// Whether a string from `source` is checked now. A caller whose block is not known, as that of an older endpoint, is
    /// never penalised and never excepted from the budgets.
    #[must_use]
    pub fn admits(&mut self, source: Option<SourceBlock>, limits: &EndpointLimits, now: Timestamp) -> Admission {
        if let Some(source) = source {
            let Some(record) = self.blocks.get_mut(&source) else { return Admission::Check };
            record.bring_forward(limits, now);
            record.heard = now;
            if let Some(penalty) = &mut record.penalty {
                penalty.turned_away = penalty.turned_away.saturating_add(1);
                return Admission::Penalised(penalty.until);
            }
            if record.failures == 0 {
                self.blocks.remove(&source);
                return Admission::Check;
            }
        }
        let left = self.second.has_one(second(limits), now) && self.hour.has_one(hour(limits), now);
        if left { Admission::Check } else { Admission::BudgetSpent }
    }

    /// A string from `source` was checked and is wrong. Says whether that penalises its block.
    pub fn failed(&mut self, source: Option<SourceBlock>, limits: &EndpointLimits, now: Timestamp) -> bool {
        // A block that had not failed is checked whatever is left, and those that have wait for it.
        self.second.take(second(limits), now);
        self.hour.take(hour(limits), now);
        let Some(source) = source else { return false };
        if !self.blocks.contains_key(&source) && self.blocks.len() >= MOST_BLOCKS {
            let oldest = self.blocks.iter().min_by_key(|(_, record)| record.heard).map(|(block, _)| *block);
            oldest.map(|block| self.blocks.remove(&block));
        }
        let record = self.blocks.entry(source).or_insert_with(|| Record::new(now));
        record.bring_forward(limits, now);
        record.failed(limits, now)
    }

    /// A string from `source` was checked and is right: of those who enter strings there, most mean well.
    pub fn right(&mut self, source: Option<SourceBlock>) {
        let Some(source) = source else { return };
        if let Some(record) = self.blocks.get_mut(&source) {
            record.failures = record.failures.saturating_sub(1);
            if record.failures == 0 && record.penalty.is_none() {
                self.blocks.remove(&source);
            }
        }
    }
}

impl Record {
    fn new(now: Timestamp) -> Self {
        Self { failures: 0, since: now, penalty: None, length: SignedDuration::ZERO, heard: now }
    }

    fn failed(&mut self, limits: &EndpointLimits, now: Timestamp) -> bool {
        self.heard = now;
        self.failures = self.failures.saturating_add(1).min(limits.wrong_strings_per_block);
        if self.failures < limits.wrong_strings_per_block {
            return false;
        }
        self.penalise(limits, now);
        true
    }

    fn penalise(&mut self, limits: &EndpointLimits, from: Timestamp) {
        let first = SignedDuration::from_secs(limits.block_penalty_seconds.into());
        self.length = self.length.saturating_mul(2).clamp(first, LONGEST_PENALTY);
        self.penalty = Some(Penalty { until: after(from, self.length), turned_away: 0 });
    }

    /// Lets the time pass: ends penalties, or follows one by another, and forgives.
    fn bring_forward(&mut self, limits: &EndpointLimits, now: Timestamp) {
        while let Some(penalty) = self.penalty {
            // A clock set back lengthens no penalty.
            let until = penalty.until.min(after(now, self.length));
            if now < until {
                self.penalty = Some(Penalty { until, ..penalty });
                return;
            }
            self.penalty = None;
            self.since = until;
            if penalty.turned_away > u32::from(limits.wrong_strings_per_block) {
                self.penalise(limits, until);
            }
        }
        while self.failures > 0 && after(self.since, FORGIVEN_EVERY) <= now {
            self.since = after(self.since, FORGIVEN_EVERY);
            self.failures -= 1;
        }
        self.since = self.since.min(now);
    }
}

fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

fn second(limits: &EndpointLimits) -> Rate {
    Rate::a_second(limits.wrong_strings_per_second)
}

fn hour(limits: &EndpointLimits) -> Rate {
    Rate::an_hour(limits.wrong_strings_per_hour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::at;

    fn block(text: &str) -> Option<SourceBlock> {
        Some(SourceBlock::of(text.parse().unwrap()))
    }

    /// A wrong string at second `t`; whether it was checked.
    fn wrong(guesses: &mut Guesses, source: Option<SourceBlock>, limits: &EndpointLimits, t: i64) -> bool {
        let checked = guesses.admits(source, limits, at(t)) == Admission::Check;
        if checked {
            guesses.failed(source, limits, at(t));
        }
        checked
    }

    #[test]
    fn a_block_is_a_24_of_ipv4_and_a_56_of_ipv6() {
        for (address, named) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.0/24"),
            ("2001:db8:1:2ff:3::4", "2001:db8:1:200::/56"),
        ] {
            assert_eq!(SourceBlock::of(address.parse().unwrap()).to_string(), named);
        }
        assert_ne!(block("192.0.2.1"), block("192.0.3.1"));
    }

    #[test]
    fn a_block_that_fails_is_checked_ten_times_and_then_not_for_a_minute_whatever_it_names() {
        let (mut guesses, limits) = (Guesses::default(), EndpointLimits::default());
        let checked = (0..100_000).filter(|n| wrong(&mut guesses, block("192.0.2.1"), &limits, n / 2_000)).count();
        assert_eq!(checked, 10);
        assert!(wrong(&mut guesses, block("198.51.100.1"), &limits, 50), "another block goes on");
    }

    #[test]
    fn who_goes_on_faster_than_a_person_is_not_checked_again_until_it_stops() {
        let (mut guesses, limits) = (Guesses::default(), EndpointLimits::default());
        let checked = (0..100_000).filter(|n| wrong(&mut guesses, block("192.0.2.1"), &limits, *n)).count();
        assert_eq!(checked, 10, "one a second for a day");
        // The penalty under way, and one that follows it because of what came during it, are the last.
        assert!(wrong(&mut guesses, block("192.0.2.1"), &limits, 100_000 + 2 * 3600));
    }

    #[test]
    fn who_waits_each_penalty_out_gets_fewer_and_fewer_checks() {
        let (mut guesses, limits) = (Guesses::default(), EndpointLimits::default());
        let mut checked = 0;
        let mut t = 0;
        while t < 24 * 3600 {
            match guesses.admits(block("192.0.2.1"), &limits, at(t)) {
                Admission::Check => {
                    checked += 1;
                    guesses.failed(block("192.0.2.1"), &limits, at(t));
                }
                Admission::Penalised(until) => t = until.as_second(),
                Admission::BudgetSpent => t += 1,
            }
        }
        assert!((20..60).contains(&checked), "{checked} checks in a day");
    }

    #[test]
    fn people_who_mistype_now_and_then_are_never_penalised() {
        let (mut guesses, limits) = (Guesses::default(), EndpointLimits::default());
        for n in 0..1_000 {
            assert_eq!(guesses.admits(block("192.0.2.1"), &limits, at(n)), Admission::Check, "string {n}");
            if n % 3 == 0 {
                assert!(!guesses.failed(block("192.0.2.1"), &limits, at(n)));
            } else {
                guesses.right(block("192.0.2.1"));
            }
        }
    }

    #[test]
    fn failures_are_forgiven_in_time() {
        let (mut guesses, limits) = (Guesses::default(), EndpointLimits::default());
        for n in 0..9 {
            assert!(wrong(&mut guesses, block("192.0.2.1"), &limits, n));
        }
        let later = 9 * FORGIVEN_EVERY.as_secs() + 9;
        assert_eq!(guesses.admits(block("192.0.2.1"), &limits, at(later)), Admission::Check);
        assert!(guesses.blocks.is_empty());
    }

    #[test]
    fn a_spent_budget_holds_up_only_blocks_that_have_failed() {
        for limits in [
            EndpointLimits { wrong_strings_per_second: 3, ..EndpointLimits::default() },
            EndpointLimits { wrong_strings_per_hour: 3, ..EndpointLimits::default() },
        ] {
            let mut guesses = Guesses::default();
            assert_eq!((0..9).filter(|_| wrong(&mut guesses, block("192.0.2.1"), &limits, 0)).count(), 3);
            assert_eq!(guesses.admits(block("192.0.2.1"), &limits, at(0)), Admission::BudgetSpent);
            assert_eq!(guesses.admits(None, &limits, at(0)), Admission::BudgetSpent, "an older endpoint's caller");
            assert_eq!(guesses.admits(block("198.51.100.1"), &limits, at(0)), Admission::Check);
        }
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_was_not_heard_of_for_longest() {
        let (mut guesses, limits) = (Guesses::default(), EndpointLimits::default());
        for n in 0..u32::try_from(MOST_BLOCKS).unwrap() + 5 {
            let source = Some(SourceBlock::of(IpAddr::V4(Ipv4Addr::from_bits(n << 8))));
            assert!(wrong(&mut guesses, source, &limits, n.into()), "block {n}");
        }
        assert_eq!(guesses.blocks.len(), MOST_BLOCKS);
        assert!(!guesses.blocks.contains_key(&block("0.0.0.1").unwrap()));
    }

    #[test]
    fn a_clock_set_back_lengthens_no_penalty() {
        let (mut guesses, limits) = (Guesses::default(), EndpointLimits::default());
        assert_eq!((0..10).filter(|n| wrong(&mut guesses, block("192.0.2.1"), &limits, 100_000 + n)).count(), 10);
        assert_eq!(guesses.admits(block("192.0.2.1"), &limits, at(0)), Admission::Penalised(at(60)));
        assert_eq!(guesses.admits(block("192.0.2.1"), &limits, at(60)), Admission::Check);
    }
}
