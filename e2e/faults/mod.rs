//! Faults on purpose, and what must hold all the same: a proxy before the API server that goes wrong when told to, processes
//! that are killed and come back, and checks from the API server's words and the phones' disks alone.

#![allow(dead_code, reason = "each target uses a part of it")]

pub mod disk;
pub mod history;
pub mod invariants;
pub mod keeper;
pub mod phones;
pub mod proxy;
pub mod random;
pub mod script;
pub mod site;
pub mod storm;
