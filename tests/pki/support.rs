//! What these tests share: a fixed time, phones' keys, the `openssl` command.

use std::{path::Path, process::Command, sync::LazyLock};

use capf::pki::{
    Curve, IssuedCertificate, IssuerRequest, KeyKind, LscRequest, LscSubject, OwnIssuer, OwnKey, OwnPair, PublicKey,
    RsaBits, generate_issuer,
};
use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData, RsaKeySize};
use rsa::pkcs8::EncodePublicKey;

/// The time in these tests, with a fraction of a second that must not reach a certificate.
pub fn now() -> Timestamp {
    "2026-06-01T12:00:00.75Z".parse().unwrap()
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn subject() -> LscSubject {
    LscSubject {
        organization: Some("Example, Ltd".into()),
        organizational_unit: Some("Telephony".into()),
        locality: Some("Zürich".into()),
        state: Some("ZH".into()),
        country: Some("CH".into()),
    }
}

/// A key as a phone would make it, once a test run.
pub fn phone_key(kind: KeyKind) -> &'static PublicKey {
    static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
        let read = |spki: Vec<u8>| PublicKey::from_spki(&spki).expect("a sound key");
        KeyKind::ALL.into_iter().map(phone_spki).map(read).collect()
    });
    KEYS.iter().find(|key| key.kind() == kind).unwrap()
}

fn phone_spki(kind: KeyKind) -> Vec<u8> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
    let made = match kind {
        KeyKind::Rsa(RsaBits::B512 | RsaBits::B1024) => {
            let bits = kind.bits().into();
            let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).unwrap();
            return key.to_public_key().to_public_key_der().unwrap().into_vec();
        }
        KeyKind::Rsa(RsaBits::B2048) => rsa(RsaKeySize::_2048),
        KeyKind::Rsa(RsaBits::B3072) => rsa(RsaKeySize::_3072),
        KeyKind::Rsa(RsaBits::B4096) => rsa(RsaKeySize::_4096),
        KeyKind::Ec(Curve::P256) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyKind::Ec(Curve::P384) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyKind::Ec(Curve::P521) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
    };
    made.unwrap().subject_public_key_info()
}

pub fn issuer_pair(kind: KeyKind, years: u16) -> OwnPair {
    let request = IssuerRequest {
        common_name: None,
        subject: &subject(),
        key: OwnKey::try_from(kind).unwrap(),
        years,
        now: now(),
    };
    generate_issuer(&request).unwrap()
}

pub fn load(pair: &OwnPair) -> OwnIssuer {
    OwnIssuer::from_pem(pair.certificate.pem(), &pair.private_key).unwrap()
}

/// A P-256 issuer of ten years, made once a test run.
pub fn issuer() -> &'static OwnIssuer {
    static ISSUER: LazyLock<OwnIssuer> = LazyLock::new(|| load(&issuer_pair(KeyKind::Ec(Curve::P256), 10)));
    &ISSUER
}

/// The device in these tests.
pub const DEVICE: &str = "SEP58971ECC97C1";

pub fn lsc_request<'a>(kind: KeyKind, subject: &'a LscSubject) -> LscRequest<'a> {
    LscRequest { device_name: DEVICE, public_key: phone_key(kind), subject, years: 5, now: now() }
}

pub fn lsc(issuer: &OwnIssuer, kind: KeyKind) -> IssuedCertificate {
    issuer.sign_lsc(&lsc_request(kind, &subject())).unwrap()
}

/// Runs the `openssl` command in `folder` and returns what it prints; it must succeed.
pub fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| {
        panic!("these tests need the openssl command (3.0 or newer): install the package openssl; {error}")
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?} failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The time of these tests as `openssl verify` takes it.
pub fn attime() -> String {
    now().as_second().to_string()
}

/// A folder of its own with these files in it.
pub fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        std::fs::write(folder.path().join(name), contents).unwrap();
    }
    folder
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

/// A DER element.
pub fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(contents);
    out
}
