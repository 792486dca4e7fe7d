//! What is noticed at the door and written down at leisure: devices that nobody knows, and source blocks that guess strings.
//!
//! Neither may cost the API server a write each time. A replica gathers what it notices, and writes when a name or a block is
//! new to the proxy's status; what else it gathered goes along. Lists are merged, so that replicas do not undo each other.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::blocks::SourceBlock;
use crate::api::{CertificateAuthorityProxyStatus, Condition, ConditionType, Conditions, GuessingBlock, UnknownCaller};

/// Unknown callers in a proxy's status, and in a replica's memory, as the schema says.
const MOST_CALLERS: usize = 100;
/// Guessing blocks in a proxy's status, as the schema says.
const MOST_GUESSING: usize = 16;
/// How long a block is shown after it was last seen guessing.
const GUESSING_SHOWN: SignedDuration = SignedDuration::from_hours(1);
/// How old the time in status may be before it is written anew for a block that goes on.
const SEEN_AGAIN: SignedDuration = SignedDuration::from_mins(30);

/// What one replica has noticed at one proxy since it last wrote that down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Noticed {
    callers: Vec<UnknownCaller>,
    guessing: BTreeMap<SourceBlock, (Timestamp, Timestamp)>,
}

/// Whether this may be the name of a device; as the schema of a Phone says, in upper case.
#[must_use]
pub fn is_device_name(name: &str) -> bool {
    let mut rest = name.bytes();
    (3..=15).contains(&name.len())
        && rest.next().is_some_and(|first| first.is_ascii_uppercase())
        && rest.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-'))
}

impl Noticed {
    /// A device called that no Phone stands for. What cannot be a device's name is not noted.
    pub fn unknown(&mut self, name: &str, source: Option<SourceBlock>, now: Timestamp) {
        if !is_device_name(name) {
            return;
        }
        let call = UnknownCaller {
            device_name: name.to_owned(),
            first_seen: now,
            last_seen: now,
            source_block: source.map(|block| block.to_string()),
            calls: 1,
        };
        add(&mut self.callers, call);
    }

    /// A string was answered without a check because of its block.
    pub fn guessing(&mut self, block: SourceBlock, now: Timestamp) {
        if self.guessing.len() < MOST_GUESSING || self.guessing.contains_key(&block) {
            let seen = self.guessing.entry(block).or_insert((now, now));
            seen.1 = seen.1.max(now);
        }
    }

    /// Whether something is new, and the proxy's status to be written for it.
    #[must_use]
    pub fn is_news(&self, status: Option<&CertificateAuthorityProxyStatus>) -> bool {
        let known = status.map_or(&[][..], |s| &s.unknown_callers);
        let new_name = |call: &UnknownCaller| known.iter().all(|k| k.device_name != call.device_name);
        let shown = status.map_or(&[][..], |s| &s.guessing_blocks);
        let news = |block: &SourceBlock, last: Timestamp| {
            let before = shown.iter().find(|s| s.source_block == block.to_string());
            before.is_none_or(|before| last.duration_since(before.last_seen) >= SEEN_AGAIN)
        };
        self.callers.iter().any(new_name) || self.guessing.iter().any(|(block, (_, last))| news(block, *last))
    }

    /// The blocks that are not shown yet, for an Event.
    #[must_use]
    pub fn new_blocks(&self, status: Option<&CertificateAuthorityProxyStatus>) -> Vec<String> {
        let shown = status.map_or(&[][..], |s| &s.guessing_blocks);
        let blocks = self.guessing.keys().map(ToString::to_string);
        blocks.filter(|block| shown.iter().all(|s| s.source_block != *block)).collect()
    }

    /// The proxy's status with what was noticed in it. `is_known` tells of which devices there is a Phone by now.
    #[must_use]
    pub fn merged_into(
        &self,
        status: CertificateAuthorityProxyStatus,
        generation: Option<i64>,
        is_known: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> CertificateAuthorityProxyStatus {
        let mut next = status.clone();
        next.unknown_callers.retain(|call| !is_known(&call.device_name));
        for call in self.callers.iter().filter(|call| !is_known(&call.device_name)) {
            add(&mut next.unknown_callers, call.clone());
        }
        next.unknown_callers.sort_by(|a, b| a.device_name.cmp(&b.device_name));
        for (block, (first, last)) in &self.guessing {
            let source_block = block.to_string();
            match next.guessing_blocks.iter_mut().find(|shown| shown.source_block == source_block) {
                Some(shown) => shown.last_seen = shown.last_seen.max(*last),
                None => next.guessing_blocks.push(GuessingBlock { source_block, first_seen: *first, last_seen: *last }),
            }
        }
        let mut next = pruned(next, now);
        let others = next.conditions.iter().filter(|c| c.type_ != ConditionType::GuessingSuspected).cloned().collect();
        next.conditions = with_guessing(others, &next, generation, now);
        next
    }

    /// Takes what another has noticed, as after a write that did not come through.
    pub fn take_back(&mut self, other: Self) {
        for call in other.callers {
            add(&mut self.callers, call);
        }
        for (block, (first, last)) in other.guessing {
            self.guessing(block, last);
            self.guessing.entry(block).and_modify(|seen| seen.0 = seen.0.min(first));
        }
    }
}

/// Adds calls of one device to a list, which stays bounded.
fn add(callers: &mut Vec<UnknownCaller>, call: UnknownCaller) {
    match callers.iter_mut().find(|known| known.device_name == call.device_name) {
        Some(known) => {
            known.first_seen = known.first_seen.min(call.first_seen);
            if call.last_seen >= known.last_seen {
                known.last_seen = call.last_seen;
                known.source_block = call.source_block.or(known.source_block.take());
            }
            known.calls = known.calls.saturating_add(call.calls);
        }
        None => callers.push(call),
    }
    if callers.len() > MOST_CALLERS {
        // Of the block that takes most places the one that has been silent for longest: made-up names from one place push out
        // each other, and not the phones of other places.
        let mut places: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        callers.iter().for_each(|known| *places.entry(known.source_block.as_deref()).or_default() += 1);
        let place = |known: &UnknownCaller| places[&known.source_block.as_deref()];
        let out = (0..callers.len()).min_by_key(|&at| (usize::MAX - place(&callers[at]), callers[at].last_seen));
        out.map(|at| callers.remove(at));
    }
}

/// The status without blocks that have long been silent, and with the newest only.
#[must_use]
pub fn pruned(mut status: CertificateAuthorityProxyStatus, now: Timestamp) -> CertificateAuthorityProxyStatus {
    status.guessing_blocks.retain(|shown| now.duration_since(shown.last_seen) < GUESSING_SHOWN);
    status.guessing_blocks.sort_by_key(|shown| shown.last_seen);
    let excess = status.guessing_blocks.len().saturating_sub(MOST_GUESSING);
    status.guessing_blocks.drain(..excess);
    status
}

/// The conditions, and `GuessingSuspected` beside them while a block of the status is shown.
#[must_use]
pub fn with_guessing(
    mut conditions: Vec<Condition>,
    status: &CertificateAuthorityProxyStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let shown = pruned(status.clone(), now).guessing_blocks;
    if shown.is_empty() {
        return conditions;
    }
    let blocks: Vec<_> = shown.iter().map(|shown| shown.source_block.as_str()).collect();
    let said = Conditions::over(&status.conditions, generation, now).say(
        ConditionType::GuessingSuspected,
        true,
        "WrongStrings",
        guessing_message(&blocks.join(", ")),
    );
    conditions.extend(said.done());
    conditions
}

/// What is said of blocks that guess, in the condition and in the Event.
#[must_use]
pub fn guessing_message(blocks: &str) -> String {
    format!(
        "many wrong authentication strings from {blocks}: strings from there are answered without a check for a while, right \
         ones too; look who is there, and let nobody but phones reach the CAPF port"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ConditionStatus;
    use crate::domain::testing::at;

    fn block(text: &str) -> SourceBlock {
        SourceBlock::of(text.parse().unwrap())
    }

    fn names(status: &CertificateAuthorityProxyStatus) -> Vec<&str> {
        status.unknown_callers.iter().map(|call| call.device_name.as_str()).collect()
    }

    fn nobody(_: &str) -> bool {
        false
    }

    #[test]
    fn only_what_may_be_a_device_is_noted() {
        let mut noticed = Noticed::default();
        for name in ["", "SE", "sep001", "1SEP", "SEP 1", "SEP\n1", "SEP001122334455X", "../SECRET"] {
            noticed.unknown(name, None, at(1));
        }
        assert_eq!(noticed, Noticed::default());
        noticed.unknown("SEP001122334455", None, at(1));
        noticed.unknown("A-1", None, at(1));
        assert_eq!(noticed.callers.len(), 2);
    }

    #[test]
    fn a_name_that_is_listed_calls_for_no_write_and_goes_along_with_one_that_is_new() {
        let mut noticed = Noticed::default();
        noticed.unknown("SEP1", Some(block("192.0.2.9")), at(10));
        assert!(noticed.is_news(None));
        let status = noticed.merged_into(Default::default(), Some(1), nobody, at(11));
        assert_eq!(status.unknown_callers[0].source_block.as_deref(), Some("192.0.2.0/24"));
        let mut again = Noticed::default();
        again.unknown("SEP1", Some(block("198.51.100.1")), at(20));
        assert!(!again.is_news(Some(&status)));
        again.unknown("SEP2", None, at(21));
        assert!(again.is_news(Some(&status)));
        let status = again.merged_into(status, Some(1), nobody, at(22));
        assert_eq!(names(&status), ["SEP1", "SEP2"]);
        let first = &status.unknown_callers[0];
        assert_eq!((first.first_seen, first.last_seen, first.calls), (at(10), at(20), 2));
        assert_eq!(first.source_block.as_deref(), Some("198.51.100.0/24"));
    }

    #[test]
    fn a_device_that_has_a_phone_by_now_leaves_the_list() {
        let mut noticed = Noticed::default();
        noticed.unknown("SEP1", None, at(1));
        noticed.unknown("SEP2", None, at(1));
        let status = noticed.merged_into(Default::default(), None, |name| name == "SEP1", at(2));
        assert_eq!(names(&status), ["SEP2"]);
        let status = Noticed::default().merged_into(status, None, |name| name == "SEP2", at(3));
        assert!(status.unknown_callers.is_empty());
    }

    #[test]
    fn made_up_names_from_one_place_do_not_push_out_the_phones_of_another() {
        let mut status = CertificateAuthorityProxyStatus::default();
        let mut quiet = Noticed::default();
        (0..20).for_each(|n| quiet.unknown(&format!("SEPA{n}"), Some(block("198.51.100.1")), at(n)));
        status = quiet.merged_into(status, None, nobody, at(50));
        for round in 0..50 {
            let mut flood = Noticed::default();
            (0..1_000).for_each(|n| {
                flood.unknown(&format!("SEPF{round}X{n}"), Some(block("192.0.2.1")), at(100 + round * 1_000 + n));
            });
            assert_eq!(flood.callers.len(), MOST_CALLERS, "a replica's memory is bounded too");
            status = flood.merged_into(status, None, nobody, at(100_000));
        }
        assert_eq!(status.unknown_callers.len(), MOST_CALLERS);
        let kept = names(&status).iter().filter(|name| name.starts_with("SEPA")).count();
        assert_eq!(kept, 20);
        assert!(serde_json::to_string(&status).unwrap().len() < 32 * 1024);
    }

    #[test]
    fn a_guessing_block_is_shown_once_named_in_the_condition_and_forgotten_after_an_hour() {
        let mut noticed = Noticed::default();
        noticed.guessing(block("192.0.2.1"), at(10));
        assert_eq!(noticed.new_blocks(None), ["192.0.2.0/24"]);
        let ready = Conditions::over(&[], None, at(1)).say(ConditionType::Ready, true, "Activated", "").done();
        let status = CertificateAuthorityProxyStatus { conditions: ready, ..Default::default() };
        let status = noticed.merged_into(status, Some(1), nobody, at(11));
        let types: Vec<_> = status.conditions.iter().map(|c| (c.type_, c.status)).collect();
        let yes = ConditionStatus::True;
        assert_eq!(types, [(ConditionType::Ready, yes), (ConditionType::GuessingSuspected, yes)]);
        assert!(status.conditions[1].message.contains("192.0.2.0/24"));
        let mut again = Noticed::default();
        again.guessing(block("192.0.2.200"), at(700));
        assert!(!again.is_news(Some(&status)) && again.new_blocks(Some(&status)).is_empty());
        again.guessing(block("192.0.2.200"), at(2_000));
        assert!(again.is_news(Some(&status)), "half an hour later it is written that it goes on");
        let status = again.merged_into(status, Some(1), nobody, at(2_000));
        assert_eq!(status.conditions.len(), 2);
        let later = Noticed::default().merged_into(status, Some(1), nobody, at(2_000 + 3_600));
        assert_eq!((later.conditions.len(), later.guessing_blocks.len()), (1, 0));
    }

    #[test]
    fn what_could_not_be_written_is_kept_with_what_came_since() {
        let (mut kept, mut since) = (Noticed::default(), Noticed::default());
        kept.unknown("SEP1", None, at(1));
        kept.guessing(block("192.0.2.1"), at(1));
        since.unknown("SEP1", None, at(9));
        since.guessing(block("192.0.2.1"), at(9));
        since.take_back(kept);
        assert_eq!((since.callers[0].calls, since.callers[0].first_seen), (2, at(1)));
        assert_eq!(since.guessing[&block("192.0.2.1")], (at(1), at(9)));
    }
}
