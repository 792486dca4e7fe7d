//! The endpoint over real TLS on this machine's own address: with a fake authority, and the real client of the authority with
//! a fake controller. No cluster.

mod lifecycle;
mod logs;
mod open_files;
mod phone;
mod refusals;
mod remote;
mod sessions;
mod support;
