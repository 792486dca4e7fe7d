//! The main job against a real API server: from `kubectl apply` to an LSC on a phone, and every ending of it.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "spine/ending.rs"]
mod ending;
#[path = "spine/enrolment.rs"]
mod enrolment;
#[path = "spine/explain.rs"]
mod explain;
#[path = "spine/guessing.rs"]
mod guessing;
#[path = "spine/hostile.rs"]
mod hostile;
#[path = "spine/in_cluster.rs"]
mod in_cluster;
#[path = "spine/nothing_again.rs"]
mod nothing_again;
#[path = "spine/refusals.rs"]
mod refusals;
#[path = "spine/rotation.rs"]
mod rotation;
#[path = "spine/secrets.rs"]
mod secrets;
#[path = "spine/strings.rs"]
mod strings;
