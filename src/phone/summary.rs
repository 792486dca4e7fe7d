//! What a load run came to, in numbers.

use std::{collections::BTreeMap, io::Write, time::Duration};

use serde::Serialize;

use super::outcome::{AttemptOutcome, EnrolOutcome};
use super::words::told;

/// What a load run came to. Times are in milliseconds, of the sessions that did their operation, from the start of the
/// connection to END_SESSION.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Phones that ran.
    pub phones: usize,
    /// Those whose operation was done.
    pub succeeded: usize,
    /// Those whose operation was not.
    pub failed: usize,
    /// From the first connection to the last END_SESSION, in seconds.
    pub seconds: f64,
    /// Succeeded operations a second.
    pub per_second: f64,
    /// The time half of the sessions stayed under.
    pub p50_ms: f64,
    /// The time nine of ten stayed under.
    pub p90_ms: f64,
    /// The time 99 of 100 stayed under.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Attempts beyond the first, of all phones.
    pub retries: u64,
    /// How those that failed did, and how many each.
    pub failures: BTreeMap<String, usize>,
    /// One example of each kind of failure, in words.
    pub examples: BTreeMap<String, String>,
}

impl Summary {
    /// Sums up.
    pub fn of(outcomes: &[EnrolOutcome], took: Duration) -> Self {
        let mut times = Vec::new();
        let mut summary = Self { phones: outcomes.len(), seconds: took.as_secs_f64(), ..Self::default() };
        for outcome in outcomes {
            summary.retries += u64::from(outcome.attempts.saturating_sub(1));
            let (kind, example) = match &outcome.last {
                // That nothing was done is no enrolment, however well it went.
                Ok(AttemptOutcome::NothingScheduled) => {
                    ("nothing-scheduled", "nothing waits for this phone".to_owned())
                }
                Ok(done) if done.is_fine() => {
                    times.push(outcome.session_time.as_secs_f64() * 1e3);
                    continue;
                }
                Ok(other) => (other.kind(), told(other)),
                Err(failure) => (failure.kind(), failure.to_string()),
            };
            *summary.failures.entry(kind.to_owned()).or_default() += 1;
            summary.examples.entry(kind.to_owned()).or_insert(example);
        }
        times.sort_by(f64::total_cmp);
        summary.succeeded = times.len();
        summary.failed = outcomes.len() - times.len();
        summary.per_second = times.len() as f64 / took.as_secs_f64().max(f64::EPSILON);
        summary.p50_ms = percentile(&times, 50);
        summary.p90_ms = percentile(&times, 90);
        summary.p99_ms = percentile(&times, 99);
        summary.max_ms = percentile(&times, 100);
        summary
    }

    /// For people.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(
            out,
            "{} phones in {:.1} s: {} succeeded, {} failed, {} retries",
            self.phones, self.seconds, self.succeeded, self.failed, self.retries
        )?;
        if self.succeeded > 0 {
            writeln!(
                out,
                "{:.1} enrolments/s; session p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
                self.per_second, self.p50_ms, self.p90_ms, self.p99_ms, self.max_ms
            )?;
        }
        for (kind, count) in &self.failures {
            let example = self.examples.get(kind).map_or("", String::as_str);
            writeln!(out, "  {count} x {kind}, for example: {example}")?;
        }
        Ok(())
    }
}

/// The nearest rank of ascending values; 0 of none.
fn percentile(ascending: &[f64], percent: usize) -> f64 {
    let rank = (ascending.len() * percent).div_ceil(100);
    ascending.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 50), 50.0);
        assert_eq!(percentile(&hundred, 99), 99.0);
        assert_eq!(percentile(&hundred, 100), 100.0);
        assert_eq!(percentile(&[7.0], 50), 7.0);
        assert_eq!(percentile(&[], 99), 0.0);
    }
}
