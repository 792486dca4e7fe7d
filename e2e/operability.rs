//! What operators see of running processes: probes, metrics and the alerts over them, logs and their level for one phone.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "operability/logs.rs"]
mod logs;
#[path = "operability/metrics.rs"]
mod metrics;
#[path = "operability/probes.rs"]
mod probes;
