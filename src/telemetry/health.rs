//! Whether a process is ready, and whether a restart would help it.
//!
//! *Ready* says that work may be sent here. What is not ready is named, a line each. *Live* is asked by whoever restarts
//! processes, so only what a restart mends counts: a task that was to go on for ever and has ended, or a runtime that
//! takes no turns. An API server that does not answer, credentials that are not to be had and a full queue are none of
//! it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How often the runtime says that it takes turns.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// The runtime counts as stuck when it has taken no turn for so long: far beyond what a busy machine does to it.
const STUCK: Duration = Duration::from_secs(60);

/// A look at something that may keep the process from being ready: the lines that name it.
type Look = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// The health of one process. Clones are one.
#[derive(Clone, Default)]
pub struct Health {
    state: Arc<Mutex<State>>,
    /// Cancelled when the process is told to stop: what ends from then on is meant to.
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    /// What is not ready, and why.
    lacking: BTreeMap<&'static str, String>,
    looks: Vec<Look>,
    /// Tasks that have ended and should not have.
    ended: Vec<String>,
    /// Loops' workers that broke off; with none left nothing is worked on.
    workers: Option<(usize, usize)>,
    beat: Option<Instant>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("lacking", &self.state().lacking).finish_non_exhaustive()
    }
}

impl Health {
    /// That of a process that is told to stop by this.
    #[must_use]
    pub fn until(stop: CancellationToken) -> Self {
        Self { state: Arc::default(), stop }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that this part is not ready, and why.
    pub fn lacks(&self, part: &'static str, why: impl Into<String>) {
        self.state().lacking.insert(part, why.into());
    }

    /// Says that this part is ready.
    pub fn has(&self, part: &'static str) {
        self.state().lacking.remove(part);
    }

    /// Looks at this whenever somebody asks, too.
    pub fn look_at(&self, look: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        self.state().looks.push(Box::new(look));
    }

    /// To be held by a task that goes on until the process stops.
    #[must_use]
    pub fn vital(&self, task: impl Into<String>) -> Vital {
        Vital { health: self.clone(), task: task.into() }
    }

    /// Starts counting that many workers of the loops anew.
    pub fn begin_with_workers(&self, workers: usize) {
        self.state().workers = Some((workers, workers));
    }

    /// To be held by a worker of the loops. A worker that is dropped with its loops is none lost; one that panics is.
    #[must_use]
    pub fn worker(&self) -> Worker {
        Worker(self.clone())
    }

    /// What is not ready, a line each; nothing means ready.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let state = self.state();
        let stopping = self.stop.is_cancelled().then(|| "process: it was told to stop".to_owned());
        let lacking = state.lacking.iter().map(|(part, why)| format!("{part}: {why}"));
        stopping.into_iter().chain(lacking).chain(state.looks.iter().flat_map(|look| look())).collect()
    }

    /// What a restart would mend, a line each; nothing means alive.
    #[must_use]
    pub fn dead(&self) -> Vec<String> {
        let state = self.state();
        let mut found: Vec<String> = state.ended.iter().map(|task| format!("{task}: the task has ended")).collect();
        if let Some((0, of)) = state.workers {
            found.push(format!("loops: all {of} workers broke off"));
        }
        if let Some(silent) = state.beat.map(|beat| beat.elapsed()).filter(|silent| *silent > STUCK) {
            found.push(format!("runtime: no turn for {} s", silent.as_secs()));
        }
        found
    }

    /// Notes, for ever, that the runtime takes turns. Ends when dropped.
    pub async fn beat(self) {
        loop {
            self.state().beat = Some(Instant::now());
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }
}

/// See [`Health::vital`].
#[derive(Debug)]
pub struct Vital {
    health: Health,
    task: String,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if !self.health.stop.is_cancelled() {
            self.health.state().ended.push(std::mem::take(&mut self.task));
        }
    }
}

/// See [`Health::worker`].
#[derive(Debug)]
pub struct Worker(Health);

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some((left, _)) = &mut self.0.state().workers
        {
            *left = left.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named_and_looked_at_anew() {
        let health = Health::default();
        health.lacks("credentials", "not obtained yet");
        health.look_at(|| vec!["bundle: its client certificate has ended".into()]);
        assert_eq!(health.unready(), ["credentials: not obtained yet", "bundle: its client certificate has ended"]);
        health.has("credentials");
        assert_eq!(health.unready().len(), 1);
    }

    #[test]
    fn a_task_that_ends_is_missed_unless_the_process_stops() {
        let health = Health::default();
        let (first, second) = (health.vital("watch of Phones"), health.vital("election"));
        assert!(health.dead().is_empty());
        drop(first);
        assert_eq!(health.dead(), ["watch of Phones: the task has ended"]);
        health.stop.cancel();
        drop(second);
        assert_eq!(health.dead().len(), 1);
        assert_eq!(health.unready(), ["process: it was told to stop"]);
    }

    #[test]
    fn loops_without_any_worker_left_are_dead_and_those_that_were_dropped_are_not() {
        let health = Health::default();
        health.begin_with_workers(2);
        drop(health.worker());
        let broken = |health: Health| {
            let _ = std::thread::spawn(move || {
                let _worker = health.worker();
                panic!("as a worker might");
            })
            .join();
        };
        broken(health.clone());
        assert!(health.dead().is_empty(), "the other goes on");
        broken(health.clone());
        assert_eq!(health.dead(), ["loops: all 2 workers broke off"]);
        health.begin_with_workers(2);
        assert!(health.dead().is_empty());
    }

    #[test]
    fn a_runtime_that_takes_no_turns_is_dead() {
        let health = Health::default();
        health.state().beat = Instant::now().checked_sub(STUCK + Duration::from_secs(1));
        assert!(health.dead()[0].starts_with("runtime: no turn for"), "{:?}", health.dead());
    }
}
