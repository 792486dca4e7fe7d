//! The product as people get it: image, chart, controllers and endpoints as pods of a real node, phones that call through
//! the Service. Where no node can run, which is said, there is nothing to test.

#[path = "harness/mod.rs"]
mod harness;
#[path = "chart/helm.rs"]
#[allow(dead_code, reason = "what renders the chart is for another target")]
mod helm;
#[path = "node/mod.rs"]
mod node;

#[path = "cluster/flights.rs"]
mod flights;
#[path = "cluster/kept.rs"]
mod kept;
#[path = "cluster/metrics.rs"]
mod metrics;
#[path = "cluster/policies.rs"]
mod policies;
#[path = "cluster/release.rs"]
mod release;
#[path = "cluster/report.rs"]
mod report;
#[path = "cluster/setup.rs"]
mod setup;
#[path = "cluster/traces.rs"]
mod traces;

#[path = "cluster/availability.rs"]
mod availability;
#[path = "cluster/inside.rs"]
mod inside;
#[path = "cluster/lifecycle.rs"]
mod lifecycle;
