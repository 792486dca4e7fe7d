//! A real control plane for tests, benchmarks and the demo, and programs beside it, none of which outlives its starter.
//!
//! Included by a target as `#[path = "harness/mod.rs"] mod harness;`. Processes are handled synchronously, with
//! [`std::process`]: a call that waits blocks its thread. What talks to the API server is async.
//!
//! # Guarantees
//! - Several control planes run at once, of one process or of several, with nothing in common but the binaries.
//! - When the starting process ends, in whatever way, every process it started here ends and every directory goes.
//!   A supervisor (`e2e/supervisor`) sees to it, through a pipe that the kernel closes for a process that is gone.
//! - The cluster of the user's own kubeconfig is never touched: nothing here reads it.
//!
//! # Assumptions
//! Linux, `sh`, and either Go or ready-made binaries; see `e2e/README.md`.
#![allow(dead_code, unused_imports, reason = "each target that includes this uses a part of it")]

pub(crate) mod control_plane;
mod error;
mod eventually;
mod namespace;
mod process;
pub(crate) mod tools;

pub use control_plane::{ControlPlane, Pids};
pub use error::HarnessError;
pub use eventually::{Outcome, eventually};
pub use namespace::Namespace;
pub use process::{Process, is_alive, signal};
pub use tools::{capf_binary, free_port, helm};
