//! The three questions: asked by endpoints, answered by every controller replica.
pub mod bundle;
pub mod client;
pub mod questions;
