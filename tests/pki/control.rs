//! Credentials between endpoints and controllers, tried in a TLS handshake in memory; message authentication.

use std::sync::Arc;

use capf::pki::{
    ControllerCa, IssueError, MacKey, MacKeyError, OwnPair,
    control::{generate_controller_ca, proxy_of, proxy_uri, renew_at, uri_san},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    client::WebPkiServerVerifier,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
    time_provider::TimeProvider,
};
use secrecy::{ExposeSecret, SecretString};

use crate::support::{at, folder, issuer, lsc, now, openssl, unhex};

const HOST: &str = "capf-controller.capf-system.svc";

fn authority() -> ControllerCa {
    let pair = generate_controller_ca(now()).unwrap();
    ControllerCa::from_pem(pair.certificate.pem(), &pair.private_key).unwrap()
}

/// A clock that stands at the time of these tests.
#[derive(Debug)]
struct Standing;

impl TimeProvider for Standing {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(now().as_second()).unwrap();
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

fn chain(pair: &OwnPair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from(pair.certificate.der().to_vec());
    let key = PrivateKeyDer::from_pem_slice(pair.private_key.expose_secret().as_bytes());
    (vec![certificate], key.unwrap())
}

/// Shakes hands; returns the client certificate the server saw.
fn handshake(
    ca: &ControllerCa,
    server: &OwnPair,
    client: &OwnPair,
    host: &'static str,
) -> Result<Vec<u8>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().der().to_vec().into()).unwrap();
    let roots = Arc::new(roots);
    let (certificates, key) = chain(server);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let server = ServerConfig::builder_with_details(provider.clone(), Arc::new(Standing))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(certificates, key)?;
    let (certificates, key) = chain(client);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
    let client = ClientConfig::builder_with_details(provider, Arc::new(Standing))
        .with_safe_default_protocol_versions()?
        .with_webpki_verifier(verifier.build().unwrap())
        .with_client_auth_cert(certificates, key)?;

    let mut server = ServerConnection::new(Arc::new(server))?;
    let mut client = ClientConnection::new(Arc::new(client), host.try_into().unwrap())?;
    while server.is_handshaking() || client.is_handshaking() {
        let mut octets = Vec::new();
        client.write_tls(&mut octets).unwrap();
        server.read_tls(&mut octets.as_slice()).unwrap();
        server.process_new_packets()?;
        octets.clear();
        server.write_tls(&mut octets).unwrap();
        client.read_tls(&mut octets.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(server.peer_certificates().unwrap()[0].to_vec())
}

#[test]
fn endpoint_and_controller_shake_hands_and_the_proxy_is_known_by_its_uri() {
    let ca = authority();
    let server = ca.server_credential(HOST, now(), 90).unwrap();
    let uri = proxy_uri("phones", "berlin.lab-1");
    let client = ca.client_credential(&uri, now(), 90).unwrap();
    let seen = handshake(&ca, &server, &client, HOST).unwrap();
    assert_eq!(uri_san(&seen), Some(uri.clone()));
    assert_eq!(proxy_of(&uri), Some(("phones", "berlin.lab-1")));
    assert_eq!(uri_san(server.certificate.der()), None);
}

#[test]
fn neither_side_can_play_the_other_nor_come_from_elsewhere() {
    let ca = authority();
    let uri = proxy_uri("phones", "berlin");
    let server = ca.server_credential(HOST, now(), 90).unwrap();
    let client = ca.client_credential(&uri, now(), 90).unwrap();
    let other = authority();
    let foreign_server = other.server_credential(HOST, now(), 90).unwrap();
    let foreign_client = other.client_credential(&uri, now(), 90).unwrap();
    let past = at("2026-01-01T00:00:00Z");
    assert!(handshake(&ca, &server, &client, HOST).is_ok());
    assert!(handshake(&ca, &client, &client, HOST).is_err(), "a client serves");
    assert!(handshake(&ca, &server, &server, HOST).is_err(), "a server asks");
    assert!(handshake(&ca, &foreign_server, &client, HOST).is_err());
    assert!(handshake(&ca, &server, &foreign_client, HOST).is_err());
    assert!(handshake(&ca, &server, &client, "other.capf-system.svc").is_err());
    assert!(ca.client_credential(&uri, past, 90).is_err(), "before the authority");
}

#[test]
fn credentials_are_renewed_after_two_thirds_and_end_with_the_authority() {
    let ca = authority();
    let uri = proxy_uri("phones", "berlin");
    let client = ca.client_credential(&uri, now(), 90).unwrap();
    let facts = client.certificate.facts();
    assert_eq!(facts.not_before, at("2026-06-01T11:00:00Z"));
    assert_eq!(facts.not_after, at("2026-08-30T12:00:00Z"));
    assert_eq!(renew_at(facts), at("2026-07-31T11:40:00Z"));
    let late = at("2036-05-31T00:00:00Z");
    let clamped = ca.server_credential(HOST, late, 90).unwrap();
    assert_eq!(clamped.certificate.facts().not_after, at("2036-06-01T12:00:00Z"));
    for days in [0, 3651] {
        let error = ca.server_credential(HOST, now(), days).unwrap_err();
        assert!(matches!(error, IssueError::Lifetime { .. }), "{error}");
    }
}

#[test]
fn names_that_are_none_get_no_credential() {
    let ca = authority();
    for name in ["", "a b", "*.*", "host/", "häuser"] {
        assert!(ca.server_credential(name, now(), 90).is_err(), "{name:?}");
    }
    let long = format!("capf://phones/{}", "a".repeat(254));
    for uri in [
        "",
        "capf://",
        "capf://phones",
        "capf://phones/",
        "capf:///berlin",
        "http://phones/berlin",
        "capf://phones/berlin/x",
        "capf://Phones/berlin",
        "capf://phones/ber lin",
        "capf://pho.nes/berlin",
        &long,
    ] {
        assert!(ca.client_credential(uri, now(), 90).is_err(), "{uri:?}");
        assert_eq!(proxy_of(uri), None);
    }
}

#[test]
fn a_certificate_without_exactly_one_uri_is_for_no_proxy() {
    assert_eq!(uri_san(b"none"), None);
    assert_eq!(uri_san(issuer().certificate().der()), None);
    let lsc = lsc(issuer(), capf::pki::KeyKind::ALL[5]);
    let uri = uri_san(lsc.der()).unwrap();
    assert_eq!(proxy_of(&uri), None, "a LSC's bare name is no proxy");
    let folder = folder(&[]);
    for names in ["URI:capf://a/b,URI:capf://c/d", "URI:capf://a/b,DNS:a"] {
        let arguments = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-subj",
            "/CN=x",
            "-keyout",
            "key.pem",
            "-outform",
            "DER",
            "-out",
            "two.der",
            "-addext",
            &format!("subjectAltName={names}"),
        ];
        openssl(folder.path(), &arguments);
        let der = std::fs::read(folder.path().join("two.der")).unwrap();
        assert_eq!(uri_san(&der), None, "{names}");
    }
}

#[test]
fn codes_are_what_openssl_makes_of_the_parts_and_their_lengths() {
    let key = MacKey::from_base64(&SecretString::from("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")).unwrap();
    let message = unhex("0000000000000006 7469636b6574 0000000000000000 0000000000000002 0aff");
    let folder = folder(&[("message", &message)]);
    let digits: String = (0..32).map(|octet| format!("{octet:02x}")).collect();
    let arguments = ["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{digits}"), "message"];
    let said = openssl(folder.path(), &arguments);
    let wanted = unhex(said.trim().rsplit_once(' ').unwrap().1);
    assert_eq!(key.sign(&[b"ticket", b"", &[0x0a, 0xff]]).as_slice(), wanted);
}

#[test]
fn a_code_is_for_one_key_and_one_list_of_parts() {
    let key = MacKey::generate().unwrap();
    let code = key.sign(&[b"ab", b"c"]);
    assert!(key.verify(&[b"ab", b"c"], &code));
    let others: [&[&[u8]]; 6] = [&[b"a", b"bc"], &[b"abc"], &[b"ab", b"c", b""], &[b"ab"], &[], &[b"c", b"ab"]];
    for parts in others {
        assert!(!key.verify(parts, &code), "{parts:?}");
    }
    assert!(!key.verify(&[b"ab", b"c"], &code[..31]));
    assert!(!key.verify(&[b"ab", b"c"], &[]));
    assert!(!MacKey::generate().unwrap().verify(&[b"ab", b"c"], &code));
    let again = MacKey::from_base64(&key.to_base64()).unwrap();
    assert!(again.verify(&[b"ab", b"c"], &code));
}

#[test]
fn a_malformed_key_is_refused_without_being_shown() {
    let wanted = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let short = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==";
    let long = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8f";
    let unpadded = wanted.trim_end_matches('=');
    let foreign = wanted.replace('A', "?");
    for text in ["", short, long, unpadded, &foreign, &wanted.repeat(2)] {
        let error = MacKey::from_base64(&SecretString::from(text)).unwrap_err();
        assert_eq!(error, MacKeyError::Malformed);
        assert!(text.is_empty() || !error.to_string().contains(text));
    }
}
