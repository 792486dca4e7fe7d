//! Mutating calls, counted by the API server itself.

use crate::product::Product;

const MUTATING: [&str; 5] = ["POST", "PUT", "PATCH", "DELETE", "APPLY"];
const OURS: [&str; 5] = ["phones", "certificateoperations", "certificateauthorityproxies", "secrets", "events"];

/// Mutating calls on the kinds that the product writes, since the API server started, Leases aside.
pub fn mutating(product: &Product) -> f64 {
    let metrics = product.plane.kubectl(&["get", "--raw", "/metrics"]).unwrap();
    let lines = metrics.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let counted = lines.filter(|line| {
        let label = |name: &str, value: &str| line.contains(&format!("{name}=\"{value}\""));
        MUTATING.iter().any(|verb| label("verb", verb)) && OURS.iter().any(|resource| label("resource", resource))
    });
    counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
