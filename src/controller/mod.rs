//! Gather, decide, act.
pub mod queue;
pub mod world;
