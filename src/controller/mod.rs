//! Gather, decide, act: everything that touches the API server on behalf of the controller.

pub mod queue;
pub mod store;
pub mod world;
