//! Every operation and every ending of it against a real API server: delete, troubleshoot, upgrade; power failures, users who
//! stop, newer requests, moved clocks, and what is kept afterwards.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "operations/certificates.rs"]
mod certificates;
#[path = "operations/endings.rs"]
mod endings;
#[path = "operations/history.rs"]
mod history;
#[path = "operations/power.rs"]
mod power;
#[path = "operations/scripted.rs"]
mod scripted;
#[path = "operations/time.rs"]
mod time;
