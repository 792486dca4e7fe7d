//! Enrolments and their endings.

use std::sync::Arc;
use std::time::Duration;

use capf::api::{CertificateAuthorityProxy, LscState, Phase, QUESTIONS_MANAGER, Reason};
use capf::authority::credentials::Credentials;
use capf::authority::questions::{IssueAnswer, IssueRequest, OpenAnswer, OpenRequest};
use capf::authority::service::Service;
use capf::controller::noticed::Noticer;
use capf::controller::store::Store;
use capf::controller::world::{ObjectKey, World};
use capf::phone::{AttemptOutcome, Fault, PhoneKey, Proof};
use capf::pki::CertificateFacts;
use serde_json::json;

use crate::harness::eventually;
use crate::product::{BY_NULL, Options, PATIENCE, Product, digits, phone, string_secret};

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_enrols_by_null_string_and_its_status_tells() {
    let product = Product::start("null").await;
    product.apply(&phone("SEP000000000001", BY_NULL));
    let waiting = product.operation_status("sep000000000001", "Install/Upgrade pending").await;
    assert_eq!(waiting.status.unwrap().lsc_state, LscState::Unknown);
    let certificate = product.enrol("SEP000000000001", Proof::NullString).await;
    let facts = CertificateFacts::from_der(&certificate).unwrap();
    let status = product.phone("sep000000000001").await.status.unwrap();
    assert_eq!(status.lsc_state, LscState::Installed);
    let lsc = status.lsc.unwrap();
    assert_eq!((lsc.serial_number, lsc.sha256_fingerprint), (facts.serial, facts.sha256));
    let table = product.kubectl(&["get", "ph"]);
    assert!(table.contains("Install/Upgrade successful") && table.contains("Installed"), "{table}");
    product.kubectl(&["wait", "--for=condition=Ready", "--timeout=10s", "ph/sep000000000001"]);
    product.kubectl(&["wait", "--for=condition=Succeeded", "--timeout=10s", "ph/sep000000000001"]);
    let again = product.attempt("SEP000000000001", Proof::NullString).await;
    assert_eq!(again, AttemptOutcome::NothingScheduled);
    assert_eq!(product.attempt("SEP00000000FFFF", Proof::NullString).await, AttemptOutcome::UnknownDevice);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_is_enrolled() {
    let product = Product::start("keys").await;
    let kinds = [("RSA", 512), ("RSA", 1024), ("RSA", 2048), ("RSA", 3072), ("EC", 256), ("EC", 384), ("EC", 521)];
    for (number, (kind, size)) in kinds.into_iter().enumerate() {
        let device = format!("SEP00000000010{number}");
        product.apply(&phone(&device, &format!("{BY_NULL}, keyType: {kind}, keySize: {size}")));
        product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
        let certificate = product.enrol(&device, Proof::NullString).await;
        let made = CertificateFacts::from_der(&certificate).unwrap().key_kind.unwrap();
        assert_eq!((made.is_rsa(), made.bits()), (kind == "RSA", size), "{device}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_string_enrols_once_and_is_refused_ever_after() {
    let product = Product::start("given").await;
    product.apply(&(string_secret("digits", "271828") + &phone("SEP000000000002", GIVEN)));
    product.operation_status("sep000000000002", "Install/Upgrade pending").await;
    let empty = product.attempt("SEP000000000002", Proof::NullString).await;
    assert!(matches!(empty, AttemptOutcome::Refused { .. }), "{empty:?}");
    product.enrol("SEP000000000002", digits("271828")).await;
    assert_eq!(product.armed("sep000000000002").await.status.unwrap().attempts, None, "no string is no try");
    // The same string for a new revision.
    product.apply(&phone("SEP000000000002", &format!("{GIVEN}, revision: 2")));
    eventually("the used string is refused", PATIENCE, || async {
        let conditions = product.phone("sep000000000002").await.status.unwrap().conditions;
        let stalled = conditions.iter().any(|c| c.reason == Reason::AuthenticationStringReused.as_str());
        if stalled { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await
    .unwrap();
    assert_eq!(product.operations().await.len(), 1);
}

const GIVEN: &str = "certificateOperation: InstallUpgrade, authenticationMode: ByAuthenticationString, \
                     authenticationString: {secretRef: {name: digits}}";

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_string_has_ten_digits_and_is_gone_after_use() {
    let product = Product::start("generated").await;
    product.apply(&phone("SEP000000000003", "certificateOperation: InstallUpgrade"));
    let waiting = product.operation_status("sep000000000003", "Install/Upgrade pending").await;
    let secret = waiting.status.unwrap().operation.unwrap().authentication_string_secret.unwrap();
    let string = product.string(&secret).await.unwrap();
    assert_eq!(string.len(), 10);
    product.enrol("SEP000000000003", digits(&string)).await;
    assert_eq!(product.string(&secret).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_wrong_strings_lock_out_and_a_new_revision_and_string_run_again() {
    let product = Product::start("lockout").await;
    product.apply(&(string_secret("digits", "314159") + &phone("SEP000000000004", GIVEN)));
    product.operation_status("sep000000000004", "Install/Upgrade pending").await;
    for _ in 0..3 {
        let wrong = product.attempt("SEP000000000004", digits("999999")).await;
        assert!(matches!(wrong, AttemptOutcome::Refused { .. }), "{wrong:?}");
    }
    let failed = product.operation_status("sep000000000004", "Install/Upgrade failed").await;
    assert_eq!(failed.status.unwrap().operation.unwrap().reason, Some(Reason::LockedOut));
    let operation = product.armed("sep000000000004").await;
    assert_eq!(operation.status.clone().unwrap().attempts.unwrap().authentication, 3);
    // The right one comes too late, and nothing is written any more.
    assert_eq!(product.attempt("SEP000000000004", digits("314159")).await, AttemptOutcome::NothingScheduled);
    assert_eq!(product.armed("sep000000000004").await.metadata.resource_version, operation.metadata.resource_version);
    product.event_has("custom-columns=R:.reason", "LockedOut").await;
    product.apply(&(string_secret("digits", "161803") + &phone("SEP000000000004", &format!("{GIVEN}, revision: 1"))));
    product.operation_status("sep000000000004", "Install/Upgrade pending").await;
    product.enrol("SEP000000000004", digits("161803")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strings_entered_all_at_once_are_compared_as_often_as_one_after_the_other() {
    let product = Product::start("rush").await;
    product.apply(&(string_secret("digits", "577215") + &phone("SEP00000000000D", GIVEN)));
    product.operation_status("sep00000000000d", "Install/Upgrade pending").await;
    let mut phones = Vec::new();
    for number in 0..40 {
        phones.push(product.simulated("SEP00000000000D", digits(&format!("{number:06}"))).await);
    }
    let outcomes = futures::future::join_all(phones.iter_mut().map(capf::phone::SimulatedPhone::enrol)).await;
    let let_in = outcomes.iter().filter(|o| matches!(o.last, Ok(AttemptOutcome::Installed { .. }))).count();
    assert_eq!(let_in, 0);
    product.operation_status("sep00000000000d", "Install/Upgrade failed").await;
    let operation = product.armed("sep00000000000d").await;
    assert_eq!(operation.status.unwrap().attempts.unwrap().authentication, 3);
    let compared = product.logs().matches("comparing an authentication string").count();
    assert_eq!(compared, 3, "the other entries are refused without being looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_not_completed_in_time_expires() {
    let product = Product::start("expiry").await;
    product.apply(&phone("SEP000000000005", &format!("{BY_NULL}, operationCompletesBy: \"2020-01-01T00:00:00Z\"")));
    let failed = product.operation_status("sep000000000005", "Install/Upgrade failed").await;
    assert_eq!(failed.status.unwrap().operation.unwrap().reason, Some(Reason::Expired));
    assert_eq!(product.attempt("SEP000000000005", Proof::NullString).await, AttemptOutcome::NothingScheduled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_expires_after_the_configured_days() {
    let mut product = Product::start("days").await;
    product.move_clock(0);
    product.controllers.clear();
    product.start_controller(0);
    product.apply(&phone("SEP000000000006", BY_NULL));
    product.operation_status("sep000000000006", "Install/Upgrade pending").await;
    product.move_clock(10 * 86_400 - 120);
    product.restart_controller();
    assert_eq!(product.armed("sep000000000006").await.phase(), Phase::Pending);
    product.move_clock(10 * 86_400 + 5);
    product.restart_controller();
    let failed = product.operation_status("sep000000000006", "Install/Upgrade failed").await;
    assert_eq!(failed.status.unwrap().operation.unwrap().reason, Some(Reason::Expired));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_drops_after_its_certificate_succeeds_at_its_next_try_with_one_live_certificate() {
    let product = Product::start("drop").await;
    product.apply(&phone("SEP000000000007", BY_NULL));
    product.operation_status("sep000000000007", "Install/Upgrade pending").await;
    for fault in ["drop@certificate:1", "drop@stored:1"] {
        let mut simulated = product.simulated("SEP000000000007", Proof::NullString).await;
        simulated = simulated.faults([fault.parse::<Fault>().unwrap()]);
        simulated.attempt().await.unwrap_err();
        let operation = product.armed("sep000000000007").await;
        assert_eq!(operation.phase(), Phase::InProgress, "recorded, not answered for");
        assert_eq!(product.phone("sep000000000007").await.status.unwrap().lsc, None);
    }
    let certificate = product.enrol("SEP000000000007", Proof::NullString).await;
    let live = CertificateFacts::from_der(&certificate).unwrap();
    let status = product.armed("sep000000000007").await.status.unwrap();
    assert_eq!(status.certificate.unwrap().summary.serial_number, live.serial);
    assert_eq!(status.superseded_serial_numbers.len(), 2);
    assert!(!status.superseded_serial_numbers.contains(&live.serial));
    assert_eq!(product.phone("sep000000000007").await.status.unwrap().lsc.unwrap().serial_number, live.serial);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gets_the_same_certificate_again() {
    let product = Product::start("samekey").await;
    product.apply(&phone("SEP000000000008", BY_NULL));
    product.operation_status("sep000000000008", "Install/Upgrade pending").await;
    let key = capf::phone::PhoneKey::generate("RSA-2048".parse().unwrap()).unwrap();
    let simulated = product.simulated("SEP000000000008", Proof::NullString).await;
    let mut simulated = simulated.prepared_key(key).faults(["drop@certificate:1".parse::<Fault>().unwrap()]);
    simulated.attempt().await.unwrap_err();
    let first = product.armed("sep000000000008").await;
    let outcome = simulated.attempt().await.unwrap();
    let AttemptOutcome::Installed { certificate_der } = outcome else { panic!("{outcome:?}") };
    let serial = first.status.unwrap().certificate.unwrap().summary.serial_number;
    assert_eq!(CertificateFacts::from_der(&certificate_der).unwrap().serial, serial);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_fails_to_make_its_key_fails_at_the_third_attempt() {
    let product = Product::start("keyfail").await;
    product.apply(&phone("SEP000000000009", BY_NULL));
    product.operation_status("sep000000000009", "Install/Upgrade pending").await;
    for _ in 0..3 {
        let simulated = product.simulated("SEP000000000009", Proof::NullString).await;
        let mut simulated = simulated.faults(["fail@key".parse::<Fault>().unwrap()]);
        simulated.attempt().await.unwrap();
    }
    let failed = product.operation_status("sep000000000009", "Install/Upgrade failed").await;
    assert_eq!(failed.status.unwrap().operation.unwrap().reason, Some(Reason::KeyGenerationFailed));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_answers_questions_and_another_takes_over_the_loops() {
    let mut product = Product::start_with("replicas", Options { replicas: 2, ..Options::default() }).await;
    product.apply(&(phone("SEP00000000000A", BY_NULL) + &phone("SEP00000000000B", BY_NULL)));
    product.operation_status("sep00000000000a", "Install/Upgrade pending").await;
    product.operation_status("sep00000000000b", "Install/Upgrade pending").await;
    product.enrol("SEP00000000000A", Proof::NullString).await;
    product.controllers[0].kill().unwrap();
    // The one that is left answers at once; the loops follow when the Lease has run out.
    let outcome = product.simulated("SEP00000000000B", Proof::NullString).await.enrol().await;
    assert!(matches!(outcome.last, Ok(AttemptOutcome::Installed { .. })), "{outcome:?}");
    product.operation_status("sep00000000000b", "Install/Upgrade successful").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_arms_nothing_new() {
    let product = Product::start("suspend").await;
    product.suspend();
    product.apply(&phone("SEP00000000000C", BY_NULL));
    eventually("the phone says that it is suspended", PATIENCE, || async {
        let status = product.phone("sep00000000000c").await.status.unwrap_or_default();
        status.conditions.iter().any(|c| c.reason == "Suspended")
    })
    .await
    .unwrap();
    assert_eq!(product.operations().await, []);
    assert_eq!(product.attempt("SEP00000000000C", Proof::NullString).await, AttemptOutcome::NothingScheduled);
    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    product.operation_status("sep00000000000c", "Install/Upgrade pending").await;
    product.enrol("SEP00000000000C", Proof::NullString).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_not_heard_of_a_phone_asks_before_it_says_no() {
    let product = Product::start("unheard").await;
    product.apply(&phone("SEP00000000000E", BY_NULL));
    product.operation_status("sep00000000000e", "Install/Upgrade pending").await;
    let (main, proxy) = (ObjectKey::new(product.ns(), "main"), product.api().get("main").await.unwrap());
    let store = Store::new(product.plane.client(Some("capf-controller")), QUESTIONS_MANAGER, Duration::from_secs(5));
    let credentials = ObjectKey::new(product.ns(), "capf-controller");
    let credentials = Arc::new(Credentials::obtain(&store, &credentials).await.unwrap());
    // It knows the proxy and no more, as one that stood still while the phone was applied.
    let replica = || {
        let world = Arc::new(World::default());
        world.learn::<CertificateAuthorityProxy>(&proxy);
        let noticer = Arc::new(Noticer::new(Arc::clone(&world), store.clone()));
        Service::new(world, store.clone(), Arc::clone(&credentials), noticer)
    };
    let service = replica();
    let open = async |device: &str| {
        let request = json!({"deviceName": device, "version": 3, "sessionId": 1});
        let request: OpenRequest = serde_json::from_value(request).unwrap();
        service.open(&main, request).await.unwrap()
    };
    let unknown = open("SEP00000000000F").await;
    assert!(matches!(unknown, OpenAnswer::UnknownDevice), "{unknown:?}");
    let known = open("SEP00000000000E").await;
    let OpenAnswer::Install { ticket, .. } = known else { panic!("{known:?}") };
    let key = PhoneKey::generate("RSA-2048".parse().unwrap()).unwrap();
    let request = IssueRequest { ticket, session_id: 1, public_key: key.public().spki().into() };
    let issued = replica().issue(&main, request).await.unwrap();
    assert!(matches!(issued, IssueAnswer::Issued { .. }), "{issued:?}");
}
