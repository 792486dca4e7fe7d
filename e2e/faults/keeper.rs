//! A process that comes back when it is killed, as a Deployment's would.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::{ControlPlane, Process};

/// How often it is looked after.
const PAUSE: Duration = Duration::from_millis(10);
/// Exit status of a process that was killed.
const KILLED: i32 = 137;

/// Keeps a process running until it is dropped, and remembers what ended without being killed.
pub struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    process: Mutex<Process>,
    pid: Arc<AtomicU32>,
    restarts: AtomicUsize,
    /// What ended by itself: status and the end of its log.
    ended: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Keeper {
    /// Keeps `process`, which was started as `command` says; its id stands in `pid` from now on.
    pub fn keep(
        plane: &'static ControlPlane,
        name: &str,
        user: Option<&'static str>,
        process: Process,
        mut command: Command,
        pid: Arc<AtomicU32>,
    ) -> Self {
        pid.store(process.pid(), Ordering::SeqCst);
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            process: Mutex::new(process),
            pid,
            restarts: AtomicUsize::new(0),
            ended: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let kept = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !kept.stop.load(Ordering::SeqCst) {
                kept.look(plane, user, &mut command);
                thread::sleep(PAUSE);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Its name, which is its log's.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its process id at the moment.
    pub fn pid(&self) -> u32 {
        self.shared.pid.load(Ordering::SeqCst)
    }

    /// Its log, over all its lives.
    pub fn log(&self) -> String {
        let path: PathBuf = lock(&self.shared.process).log_path().to_owned();
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// How often it was started again.
    pub fn restarts(&self) -> usize {
        self.shared.restarts.load(Ordering::SeqCst)
    }

    /// What ended by itself so far.
    pub fn ended(&self) -> Vec<String> {
        lock(&self.shared.ended).clone()
    }

    /// Does something to the process, such as killing or stopping it.
    pub fn with<T>(&self, act: impl FnOnce(&mut Process) -> T) -> T {
        act(&mut lock(&self.shared.process))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn look(&self, plane: &ControlPlane, user: Option<&str>, command: &mut Command) {
        let mut process = lock(&self.process);
        if process.is_running() {
            return;
        }
        let status = process.wait(Duration::ZERO).unwrap_or(KILLED);
        if status != KILLED {
            let log = process.log();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            lock(&self.ended).push(format!("{} ended with {status}: {tail:?}", self.name));
            // Whatever makes it end may make it end again at once.
            thread::sleep(Duration::from_millis(500));
        }
        match plane.spawn(&self.name, user, command) {
            Ok(again) => {
                self.pid.store(again.pid(), Ordering::SeqCst);
                *process = again;
                self.restarts.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => lock(&self.ended).push(format!("{} cannot be started again: {error}", self.name)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
