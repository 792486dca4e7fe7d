//! Faults planted on a real control plane, and what `capf explain` says of them. The whole table is in `tests/explain.rs`.

use capf::phone::{AttemptOutcome, Proof};

use crate::product::{BY_NULL, Options, Product, digits, phone};

/// What `capf explain` says, which must name this hop, and these words of the cause and the fix.
fn says(product: &Product, device: &str, hop: &str, words: &[&str]) {
    let text = product.capf(None, &["explain", "-n", product.ns(), device]);
    assert!(text.contains(&format!("Last hop: {hop}\n")), "{device}: not {hop}:\n{text}");
    for word in words {
        assert!(text.contains(word), "{device}: {word:?} is not said:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_of_phones_are_explained() {
    let options =
        Options { proxy: "  permitNullString: true\n  maximumKeyGenerationAttempts: 1", ..Options::default() };
    let product = Product::start_with("explain", options).await;
    let by_string = "certificateOperation: InstallUpgrade, keyType: EC";
    let missing = "certificateOperation: InstallUpgrade, authenticationString: {secretRef: {name: nowhere}}";
    for (device, settings) in [
        ("SEP0000000E1001", ""),
        ("SEP0000000E1002", missing),
        ("SEP0000000E1003", by_string),
        ("SEP0000000E1004", by_string),
        ("SEP0000000E1005", "certificateOperation: InstallUpgrade, operationCompletesBy: \"2020-01-01T00:00:00Z\""),
        ("SEP0000000E1006", BY_NULL),
        ("SEP0000000E1007", by_string),
        ("SEP0000000E1008", BY_NULL),
    ] {
        product.apply(&phone(device, settings));
    }
    let elsewhere = phone("SEP0000000E1009", by_string).replace("name: main", "name: elsewhere");
    product.apply(&elsewhere);
    for pending in ["1003", "1004", "1006", "1007", "1008"] {
        product.operation_status(&format!("sep0000000e{pending}"), "Install/Upgrade pending").await;
    }
    product.operation_status("sep0000000e1005", "Install/Upgrade failed").await;
    product.attempt("SEP0000000E1003", digits("00000000000")).await;
    for _ in 0..3 {
        product.attempt("SEP0000000E1004", digits("00000000000")).await;
    }
    product.operation_status("sep0000000e1004", "Install/Upgrade failed").await;
    let outcome = product.attempt("SEP0000000E1006", Proof::NullString).await;
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{outcome:?}");
    product.operation_status("sep0000000e1006", "Install/Upgrade successful").await;
    let secret = product.armed("sep0000000e1007").await.metadata.name.unwrap();
    product.kubectl(&["delete", "secret", &format!("{secret}-string")]);

    let wait = r#"--for=jsonpath={.status.observedGeneration}=1"#;
    product.kubectl(&["wait", wait, "--timeout=60s", "ph", "--all"]);
    says(&product, "SEP0000000E9999", "never called", &["there is no Phone", "apply a Phone"]);
    says(&product, "SEP0000000E1001", "nothing asked", &["set certificateOperation"]);
    says(&product, "SEP0000000E1002", "not armed", &["nowhere", "apply it"]);
    says(&product, "SEP0000000E1003", "authentication", &["1 of 3 wrong", "capf auth-strings"]);
    says(&product, "SEP0000000E1004", "authentication", &["Too many wrong", "capf unlock"]);
    says(&product, "SEP0000000E1005", "never called", &["completes-by", "later operationCompletesBy"]);
    says(&product, "SEP0000000E1006", "done", &["the phone said so"]);
    says(&product, "SEP0000000E1007", "authentication", &["is not there", "capf renew-string"]);
    says(&product, "SEP0000000E1008", "never called", &["CTL", "ctlCertificate", "handshake_failed"]);
    says(&product, "SEP0000000E1009", "not armed", &["no CertificateAuthorityProxy elsewhere"]);

    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", r#"{"spec":{"permitNullString":false}}"#]);
    product.kubectl(&["wait", r#"--for=jsonpath={.status.observedGeneration}=2"#, "--timeout=60s", "capf/main"]);
    says(&product, "SEP0000000E1008", "authentication", &["no longer permitted"]);
    product.suspend();
    product.apply(&phone("SEP0000000E1010", by_string));
    product.kubectl(&["wait", wait, "--timeout=60s", "ph/sep0000000e1010"]);
    says(&product, "SEP0000000E1010", "not armed", &["suspend: false"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_of_a_proxy_are_explained() {
    let product = Product::start("ailing").await;
    let explain = || product.capf(None, &["explain", "-n", product.ns(), "--proxy", "main"]);
    let text = explain();
    for line in ["Certificates: fine", "Endpoints:    cannot tell", "Clock:        fine", "Trust:        FAULT"] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    product.kubectl(&["delete", "secret", "main-issuer"]);
    let text = explain();
    assert!(text.contains("Certificates: FAULT: Secret main-issuer is gone"), "{text}");
    // A caller that may read no Secrets is told what state alone tells.
    product.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: looker}\nrules:\n- apiGroups: \
         [capf.dev]\n  resources: ['*']\n  verbs: [get, list]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: \
         RoleBinding\nmetadata: {name: looker}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: \
         looker}\nsubjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: capf-reporter}]\n",
    );
    let text = product.capf(Some("capf-reporter"), &["explain", "-n", product.ns(), "--proxy", "main"]);
    assert!(text.contains("Certificates: fine"), "{text}");
}
