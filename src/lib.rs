//! Cisco's Certificate Authority Proxy Function (CAPF) for Kubernetes.
// A server does not die of a surprise, nor misread a number: what cannot happen is said where it is expected.
#![warn(clippy::unwrap_used, clippy::cast_possible_truncation)]

pub mod addresses;
pub mod api;
pub mod authority;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod crds;
pub mod domain;
pub mod endpoint;
pub mod logging;
pub mod open_files;
pub mod phone;
pub mod pki;
pub mod telemetry;
pub mod tls;
pub mod version;
pub mod wire;
