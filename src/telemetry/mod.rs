//! What an operator's tools see of a process: probes and metrics over plain HTTP.
//!
//! | File | Is |
//! |---|---|
//! | `server` | the HTTP server for `/livez`, `/readyz` and `/metrics`, on a thread of its own |
//! | `health` | what keeps a process from being ready, and when a restart would help |
//! | `series` | metrics as they are declared here: name, labels, meaning |
//! | `controller`, `endpoint` | the metrics of the two processes |
//! | `reference` | their table, as committed in `docs/metrics.md` |
//!
//! Metrics belong to the process, like its log: the places that do I/O count where they do it, and nothing is handed
//! through for it. The pure rings know none of this. No label has a value that a phone, or whoever plays one, can choose.

pub mod controller;
pub mod endpoint;
pub mod health;
pub mod reference;
pub mod series;
pub mod server;
