//! CAPF's own pairs, and what is taken for an issuer.

use capf::pki::{
    Curve, IssueError, IssuerRequest, KeyKind, MacKey, OwnIssuer, OwnKey, OwnPair, RsaBits, ServiceRequest,
    generate_issuer, generate_service,
};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{
        AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier,
    },
};

use crate::support::{at, attime, folder, issuer_pair, load, now, openssl, subject};

const KINDS: [KeyKind; 6] = [
    KeyKind::Rsa(RsaBits::B2048),
    KeyKind::Rsa(RsaBits::B3072),
    KeyKind::Rsa(RsaBits::B4096),
    KeyKind::Ec(Curve::P256),
    KeyKind::Ec(Curve::P384),
    KeyKind::Ec(Curve::P521),
];

fn service_pair(kind: KeyKind, issuer_not_after: Timestamp) -> Result<OwnPair, IssueError> {
    generate_service(&ServiceRequest {
        subject: &subject(),
        key: OwnKey::try_from(kind).unwrap(),
        years: 10,
        issuer_not_after,
        now: now(),
    })
}

/// Whether `name` is `prefix` and eight lower-case hexadecimal digits.
fn is_random_name(name: &str, prefix: &str) -> bool {
    let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    name.strip_prefix(prefix).is_some_and(|rest| rest.len() == 8 && rest.bytes().all(digit))
}

#[test]
fn an_issuer_signs_certificates_and_lists_and_nothing_beyond_one_level() {
    for kind in KINDS {
        let pair = issuer_pair(kind, 10);
        let facts = pair.certificate.facts();
        assert_eq!(facts.key_kind, Some(kind));
        assert_eq!(facts.subject, facts.issuer);
        assert!(is_random_name(facts.subject_common_name.as_ref().unwrap(), "CAPF-issuer-"));
        assert_eq!(facts.not_before, at("2026-06-01T11:00:00Z"));
        assert_eq!(facts.not_after, at("2036-06-01T12:00:00Z"));
        let certificate = Certificate::from_der(pair.certificate.der()).unwrap();
        let tbs = certificate.tbs_certificate();
        let (critical, constraints) = tbs.get_extension::<BasicConstraints>().unwrap().unwrap();
        assert!(critical && constraints.ca && constraints.path_len_constraint == Some(0));
        let (critical, usage) = tbs.get_extension::<KeyUsage>().unwrap().unwrap();
        assert!(critical && usage.digital_signature() && usage.key_cert_sign() && usage.crl_sign());
        assert_eq!(usage.0.into_iter().count(), 3);
        assert!(tbs.get_extension::<SubjectKeyIdentifier>().unwrap().is_some());
        assert!(tbs.get_extension::<ExtendedKeyUsage>().unwrap().is_none());
    }
}

#[test]
fn a_service_certificate_is_a_server_and_no_authority() {
    for kind in KINDS {
        let pair = service_pair(kind, at("2036-06-01T12:00:00Z")).unwrap();
        let facts = pair.certificate.facts();
        assert_eq!(facts.key_kind, Some(kind));
        assert_eq!(facts.subject, facts.issuer);
        assert!(is_random_name(facts.subject_common_name.as_ref().unwrap(), "CAPF-"));
        let certificate = Certificate::from_der(pair.certificate.der()).unwrap();
        let tbs = certificate.tbs_certificate();
        let (critical, constraints) = tbs.get_extension::<BasicConstraints>().unwrap().unwrap();
        assert!(critical && !constraints.ca);
        let (critical, usage) = tbs.get_extension::<KeyUsage>().unwrap().unwrap();
        assert!(critical && usage.digital_signature());
        assert_eq!(usage.key_encipherment(), kind.is_rsa(), "RFC 8813 for EC");
        let (_, purposes) = tbs.get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
        assert_eq!(purposes.0.len(), 1);
        assert_eq!(purposes.0[0].to_string(), "1.3.6.1.5.5.7.3.1");
        assert!(tbs.get_extension::<SubjectKeyIdentifier>().unwrap().is_some());
        assert!(tbs.get_extension::<SubjectAltName>().unwrap().is_none());
        assert!(tbs.get_extension::<AuthorityKeyIdentifier>().unwrap().is_none());

        let folder = folder(&[("service.pem", pair.certificate.pem().as_bytes())]);
        let arguments = [
            "verify",
            "-x509_strict",
            "-check_ss_sig",
            "-no-CApath",
            "-no-CAstore",
            "-purpose",
            "sslserver",
            "-attime",
            &attime(),
            "-trusted",
            "service.pem",
            "service.pem",
        ];
        assert_eq!(openssl(folder.path(), &arguments).trim(), "service.pem: OK");
    }
}

#[test]
fn openssl_reads_the_private_keys_and_finds_them_fitting() {
    for kind in KINDS {
        let pair = issuer_pair(kind, 10);
        let key = pair.private_key.expose_secret();
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8");
        let files: [(&str, &[u8]); 2] =
            [("key.pem", key.as_bytes()), ("issuer.pem", pair.certificate.pem().as_bytes())];
        let folder = folder(&files);
        let of_key = openssl(folder.path(), &["pkey", "-in", "key.pem", "-pubout"]);
        let of_certificate = openssl(folder.path(), &["x509", "-in", "issuer.pem", "-noout", "-pubkey"]);
        assert_eq!(of_key, of_certificate, "{kind}");
    }
}

#[test]
fn the_service_certificate_ends_with_the_issuer_at_the_latest() {
    let kind = KeyKind::Ec(Curve::P256);
    let clamped = service_pair(kind, at("2030-01-01T00:00:00Z")).unwrap();
    assert_eq!(clamped.certificate.facts().not_after, at("2030-01-01T00:00:00Z"));
    let over = service_pair(kind, now()).unwrap_err();
    assert!(matches!(over, IssueError::IssuerExpired { .. }), "{over}");
}

#[test]
fn an_issuer_may_be_given_a_name() {
    let pair = generate_issuer(&IssuerRequest {
        common_name: Some("Example Phones CA"),
        subject: &subject(),
        key: OwnKey::EC_P256,
        years: 10,
        now: now(),
    });
    let name = pair.unwrap().certificate.facts().subject_common_name.clone();
    assert_eq!(name.as_deref(), Some("Example Phones CA"));
}

#[test]
fn only_an_authority_with_its_own_key_is_taken_for_an_issuer() {
    let kind = KeyKind::Ec(Curve::P256);
    let one = issuer_pair(kind, 10);
    let other = issuer_pair(kind, 10);
    let service = service_pair(kind, at("2036-06-01T12:00:00Z")).unwrap();
    let certificate = one.certificate.pem();
    let refused =
        |certificate: &str, key: &SecretString| OwnIssuer::from_pem(certificate, key).expect_err("not an issuer");

    let error = refused(certificate, &other.private_key);
    assert!(matches!(error, IssueError::KeyMismatch { .. }), "{error}");
    let error = refused(service.certificate.pem(), &service.private_key);
    assert!(error.to_string().contains("CA:TRUE"), "{error}");
    for broken in ["", "no key", certificate, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        let error = refused(certificate, &broken.into());
        assert!(matches!(error, IssueError::PrivateKey { .. }), "{error}");
    }
    let error = refused("no certificate", &one.private_key);
    assert!(matches!(error, IssueError::Certificate(_)), "{error}");
}

#[test]
fn an_issuer_made_elsewhere_is_taken_unless_its_name_cannot_be_repeated() {
    let usage = "keyUsage=critical,keyCertSign";
    let made = |subject: &str, usage: &str| {
        let folder = folder(&[]);
        let arguments = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
            "-noenc",
            "-days",
            "3650",
            "-keyout",
            "key.pem",
            "-out",
            "ca.pem",
            "-subj",
            subject,
            "-addext",
            usage,
        ];
        openssl(folder.path(), &arguments);
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        OwnIssuer::from_pem(&read("ca.pem"), &read("key.pem").into())
    };
    let issuer = made("/DC=example/O=Example/OU=Phones/CN=Phones CA", usage).unwrap();
    assert_eq!(issuer.certificate().facts().subject_common_name.as_deref(), Some("Phones CA"));

    let error = made("/O=Example/OU=One/OU=Two/CN=Phones CA", usage).unwrap_err();
    assert!(error.to_string().contains("attribute type twice"), "{error}");
    let error = made("/CN=Phones CA", "keyUsage=critical,digitalSignature").unwrap_err();
    assert!(error.to_string().contains("keyCertSign"), "{error}");
}

#[test]
fn debug_output_shows_no_private_key() {
    let pair = issuer_pair(KeyKind::Ec(Curve::P256), 10);
    let issuer = load(&pair);
    let mac = MacKey::generate().unwrap();
    let shown = format!("{pair:?} {issuer:?} {mac:?}");
    assert!(shown.contains("MacKey([hidden])"), "{shown}");
    let mac = mac.to_base64();
    let secrets = pair.private_key.expose_secret().lines().filter(|line| !line.starts_with('-'));
    for secret in secrets.chain([mac.expose_secret()]) {
        assert!(!shown.contains(&secret[..16]), "{shown}");
    }
}
