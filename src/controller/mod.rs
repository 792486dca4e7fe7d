//! Gather, decide, act: everything that touches the API server on behalf of the controller.

pub mod endpoints;
pub mod events;
mod key_limits;
pub mod lease;
pub mod log_level;
pub mod noticed;
pub mod phone;
pub mod proxy;
pub mod queue;
pub mod run;
pub mod scrape;
pub mod store;
pub mod world;
