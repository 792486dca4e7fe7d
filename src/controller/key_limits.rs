//! Maximum Allowable Time and Attempts for Key Generation (Table 4-3), for CAPF's own keys.

use std::fmt::Display;
use std::time::Duration;

/// Why there is no key, after the last attempt.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct NoKey {
    /// `KeyGenerationFailed` or `KeyGenerationTimeout`, by the last attempt.
    pub reason: &'static str,
    /// Which attempt it was, and what went wrong.
    pub message: String,
}

/// Has a key made where blocking is allowed: each attempt at most `limit` long, at most so many of them. What an attempt that
/// took too long makes after all is thrown away.
pub(super) async fn within_limits<T, E, F>(
    limit: Duration,
    attempts: u16,
    mut generate: impl FnMut() -> F,
) -> Result<T, NoKey>
where
    T: Send + 'static,
    E: Display + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    let mut last = NoKey { reason: "KeyGenerationFailed", message: "no attempt was allowed".into() };
    for attempt in 1..=attempts {
        let (reason, why) = match tokio::time::timeout(limit, tokio::task::spawn_blocking(generate())).await {
            Ok(Ok(Ok(key))) => return Ok(key),
            Ok(Ok(Err(error))) => ("KeyGenerationFailed", error.to_string()),
            Ok(Err(error)) => ("KeyGenerationFailed", error.to_string()),
            Err(_) => ("KeyGenerationTimeout", format!("not done within {limit:?}")),
        };
        tracing::warn!(attempt, attempts, why, "making a key pair");
        last = NoKey { reason, message: format!("attempt {attempt} of {attempts}: {why}") };
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex, mpsc};

    const LONG: Duration = Duration::from_secs(3600);

    /// Results of the attempts, in order.
    async fn after(attempts: u16, results: &[Result<u8, &'static str>]) -> (Result<u8, NoKey>, usize) {
        let left = Arc::new(Mutex::new(results.to_vec()));
        let made = within_limits(LONG, attempts, || {
            let left = Arc::clone(&left);
            move || left.lock().unwrap().remove(0)
        })
        .await;
        let tried = results.len() - left.lock().unwrap().len();
        (made, tried)
    }

    #[tokio::test]
    async fn a_key_that_fails_is_tried_again_as_often_as_allowed_and_no_more() {
        assert_eq!(after(3, &[Err("a"), Err("b"), Ok(7), Ok(8)]).await, (Ok(7), 3));
        let (failed, tried) = after(2, &[Err("a"), Err("no entropy"), Ok(7)]).await;
        let message = "attempt 2 of 2: no entropy".to_owned();
        assert_eq!((failed, tried), (Err(NoKey { reason: "KeyGenerationFailed", message }), 2));
    }

    #[tokio::test]
    async fn a_key_that_takes_too_long_has_a_reason_of_its_own() {
        let (never, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let made = within_limits(Duration::from_millis(20), 2, || {
            let wait = Arc::clone(&wait);
            move || wait.lock().unwrap().recv().map_err(|error| error.to_string())
        })
        .await;
        drop(never);
        let message = "attempt 2 of 2: not done within 20ms".to_owned();
        assert_eq!(made, Err(NoKey { reason: "KeyGenerationTimeout", message }));
    }
}
