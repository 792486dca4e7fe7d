//! Several controllers: one that ends is left at once, and what one has recorded the next one knows.

use capf::authority::bundle::Bundle;
use capf::authority::client::RemoteAuthority;
use capf::authority::questions::{
    Authority as _, CompleteAnswer, CompleteOutcome, CompleteRequest, IssueAnswer, IssueRequest, OpenAnswer,
    OpenRequest,
};
use capf::phone::PhoneKey;
use tokio::net::TcpStream;

use crate::harness::eventually;
use crate::product::{BY_NULL, Options, PATIENCE, Product, phone};

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_ends_refuses_at_once_whoever_comes() {
    let mut product = Product::start("ends").await;
    let bundle = Bundle::read(&product.bundle()).unwrap();
    let questions = &bundle.config.controllers[0];
    // It has five seconds for its handshake and says nothing: for so long the controller has not ended.
    let _silent = TcpStream::connect(questions).await.unwrap();
    let controller = &mut product.controllers[0];
    controller.signal("TERM").unwrap();
    let ending = std::sync::Mutex::new(controller);
    eventually("it refuses while it ends", PATIENCE, || async {
        let refused = TcpStream::connect(questions).await.is_err();
        if !ending.lock().unwrap().is_running() {
            return Err("it has ended".to_owned());
        }
        if refused { Ok(()) } else { Err("it takes connections".to_owned()) }
    })
    .await
    .unwrap();
}

/// Behind a Service each question of a session may be heard by another replica, milliseconds after the one before.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_issued_another_records_as_stored_at_once() {
    let product = Product::start_with("hops", Options { replicas: 2, ..Options::default() }).await;
    let bundle = Bundle::read(&product.bundle()).unwrap();
    let [issues, completes] = [0, 1].map(|replica| {
        let mut bundle = bundle.clone();
        bundle.config.controllers = vec![bundle.config.controllers[replica].clone()];
        RemoteAuthority::new(&bundle).unwrap()
    });
    let devices: Vec<String> = (1..=40).map(|number| format!("SEP00000B0B{number:04X}")).collect();
    product.apply(&devices.iter().map(|device| phone(device, &format!("{BY_NULL}, keyType: EC"))).collect::<String>());
    for (session_id, device) in (0..).zip(&devices) {
        product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
        let request = OpenRequest {
            device_name: device.clone(),
            version: 3,
            session_id,
            digits: None,
            certificate: false,
            proof: None,
            source: None,
        };
        // So that the replica has a connection to be asked at, and knows the operation as it was before.
        completes.open(request.clone()).await.unwrap();
        let answer = issues.open(request).await.unwrap().answer;
        let OpenAnswer::Install { ticket, .. } = answer else { panic!("{device}: {answer:?}") };
        let key = PhoneKey::generate("EC-P256".parse().unwrap()).unwrap();
        let issue = IssueRequest { ticket, session_id, public_key: key.public().spki().into() };
        let answer = issues.issue(issue).await.unwrap();
        let IssueAnswer::Issued { receipt, .. } = answer else { panic!("{device}: {answer:?}") };
        let complete = CompleteRequest { ticket: receipt, session_id, outcome: CompleteOutcome::Stored };
        assert_eq!(completes.complete(complete).await.unwrap(), CompleteAnswer::Recorded, "{device}");
    }
}
