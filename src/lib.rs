//! Cisco's Certificate Authority Proxy Function (CAPF) for Kubernetes.
#![forbid(unsafe_code)]

pub mod pki;
