//! History: what is kept of finished operations, and what is remembered of those that are not.

use capf::api::Reason;
use kube::ResourceExt as _;

use crate::certificates::by_null;
use crate::harness::eventually;
use crate::product::{Options, PATIENCE, Product, digits, phone, string_secret};

const GIVEN: &str = "certificateOperation: InstallUpgrade, authenticationMode: ByAuthenticationString, keyType: EC, \
                     authenticationString: {secretRef: {name: digits}}";
const DEVICE: &str = "SEP0000000F2001";
const PHONE: &str = "sep0000000f2001";

#[tokio::test(flavor = "multi_thread")]
async fn finished_operations_go_but_for_the_newest_and_those_that_people_applied_and_their_strings_are_remembered() {
    let options = Options { proxy: "  permitNullString: true\n  operationsHistoryLimit: 1", ..Options::default() };
    let product = Product::start_with("history", options).await;
    product.apply(
        "apiVersion: capf.dev/v1alpha1\nkind: CertificateOperation\nmetadata: {name: by-hand}\nspec: {phoneRef: {name: \
         sep0000000f2001}, certificateOperation: InstallUpgrade, authenticationMode: ByNullString, requestedBy: Person, \
         operationCompletesBy: \"2020-01-01T00:00:00Z\"}\n",
    );
    product.apply(&(string_secret("digits", "662607") + &phone(DEVICE, GIVEN)));
    product.operation_status(PHONE, "Install/Upgrade pending").await;
    product.enrol(DEVICE, digits("662607")).await;
    let first = product.armed(PHONE).await.name_any();
    for revision in 2..6 {
        let past = ", operationCompletesBy: \"2020-01-01T00:00:00Z\"";
        product.apply(&phone(DEVICE, &by_null("InstallUpgrade", &format!("{past}, revision: {revision}"))));
        eventually("that run is over", PATIENCE, || async {
            let status = product.phone(PHONE).await.status.unwrap();
            let handled = status.last_handled.and_then(|w| w.revision) == Some(revision);
            let over = status.operation_status.as_deref() == Some("Install/Upgrade failed");
            if handled && over { Ok(()) } else { Err(format!("{:?}", status.operation)) }
        })
        .await
        .unwrap();
    }
    // The one that is named, the newest besides, and the person's.
    eventually("the others are deleted", PATIENCE, || async {
        let names: Vec<_> = product.operations().await.iter().map(kube::ResourceExt::name_any).collect();
        if names.len() == 3 { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await
    .unwrap();
    let names: Vec<_> = product.operations().await.iter().map(kube::ResourceExt::name_any).collect();
    assert!(names.contains(&"by-hand".to_owned()) && !names.contains(&first), "{names:?}");
    // The operation that used the string up is gone, and the string is refused all the same.
    product.apply(&phone(DEVICE, &format!("{GIVEN}, revision: 9")));
    eventually("the used string is refused", PATIENCE, || async {
        let conditions = product.phone(PHONE).await.status.unwrap().conditions;
        let stalled = conditions.iter().any(|c| c.reason == Reason::AuthenticationStringReused.as_str());
        if stalled { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await
    .unwrap();
}
