//! Waiting for something that another process does.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use super::HarnessError;

/// The first pause between two looks; each is twice the one before it.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What one look may find: `Some`, `Ok` or `true` is what was awaited, anything else means to look again.
pub trait Outcome {
    /// What is there once it is there.
    type Value;

    /// The value, or what is seen instead of it.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".to_owned())
    }
}

impl<T, E: Display> Outcome for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

impl Outcome for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "not so yet".to_owned())
    }
}

/// Looks again and again until `look` finds what it looks for, and returns that.
///
/// `what` is a clause for the error, such as "the phone is Ready". A look that does not come back is given up when the
/// time is over, so that an API server that stands still fails a test instead of hanging it.
///
/// # Errors
/// [`HarnessError::TimedOut`] with what the last look that came back had seen.
pub async fn eventually<O, F>(
    what: &str,
    timeout: Duration,
    mut look: impl FnMut() -> F,
) -> Result<O::Value, HarnessError>
where
    O: Outcome,
    F: Future<Output = O>,
{
    let deadline = Instant::now() + timeout;
    let mut last = "nothing: the first look never came back".to_owned();
    let mut pause = FIRST_PAUSE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, look()).await.map(O::outcome) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = seen,
            // The time is over, which the next lines find too.
            Err(_elapsed) => {}
        }
        if Instant::now() + pause >= deadline {
            return Err(HarnessError::TimedOut { what: what.to_owned(), timeout, last });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
