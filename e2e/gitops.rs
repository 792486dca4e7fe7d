//! Git as the place where phones are written: the examples of `examples/gitops/`, Flux's own controller, the health checks
//! for Argo CD, and that nothing drifts.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "gitops/commits.rs"]
mod commits;
#[path = "gitops/drift.rs"]
mod drift;
#[path = "gitops/examples.rs"]
mod examples;
#[path = "gitops/flux.rs"]
mod flux;
#[path = "gitops/health.rs"]
mod health;
#[path = "gitops/lua.rs"]
mod lua;
#[path = "gitops/outcome.rs"]
mod outcome;
#[path = "gitops/owners.rs"]
mod owners;
