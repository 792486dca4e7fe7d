//! Cisco's Certificate Authority Proxy Function (CAPF) for Kubernetes.
#![forbid(unsafe_code)]

pub mod api;
pub mod authority;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod crds;
pub mod domain;
pub mod pki;
pub mod wire;
