//! Metrics as they are declared: one line for each gives its name, its labels, its meaning and the table in
//! `docs/metrics.md`.

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeMetric, text};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Every name begins with it.
pub const PREFIX: &str = "capf";

/// A number that goes up and down.
pub type Level = Gauge<f64, AtomicU64>;

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// One metric: a number for each combination of its labels' values.
#[derive(Clone, Debug)]
pub struct Series<M, const N: usize = 0> {
    labels: [&'static str; N],
    family: Family<Labels<N>, M>,
}

impl<M: Clone, const N: usize> Series<M, N> {
    /// The number with these values of the labels, in the order in which they were declared. It is there from the first
    /// call on.
    pub fn with<V: Into<Cow<'static, str>>>(&self, values: [V; N]) -> M {
        let mut names = self.labels.into_iter();
        // As many names as values: both have N.
        let labels = values.map(|value| (names.next().unwrap_or_default(), value.into()));
        self.family.get_or_create_owned(&labels)
    }

    /// Forgets every number, before those that still hold are set anew.
    pub fn clear(&self) {
        self.family.clear();
    }
}

impl<M: Clone> Series<M, 0> {
    /// The one number of a metric without labels.
    #[must_use]
    pub fn value(&self) -> M {
        self.family.get_or_create_owned(&[])
    }
}

/// A row of the table of metrics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Name, as it is asked for: a counter's ends in `_total`.
    pub name: String,
    /// counter, gauge or histogram.
    pub kind: String,
    /// Its labels.
    pub labels: Vec<&'static str>,
    /// What it says.
    pub meaning: &'static str,
}

/// The metrics of one process, in the order in which they were declared.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
    rows: Vec<Row>,
}

impl Exposition {
    /// Without any yet but the one that says what runs here.
    #[must_use]
    pub fn new(part: &'static str) -> Self {
        let mut new = Self { registry: Registry::with_prefix(PREFIX), rows: Vec::new() };
        let info =
            new.level("build_info", ["version", "part"], "1. What runs here: its version, and controller or endpoint");
        info.with([env!("CARGO_PKG_VERSION"), part]).set(1.0);
        new
    }

    /// Declares something that is counted. Its name gets `_total` at the end.
    pub fn counter<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        meaning: &'static str,
    ) -> Series<Counter, N> {
        self.declare(name, labels, meaning, Counter::default)
    }

    /// Declares something that goes up and down.
    pub fn level<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        meaning: &'static str,
    ) -> Series<Level, N> {
        self.declare(name, labels, meaning, Level::default)
    }

    /// Declares durations; `make` says the bounds of their buckets, in seconds.
    pub fn durations<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        meaning: &'static str,
        make: fn() -> Histogram,
    ) -> Series<Histogram, N> {
        self.declare(name, labels, meaning, make)
    }

    fn declare<M, const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        meaning: &'static str,
        make: fn() -> M,
    ) -> Series<M, N>
    where
        M: EncodeMetric + TypedMetric + Clone + std::fmt::Debug + Send + Sync + 'static,
    {
        let family = Family::new_with_constructor(make);
        self.registry.register(name, meaning, family.clone());
        let kind = M::TYPE.as_str().to_owned();
        let suffix = if kind == "counter" { "_total" } else { "" };
        self.rows.push(Row { name: format!("{PREFIX}_{name}{suffix}"), kind, labels: labels.to_vec(), meaning });
        let series = Series { labels, family };
        if N == 0 {
            // One without labels is there from the start, at zero.
            series.with([""; N]);
        }
        series
    }

    /// The rows of the table.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// All numbers as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_is_what_is_shown() {
        let mut metrics = Exposition::new("endpoint");
        let ends = metrics.counter("sessions", ["end"], "Sessions, by their end");
        let open = metrics.level("open", [], "Open sessions");
        let took = metrics.durations("took_seconds", [], "How long", || Histogram::new([0.5, 2.0]));
        ends.with(["finished"]).inc();
        open.value().set(2.0);
        took.value().observe(1.0);
        let text = metrics.text();
        for line in [
            "# TYPE capf_sessions counter",
            "capf_sessions_total{end=\"finished\"} 1",
            "capf_open 2.0",
            "capf_took_seconds_bucket{le=\"2.0\"} 1",
            "capf_took_seconds_count 1",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        assert!(text.contains("capf_build_info{version=") && text.ends_with("# EOF\n"), "{text}");
        assert_eq!(metrics.rows()[1].name, "capf_sessions_total");
        ends.clear();
        assert!(!metrics.text().contains("finished"));
    }
}
