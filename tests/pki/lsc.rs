//! The LSC profile, field by field and as others verify it.

use std::{collections::HashSet, time::Instant};

use capf::pki::{Curve, IssueError, KeyKind, LscRequest, LscSubject, OwnIssuer, RsaBits};
use x509_cert::{
    Certificate, TbsCertificate,
    der::{Decode, Encode},
    ext::pkix::{
        AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier,
        name::GeneralName,
    },
};

use crate::support::{
    DEVICE, at, attime, folder, issuer, issuer_pair, load, lsc, lsc_request, openssl, phone_key, subject,
};

const RSA_2048: KeyKind = KeyKind::Rsa(RsaBits::B2048);

#[test]
fn openssl_verifies_strictly_each_kind_of_lsc_under_each_kind_of_issuer() {
    let issuers = [
        RSA_2048,
        KeyKind::Rsa(RsaBits::B3072),
        KeyKind::Rsa(RsaBits::B4096),
        KeyKind::Ec(Curve::P256),
        KeyKind::Ec(Curve::P384),
        KeyKind::Ec(Curve::P521),
    ];
    for signer in issuers {
        let issuer = load(&issuer_pair(signer, 10));
        let folder = folder(&[("issuer.pem", issuer.certificate().pem().as_bytes())]);
        for kind in KeyKind::ALL {
            let name = format!("{kind}.pem");
            std::fs::write(folder.path().join(&name), lsc(&issuer, kind).pem()).unwrap();
            for purpose in ["sslclient", "sslserver"] {
                let arguments = [
                    "verify",
                    "-x509_strict",
                    "-check_ss_sig",
                    "-no-CApath",
                    "-no-CAstore",
                    "-CAfile",
                    "issuer.pem",
                    "-attime",
                    &attime(),
                    "-purpose",
                    purpose,
                    &name,
                ];
                let said = openssl(folder.path(), &arguments);
                assert_eq!(said.trim(), format!("{name}: OK"), "under {signer}");
            }
        }
    }
}

/// Parses what was signed for a key of `kind`.
fn signed(kind: KeyKind) -> Certificate {
    Certificate::from_der(lsc(issuer(), kind).der()).unwrap()
}

/// An extension that must be there, and whether it is critical.
fn extension<'a, T>(tbs: &'a TbsCertificate) -> (bool, T)
where
    T: Decode<'a, Error = x509_cert::der::Error> + x509_cert::der::oid::AssociatedOid,
{
    tbs.get_extension().unwrap().expect("the extension")
}

#[test]
fn an_lsc_is_what_the_profile_says_field_by_field() {
    for kind in KeyKind::ALL {
        let certificate = signed(kind);
        let tbs = certificate.tbs_certificate();
        assert_eq!(tbs.version(), x509_cert::Version::V3);

        // As RFC 4514 writes it, that is backwards.
        let name = format!("C=CH,ST=ZH,L=Zürich,OU=Telephony,O=Example\\, Ltd,CN={DEVICE}");
        assert_eq!(tbs.subject().to_string(), name);
        let authority = issuer().certificate();
        let authority = Certificate::from_der(authority.der()).unwrap();
        let authority = authority.tbs_certificate();
        assert_eq!(tbs.issuer(), authority.subject());

        let spki = tbs.subject_public_key_info().to_der().unwrap();
        assert_eq!(spki, phone_key(kind).spki(), "the key, byte for byte");

        let (critical, constraints) = extension::<BasicConstraints>(tbs);
        assert!(critical && !constraints.ca && constraints.path_len_constraint.is_none());
        let (critical, usage) = extension::<KeyUsage>(tbs);
        assert!(critical && usage.digital_signature());
        assert_eq!(usage.key_encipherment(), kind.is_rsa());
        assert_eq!(usage.0.into_iter().count(), if kind.is_rsa() { 2 } else { 1 });
        let (critical, purposes) = extension::<ExtendedKeyUsage>(tbs);
        let purposes: Vec<_> = purposes.0.iter().map(ToString::to_string).collect();
        let wanted = ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.5"];
        assert!(!critical && purposes == wanted);
        let (critical, names) = extension::<SubjectAltName>(tbs);
        assert!(!critical);
        match names.0.as_slice() {
            [GeneralName::UniformResourceIdentifier(uri)] => assert_eq!(uri.as_str(), DEVICE),
            others => panic!("{others:?}"),
        }
        let (critical, own_id) = extension::<SubjectKeyIdentifier>(tbs);
        assert!(!critical && own_id.0.as_bytes().len() == 20);
        let (critical, authority_id) = extension::<AuthorityKeyIdentifier>(tbs);
        let (_, wanted) = extension::<SubjectKeyIdentifier>(authority);
        assert!(!critical && authority_id.key_identifier == Some(wanted.0));
        assert!(authority_id.authority_cert_issuer.is_none());
        assert_eq!(tbs.extensions().unwrap().len(), 6, "nothing else");
    }
}

#[test]
fn openssl_shows_the_profile() {
    let lsc = lsc(&load(&issuer_pair(RSA_2048, 10)), RSA_2048);
    let folder = folder(&[("lsc.pem", lsc.pem().as_bytes())]);
    let arguments = ["x509", "-in", "lsc.pem", "-noout", "-text", "-nameopt", "oneline,utf8,-esc_msb"];
    let said = openssl(folder.path(), &arguments);
    let squeezed = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for wanted in [
        "Version: 3 (0x2)",
        "Signature Algorithm: sha256WithRSAEncryption",
        "Not Before: Jun 1 11:00:00 2026 GMT Not After : Jun 1 12:00:00 2031 GMT",
        "Subject: CN = SEP58971ECC97C1, O = \"Example, Ltd\", OU = Telephony, L = Zürich, ST = ZH, C = CH",
        "Public-Key: (2048 bit)",
        "X509v3 Key Usage: critical Digital Signature, Key Encipherment X509v3",
        "X509v3 Extended Key Usage: TLS Web Server Authentication, TLS Web Client Authentication, IPSec End System X509v3",
        "X509v3 Subject Alternative Name: URI:SEP58971ECC97C1 X509v3",
        "X509v3 Basic Constraints: critical CA:FALSE",
        "X509v3 Subject Key Identifier:",
        "X509v3 Authority Key Identifier:",
    ] {
        assert!(squeezed.contains(wanted), "no {wanted:?} in {said}");
    }
    assert!(!said.contains("DirName"), "the authority is named by key identifier: {said}");
}

#[test]
fn the_hash_fits_the_issuers_key() {
    let fitting = [
        (RSA_2048, "1.2.840.113549.1.1.11"),
        (KeyKind::Ec(Curve::P256), "1.2.840.10045.4.3.2"),
        (KeyKind::Ec(Curve::P384), "1.2.840.10045.4.3.3"),
        (KeyKind::Ec(Curve::P521), "1.2.840.10045.4.3.4"),
    ];
    for (signer, algorithm) in fitting {
        let lsc = lsc(&load(&issuer_pair(signer, 10)), KeyKind::Ec(Curve::P256));
        let certificate = Certificate::from_der(lsc.der()).unwrap();
        assert_eq!(certificate.signature_algorithm().oid.to_string(), algorithm);
    }
}

#[test]
fn validity_starts_an_hour_back_and_ends_with_the_issuer_at_the_latest() {
    let short = load(&issuer_pair(KeyKind::Ec(Curve::P256), 3));
    let subject = subject();
    let mut request = lsc_request(RSA_2048, &subject);
    let whole = issuer().sign_lsc(&request).unwrap();
    assert_eq!(whole.facts().not_before, at("2026-06-01T11:00:00Z"));
    assert_eq!(whole.facts().not_after, at("2031-06-01T12:00:00Z"));
    let clamped = short.sign_lsc(&request).unwrap();
    assert_eq!(clamped.facts().not_after, at("2029-06-01T12:00:00Z"));
    request.years = 3;
    request.now = at("2028-02-29T00:00:00Z");
    let leap = issuer().sign_lsc(&request).unwrap();
    assert_eq!(leap.facts().not_after, at("2031-02-28T00:00:00Z"));
}

#[test]
fn an_issuer_outside_its_validity_signs_nothing() {
    let issuer = load(&issuer_pair(KeyKind::Ec(Curve::P256), 1));
    let subject = subject();
    let sign = |now| issuer.sign_lsc(&LscRequest { now, ..lsc_request(RSA_2048, &subject) });
    assert!(sign(at("2026-06-01T11:00:00Z")).is_ok());
    assert!(sign(at("2027-06-01T11:59:59Z")).is_ok());
    let early = sign(at("2026-06-01T10:59:59Z")).unwrap_err();
    assert!(matches!(early, IssueError::IssuerNotYetValid { .. }), "{early}");
    let late = sign(at("2027-06-01T12:00:00Z")).unwrap_err();
    assert!(matches!(late, IssueError::IssuerExpired { .. }), "{late}");
}

#[test]
fn serial_numbers_are_random_positive_and_of_128_bits() {
    let subject = subject();
    let request = lsc_request(KeyKind::Ec(Curve::P256), &subject);
    let mut serials = HashSet::new();
    let mut full_width = 0;
    for _ in 0..200 {
        let serial = issuer().sign_lsc(&request).unwrap().facts().serial.clone();
        assert!(!serial.starts_with('-') && serial != "00" && serial.len() <= 32, "{serial}");
        full_width += usize::from(serial.len() == 32);
        serials.insert(serial);
    }
    assert_eq!(serials.len(), 200);
    assert!(full_width > 180, "one in 256 is shorter, not {} of 200", 200 - full_width);
}

#[test]
fn absent_parts_of_the_subject_are_left_out() {
    let nothing = LscSubject::default();
    let lsc = issuer().sign_lsc(&lsc_request(RSA_2048, &nothing)).unwrap();
    assert_eq!(lsc.facts().subject, format!("CN={DEVICE}"));
    assert_eq!(lsc.facts().subject_common_name.as_deref(), Some(DEVICE));
}

#[test]
fn what_cannot_stand_in_a_certificate_is_refused_by_name() {
    let attempt = |device_name: &str, subject: LscSubject, years| {
        let request = LscRequest { device_name, years, ..lsc_request(RSA_2048, &subject) };
        issuer().sign_lsc(&request).expect_err(device_name).to_string()
    };
    let organization = |text: &str| LscSubject { organization: Some(text.into()), ..LscSubject::default() };
    let country = |text: &str| LscSubject { country: Some(text.into()), ..LscSubject::default() };
    let none = LscSubject::default;
    let cases = [
        (attempt("", none(), 5), "common name"),
        (attempt(&"S".repeat(65), none(), 5), "common name"),
        (attempt("SEP\n1", none(), 5), "common name"),
        (attempt("SEPÄ", none(), 5), "device name"),
        (attempt(DEVICE, organization(""), 5), "organization"),
        (attempt(DEVICE, organization(&"ü".repeat(65)), 5), "organization"),
        (attempt(DEVICE, organization("a\0b"), 5), "organization"),
        (attempt(DEVICE, country("Switzerland"), 5), "country"),
        (attempt(DEVICE, country("ch"), 5), "country"),
        (attempt(DEVICE, country("ÄÖ"), 5), "country"),
        (attempt(DEVICE, none(), 0), "0 years"),
        (attempt(DEVICE, none(), 101), "101 years"),
    ];
    for (said, wanted) in cases {
        assert!(said.contains(wanted), "{said}");
    }
    let longest = organization(&"ü".repeat(64));
    assert!(issuer().sign_lsc(&lsc_request(RSA_2048, &longest)).is_ok());
}

#[test]
fn one_issuer_serves_many_threads_at_once() {
    fn shareable<T: Send + Sync>(_: &T) {}
    let issuer: &OwnIssuer = issuer();
    shareable(issuer);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| drop(lsc(issuer, RSA_2048))));
        }
    });
}

#[test]
fn signing_takes_no_longer_than_a_signature() {
    let issuer = load(&issuer_pair(RSA_2048, 10));
    let subject = subject();
    let request = lsc_request(RSA_2048, &subject);
    let timed = || {
        let started = Instant::now();
        issuer.sign_lsc(&request).unwrap();
        started.elapsed()
    };
    // About 1 ms. The fastest of many, so that a busy machine does not fail the test; the peer's 36 ms would.
    let fastest = (0..50).map(|_| timed()).min().unwrap();
    println!("{fastest:?} for a LSC");
    assert!(fastest.as_millis() < 10, "{fastest:?} for a LSC");
}
