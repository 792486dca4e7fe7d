//! Rights: what the API server lets each account of the chart do, with the account's own token and nothing else.

#[path = "harness/mod.rs"]
mod harness;
#[path = "chart/helm.rs"]
#[allow(dead_code, reason = "releases are installed here, not rendered")]
mod helm;
#[path = "chart/pods.rs"]
#[allow(dead_code, reason = "no hook runs here")]
mod pods;
#[path = "product/mod.rs"]
mod product;

#[path = "rights/calls.rs"]
mod calls;
#[path = "rights/forged.rs"]
mod forged;
#[path = "rights/lists.rs"]
mod lists;
#[path = "rights/release.rs"]
mod release;
#[path = "rights/work.rs"]
mod work;
#[path = "rights/writes.rs"]
mod writes;
