//! `/readyz` names what is not ready, and `/livez` fails only where a restart would help.

use std::process::Command;
use std::time::Duration;

use capf::phone::Proof;

use crate::harness::{ControlPlane, capf_binary, eventually, free_port};
use crate::product::{BY_NULL, Options, PATIENCE, Product, get, phone};

/// Waits until a probe answers so.
async fn answers(address: &str, path: &str, status: u16, line: &str) {
    eventually(&format!("{path} of {address} is {status} with {line:?}"), PATIENCE, || async {
        let answer = get(address, path).map_err(|error| error.to_string())?;
        if answer.0 == status && answer.1.contains(line) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_ready_and_alive() {
    let product = Product::start("ready").await;
    for address in [product.controller_http(0), product.endpoint_http()] {
        answers(&address, "/readyz", 200, "ok").await;
        answers(&address, "/livez", 200, "ok").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_may_list_nothing_says_what_it_lacks_and_lives() {
    let plane = ControlPlane::shared();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(capf_binary());
    command
        .args(["controller", "--advertise", "127.0.0.1:1", "--listen", "127.0.0.1:0"])
        .args(["--http-listen", &address]);
    let mut process = plane.spawn("lacking-controller", Some("capf-nobody"), &mut command).unwrap();
    answers(&address, "/readyz", 503, "lists: Phones are not listed yet").await;
    let (_, lines) = get(&address, "/readyz").unwrap();
    for line in ["credentials: not obtained yet", "questions: not listening yet", "lists: CertificateOperations"] {
        assert!(lines.contains(line), "{lines}");
    }
    assert_eq!(get(&address, "/livez").unwrap(), (200, "ok\n".into()));
    process.kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_gets_no_answer_from_the_api_server_is_not_ready_after_a_minute_and_lives() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().unwrap()));
    let product = Product::start_with("cut", Options { plane: Some(plane), ..Options::default() }).await;
    let address = product.controller_http(0);
    answers(&address, "/readyz", 200, "ok").await;
    plane.control("stop apiserver").unwrap();
    eventually("the controller is not ready", Duration::from_secs(150), || async {
        let answer = get(&address, "/readyz").map_err(|error| error.to_string())?;
        if answer.0 == 503 && answer.1.starts_with("API server: no answer for ") { Ok(()) } else { Err(answer.1) }
    })
    .await
    .unwrap();
    assert_eq!(get(&address, "/livez").unwrap(), (200, "ok\n".into()), "no restart mends it");
    assert_eq!(
        get(&product.endpoint_http(), "/readyz").unwrap().0,
        200,
        "endpoints stay: phones come again by themselves"
    );
    plane.control("cont apiserver").unwrap();
    answers(&address, "/readyz", 200, "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_drains_is_not_ready_and_lives_until_its_last_session_is_over() {
    let mut product = Product::start("drains").await;
    product.apply(&phone("SEP00000D000001", BY_NULL));
    product.operation_status("sep00000d000001", "Install/Upgrade pending").await;
    // It takes the request for its key and says nothing more.
    let mute = product.simulated("SEP00000D000001", Proof::NullString).await.faults(["stall@key".parse().unwrap()]);
    let waiting = tokio::spawn(async move { { mute }.attempt().await });
    let address = product.endpoint_http();
    eventually("a session is open", PATIENCE, || async {
        let (_, text) = get(&address, "/metrics").map_err(|error| error.to_string())?;
        if text.contains("\ncapf_endpoint_sessions_open 1") { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();
    let endpoint = product.endpoint.as_mut().unwrap();
    endpoint.signal("TERM").unwrap();
    answers(&address, "/readyz", 503, "process: it was told to stop").await;
    assert_eq!(get(&address, "/livez").unwrap(), (200, "ok\n".into()));
    assert_eq!(endpoint.wait(PATIENCE).unwrap(), 0, "after the twenty seconds that it has here");
    assert!(get(&address, "/livez").is_err(), "nobody listens any more");
    assert!(waiting.await.unwrap().is_err(), "its phone met a broken connection, and comes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_no_controller_hears_any_more_is_not_ready() {
    let mut product = Product::start("ended").await;
    product.endpoint.as_mut().unwrap().terminate().unwrap();
    // Beyond the ninety days of its client certificate.
    let clock = product.folder.path().join("endpoint-clock");
    std::fs::write(&clock, (91 * 86_400).to_string()).unwrap();
    let mut command = product.endpoint_command();
    command.env("CAPF_TEST_CLOCK_OFFSET_FILE", &clock);
    let name = format!("{}-endpoint-ended", product.ns());
    product.endpoint = Some(product.plane.spawn(&name, None, &mut command).unwrap());
    let address = product.endpoint_http();
    answers(&address, "/readyz", 503, "bundle: its client certificate ended at ").await;
    assert_eq!(get(&address, "/livez").unwrap(), (200, "ok\n".into()), "the same bundle would be read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_bundle_breaks_serves_on_and_tells_of_it() {
    let product = Product::start("broken").await;
    let address = product.endpoint_http();
    answers(&address, "/metrics", 200, "\ncapf_endpoint_bundle_current 1").await;
    let file = product.bundle().join("client.crt");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "no certificate").unwrap();
    answers(&address, "/metrics", 200, "\ncapf_endpoint_bundle_current 0").await;
    answers(&address, "/metrics", 200, "\ncapf_endpoint_bundle_reloads_total{outcome=\"failed\"} 1").await;
    assert_eq!(get(&address, "/readyz").unwrap(), (200, "ok\n".into()), "the last good one serves");
    std::fs::write(&file, good).unwrap();
    answers(&address, "/metrics", 200, "\ncapf_endpoint_bundle_current 1").await;
}
