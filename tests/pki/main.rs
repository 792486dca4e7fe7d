//! The `pki` ring, judged by peers nobody here wrote: the `openssl` command, x509-cert, rustls.

mod certificates;
mod control;
mod keys;
mod lsc;
mod own;
mod possession;
mod support;
mod trust;
