//! `capf explain`: a table of planted faults, from resources as the API server returns them to hop, cause and fix.
//!
//! Some of them are planted on a real control plane too, in `e2e/spine/explain.rs`.

use capf::api::{CertificateAuthorityProxy, CertificateOperation, Phone, Reason};
use capf::domain::explain::{Facts, Hop, StringSecret, explain};
use capf::domain::explain_proxy::{self, Health, SecretFact, Topic};
use jiff::Timestamp;
use serde_json::{Value, json};

const NOW: &str = "2027-01-01T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What a fault is planted in: a phone that waits for its string, with nothing wrong.
#[derive(Clone)]
struct World {
    phone: Option<Value>,
    operations: Vec<Value>,
    proxies: Vec<Value>,
    string: StringSecret,
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2027-01-01T10:00:00Z", "observedGeneration": 1,
    })
}

fn proxy(name: &str) -> Value {
    json!({
        "apiVersion": "capf.dev/v1alpha1", "kind": "CertificateAuthorityProxy",
        "metadata": {
            "name": name, "namespace": "voice", "generation": 1, "creationTimestamp": "2027-01-01T09:59:59Z",
        },
        "spec": {"placement": "External"},
        "status": {
            "observedGeneration": 1,
            "serviceCertificate": {
                "commonName": "CAPF-0a0b0c0d", "sha256Fingerprint": "aa", "notAfter": "2036-01-01T00:00:00Z",
            },
            "issuerCertificate": {
                "commonName": "CAPF-01020304", "sha256Fingerprint": "bb", "notAfter": "2036-01-01T00:00:00Z",
            },
            "conditions": [condition("Ready", "True", "Activated", "")],
        },
    })
}

fn sound() -> World {
    let phone = json!({
        "apiVersion": "capf.dev/v1alpha1", "kind": "Phone",
        "metadata": {"name": "sep001", "namespace": "voice", "generation": 1},
        "spec": {"deviceName": "SEP001", "proxyRef": {"name": "main"}, "certificateOperation": "InstallUpgrade"},
        "status": {
            "observedGeneration": 1, "operationStatus": "Install/Upgrade pending",
            "operation": {
                "name": "sep001-1", "certificateOperation": "InstallUpgrade", "requestedBy": "Phone",
                "authenticationMode": "ByAuthenticationString", "phase": "Pending",
                "authenticationStringSecret": "sep001-1-string",
            },
            "conditions": [condition("Ready", "True", "OperationPending", "")],
        },
    });
    let operation = json!({
        "apiVersion": "capf.dev/v1alpha1", "kind": "CertificateOperation",
        "metadata": {"name": "sep001-1", "namespace": "voice"},
        "spec": {
            "phoneRef": {"name": "sep001"}, "certificateOperation": "InstallUpgrade", "requestedBy": "Phone",
            "authenticationMode": "ByAuthenticationString", "operationCompletesBy": "2027-01-10T00:00:00Z",
        },
        "status": {"phase": "Pending"},
    });
    World {
        phone: Some(phone),
        operations: vec![operation],
        proxies: vec![proxy("main")],
        string: StringSecret::Usable,
    }
}

impl World {
    fn phone(&mut self) -> &mut Value {
        self.phone.as_mut().unwrap()
    }

    /// The phone's operation is over.
    fn over(&mut self, phase: &str, reason: Option<&str>) {
        let operation = &mut self.phone()["status"]["operation"];
        operation["phase"] = json!(phase);
        if let Some(reason) = reason {
            operation["reason"] = json!(reason);
        }
    }

    fn by_null(&mut self) {
        self.phone()["status"]["operation"]["authenticationMode"] = json!("ByNullString");
        self.operations[0]["spec"]["authenticationMode"] = json!("ByNullString");
        self.proxies[0]["spec"]["permitNullString"] = json!(true);
    }

    fn called(&mut self, proxy: usize) {
        self.proxies[proxy]["status"]["unknownCallers"] = json!([{
            "deviceName": "SEP001", "firstSeen": "2027-01-01T11:00:00Z", "lastSeen": "2027-01-01T11:30:00Z",
            "sourceBlock": "192.0.2.0/24", "calls": 3,
        }]);
    }

    fn explained(&self) -> capf::domain::explain::Explanation {
        let read = |values: &[Value]| values.to_vec();
        let phone: Option<Phone> = self.phone.clone().map(|phone| serde_json::from_value(phone).unwrap());
        let operations: Vec<CertificateOperation> =
            read(&self.operations).into_iter().map(|o| serde_json::from_value(o).unwrap()).collect();
        let proxies: Vec<CertificateAuthorityProxy> =
            read(&self.proxies).into_iter().map(|p| serde_json::from_value(p).unwrap()).collect();
        let facts = Facts {
            device: "SEP001",
            phone: phone.as_ref(),
            operations: &operations,
            proxies: &proxies,
            string: self.string,
        };
        explain(&facts, at(NOW))
    }
}

/// A fault: its name, how it is planted, and what must be said of it: hop, words of the cause, words of the fix.
type Fault = (&'static str, fn(&mut World), Hop, &'static str, &'static str);

#[rustfmt::skip] // one fault a line or two
const FAULTS: &[Fault] = &[
    ("no Phone, never called", |w| w.phone = None, Hop::NeverCalled, "there is no Phone SEP001", "apply a Phone"),
    ("no Phone, called", |w| { w.phone = None; w.called(0); }, Hop::Tls, "called at proxy main, last seen 2027-01-01T11:30:00Z", "capf adopt SEP001 --proxy main"),
    ("no proxy", |w| w.proxies.clear(), Hop::NotArmed, "no CertificateAuthorityProxy main", "apply the proxy main"),
    ("no controller", |w| w.phone()["metadata"]["generation"] = json!(2), Hop::NotArmed, "no controller has acted", "see that the controllers run"),
    ("a manifest that cannot be acted on", |w| w.phone()["status"]["conditions"] = json!([condition("Stalled", "True", "PolicyDenied", "set permitNullString: true")]),
        Hop::NotArmed, "PolicyDenied", "set permitNullString: true"),
    ("a given Secret that is not there", |w| w.phone()["status"]["conditions"] = json!([condition("Ready", "False", "SecretNotFound", "there is no Secret mine")]),
        Hop::NotArmed, "there is no Secret mine", "apply it"),
    ("a suspended proxy", |w| w.phone()["status"]["conditions"] = json!([condition("Ready", "True", "Suspended", "")]), Hop::NotArmed, "suspended", "suspend: false on proxy main"),
    ("nothing asked", |w| { w.phone()["status"].as_object_mut().unwrap().remove("operation"); }, Hop::NothingAsked, "nothing was asked", "certificateOperation"),
    ("an operation that somebody deleted", |w| w.operations.clear(), Hop::NotArmed, "operation sep001-1 is gone", "wait a moment"),
    ("a deadline that nobody acts on", |w| w.operations[0]["spec"]["operationCompletesBy"] = json!("2027-01-01T11:00:00Z"), Hop::NotArmed, "no controller has ended it", "log and clock"),
    ("the phone called elsewhere", |w| { w.proxies.push(proxy("branch")); w.called(1); }, Hop::Tls, "at proxy branch", "CAPF address of proxy main"),
    ("a CTL without the certificate", |w| w.proxies[0]["status"]["conditions"] = json!([condition("Ready", "True", "Activated", ""), condition("CTLUpdateRequired", "True", "ServiceCertificateChanged", "")]),
        Hop::NeverCalled, "CTL is not known to hold CAPF-0a0b0c0d", "ctlCertificate: CAPF-0a0b0c0d"),
    ("an endpoint whose credential has ended", |w| w.proxies[0]["status"]["conditions"] = json!([condition("Ready", "True", "Activated", ""), condition("CredentialExpiring", "True", "ClientCertificateExpired", "")]),
        Hop::NeverCalled, "client certificate has expired", "capf endpoint-bundle --proxy main"),
    ("nobody entered the string", |_| {}, Hop::NeverCalled, "nobody has entered the authentication string", "capf auth-strings"),
    ("a phone by null string that is off", World::by_null, Hop::NeverCalled, "has not called yet", "reset the phone"),
    ("a string mistyped", |w| w.operations[0]["status"]["attempts"] = json!({"authentication": 2}), Hop::Authentication, "2 of 3 wrong", "capf renew-string"),
    ("a string's Secret deleted", |w| w.string = StringSecret::Missing, Hop::Authentication, "is not there", "capf renew-string"),
    ("a string's Secret of another type", |w| w.string = StringSecret::Unusable, Hop::Authentication, "another type", "capf.dev/authentication-string"),
    ("locked out", |w| w.over("Failed", Some("LockedOut")), Hop::Authentication, "Too many wrong", "capf unlock"),
    ("the null string no longer permitted", |w| { w.by_null(); w.proxies[0]["spec"]["permitNullString"] = json!(false); }, Hop::Authentication, "no longer permitted", "permit it"),
    ("a key that fails", |w| w.operations[0]["status"]["attempts"] = json!({"authentication": 1, "keyGeneration": 2}), Hop::Key, "2 of 3 attempts", "smaller key"),
    ("a key of another kind", |w| w.over("Failed", Some("KeyRejected")), Hop::Key, "not of the kind", "keyType, keySize"),
    ("a key that takes too long", |w| w.over("Failed", Some("KeyGenerationTimeout")), Hop::Key, "within the allowed minutes", "maximumKeyGenerationMinutes"),
    ("the user stopped it", |w| w.over("Failed", Some("UserAborted")), Hop::Key, "user stopped", "ask the phone's user"),
    ("an issuer whose key is gone", |w| w.proxies[0]["status"]["conditions"] = json!([condition("Ready", "False", "KeyPairMissing", "Secret main-issuer is gone")]),
        Hop::CertificateAuthority, "Secret main-issuer is gone", "capf explain --proxy main"),
    ("a CA that refuses", |w| w.over("Failed", Some("CARejected")), Hop::CertificateAuthority, "refused to sign", "what ails the CA"),
    ("a phone that does not store", |w| w.over("Failed", Some("StoreRejected")), Hop::Store, "did not store", "the phone's own log"),
    ("power lost before the answer", |w| { w.operations[0]["status"] = json!({"phase": "InProgress", "certificate": {
        "serialNumber": "01", "sha256Fingerprint": "aa", "publicKeySha256": "bb", "issuer": "CN=CAPF", "notBefore": NOW, "notAfter": NOW,
        "pem": "PEM", "issuedAt": "2027-01-01T11:59:00Z"}}); }, Hop::Store, "issued at 2027-01-01T11:59:00Z", "comes again by itself"),
    ("a deletion that is under way", |w| { w.operations[0]["spec"]["certificateOperation"] = json!("Delete"); w.operations[0]["status"] = json!({"phase": "InProgress"}); },
        Hop::Store, "told what to do (Delete)", "comes again by itself"),
    ("a phone that refuses", |w| w.over("Failed", Some("PhoneRejected")), Hop::Store, "phone", "the phone's own log"),
    ("an MIC past its end", |w| w.over("Failed", Some("MICExpired")), Hop::Authentication, "past its end date", "another authenticationMode"),
    ("a phone that shows its certificates in vain", |w| { w.operations[0]["spec"]["authenticationMode"] = json!("ByExistingCertificatePrecedenceToLSC"); },
        Hop::NeverCalled, "has not called yet", "reset the phone"),
    ("expired", |w| w.over("Failed", Some("Expired")), Hop::NeverCalled, "completes-by", "later operationCompletesBy"),
    ("done", |w| w.over("Successful", None), Hop::Done, "Install/Upgrade is done", "nothing"),
    ("an LSC that has ended", |w| { w.over("Successful", None); w.phone()["status"]["lsc"] = json!({
        "serialNumber": "01", "sha256Fingerprint": "aa", "publicKeySha256": "bb", "issuer": "CN=CAPF", "notBefore": "2026-01-01T00:00:00Z",
        "notAfter": "2026-12-31T00:00:00Z"}); }, Hop::Done, "has expired at 2026-12-31", "new revision"),
];

#[test]
fn every_planted_fault_has_its_hop_cause_and_fix() {
    let mut hops = std::collections::BTreeSet::new();
    for (name, plant, hop, cause, fix) in FAULTS {
        let mut world = sound();
        plant(&mut world);
        let said = world.explained();
        assert_eq!(said.hop, *hop, "{name}: {said:?}");
        assert!(said.cause.contains(cause), "{name}: {said:?}");
        assert!(said.fix.contains(fix), "{name}: {said:?}");
        hops.insert(said.hop);
    }
    assert_eq!(hops.len(), 9, "a hop is never explained: {hops:?}");
}

#[test]
fn where_state_cannot_tell_it_says_so_and_where_to_look() {
    for unsure in [
        "no Phone, never called",
        "a CTL without the certificate",
        "nobody entered the string",
        "a phone by null string that is off",
        "power lost before the answer",
        "a deletion that is under way",
        "a phone that shows its certificates in vain",
    ] {
        let (_, plant, ..) = FAULTS.iter().find(|(name, ..)| *name == unsure).unwrap();
        let mut world = sound();
        plant(&mut world);
        let said = world.explained().unsure.unwrap_or_else(|| panic!("{unsure} is not as sure as it says"));
        assert!(said.contains("log"), "{unsure}: {said}");
    }
    let mut guessed = sound();
    guessed.proxies[0]["status"]["guessingBlocks"] =
        json!([{"sourceBlock": "192.0.2.0/24", "firstSeen": NOW, "lastSeen": NOW}]);
    assert!(guessed.explained().unsure.unwrap().contains("strings from 192.0.2.0/24 are not checked"));
}

#[test]
fn every_reason_of_a_failed_operation_is_explained() {
    for reason in Reason::ALL {
        let mut world = sound();
        world.over("Failed", Some(reason.as_str()));
        let said = world.explained();
        assert!(said.cause == reason.meaning() && !said.fix.is_empty(), "{said:?}");
    }
}

/// A fault of a proxy: its name, how it is planted, what it is about, words of the cause and of the fix.
type ProxyFault = (&'static str, fn(&mut Value, &mut [SecretFact; 3]), Topic, &'static str, &'static str);

#[rustfmt::skip] // one fault a line or two
const PROXY_FAULTS: &[ProxyFault] = &[
    ("no controller", |p, _| p["status"] = json!({"observedGeneration": -1}), Topic::Certificates, "no controller has acted", "controllers run"),
    ("a key pair missing", |p, _| p["status"]["conditions"] = json!([condition("Ready", "False", "KeyPairMissing", "Restore it")]), Topic::Certificates, "KeyPairMissing", "Restore it"),
    ("an issuer deleted a moment ago", |_, s| s[0] = SecretFact::Missing, Topic::Certificates, "Secret main-issuer is gone", "certificateRevision"),
    ("somebody else's Secret", |_, s| s[1] = SecretFact::OtherType, Topic::Certificates, "main-service is of another type", "rename the proxy"),
    ("a certificate about to end", |p, _| p["status"]["serviceCertificate"]["notAfter"] = json!("2027-01-10T00:00:00Z"), Topic::Certificates, "service certificate CAPF-0a0b0c0d ends", "certificateRevision"),
    ("a certificate that has ended", |p, _| p["status"]["issuerCertificate"]["notAfter"] = json!("2026-01-10T00:00:00Z"), Topic::Certificates, "has ended", "certificateRevision"),
    ("a bundle deleted", |_, s| s[2] = SecretFact::Missing, Topic::Endpoints, "Secret main-endpoint is gone", "export it again"),
    ("a credential that has ended", |p, _| p["status"]["conditions"].as_array_mut().unwrap().push(condition("CredentialExpiring", "True", "ClientCertificateExpired", "has expired")),
        Topic::Endpoints, "has expired", "capf endpoint-bundle --proxy main"),
    ("a clock ahead", |p, _| p["status"]["conditions"][0]["lastTransitionTime"] = json!("2027-01-01T13:00:00Z"), Topic::Clock, "3600 s ahead", "NTP"),
    ("a clock behind", |p, _| p["metadata"]["creationTimestamp"] = json!("2027-01-01T11:00:00Z"), Topic::Clock, "3600 s before", "NTP"),
    ("a CTL to update", |p, _| p["status"]["conditions"].as_array_mut().unwrap().push(condition("CTLUpdateRequired", "True", "ServiceCertificateChanged", "update it")),
        Topic::Trust, "may refuse the endpoint", "update it"),
    ("somebody guessing", |p, _| p["status"]["conditions"].as_array_mut().unwrap().push(condition("GuessingSuspected", "True", "WrongStrings", "look who is there")),
        Topic::Trust, "are guessed", "look who is there"),
    ("no proof asked for", |p, _| p["spec"]["permitNullString"] = json!(true), Topic::Trust, "permitNullString is on", "switch it off"),
];

fn findings(proxy: Value, [issuer, service, bundle]: [SecretFact; 3]) -> Vec<explain_proxy::Finding> {
    let proxy: CertificateAuthorityProxy = serde_json::from_value(proxy).unwrap();
    explain_proxy::explain(&explain_proxy::Facts { proxy: &proxy, operations: &[], issuer, service, bundle }, at(NOW))
}

#[test]
fn every_planted_fault_of_a_proxy_has_its_topic_cause_and_fix_and_no_other_is_seen() {
    for (name, plant, topic, cause, fix) in PROXY_FAULTS {
        let (mut proxy, mut secrets) = (proxy("main"), [SecretFact::There; 3]);
        plant(&mut proxy, &mut secrets);
        let found = findings(proxy, secrets);
        let faults: Vec<_> = found.iter().filter(|finding| finding.health == Health::Fault).collect();
        let [fault] = faults[..] else { panic!("{name}: {faults:?}") };
        assert_eq!(fault.topic, *topic, "{name}: {fault:?}");
        assert!(fault.cause.contains(cause) && fault.fix.contains(fix), "{name}: {fault:?}");
    }
}

#[test]
fn a_sound_proxy_is_fine_but_for_endpoints_of_which_state_tells_nothing() {
    let found = findings(proxy("main"), [SecretFact::There; 3]);
    let health: Vec<_> = found.iter().map(|finding| (finding.topic, finding.health)).collect();
    let fine = Health::Fine;
    let expected =
        [(Topic::Certificates, fine), (Topic::Endpoints, Health::Unknown), (Topic::Clock, fine), (Topic::Trust, fine)];
    assert_eq!(health, expected);
    let mut called = proxy("main");
    called["status"]["unknownCallers"] = json!([{"deviceName": "SEP1", "firstSeen": "2027-01-01T11:00:00Z", "lastSeen": "2027-01-01T11:00:00Z", "calls": 1}]);
    let found = findings(called, [SecretFact::NotLookedAt; 3]);
    assert!(found[1].health == fine && found[1].cause.contains("2027-01-01T11:00:00Z"), "{found:?}");
}
