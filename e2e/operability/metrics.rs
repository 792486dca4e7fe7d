//! `/metrics` of a system that has done some work: what alerts ask for is there, and nothing is there that should not be.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use capf::phone::Proof;
use capf::telemetry::series::Row;
use capf::telemetry::{controller, endpoint};
use serde_json::Value;

use crate::harness::eventually;
use crate::product::{BY_NULL, Options, PATIENCE, Product, digits, get, phone, string_secret};

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/capf-operator/files/alerts.yaml");
const GIVEN: &str = "certificateOperation: InstallUpgrade, authenticationMode: ByAuthenticationString, \
                     authenticationString: {secretRef: {name: planted}}";

/// The samples of a process: name, labels and value.
fn samples(address: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let (status, text) = get(address, "/metrics").unwrap();
    assert!(status == 200 && text.ends_with("# EOF\n"), "{status} {text}");
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        // No value of ours holds a quote or a comma.
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
        Some((name.to_owned(), labels, value.parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(|line| sample(line).expect(line)).collect()
}

/// The metric that a sample belongs to.
fn row_of<'a>(rows: &'a [Row], sample: &str) -> &'a Row {
    let parts = ["", "_bucket", "_count", "_sum"];
    let of = |row: &&Row| parts.iter().any(|part| format!("{}{part}", row.name) == sample);
    rows.iter().find(of).unwrap_or_else(|| panic!("{sample} is not declared"))
}

/// A system that enrolled a phone, refused another its wrong string, and met a stranger.
async fn busy(name: &str) -> Product {
    let product = Product::start_with(name, Options { log_level: "info", ..Options::default() }).await;
    product.apply(&phone("SEP00000A000001", BY_NULL));
    product.apply(&(string_secret("planted", "8675309421") + &phone("SEP00000A000002", GIVEN)));
    for waiting in ["sep00000a000001", "sep00000a000002"] {
        product.operation_status(waiting, "Install/Upgrade pending").await;
    }
    product.enrol("SEP00000A000001", Proof::NullString).await;
    product.attempt("SEP00000A000002", digits("00000")).await;
    product.attempt("SEP00000A000003", Proof::NullString).await;
    product
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_an_alert_asks_for_is_there_and_prometheus_can_read_the_rules() {
    let program = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/promrules/build"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(program.status.success(), "e2e/promrules/build failed");
    let program = String::from_utf8(program.stdout).unwrap();
    let checked = Command::new(program.trim()).arg(ALERTS).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let asked = String::from_utf8(checked.stdout).unwrap();

    let product = busy("alerts").await;
    let of_both = [samples(&product.controller_http(0)), samples(&product.endpoint_http())].concat();
    let mut metrics = BTreeSet::new();
    for line in asked.lines() {
        let selection: Value = serde_json::from_str(line).unwrap();
        let (alert, metric) = (selection["alert"].as_str().unwrap(), selection["metric"].as_str().unwrap());
        let found: Vec<_> = of_both.iter().filter(|(name, ..)| name == metric).collect();
        assert!(!found.is_empty(), "{alert} asks for {metric}, which a running system does not have");
        for label in selection["labels"].as_object().unwrap().keys() {
            let has = found.iter().any(|(_, labels, _)| labels.contains_key(label));
            assert!(has, "{alert} selects {metric} by {label}, which it does not have");
        }
        metrics.insert(metric.to_owned());
    }
    assert!(metrics.len() > 15, "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_is_there_with_its_labels_and_tells_of_no_phone() {
    let product = busy("declared").await;
    let parts = [
        (product.controller_http(0), controller::metrics().exposition.rows()),
        (product.endpoint_http(), endpoint::metrics().exposition.rows()),
    ];
    for (address, rows) in parts {
        let found = samples(&address);
        for (name, labels, _) in &found {
            let row = row_of(rows, name);
            let given: BTreeSet<_> = labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            assert_eq!(given, row.labels.iter().copied().collect(), "labels of {name}");
        }
        for row in rows {
            assert!(found.iter().any(|(name, ..)| row_of(rows, name) == row), "{} has no sample", row.name);
        }
        let (_, text) = get(&address, "/metrics").unwrap();
        for secret in ["SEP", "sep0", "127.0.0", "8675309421", "planted"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_are_those_of_what_was_done() {
    let product = busy("numbers").await;
    let value = |address: &str, name: &str, wanted: &[(&str, &str)]| {
        let chosen = samples(address).into_iter().filter(|(found, labels, _)| {
            found == name && wanted.iter().all(|(label, value)| labels.get(*label).is_some_and(|found| found == value))
        });
        chosen.map(|(.., value)| value).sum::<f64>()
    };
    let (controller, endpoint) = (product.controller_http(0), product.endpoint_http());
    let expected = [
        (&endpoint, "capf_endpoint_sessions_total", vec![("end", "finished")], 1.0),
        (&endpoint, "capf_endpoint_sessions_total", vec![("end", "unknown_device")], 1.0),
        (&endpoint, "capf_endpoint_session_seconds_count", vec![], 3.0),
        (&endpoint, "capf_endpoint_key_seconds_count", vec![], 1.0),
        (&endpoint, "capf_endpoint_sessions_open", vec![], 0.0),
        (&endpoint, "capf_endpoint_questions_total", vec![("question", "issue"), ("answer", "issued")], 1.0),
        (&endpoint, "capf_endpoint_bundle_current", vec![], 1.0),
        (&controller, "capf_controller_questions_total", vec![("answer", "unknown_device")], 1.0),
        (
            &controller,
            "capf_controller_questions_total",
            vec![("answer", "refused"), ("reason", "InvalidAuthenticationString")],
            1.0,
        ),
        (&controller, "capf_controller_strings_total", vec![("result", "wrong")], 1.0),
        (&controller, "capf_controller_operations_ended_total", vec![("phase", "Successful")], 1.0),
        (&controller, "capf_controller_phones", vec![("operation", "pending")], 1.0),
        (&controller, "capf_controller_phones", vec![("operation", "successful")], 1.0),
        (&controller, "capf_controller_phones_lsc", vec![("state", "Installed")], 1.0),
        (&controller, "capf_controller_operations_pending", vec![("age", "hour")], 1.0),
        (&controller, "capf_controller_leading", vec![], 1.0),
        (&controller, "capf_controller_ready", vec![], 1.0),
        (&controller, "capf_controller_proxy_condition", vec![("condition", "Ready")], 1.0),
        (&controller, "capf_controller_proxy_condition", vec![("condition", "Stalled")], 0.0),
    ];
    for (address, name, labels, wanted) in expected {
        eventually(&format!("{name} {labels:?} is {wanted}"), PATIENCE, || async {
            let found = value(address, name, &labels);
            if (found - wanted).abs() < 0.5 { Ok(()) } else { Err(found.to_string()) }
        })
        .await
        .unwrap();
    }
    let certificate =
        value(&controller, "capf_controller_proxy_certificate_end_timestamp_seconds", &[("certificate", "issuer")]);
    let status = product.api::<capf::api::CertificateAuthorityProxy>().get("main").await.unwrap().status.unwrap();
    let end = status.issuer_certificate.unwrap().not_after.as_duration().as_secs_f64();
    assert!((certificate - end).abs() < 1.0, "{certificate} {end}");
}
