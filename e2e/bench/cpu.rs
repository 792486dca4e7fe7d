//! Processor time, per process, from the kernel's own account (proc(5)).

use std::fs;

use serde_json::{Map, Value, json};

use crate::harness::Process;
use crate::product::Product;

/// Milliseconds of one tick of /proc: USER_HZ is 100 on every Linux that Rust's tier 1 knows.
const TICK_MS: f64 = 10.0;

/// What each process has used so far, in milliseconds: the product's, the control plane's and this one (the phones).
pub fn used(product: &Product) -> Vec<(&'static str, f64)> {
    let pids = product.plane.pids();
    let sum = |processes: Vec<u32>| processes.into_iter().filter_map(of).sum();
    vec![
        ("apiserver", sum(vec![pids.apiserver])),
        ("etcd", sum(vec![pids.etcd])),
        ("controller", sum(product.controllers.iter().map(Process::pid).collect())),
        ("endpoint", sum(product.endpoint.iter().map(Process::pid).collect())),
        ("phones", sum(vec![std::process::id()])),
    ]
}

/// Milliseconds an enrolment between two looks.
pub fn per_enrolment(before: &[(&'static str, f64)], after: &[(&'static str, f64)], enrolments: usize) -> Value {
    let each = before.iter().zip(after).map(|((name, before), (_, after))| {
        let ms = (after - before) / enrolments as f64;
        ((*name).to_owned(), json!((ms * 100.0).round() / 100.0))
    });
    Value::Object(each.collect::<Map<_, _>>())
}

/// User and system time of a process; fields 14 and 15, counted behind the name, which may hold anything.
fn of(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (user, system) = (fields.nth(11)?, fields.next()?);
    Some((user.parse::<f64>().ok()? + system.parse::<f64>().ok()?) * TICK_MS)
}
