//! What one replica has recorded, another that has not heard of it yet must not deny.

use capf::authority::bundle::Bundle;
use capf::authority::client::RemoteAuthority;
use capf::authority::questions::{
    Authority as _, CompleteAnswer, CompleteOutcome, CompleteRequest, IssueAnswer, IssueRequest, OpenAnswer,
    OpenRequest,
};
use capf::phone::PhoneKey;

use crate::faults::phones::by_null;
use crate::faults::site::Site;
use crate::harness::eventually;
use crate::product::{Options, PATIENCE};

/// Behind a Service each question of a session may be heard by another replica, milliseconds after the one before.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_issued_another_that_has_not_heard_of_it_records_as_stored() {
    let site = Site::start("hops", Options { replicas: 2, ..Options::default() }).await;
    let bundle = Bundle::read(&site.product.bundle()).unwrap();
    let [issues, completes] = [0, 1].map(|replica| {
        let mut bundle = bundle.clone();
        bundle.config.controllers = vec![bundle.config.controllers[replica].clone()];
        RemoteAuthority::new(&bundle).unwrap()
    });
    let device = "SEP00000B0B0001";
    site.apply(device, &by_null()).await;
    site.pending(device).await;
    let request = OpenRequest {
        device_name: device.into(),
        version: 3,
        session_id: 7,
        digits: None,
        certificate: false,
        proof: None,
        source: None,
    };
    // So that it knows the operation as it was before, and has a connection to be asked at.
    let answer = completes.open(request).await.unwrap().answer;
    let OpenAnswer::Install { ticket, .. } = answer else { panic!("{answer:?}") };
    // From now on it hears nothing.
    site.proxies[1].hold(true);
    let key = PhoneKey::generate("EC-P256".parse().unwrap()).unwrap();
    let issue = IssueRequest { ticket, session_id: 7, public_key: key.public().spki().into() };
    let answer = issues.issue(issue).await.unwrap();
    let IssueAnswer::Issued { receipt, .. } = answer else { panic!("{answer:?}") };
    let outcome = CompleteOutcome::Stored;
    let mut complete = Box::pin(completes.complete(CompleteRequest { ticket: receipt, session_id: 7, outcome }));
    // It looks before it says no, and cannot. A look may take 1.5 s.
    let looks = eventually("it looks", PATIENCE, || async {
        let held = site.proxies[1].held();
        let look = |line: &String| line.starts_with("GET ") && line.contains("/certificateoperations/");
        if held.iter().any(look) { Ok(()) } else { Err(format!("{held:?}")) }
    });
    tokio::select! {
        biased;
        early = &mut complete => panic!("answered by what it knew: {early:?}"),
        looks = looks => looks.unwrap(),
    }
    site.proxies[1].hold(false);
    assert_eq!(complete.await.unwrap(), CompleteAnswer::Recorded);
}
