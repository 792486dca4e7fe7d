//! Strangers: connections whose phones have not presented themselves, by the block of addresses they come from. Who makes room when
//! an endpoint is full.
//!
//! Such a connection costs whoever opens it next to nothing. When all places are taken, a newcomer gets the place of the oldest
//! stranger of the block that has most of them: a crowd from one block fills what others leave free, and displaces only itself.
//! Where a block holds many phones, behind one address even, nothing is taken from it as long as there are places.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::domain::blocks::SourceBlock;

/// A block is crowded beyond so many strangers: more than come at once from a desk, fewer than from a building.
const CROWDED: usize = 64;

/// The strangers, each with what ends its connection.
#[derive(Debug)]
pub(super) struct Strangers<T> {
    next: u64,
    /// By block, the oldest first.
    blocks: HashMap<SourceBlock, BTreeMap<u64, T>>,
    /// The same blocks, the one that has fewest first.
    by_count: BTreeSet<(usize, SourceBlock)>,
}

impl<T> Default for Strangers<T> {
    fn default() -> Self {
        Self { next: 0, blocks: HashMap::new(), by_count: BTreeSet::new() }
    }
}

impl<T> Strangers<T> {
    /// The number that the next one to enter gets.
    pub(super) const fn next_number(&self) -> u64 {
        self.next
    }

    /// How long a newcomer of this block may take for its handshake: all of `most`, and in a crowded block between half of it and
    /// all, by what was drawn. A crowd that came in one moment would else be closed in one, come again in one, and hold up in
    /// each whoever comes then.
    pub(super) fn patience_with(&self, newcomer: SourceBlock, most: Duration, drawn: u32) -> Duration {
        if self.count(newcomer) < CROWDED {
            most
        } else {
            most / 2 + most.mul_f64(f64::from(drawn) / f64::from(u32::MAX)) / 2
        }
    }

    /// A connection begins.
    pub(super) fn enter(&mut self, block: SourceBlock, end: T) {
        let number = self.next;
        self.next += 1;
        self.change(block, |strangers| strangers.insert(number, end));
    }

    /// Its phone has presented itself, or it is over; nothing if it had to make room.
    pub(super) fn leave(&mut self, block: SourceBlock, number: u64) {
        self.change(block, |strangers| strangers.remove(&number));
    }

    /// Who makes room for a newcomer of this block: the oldest of the block that has most, if that has more than the newcomer's.
    pub(super) fn make_room_for(&mut self, newcomer: SourceBlock) -> Option<T> {
        let (most, block) = *self.by_count.last()?;
        if most <= self.count(newcomer) {
            return None;
        }
        let oldest = *self.blocks.get(&block)?.keys().next()?;
        self.change(block, |strangers| strangers.remove(&oldest))
    }

    fn count(&self, block: SourceBlock) -> usize {
        self.blocks.get(&block).map_or(0, BTreeMap::len)
    }

    /// Changes a block's strangers, and keeps both indexes alike.
    fn change<R>(&mut self, block: SourceBlock, change: impl FnOnce(&mut BTreeMap<u64, T>) -> R) -> R {
        let strangers = self.blocks.entry(block).or_default();
        self.by_count.remove(&(strangers.len(), block));
        let changed = change(strangers);
        match strangers.len() {
            0 => drop(self.blocks.remove(&block)),
            count => drop(self.by_count.insert((count, block))),
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(address: &str) -> SourceBlock {
        SourceBlock::of(address.parse().unwrap())
    }

    /// Strangers that are told apart by a word.
    fn strangers(entered: &[(&str, &'static str)]) -> Strangers<&'static str> {
        let mut strangers = Strangers::default();
        entered.iter().for_each(|(address, word)| strangers.enter(block(address), *word));
        strangers
    }

    #[test]
    fn the_oldest_of_the_largest_block_makes_room_for_another_block() {
        let mut some = strangers(&[("10.0.0.1", "other"), ("10.0.1.1", "first"), ("10.0.1.2", "second")]);
        assert_eq!(some.make_room_for(block("10.0.2.1")), Some("first"));
        // Now each has one, and a block without any still gets in.
        assert!(some.make_room_for(block("10.0.2.1")).is_some());
    }

    #[test]
    fn nobody_makes_room_for_the_largest_block_itself() {
        let mut some = strangers(&[("10.0.0.1", "a"), ("10.0.0.2", "b"), ("10.0.1.1", "c")]);
        assert_eq!(some.make_room_for(block("10.0.0.3")), None);
        // Nor for one that is as large.
        some.enter(block("10.0.1.2"), "d");
        assert_eq!(some.make_room_for(block("10.0.1.3")), None);
        assert_eq!(Strangers::<()>::default().make_room_for(block("10.0.0.1")), None);
    }

    #[test]
    fn a_crowded_block_is_closed_bit_by_bit_and_others_have_all_the_time_there_is() {
        let most = Duration::from_secs(5);
        let mut some = Strangers::default();
        let patience = |some: &Strangers<()>, address, drawn| some.patience_with(block(address), most, drawn);
        (1..CROWDED).for_each(|_| some.enter(block("10.0.0.1"), ()));
        assert_eq!(patience(&some, "10.0.0.2", 0), most);
        some.enter(block("10.0.0.1"), ());
        assert_eq!(patience(&some, "10.0.0.2", 0), most / 2);
        assert_eq!(patience(&some, "10.0.0.2", u32::MAX), most);
        let middle = patience(&some, "10.0.0.2", u32::MAX / 2).as_secs_f64();
        assert!((middle - 3.75).abs() < 0.01, "{middle}");
        assert_eq!(patience(&some, "10.0.1.1", 0), most);
    }

    #[test]
    fn who_has_left_makes_no_room_and_leaves_nothing_behind() {
        let mut some = strangers(&[("10.0.0.1", "a"), ("10.0.0.2", "b")]);
        some.leave(block("10.0.0.1"), 0);
        assert_eq!(some.make_room_for(block("10.0.1.1")), Some("b"));
        // It made room, so its leaving changes nothing.
        some.leave(block("10.0.0.2"), 1);
        assert_eq!(some.next_number(), 2);
        assert!(some.blocks.is_empty() && some.by_count.is_empty());
    }
}
