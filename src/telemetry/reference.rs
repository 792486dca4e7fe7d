//! `docs/metrics.md`: the table of metrics, made from their declarations.

use std::fmt::Write as _;

use super::series::Exposition;
use super::{controller, endpoint};

/// The table, as committed.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nMade by `make generate` from the program itself. `capf controller` and `capf endpoint` serve them as \
         OpenMetrics text under `/metrics` where `--http-listen` says. What to do about which is in [runbook.md](runbook.md).\n\n\
         No label holds a device name, an address or anything else that a caller chooses. Labels `proxy_namespace` and `proxy` \
         have as many values as there are CertificateAuthorityProxies, `reason` is one of the documented reasons or empty, and \
         the others are fixed words.\n",
    );
    section(&mut text, "Controller", &controller::metrics().exposition);
    section(&mut text, "Endpoint", &endpoint::metrics().exposition);
    text
}

fn section(text: &mut String, title: &str, exposition: &Exposition) {
    // Writing to a String does not fail.
    let _ = write!(text, "\n## {title}\n\n| Name | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for row in exposition.rows() {
        let labels: Vec<_> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", row.name, row.kind, labels.join(", "), row.meaning);
    }
}
