//! Malformed manifests: the API server itself refuses them, names the field, and nothing else is disturbed.

use capf::phone::Proof;

use crate::product::{BY_NULL, Product, phone};

/// A Phone's settings, or a whole spec, and what the refusal must name.
const PHONES: &[(&str, &str)] = &[
    ("deviceName: SE", "spec.deviceName"),
    ("deviceName: 1SEP00000001", "spec.deviceName"),
    ("deviceName: SEP000000000000000", "spec.deviceName"),
    ("deviceName: \"SEP 00000001\"", "spec.deviceName"),
    ("deviceName: SEPOTHER", "metadata.name"),
    ("deviceName: null", "spec.deviceName"),
    ("proxyRef: null", "spec.proxyRef"),
    ("proxyRef: {}", "spec.proxyRef.name"),
    ("proxyRef: {name: \"\"}", "spec.proxyRef.name"),
    ("proxyRef: {name: Main}", "spec.proxyRef.name"),
    ("certificateOperation: Install", "spec.certificateOperation"),
    ("certificateOperation: Erase", "certificateOperation"),
    ("certificateOperation: Delete, deviceSecurityMode: nonsecure", "deviceSecurityMode"),
    ("certificateOperation: 1", "spec.certificateOperation"),
    ("authenticationMode: ByPassword", "spec.authenticationMode"),
    ("authenticationMode: ByExistingCertificate", "authenticationMode"),
    (
        "authenticationMode: ByExistingCertificatePrecedenceToLSC, authenticationString: {generate: true}",
        "authenticationString",
    ),
    ("authenticationString: {}", "authenticationString"),
    ("authenticationString: {generate: false}", "authenticationString"),
    ("authenticationString: {generate: true, secretRef: {name: a}}", "authenticationString"),
    ("authenticationString: {secretRef: {name: \"A B\"}}", "spec.authenticationString.secretRef.name"),
    ("authenticationString: \"1234\"", "spec.authenticationString"),
    ("authenticationMode: ByNullString, authenticationString: {generate: true}", "authenticationString"),
    ("keyType: DSA", "spec.keyType"),
    ("keySize: 1", "spec.keySize"),
    ("keySize: 768", "keySize"),
    ("keySize: 8192", "spec.keySize"),
    ("keySize: \"2048\"", "spec.keySize"),
    ("keyType: EC, keySize: 2048", "keySize"),
    ("keyType: RSA, keySize: 384", "keySize"),
    ("operationCompletesBy: tomorrow", "spec.operationCompletesBy"),
    ("operationCompletesBy: \"2030-02-30T00:00:00Z\"", "spec.operationCompletesBy"),
    ("revision: -1", "spec.revision"),
    ("revision: 1.5", "spec.revision"),
    ("revision: 99999999999", "spec.revision"),
];

/// A proxy's spec, and what the refusal must name.
const PROXIES: &[(&str, &str)] = &[
    ("placement: External, endpoints: {replicas: 2}", "endpoints"),
    ("endpoints: {replicas: 17}", "spec.endpoints.replicas"),
    ("endpoints: {image: example.net/other}", "spec.endpoints.image"),
    ("endpoints: {tolerations: [{value: a}]}", "operator must be Exists"),
    ("endpoints: {service: {nodePort: 30804}}", "nodePort goes with"),
    ("endpoints: {service: {type: ClusterIP, loadBalancerSourceRanges: [192.0.2.0/24]}}", "type LoadBalancer"),
    ("endpoints: {resources: {limits: {memory: 1.5Gi}}}", "spec.endpoints.resources.limits.memory"),
    ("certificateIssuer: Keon", "certificateIssuer"),
    ("certificateIssuer: Verisign", "spec.certificateIssuer"),
    ("placement: External, keonJurisdictionID: x", "keonJurisdictionID"),
    ("placement: External, scepPort: 80", "scepPort"),
    ("placement: External, certificateAuthorityAddress: ca.example.org", "certificateAuthorityAddress"),
    ("placement: External, certificateValidityYears: 0", "spec.certificateValidityYears"),
    ("placement: External, certificateValidityYears: 99", "spec.certificateValidityYears"),
    ("placement: External, keySize: 1024", "keySize"),
    ("placement: External, maximumKeyGenerationMinutes: 0", "spec.maximumKeyGenerationMinutes"),
    ("placement: External, maximumKeyGenerationAttempts: 11", "spec.maximumKeyGenerationAttempts"),
    ("placement: External, phonePort: 0", "spec.phonePort"),
    ("placement: External, phonePort: 70000", "spec.phonePort"),
    ("placement: External, operationExpiresInDays: 0", "spec.operationExpiresInDays"),
    ("placement: External, maximumAuthenticationAttempts: 11", "spec.maximumAuthenticationAttempts"),
    ("placement: External, certificateSubject: {country: nz}", "spec.certificateSubject.country"),
    ("placement: External, certificateSubject: {organization: \"\"}", "spec.certificateSubject.organization"),
    ("placement: External, limits: {handshakeSeconds: 0}", "spec.limits.handshakeSeconds"),
    ("placement: External, limits: {connections: 1000000}", "spec.limits.connections"),
    ("placement: External, phoneDefaults: {keySize: 777}", "keySize"),
    ("placement: External, micRoots: {key: ca.pem}", "micRoots"),
    ("placement: External, micRoots: {configMapRef: {name: a}}", "spec.micRoots.key"),
    ("placement: External, micRoots: {configMapRef: {name: a}, secretRef: {name: a}, key: ca.pem}", "micRoots"),
    ("placement: External, expiredMIC: {policy: AllowUntil}", "expiredMIC"),
    ("placement: External, expiredMIC: {policy: Sometimes}", "spec.expiredMIC.policy"),
];

/// A CertificateOperation's spec, and what the refusal must name.
const OPERATIONS: &[(&str, &str)] = &[
    ("certificateOperation: InstallUpgrade, authenticationMode: ByNullString, requestedBy: Person", "spec.phoneRef"),
    ("phoneRef: {name: x}, authenticationMode: ByNullString, requestedBy: Person", "spec.certificateOperation"),
    (
        "phoneRef: {name: x}, certificateOperation: NoPendingOperation, authenticationMode: ByNullString, requestedBy: Person",
        "certificateOperation",
    ),
    ("phoneRef: {name: x}, certificateOperation: InstallUpgrade, requestedBy: Person", "spec.authenticationMode"),
    ("phoneRef: {name: x}, certificateOperation: InstallUpgrade, authenticationMode: ByNullString", "spec.requestedBy"),
    (
        "phoneRef: {name: x}, certificateOperation: InstallUpgrade, authenticationMode: ByNullString, requestedBy: Nobody",
        "spec.requestedBy",
    ),
];

fn refusal(product: &Product, manifest: &str) -> String {
    match product.plane.kubectl_stdin(&["apply", "-n", product.ns(), "-f", "-"], manifest) {
        Ok(out) => panic!("accepted: {manifest}\n{out}"),
        Err(error) => format!("{error:?}"),
    }
}

fn named(manifest: &str, refusal: &str, field: &str) {
    assert!(refusal.contains(field), "the refusal does not name {field}:\n{manifest}\n{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_manifests_are_refused_by_the_api_server_with_the_fields_name_while_phones_enrol() {
    let product = Product::start("refusals").await;
    product.apply(&phone("SEP0000000C0001", BY_NULL));
    product.operation_status("sep0000000c0001", "Install/Upgrade pending").await;
    for (settings, field) in PHONES {
        let base = ["deviceName: SEP0000000C0002", "proxyRef: {name: main}"];
        let kept: Vec<&str> = base.into_iter().filter(|b| !settings.contains(b.split(':').next().unwrap())).collect();
        let spec = kept.into_iter().chain([*settings]).collect::<Vec<_>>().join(", ");
        let manifest = format!(
            "apiVersion: capf.dev/v1alpha1\nkind: Phone\nmetadata: {{name: sep0000000c0002}}\nspec: {{{spec}}}\n"
        );
        named(&manifest, &refusal(&product, &manifest), field);
    }
    for (spec, field) in PROXIES {
        let manifest = format!(
            "apiVersion: capf.dev/v1alpha1\nkind: CertificateAuthorityProxy\nmetadata: {{name: other}}\nspec: {{{spec}}}\n"
        );
        named(&manifest, &refusal(&product, &manifest), field);
    }
    for (spec, field) in OPERATIONS {
        let manifest = format!(
            "apiVersion: capf.dev/v1alpha1\nkind: CertificateOperation\nmetadata: {{name: other}}\nspec: {{{spec}}}\n"
        );
        named(&manifest, &refusal(&product, &manifest), field);
    }
    println!("{} malformed manifests were refused", PHONES.len() + PROXIES.len() + OPERATIONS.len());
    product.enrol("SEP0000000C0001", Proof::NullString).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_to_change_what_is_immutable_or_over() {
    let product = Product::start("immutable").await;
    product.apply(&phone("SEP0000000D0001", BY_NULL));
    product.operation_status("sep0000000d0001", "Install/Upgrade pending").await;
    product.enrol("SEP0000000D0001", Proof::NullString).await;
    let operation = product.armed("sep0000000d0001").await.metadata.name.unwrap();
    let patch = |target: &str, subresource: &[&str], patch: &str| {
        let args = [&["patch", "-n", product.ns(), target, "--type=merge", "-p", patch], subresource].concat();
        format!("{:?}", product.plane.kubectl(&args).expect_err(patch))
    };
    let status = &["--subresource=status"][..];
    for (target, subresource, change, named) in [
        ("ph/sep0000000d0001", &[][..], r#"{"spec":{"deviceName":"sep0000000d0001"}}"#, "deviceName"),
        ("ph/sep0000000d0001", &[], r#"{"spec":{"proxyRef":{"name":"other"}}}"#, "proxyRef"),
        (&format!("certop/{operation}"), &[], r#"{"spec":{"keySize":4096}}"#, "spec"),
        (&format!("certop/{operation}"), status, r#"{"status":{"phase":"Pending"}}"#, "finished operation"),
        (&format!("certop/{operation}"), status, r#"{"status":{"phase":"Failed"}}"#, "finished operation"),
        (&format!("certop/{operation}"), status, r#"{"status":{"certificate":null}}"#, "finished operation"),
        (&format!("certop/{operation}"), status, r#"{"status":null}"#, "finished operation"),
    ] {
        let refusal = patch(target, subresource, change);
        assert!(refusal.contains(named), "{change}: {refusal}");
    }
}
