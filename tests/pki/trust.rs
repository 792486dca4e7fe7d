//! Chains from a MIC to its root, made by `openssl` and by rcgen.

use capf::pki::{Anchors, BundleError, PastEnd, Untrusted, trust::check_issuer};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::support::{at, folder, issuer, lsc, now, openssl};

const MIC: &str = "CP-7960G-SEP58971ECC97C1";

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    params
}

fn authority(name: &str, below: Option<u8>) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(below.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// An authority and its certificate in PEM and DER.
struct Made {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn root(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Made { issuer: Issuer::new(params, key), pem }
}

impl Made {
    fn below(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn mic(&self, params: CertificateParams) -> Vec<u8> {
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().to_vec()
    }
}

fn check(bundle: &[&str], mic: &[u8]) -> Result<(), Untrusted> {
    Anchors::from_pem(&bundle.concat()).unwrap().check(mic, now(), PastEnd::Reject)
}

#[test]
fn an_old_mic_of_x509_v1_with_rsa_1024_and_sha1_is_verified_and_one_bit_of_it_changed_is_not() {
    let folder = folder(&[]);
    let run = |arguments: &[&str]| openssl(folder.path(), arguments);
    run(&["genrsa", "-out", "ca.key", "1024"]);
    run(&["genrsa", "-out", "mic.key", "1024"]);
    run(&["req", "-new", "-key", "ca.key", "-subj", "/O=Example/CN=Manufacturing CA", "-out", "ca.csr"]);
    // `x509 -req` without extensions writes version 1.
    run(&["x509", "-req", "-in", "ca.csr", "-signkey", "ca.key", "-sha1", "-days", "3650", "-out", "ca.pem"]);
    run(&["req", "-new", "-key", "mic.key", "-subj", &format!("/O=Example/CN={MIC}"), "-out", "mic.csr"]);
    run(&[
        "x509",
        "-req",
        "-in",
        "mic.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-set_serial",
        "7",
        "-sha1",
        "-days",
        "3650",
        "-outform",
        "DER",
        "-out",
        "mic.der",
    ]);
    assert!(run(&["x509", "-inform", "DER", "-in", "mic.der", "-noout", "-text"]).contains("Version: 1 (0x0)"));
    let mut mic = std::fs::read(folder.path().join("mic.der")).unwrap();
    let anchors = Anchors::from_pem(&std::fs::read_to_string(folder.path().join("ca.pem")).unwrap()).unwrap();
    // `openssl x509` takes the time of the machine.
    let now = Timestamp::now();
    assert_eq!(anchors.check(&mic, now, PastEnd::Reject), Ok(()));
    *mic.last_mut().unwrap() ^= 1;
    assert!(matches!(anchors.check(&mic, now, PastEnd::Reject), Err(Untrusted::NoIssuer { .. })));
}

#[test]
fn intermediates_of_the_bundle_lead_to_a_root_and_those_that_are_missing_do_not() {
    let top = root(authority("Root", None));
    let middle = top.below(authority("Manufacturing", None));
    let mic = middle.mic(params(MIC));
    assert_eq!(check(&[&middle.pem, &top.pem], &mic), Ok(()));
    let refused = check(&[&top.pem], &mic).unwrap_err();
    assert_eq!(refused, Untrusted::NoIssuer { issuer: "CN=Manufacturing".into() });
    assert_eq!(Anchors::from_pem(&middle.pem).unwrap_err(), BundleError::NoRoot);
}

#[test]
fn an_authority_of_the_right_name_with_another_key_is_not_believed_but_does_not_hide_the_right_one() {
    let (genuine, impostor) = (root(authority("Root", None)), root(authority("Root", None)));
    let mic = genuine.mic(params(MIC));
    assert_eq!(check(&[&impostor.pem, &genuine.pem], &mic), Ok(()));
    assert!(matches!(check(&[&impostor.pem], &mic), Err(Untrusted::NoIssuer { .. })));
}

#[test]
fn depth_and_path_lengths_are_bounded() {
    let top = root(authority("0", None));
    let mut chain = vec![top];
    for name in ["1", "2", "3", "4"] {
        let next = chain.last().unwrap().below(authority(name, None));
        chain.push(next);
    }
    let bundle: String = chain.iter().map(|made| made.pem.as_str()).collect();
    assert_eq!(check(&[&bundle], &chain[3].mic(params(MIC))), Ok(()), "four authorities");
    assert_eq!(check(&[&bundle], &chain[4].mic(params(MIC))), Err(Untrusted::TooDeep), "five");

    let short = root(authority("Short", Some(0)));
    let below = short.below(authority("Below", None));
    assert_eq!(check(&[&short.pem], &short.mic(params(MIC))), Ok(()));
    assert!(check(&[&short.pem, &below.pem], &below.mic(params(MIC))).is_err(), "pathlen:0 has no authority below");
}

#[test]
fn many_authorities_of_one_name_buy_no_slow_answer() {
    let genuine = root(authority("Root", None));
    let mic = genuine.mic(params(MIC));
    let mut bundle: Vec<String> = (0..40).map(|_| root(authority("Root", None)).pem).collect();
    bundle.push(genuine.pem);
    let bundle: Vec<&str> = bundle.iter().map(String::as_str).collect();
    assert_eq!(check(&bundle, &mic), Err(Untrusted::TooDeep));
}

#[test]
fn a_certificate_that_is_no_authority_is_no_anchor_and_an_authority_is_no_mic() {
    let top = root(authority("Root", None));
    let leaf = top.below(params("CP-1-SEP001"));
    let said = |bundle: &[&str]| Anchors::from_pem(&bundle.concat()).unwrap_err().to_string();
    let of_a_leaf = said(&[&top.pem, &leaf.pem]);
    assert_eq!(of_a_leaf, "certificate 2: CN=CP-1-SEP001 is not the certificate of an authority");
    let mut mute = authority("Mute", None);
    mute.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert_eq!(said(&[&root(mute).pem]), "certificate 1: CN=Mute may not sign certificates");
    assert_eq!(Anchors::from_pem("no certificate").unwrap_err(), BundleError::Empty);
    let broken = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", top.pem);
    assert!(said(&[&broken]).starts_with("certificate 2: "));
    assert!(matches!(check(&[&top.pem], &top.mic(authority(MIC, None))), Err(Untrusted::Form(_))));
}

#[test]
fn dates_count_as_the_policy_says_and_those_of_authorities_too() {
    let top = root(authority("Root", None));
    let anchors = Anchors::from_pem(&top.pem).unwrap();
    let mut old = params(MIC);
    old.not_after = rcgen::date_time_ymd(2025, 1, 1);
    let mic = top.mic(old);
    let verdict = |mic: &[u8], past_end| anchors.check(mic, now(), past_end).map_err(|error| error.to_string());
    let ended = Err(format!("CN={MIC} ended at 2025-01-01T00:00:00Z"));
    assert_eq!(verdict(&mic, PastEnd::Reject), ended);
    assert_eq!(verdict(&mic, PastEnd::Allow), Ok(()));
    assert_eq!(verdict(&mic, PastEnd::AllowUntil(at("2027-01-01T00:00:00Z"))), Ok(()));
    assert_eq!(verdict(&mic, PastEnd::AllowUntil(now())), ended, "from that time on");
    let mut early = params(MIC);
    early.not_before = rcgen::date_time_ymd(2027, 1, 1);
    assert!(verdict(&top.mic(early), PastEnd::Allow).unwrap_err().contains("only from 2027-01-01"));

    let mut gone = authority("Gone", None);
    gone.not_after = rcgen::date_time_ymd(2025, 1, 1);
    let gone = root(gone);
    let mic = gone.mic(params(MIC));
    assert!(matches!(check(&[&gone.pem], &mic), Err(Untrusted::PastEnd { subject, .. }) if subject == "CN=Gone"));
    // Where both are past their end or forged, forged is what is said.
    let mut forged = params(MIC);
    forged.not_after = rcgen::date_time_ymd(2025, 1, 1);
    let forged = root(authority("Root", None)).mic(forged);
    assert!(matches!(anchors.check(&forged, now(), PastEnd::Reject), Err(Untrusted::NoIssuer { .. })));
}

#[test]
fn a_critical_extension_that_nobody_explained_is_not_passed_over() {
    let top = root(authority("Root", None));
    let mut strange = params(MIC);
    let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    strange.custom_extensions.push(extension);
    assert!(matches!(check(&[&top.pem], &top.mic(strange)), Err(Untrusted::Form(_))));
}

#[test]
fn an_lsc_is_told_from_one_of_another_issuer_of_the_same_name() {
    let ours = lsc(issuer(), capf::pki::KeyKind::Ec(capf::pki::Curve::P256));
    assert_eq!(check_issuer(ours.der(), issuer().certificate().der()), Ok(()));
    let subject = issuer().certificate().facts().subject_common_name.clone().unwrap();
    let impostor = root(authority(&subject, None)).mic(params("SEP58971ECC97C1"));
    assert!(check_issuer(&impostor, issuer().certificate().der()).is_err());
}
