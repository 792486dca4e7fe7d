//! Decisions, as values: what was observed goes in, what to do comes out. No client, no socket, no clock.

pub mod blocks;
pub mod budget;
pub mod callers;
pub mod endpoints;
pub mod existing;
pub mod explain;
pub mod explain_proxy;
pub mod history;
pub mod phone;
pub mod phone_status;
pub mod proxy;
pub mod question;
pub mod report;
pub mod rerun;
mod resolve;
pub mod retry;
pub mod string;
pub mod ticket;
pub mod trace;
pub mod transition;

#[cfg(test)]
mod endpoints_tests;
#[cfg(test)]
mod existing_tests;
#[cfg(test)]
mod operation_tests;
#[cfg(test)]
mod phone_tests;
#[cfg(test)]
pub(crate) mod testing;
