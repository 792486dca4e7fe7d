//! The work queue of the loops: each unit of work is done by one worker at a time, at the earliest of the times
//! it was asked for; failures of one unit back off without holding up the others.
//!
//! kube's `Controller` is not used: with one per kind, the triggers of one phone (itself, its operations, its
//! proxy, a deadline) would each have had a back-off of their own, and two reconcilers could have decided about
//! the same phone at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::world::WorkKey;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Inner {
    due: BTreeMap<Instant, BTreeSet<WorkKey>>,
    when: HashMap<WorkKey, Instant>,
    running: HashSet<WorkKey>,
    failures: HashMap<WorkKey, u32>,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Depth {
    /// Units whose time has come.
    pub due: usize,
    /// Units whose time comes later.
    pub later: usize,
    /// Units that a worker has.
    pub working: usize,
    /// How long the one that is due and has waited longest has waited.
    pub oldest: Duration,
}

/// See the module.
#[derive(Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.lock().when.len()).finish_non_exhaustive()
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How much there is to do at `now`.
    #[must_use]
    pub fn depth(&self, now: Instant) -> Depth {
        let inner = self.lock();
        let due: usize = inner.due.range(..=now).map(|(_, keys)| keys.len()).sum();
        let oldest = inner.due.keys().next().map_or(Duration::ZERO, |at| now.saturating_duration_since(*at));
        Depth { due, later: inner.when.len() - due, working: inner.running.len(), oldest }
    }

    /// Asks for `key` to be worked on as soon as possible.
    pub fn add(&self, key: WorkKey) {
        self.add_at(key, Instant::now());
    }

    /// Asks for `key` to be worked on at `at`, unless an earlier time is on record.
    pub fn add_at(&self, key: WorkKey, at: Instant) {
        let mut inner = self.lock();
        match inner.when.get(&key) {
            Some(&known) if known <= at => return,
            Some(&known) => inner.forget(&key, known),
            None => {}
        }
        inner.when.insert(key.clone(), at);
        inner.due.entry(at).or_default().insert(key);
        drop(inner);
        self.changed.notify_one();
    }

    /// Waits for the next unit that is due and that no other worker has.
    pub async fn next(&self) -> WorkKey {
        loop {
            let changed = self.changed.notified();
            let pause = {
                let mut inner = self.lock();
                let now = Instant::now();
                if let Some(key) = inner.take_due(now) {
                    drop(inner);
                    // There may be more that is due: pass the turn on.
                    self.changed.notify_one();
                    return key;
                }
                // What is due and in work comes back when its worker says that it is done.
                inner.due.range((Bound::Excluded(now), Bound::Unbounded)).next().map(|(&at, _)| at)
            };
            match pause {
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Says that the work on `key` succeeded, and when to look at it again.
    pub fn done(&self, key: WorkKey, again: Option<Duration>) {
        let mut inner = self.lock();
        inner.running.remove(&key);
        inner.failures.remove(&key);
        drop(inner);
        match again {
            Some(pause) => self.add_at(key, Instant::now() + pause),
            None => self.changed.notify_one(),
        }
    }

    /// Says that the work on `key` failed: it is tried again after 0.2 s, doubled each time up to 30 s.
    pub fn failed(&self, key: WorkKey) -> Duration {
        let mut inner = self.lock();
        inner.running.remove(&key);
        let failures = inner.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let pause = (FIRST_PAUSE * 2u32.saturating_pow((*failures - 1).min(10))).min(LAST_PAUSE);
        drop(inner);
        self.add_at(key, Instant::now() + pause);
        pause
    }
}

impl Inner {
    fn forget(&mut self, key: &WorkKey, at: Instant) {
        self.when.remove(key);
        if let Some(keys) = self.due.get_mut(&at) {
            keys.remove(key);
            if keys.is_empty() {
                self.due.remove(&at);
            }
        }
    }

    fn take_due(&mut self, now: Instant) -> Option<WorkKey> {
        let (at, key) = self
            .due
            .range(..=now)
            .flat_map(|(&at, keys)| keys.iter().map(move |key| (at, key)))
            .find(|(_, key)| !self.running.contains(*key))
            .map(|(at, key)| (at, key.clone()))?;
        self.forget(&key, at);
        self.running.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::world::ObjectKey;

    fn key(name: &str) -> WorkKey {
        WorkKey::Phone(ObjectKey::new("voice", name))
    }

    #[tokio::test(start_paused = true)]
    async fn work_asked_for_twice_is_done_once_at_the_earlier_time() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_at(key("a"), start + Duration::from_secs(60));
        queue.add_at(key("a"), start + Duration::from_secs(5));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(key("a"), None);
        assert!(tokio::time::timeout(Duration::from_secs(100), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_in_work_is_not_given_to_another_worker_and_is_not_lost() {
        let queue = Queue::default();
        queue.add(key("a"));
        let taken = queue.next().await;
        queue.add(key("a"));
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        queue.done(taken, None);
        assert_eq!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.unwrap(), key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_unit_backs_off_alone() {
        let queue = Queue::default();
        queue.add(key("a"));
        for expected in [200, 400, 800] {
            let unit = queue.next().await;
            assert_eq!(queue.failed(unit).as_millis(), expected);
        }
        let start = Instant::now();
        queue.add(key("b"));
        assert_eq!(queue.next().await, key("b"));
        assert_eq!(start.elapsed().as_millis(), 0);
        assert_eq!(queue.next().await, key("a"));
    }
}
