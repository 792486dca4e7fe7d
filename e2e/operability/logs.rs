//! One search finds a session's lines in both processes, and one phone is logged at a level of its own.

use capf::phone::Proof;
use serde_json::Value;

use crate::harness::{Process, eventually};
use crate::product::{BY_NULL, Options, PATIENCE, Product, phone};

async fn waiting(product: &Product, devices: &[&str]) {
    for device in devices {
        product.apply(&phone(device, BY_NULL));
        product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
    }
}

/// The endpoint's log, once it says how the sessions of these devices ended: that is the last line of each, and comes after
/// all that phones and statuses tell. `end` is how the line begins to say so.
async fn log_with_ends(product: &Product, end: &str, devices: &[&str]) -> String {
    let endpoint = product.endpoint.as_ref().unwrap();
    eventually("the sessions are over", PATIENCE, || async {
        let log = endpoint.log();
        let is_over = |device: &&str| log.lines().any(|line| line.contains(device) && line.contains(end));
        if devices.iter().all(is_over) { Ok(log) } else { Err(log) }
    })
    .await
    .unwrap()
}

/// The id of the session in which this device came to its end.
fn session_of(log: &str, device: &str) -> String {
    let line = log.lines().find(|line| line.contains(device) && line.contains(" end=")).expect(log);
    line.split_once("session{id=").unwrap().1.split(' ').next().unwrap().to_owned()
}

fn log(process: &Process) -> String {
    process.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotated_phone_is_logged_at_its_level_in_both_processes_and_no_other_is() {
    let product = Product::start_with("watched", Options { log_level: "info", ..Options::default() }).await;
    waiting(&product, &["SEP00000B000001", "SEP00000B000002", "SEP00000B000003"]).await;
    let quiet = product.logs();
    assert!(!quiet.contains("DEBUG"), "{quiet}");
    let versions = async || {
        let phone = product.phone("sep00000b000001").await;
        (phone.metadata.generation, phone.status.unwrap().operation.unwrap().name)
    };
    let before = versions().await;
    product.kubectl(&["annotate", "phone", "sep00000b000001", "capf.dev/log-level=debug"]);
    let controller = &product.controllers[0];
    eventually("the loops log the phone's steps", PATIENCE, || async {
        let log = controller.log();
        let line = log.lines().any(|line| line.contains("DEBUG") && line.contains("decided"));
        if line { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
    assert_eq!(versions().await, before, "an annotation starts nothing");
    product.enrol("SEP00000B000001", Proof::NullString).await;
    product.enrol("SEP00000B000002", Proof::NullString).await;

    let endpoint = log_with_ends(&product, " end=", &["SEP00000B000001", "SEP00000B000002"]).await;
    let (watched, other) = (session_of(&endpoint, "SEP00000B000001"), session_of(&endpoint, "SEP00000B000002"));
    let at_debug = |log: &str| log.lines().filter(|l| l.contains("DEBUG")).map(str::to_owned).collect::<Vec<_>>();
    let (at_endpoint, at_controller) = (at_debug(&endpoint), at_debug(&controller.log()));
    assert!(at_endpoint.iter().any(|l| l.contains("KEY_GENERATE_RES")), "{at_endpoint:?}");
    assert!(at_endpoint.iter().all(|l| l.contains(&watched) && !l.contains(&other)), "{at_endpoint:?}");
    assert!(at_controller.iter().all(|l| l.to_lowercase().contains("sep00000b000001")), "{at_controller:?}");
    for question in ["open", "issue", "complete"] {
        let span = format!("question{{id={watched} question=\"{question}\" proxy={}/main device=\"", product.ns());
        let found = at_controller.iter().any(|line| line.contains(&span) && line.contains("SEP00000B000001"));
        assert!(found, "no line of {span} in {at_controller:?}");
    }

    // Without the annotation it is as quiet as the others.
    product.kubectl(&["annotate", "phone", "sep00000b000001", "capf.dev/log-level-"]);
    product.kubectl(&["annotate", "phone", "sep00000b000002", "capf.dev/log-level=loud"]);
    eventually("the controller warns of a level that is none", PATIENCE, || async {
        let log = controller.log();
        if log.contains("capf.dev/log-level is passed over") { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
    let lines = (at_debug(&log(product.endpoint.as_ref().unwrap())).len(), at_debug(&controller.log()).len());
    product.enrol("SEP00000B000003", Proof::NullString).await;
    product.kubectl(&["annotate", "phone", "sep00000b000002", "example.com/touched=yes"]);
    product.attempt("SEP00000B000002", Proof::NullString).await;
    let after = (at_debug(&log(product.endpoint.as_ref().unwrap())).len(), at_debug(&controller.log()).len());
    assert_eq!(lines, after);
    let text = controller.log();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("is passed over")).collect();
    let [warning] = warnings[..] else { panic!("once: {warnings:?}") };
    for part in ["WARN", "sep00000b000002", "\"loud\"", "error, warn, info, debug and trace"] {
        assert!(warning.contains(part), "{part} is not in {warning}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_json_each_line_is_an_object_that_names_its_session() {
    let mut product = Product::start_with("json", Options { log_level: "info", ..Options::default() }).await;
    product.endpoint.as_mut().unwrap().terminate().unwrap();
    let mut command = product.endpoint_command();
    command.env("CAPF_LOG_FORMAT", "json");
    let name = format!("{}-endpoint-json", product.ns());
    let mut endpoint = product.plane.spawn(&name, None, &mut command).unwrap();
    endpoint.wait_for_log("phones are awaited", PATIENCE).unwrap();
    product.endpoint = Some(endpoint);
    waiting(&product, &["SEP00000C000001"]).await;
    product.enrol("SEP00000C000001", Proof::NullString).await;
    let text = log_with_ends(&product, "\"end\":", &["SEP00000C000001"]).await;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let end = lines.iter().find(|line| line["fields"]["end"] == "finished").expect(&text);
    assert_eq!((&end["span"]["name"], &end["span"]["device"]), (&"session".into(), &"SEP00000C000001".into()));
    let id = end["span"]["id"].as_str().unwrap();
    let recorded = product.controllers[0].log();
    let recorded = recorded.lines().find(|line| line.contains("recorded")).expect(&recorded);
    assert!(recorded.contains(&format!("question{{id={id} ")), "{recorded}");
}
