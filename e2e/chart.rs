//! The chart: what it refuses, what each value renders, what the API server says to it, and releases from the first install
//! to the last uninstall. There are no nodes: where a pod must run, a test does what a kubelet would.

#[path = "harness/mod.rs"]
mod harness;
#[path = "product/mod.rs"]
mod product;

#[path = "chart/admission.rs"]
mod admission;
#[path = "chart/helm.rs"]
mod helm;
#[path = "chart/hooks.rs"]
mod hooks;
#[path = "chart/options.rs"]
mod options;
#[path = "chart/pods.rs"]
mod pods;
#[path = "chart/refusals.rs"]
mod refusals;
#[path = "chart/releases.rs"]
mod releases;
#[path = "chart/rendering.rs"]
mod rendering;
#[path = "chart/smoke.rs"]
mod smoke;
