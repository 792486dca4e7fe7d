//! The main job while everything around it goes wrong: every crash point, errors, lost replies, silence.

#[path = "faults/mod.rs"]
mod faults;
#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "faults_test/crash_points.rs"]
mod crash_points;
#[path = "faults_test/deeds.rs"]
mod deeds;
#[path = "faults_test/invariants.rs"]
mod invariants;
#[path = "faults_test/others.rs"]
mod others;
#[path = "faults_test/proxy.rs"]
mod proxy;
#[path = "faults_test/replicas.rs"]
mod replicas;
#[path = "faults_test/scenario.rs"]
mod scenario;
#[path = "faults_test/steps.rs"]
mod steps;
#[path = "faults_test/storm.rs"]
mod storm;
#[allow(dead_code, reason = "the manufacturer is what is used of it")]
#[path = "certificates/support.rs"]
mod support;
