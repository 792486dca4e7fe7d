//! Figures and requirements of a scenario, printed as they become known and summed up in one line of JSON.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// What is known of a scenario so far.
pub struct Verdict {
    figures: Map<String, Value>,
    missed: Vec<String>,
    missed_goals: Vec<String>,
}

impl Verdict {
    /// Of a scenario that begins now.
    pub fn of(scenario: &str) -> Self {
        println!("== {scenario}");
        let figures = Map::from_iter([("scenario".to_owned(), json!(scenario))]);
        Self { figures, missed: Vec::new(), missed_goals: Vec::new() }
    }

    /// A figure, for people and for the summary.
    pub fn figure(&mut self, name: &str, value: impl Serialize) {
        let value = json!(value);
        println!("   {}: {value}", name.replace('_', " "));
        self.figures.insert(name.to_owned(), value);
    }

    /// Something that must hold: it decides about the exit code.
    pub fn require(&mut self, what: impl Into<String>, holds: bool) {
        let what = what.into();
        println!("   {}: {what}", if holds { "holds" } else { "MISSED" });
        if !holds {
            self.missed.push(what);
        }
    }

    /// Something that would be good.
    pub fn goal(&mut self, what: impl Into<String>, reached: bool) {
        let what = what.into();
        println!("   {}: {what}", if reached { "goal reached" } else { "goal missed" });
        if !reached {
            self.missed_goals.push(what);
        }
    }

    /// The last line, and how the program ends.
    pub fn close(mut self) -> ExitCode {
        let code = if self.missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        self.figures.insert("missed".into(), json!(self.missed));
        self.figures.insert("missed_goals".into(), json!(self.missed_goals));
        println!("{}", Value::Object(self.figures));
        code
    }
}

/// The nearest rank of values in any order; 0 of none.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut ascending = values.to_vec();
    ascending.sort_by(f64::total_cmp);
    let rank = (ascending.len() * percent).div_ceil(100);
    ascending.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// To a hundredth.
pub fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
