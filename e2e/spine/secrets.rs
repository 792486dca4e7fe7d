//! A planted authentication string and the keys are found nowhere outside their Secrets; every certificate that is
//! issued is what the profile says.

use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use capf::api::CertificateAuthorityProxy;
use capf::phone::{AttemptOutcome, Proof};
use k8s_openapi::api::core::v1::Secret;

use crate::harness::eventually;
use crate::product::{BY_NULL, Options, PATIENCE, Product, digits, get, phone, string_secret, text};

const PLANTED: &str = "8675309421";
const GIVEN: &str = "certificateOperation: InstallUpgrade, authenticationMode: ByAuthenticationString, \
                     authenticationString: {secretRef: {name: planted}}";

/// Everything that must not be found, in the forms it could be found in.
async fn needles(product: &Product) -> Vec<(String, String)> {
    let mut needles = vec![("the string".to_owned(), PLANTED.to_owned())];
    needles.push(("the string in base64".into(), BASE64_STANDARD.encode(PLANTED)));
    for secret in product.api::<Secret>().list(&Default::default()).await.unwrap() {
        let name = secret.metadata.name.unwrap_or_default();
        for (key, octets) in secret.data.unwrap_or_default().into_iter().filter(|(key, _)| key.ends_with(".key")) {
            let text = String::from_utf8(octets.0).unwrap();
            // A line out of the middle of the key.
            let lines: Vec<&str> = text.lines().filter(|line| !line.contains("-----")).collect();
            let line = lines[lines.len() / 2].to_owned();
            assert!(line.len() > 20, "{name}/{key}");
            needles.push((format!("{name}/{key}"), line));
        }
    }
    assert!(needles.len() >= 8, "issuer, service, endpoint, client, CA, ticket and string keys: {needles:?}");
    needles
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_string_and_the_keys_are_found_nowhere_outside_their_secrets() {
    let mut product = Product::start_with("planted", Options { log_level: "trace", ..Options::default() }).await;
    product.apply(&(string_secret("planted", PLANTED) + &phone("SEP0000000E0001", GIVEN)));
    product.apply(&phone("SEP0000000E0002", "certificateOperation: InstallUpgrade"));
    let generated = product.operation_status("sep0000000e0002", "Install/Upgrade pending").await;
    let generated = generated.status.unwrap().operation.unwrap().authentication_string_secret.unwrap();
    let generated = product.string(&generated).await.unwrap();
    product.operation_status("sep0000000e0001", "Install/Upgrade pending").await;
    // The string in the wrong place (another phone), a wrong one, and the right ones.
    let wrong = product.attempt("SEP0000000E0002", digits(PLANTED)).await;
    assert!(matches!(wrong, AttemptOutcome::Refused { .. }), "{wrong:?}");
    product.attempt("SEP0000000E0001", digits("00000")).await;
    product.enrol("SEP0000000E0001", digits(PLANTED)).await;
    product.enrol("SEP0000000E0002", digits(&generated)).await;
    product.restart_controller();

    let mut needles = needles(&product).await;
    needles.push(("the generated string".into(), generated));
    let all = "capf,phones,certificateoperations,configmaps,events,leases.coordination.k8s.io";
    let resources = product.kubectl(&["get", all, "-o", "yaml"]);
    assert!(resources.contains("sep0000000e0001") && resources.contains("CAPF.cer"));
    let logs = product.logs();
    assert!(logs.contains("TRACE") || logs.contains("DEBUG"), "the logs are not at the level of this test");
    let report = product.capf(None, &["report", "-n", product.ns(), "--format", "csv", "--wide"]);
    assert!(report.contains("SEP0000000E0001"), "{report}");
    let metrics: String =
        [product.controller_http(0), product.endpoint_http()].map(|at| get(&at, "/metrics").unwrap().1).concat();
    assert!(metrics.contains("capf_controller_strings_total") && metrics.contains("capf_endpoint_sessions_total"));
    let told = [("resources", &resources), ("logs", &logs), ("report", &report), ("metrics", &metrics)];
    for (what, needle) in &needles {
        for (place, haystack) in told {
            let at = haystack.find(needle.as_str());
            assert!(
                at.is_none(),
                "{what} stands in the {place}: {:?}",
                at.map(|at| &haystack[at.saturating_sub(200)..at])
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_shows_strings_only_when_asked_and_only_with_the_callers_rights() {
    let product = Product::start("report").await;
    product.apply(&(string_secret("planted", PLANTED) + &phone("SEP0000000E0003", GIVEN)));
    product.operation_status("sep0000000e0003", "Install/Upgrade pending").await;
    product.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reporter}\nrules:\n- apiGroups: \
         [capf.dev]\n  resources: [phones]\n  verbs: [get, list]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: \
         RoleBinding\nmetadata: {name: reporter}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: \
         reporter}\nsubjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: capf-reporter}]\n",
    );
    let report = ["report", "-n", product.ns(), "--format", "csv"];
    let asked = [&report[..], &["--show-authentication-strings"]].concat();
    assert!(!product.capf(None, &report).contains(PLANTED));
    assert!(product.capf(None, &asked).contains(PLANTED));
    let without_rights = product.capf(Some("capf-reporter"), &asked);
    assert!(without_rights.contains("<forbidden>") && !without_rights.contains(PLANTED), "{without_rights}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controllers_own_rights_do_not_let_it_list_secrets() {
    let product = Product::start("rights").await;
    for (verb, resource, may) in [
        ("get", "secrets", "yes"),
        ("list", "secrets", "no"),
        ("watch", "secrets", "no"),
        ("patch", "phones.capf.dev/status", "no"),
        ("update", "phones.capf.dev", "no"),
        ("delete", "certificateoperations.capf.dev", "yes"),
        ("delete", "phones.capf.dev", "no"),
        ("create", "pods", "no"),
        ("list", "pods", "no"),
        ("patch", "deployments.apps", "yes"),
        ("update", "deployments.apps", "no"),
        ("list", "services", "no"),
        ("delete", "services", "yes"),
        ("watch", "poddisruptionbudgets.policy", "no"),
    ] {
        let mut command = product.plane.kubectl_command(Some("capf-controller"));
        let output = command.args(["auth", "can-i", verb, resource, "-n", product.ns()]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), may, "{verb} {resource}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_issued_certificate_is_verified_by_openssl_and_has_the_profile() {
    let subject = "  permitNullString: true\n  certificateSubject: {organization: Example, organizationalUnit: Voice, \
                   locality: Wellington, state: Wellington Region, country: NZ}";
    let product = Product::start_with("profile", Options { proxy: subject, ..Options::default() }).await;
    let published = product.api::<k8s_openapi::api::core::v1::ConfigMap>().get("main-certificates").await.unwrap();
    let data = published.data.unwrap();
    let folder = product.folder.path();
    std::fs::write(folder.join("issuer.pem"), &data["issuer.pem"]).unwrap();
    let service = data.iter().find(|(name, _)| name.ends_with(".0")).unwrap();
    let name = service.0.trim_end_matches(".0");
    assert!(name.starts_with("CAPF-") && name.len() == 13, "{name}");
    let openssl = |args: &[&str]| {
        let output =
            Command::new("openssl").args(args).output().expect("the program openssl: install the package openssl");
        assert!(output.status.success(), "openssl {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (number, key) in ["keySize: 1024", "keySize: 2048", "keyType: EC"].into_iter().enumerate() {
        let device = format!("SEP0000000F000{number}");
        product.apply(&phone(&device, &format!("{BY_NULL}, {key}")));
        product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
        let der = product.enrol(&device, Proof::NullString).await;
        let file = folder.join(format!("{device}.pem"));
        let pem = product.armed(&device.to_lowercase()).await.status.unwrap().certificate.unwrap().pem;
        assert_eq!(capf::pki::certificate::from_pem(&pem).unwrap(), der, "what is on record is what the phone has");
        std::fs::write(&file, pem).unwrap();
        let issuer = text(&folder.join("issuer.pem"));
        openssl(&["verify", "-x509_strict", "-CAfile", &issuer, &text(&file)]);
        let shown = openssl(&["x509", "-noout", "-text", "-nameopt", "RFC2253,-dn_rev", "-in", &text(&file)]);
        let subject = format!("Subject: CN={device},O=Example,OU=Voice,L=Wellington,ST=Wellington Region,C=NZ");
        let usage = if key.contains("EC") { "Digital Signature\n" } else { "Digital Signature, Key Encipherment\n" };
        for expected in [
            &subject,
            "X509v3 Basic Constraints: critical",
            "CA:FALSE",
            "X509v3 Key Usage: critical",
            usage,
            "TLS Web Server Authentication, TLS Web Client Authentication, IPSec End System",
            &format!("URI:{device}"),
            "X509v3 Subject Key Identifier",
            "X509v3 Authority Key Identifier",
            "Signature Algorithm: sha256WithRSAEncryption",
        ] {
            assert!(shown.contains(expected), "{expected} is not in\n{shown}");
        }
        let facts = capf::pki::CertificateFacts::from_der(&der).unwrap();
        let years = facts.not_after.duration_since(facts.not_before).as_hours() / 24 / 365;
        assert_eq!(years, 5);
        // 128 random bits. Leading zero octets are not written: one in 256 certificates lacks one, one in 2^24 three.
        assert!((28..=32).contains(&facts.serial.len()), "{}", facts.serial);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_client_certificate_is_renewed_after_two_thirds_of_its_days() {
    let mut product = Product::start("renewal").await;
    let secrets: kube::Api<Secret> = product.api();
    let client = || async {
        let secret = secrets.get("main-endpoint").await.unwrap();
        let der = capf::pki::certificate::from_pem(std::str::from_utf8(&secret.data.unwrap()["client.crt"].0).unwrap());
        capf::pki::CertificateFacts::from_der(&der.unwrap()).unwrap()
    };
    let before = client().await;
    product.move_clock(59 * 86_400);
    product.restart_controller();
    // That it has looked at the proxy is proven by what it says of the new spec.
    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", r#"{"spec":{"operationExpiresInDays":9}}"#]);
    eventually("the proxy is looked at", PATIENCE, || async {
        let proxy: CertificateAuthorityProxy = product.api().get("main").await.map_err(|error| error.to_string())?;
        let seen = proxy.status.unwrap_or_default().observed_generation;
        if Some(seen) == proxy.metadata.generation { Ok(()) } else { Err(format!("as of generation {seen}")) }
    })
    .await
    .unwrap();
    assert_eq!(client().await.serial, before.serial, "not due yet");
    product.move_clock(61 * 86_400);
    product.restart_controller();
    let renewed = eventually("the client certificate is another", PATIENCE, || async {
        Some(client().await).filter(|facts| facts.serial != before.serial)
    })
    .await
    .unwrap();
    assert!(renewed.not_after > before.not_after);
    assert_eq!(renewed.subject_common_name, before.subject_common_name);
}
