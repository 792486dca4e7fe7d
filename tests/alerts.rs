//! Every alert has its entry in the runbook, every entry its alert, and both ask only for metrics that are declared. What Prometheus
//! itself says of the rules, and whether a running system has the metrics, is for `e2e/operability/metrics.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use capf::telemetry::series::Row;
use capf::telemetry::{controller, endpoint};
use serde::Deserialize;

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn text(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rules() -> Vec<Rule> {
    let rules: Rules = serde_saphyr::from_str(&text("charts/capf-operator/files/alerts.yaml")).unwrap();
    let rules: Vec<_> = rules.groups.into_iter().flat_map(|group| group.rules).collect();
    assert!(rules.len() > 15, "the alerts are not seen any more");
    rules
}

fn declared() -> Vec<Row> {
    let rows = [controller::metrics().exposition.rows(), endpoint::metrics().exposition.rows()];
    rows.concat()
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("capf_")).map(str::to_owned).collect()
}

/// Whether there is such a metric, or such a part of a histogram.
fn exists(name: &str) -> bool {
    let parts = ["_bucket", "_count", "_sum"];
    declared().iter().any(|row| {
        let rest = name.strip_prefix(row.name.as_str());
        rest == Some("") || row.kind == "histogram" && rest.is_some_and(|rest| parts.contains(&rest))
    })
}

#[test]
fn every_alert_has_an_entry_and_every_entry_an_alert() {
    let runbook = text("docs/runbook.md");
    let entries: Vec<_> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let rules = rules();
    let alerts: Vec<_> = rules.iter().map(|rule| rule.alert.as_str()).collect();
    assert_eq!(entries, alerts, "in the same order");
    for (entry, body) in entries.iter().zip(runbook.split("\n## ").skip(1)) {
        for part in ["**Means**", "**See**", "**Do**"] {
            assert!(body.contains(part), "the entry of {entry} has no {part}");
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_to_read_on() {
    for Rule { alert, labels, annotations, .. } in rules() {
        assert!(["critical", "warning"].contains(&labels["severity"].as_str()), "{alert}");
        assert!(!annotations["summary"].is_empty() && !annotations["description"].is_empty(), "{alert}");
        assert_eq!(annotations["runbook_url"], format!("docs/runbook.md#{}", alert.to_lowercase()));
    }
}

#[test]
fn alerts_and_runbook_name_metrics_that_are_declared() {
    for Rule { alert, expr, .. } in rules() {
        let asked = named(&expr);
        assert!(!asked.is_empty(), "{alert} asks for no metric of ours");
        for name in asked {
            assert!(exists(&name), "{alert} asks for {name}, which is not declared");
        }
    }
    for name in named(&text("docs/runbook.md")) {
        assert!(exists(&name), "the runbook names {name}, which is not declared");
    }
}

#[test]
fn no_two_metrics_have_one_name_and_no_label_can_grow_by_what_phones_say() {
    let fixed = [
        "version",
        "part",
        "question",
        "answer",
        "reason",
        "result",
        "operation",
        "phase",
        "state",
        "age",
        "to",
        "unit",
        "verb",
        "kind",
        "outcome",
        "certificate",
        "condition",
        "end",
        "cause",
    ];
    let by_proxy = ["proxy_namespace", "proxy"];
    for part in [controller::metrics().exposition.rows(), endpoint::metrics().exposition.rows()] {
        let names: BTreeSet<_> = part.iter().map(|row| &row.name).collect();
        assert_eq!(names.len(), part.len());
        for row in part {
            let unknown: Vec<_> =
                row.labels.iter().filter(|label| !fixed.contains(label) && !by_proxy.contains(label)).collect();
            assert!(unknown.is_empty(), "{} has labels whose values nobody has bounded: {unknown:?}", row.name);
            assert!(row.name.starts_with("capf_") && !row.meaning.ends_with('.'), "{row:?}");
        }
    }
}
