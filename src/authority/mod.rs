//! The three questions: asked by endpoints, answered by every controller replica.

pub(crate) mod anchors;
pub mod bundle;
pub mod client;
pub mod credentials;
pub mod issuers;
pub mod proof;
pub mod questions;
pub mod server;
pub mod service;
pub mod strings;
