//! The metrics of running pods: each that an alert of the chart names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::harness::tools;
use crate::helm::CHART;
use crate::release::Release;

/// Compares the alerts with what all controllers and endpoints show, whose phones must have enrolled before.
pub fn alerts_name_what_is_there(release: &Release) {
    let Ok(alerts) = fs::read_to_string(Path::new(CHART).join("files/alerts.yaml")) else {
        eprintln!("this chart has no alerts");
        return;
    };
    let wanted = names(&alerts);
    assert!(wanted.len() > 5, "{wanted:?}");
    let mut shown = BTreeSet::new();
    for (namespace, label) in [
        (&release.namespace, "app.kubernetes.io/component=controller"),
        (&release.phones, "app.kubernetes.io/name=capf-endpoint"),
    ] {
        let path = "jsonpath={.items[*].status.podIP}";
        let addresses = release.in_namespace(namespace, &["get", "pods", "--selector", label, "--output", path]);
        assert_eq!(addresses.split(' ').count(), 2, "{addresses}");
        for address in addresses.split(' ') {
            let program = tools::pod().unwrap();
            let output = release
                .cluster
                .node
                .command(program)
                .args(["fetch", &format!("http://{address}:8080/metrics")])
                .output();
            let output = output.unwrap();
            assert!(output.status.success(), "{output:?}");
            shown.extend(names(&String::from_utf8_lossy(&output.stdout)));
        }
    }
    let missing: Vec<_> = wanted.difference(&shown).collect();
    assert!(missing.is_empty(), "alerts name metrics that no pod shows: {missing:?}");
}

/// The words of a text that are names of our metrics.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("capf_")).map(str::to_owned).collect()
}
