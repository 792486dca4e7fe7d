//! Reading certificates of any origin.

use capf::pki::{
    CertificateError, CertificateFacts, Curve, KeyKind, RsaBits,
    certificate::{MAX_CERTIFICATE, MAX_PEM, from_pem, to_pem},
};
use jiff::Timestamp;

use crate::support::{at, folder, issuer, lsc, openssl, tlv, unhex};

/// From a captured session: the MIC, X.509 v1, in SUDI_DATA.
const CAPTURED_MIC: &str = "308202e8308201d0021447584fe68fd31a515ad32a3032184b680865406b300d06092a864886f70d01010b050030\
2d3110300e060355040a0c074578616d706c653119301706035504030c104d616e75666163747572696e67204341301e170d32363131323231353534\
30305a170d3336313131393135353430305a30343110300e060355040a0c074578616d706c653120301e06035504030c1743502d383834312d534550\
30303030303030303030323030820122300d06092a864886f70d01010105000382010f003082010a0282010100e146387f0433276ce74cae472e773b\
9507a61963d04f0d9c28eac86d75fa4f120929fb230b56736b5b1e11921622332217463095aa3cabc0d233235939175250ebac6aa4a881796ce00ee9\
3998ea5d081f944e5288f8fe154f43197ef5aaa67233ff70cfc559af6ffe3ba257833e6b3269f030848cb99514a778f5db24547930d4b016d804e649\
872a2294516aef8f1981303076ed2bbef585dba4da7b93260d4a937e26bf2584589e6c0ea5846009a49b8b36b93085bc37497358f715179dc7867a56\
e815ef1e4a8eabd7ed87297ba148f8d557828d5c2ddaee5de714ddeda5b55c56cfd1e8366d6d626716742ef013ea9546a0b5ae5ee32f9a9725a2feda\
8d0203010001300d06092a864886f70d01010b050003820101006bfae0579e465e386be64c5f1efd278d1dd304909111b92a6c6dbc197631412c131e\
ed5515009699299987d6c433878479887200a50ad846a8def0a819d9a13d2fb0244deceab362b4e7ef58a39aeb21f7dd8eb3d5c768c797c199264749\
fdd5862eeb73c67789a1b4c362ca085db8fae7beb88e17542778bddc92ae077e7a12755102e84c1b381d8663def7f3fc8913928f4c41fcdaf3c26203\
64707d777f3ed19c55ceef0542ce3c8d6eaba5f8fd4fcc4ab4a9ac0d622e3d9d06ea68d02b05bc682236307132db1d271767e896d48a61747596922b\
78af4a9017a5177a5a7cc5dda4361b2308e086f2417baf2fb58575fb69c634b07650047a809d6f152b01";

#[test]
fn a_captured_mic_of_x509_v1_is_read() {
    let facts = CertificateFacts::from_der(&unhex(CAPTURED_MIC)).unwrap();
    assert_eq!(facts.subject_common_name.as_deref(), Some("CP-8841-SEP000000000020"));
    assert_eq!(facts.subject, "CN=CP-8841-SEP000000000020,O=Example");
    assert_eq!(facts.issuer, "CN=Manufacturing CA,O=Example");
    assert_eq!(facts.serial, "47584fe68fd31a515ad32a3032184b680865406b");
    assert_eq!(facts.not_before, at("2026-11-22T15:54:00Z"));
    assert_eq!(facts.not_after, at("2036-11-19T15:54:00Z"));
    assert_eq!(facts.key_kind, Some(KeyKind::Rsa(RsaBits::B2048)));
    assert_eq!(facts.subject_key_id, None);
    assert!(facts.valid_at(at("2036-11-19T15:54:00Z")));
    assert!(!facts.valid_at(at("2036-11-19T15:54:01Z")));
}

#[test]
fn facts_are_what_openssl_says() {
    let lsc = lsc(issuer(), KeyKind::Ec(Curve::P384));
    let folder = folder(&[("lsc.pem", lsc.pem().as_bytes())]);
    let ask = |what: &[&str]| {
        let arguments = [&["x509", "-in", "lsc.pem", "-noout"], what].concat();
        let said = openssl(folder.path(), &arguments);
        let value = said.trim().split_once('=').unwrap().1;
        value.to_owned()
    };
    let facts = lsc.facts();
    let digits = |text: String| text.replace(':', "").to_lowercase();
    assert_eq!(facts.serial, digits(ask(&["-serial"])).trim_start_matches("00"));
    assert_eq!(facts.sha256, digits(ask(&["-fingerprint", "-sha256"])));
    let names = ["-nameopt", "rfc2253,utf8,-esc_msb"];
    assert_eq!(facts.issuer, ask(&[&["-issuer"], &names[..]].concat()));
    assert_eq!(facts.subject, ask(&[&["-subject"], &names[..]].concat()));
    let id = openssl(folder.path(), &["x509", "-in", "lsc.pem", "-noout", "-ext", "subjectKeyIdentifier"]);
    let id = id.lines().last().unwrap().trim().to_owned();
    assert_eq!(facts.subject_key_id, Some(digits(id)));
    let key = crate::support::phone_key(KeyKind::Ec(Curve::P384)).sha256();
    assert_eq!(unhex(&facts.spki_sha256), key);
}

#[test]
fn an_old_mic_with_sha1_rsa_1024_and_odd_names_is_read() {
    let config = "[req]\ndistinguished_name=dn\nprompt=no\nstring_mask=nombstr\n\
                  [dn]\nO=Fabricación\nserialNumber=PID:CP-7960G SN:INM08000000\n+CN=CP-7960G-SEP000000000020\n";
    let folder = folder(&[("odd.cnf", config.as_bytes())]);
    let request = [
        "req", "-new", "-utf8", "-config", "odd.cnf", "-newkey", "rsa:1024", "-noenc", "-keyout", "key.pem", "-out",
        "mic.csr",
    ];
    openssl(folder.path(), &request);
    let sign = [
        "x509",
        "-req",
        "-in",
        "mic.csr",
        "-signkey",
        "key.pem",
        "-sha1",
        "-days",
        "3650",
        "-set_serial",
        "0",
        "-outform",
        "DER",
        "-out",
        "mic.der",
    ];
    openssl(folder.path(), &sign);
    let text = openssl(folder.path(), &["x509", "-inform", "DER", "-in", "mic.der", "-noout", "-text"]);
    assert!(text.contains("Version: 1 (0x0)") && text.contains("sha1WithRSAEncryption"), "{text}");

    let facts = CertificateFacts::from_der(&std::fs::read(folder.path().join("mic.der")).unwrap()).unwrap();
    assert_eq!(facts.subject_common_name.as_deref(), Some("CP-7960G-SEP000000000020"));
    assert_eq!(facts.key_kind, Some(KeyKind::Rsa(RsaBits::B1024)));
    assert_eq!(facts.serial, "00");
    assert!(facts.subject.contains("SN:INM08000000"), "{}", facts.subject);
}

/// A certificate of version 1 with these parts; its signature is nothing.
fn certificate(serial: &[u8], not_after: &[u8], subject: &[u8]) -> Vec<u8> {
    let mic = unhex(CAPTURED_MIC);
    let sha256_with_rsa = tlv(0x30, &unhex("06092a864886f70d01010b0500"));
    let validity = [tlv(0x17, b"000101000000Z"), not_after.to_vec()].concat();
    // The key of the captured one: 294 octets from here on.
    let key = &mic[mic.len() - 294 - 276..mic.len() - 276];
    let tbs = [
        tlv(2, serial),
        sha256_with_rsa.clone(),
        tlv(0x30, &[]),
        tlv(0x30, &validity),
        tlv(0x30, subject),
        key.to_vec(),
    ];
    tlv(0x30, &[tlv(0x30, &tbs.concat()), sha256_with_rsa, tlv(3, &[0, 1])].concat())
}

fn common_name(tag: u8, text: &[u8]) -> Vec<u8> {
    let attribute = [tlv(6, &[0x55, 4, 3]), tlv(tag, text)].concat();
    tlv(0x31, &tlv(0x30, &attribute))
}

fn in_2040() -> Vec<u8> {
    tlv(0x17, b"400101000000Z")
}

#[test]
fn serial_numbers_are_shown_without_the_zeros_of_the_encoding() {
    let cases: [(&[u8], &str); 8] = [
        (&[0], "00"),
        (&[1], "01"),
        (&[0x7f], "7f"),
        (&[0, 0x80], "80"),
        (&[0, 0xff, 0], "ff00"),
        (&[0xff], "-01"),
        (&[0x80], "-80"),
        (&[0xff, 0], "-0100"),
    ];
    for (octets, shown) in cases {
        let facts = CertificateFacts::from_der(&certificate(octets, &in_2040(), &[])).unwrap();
        assert_eq!(facts.serial, shown);
    }
}

#[test]
fn no_well_defined_end_is_as_late_as_can_be() {
    let endless = tlv(0x18, b"99991231235959Z");
    let facts = CertificateFacts::from_der(&certificate(&[1], &endless, &[])).unwrap();
    assert_eq!(facts.not_before, at("2000-01-01T00:00:00Z"));
    assert_eq!(facts.not_after, Timestamp::MAX);
}

#[test]
fn a_common_name_is_the_only_one_and_text_or_none() {
    let read = |subject: &[u8]| {
        let facts = CertificateFacts::from_der(&certificate(&[1], &in_2040(), subject)).unwrap();
        facts.subject_common_name
    };
    let named = |text: &str| Some(text.to_owned());
    assert_eq!(read(&[]), None);
    assert_eq!(read(&common_name(0x0c, b"SEP1")), named("SEP1"));
    assert_eq!(read(&common_name(0x13, b"SEP1")), named("SEP1"));
    assert_eq!(read(&common_name(0x14, b"SEP1")), named("SEP1"));
    assert_eq!(read(&common_name(0x1e, &[0, b'S', 0, b'E'])), named("SE"));
    assert_eq!(read(&common_name(4, b"SEP1")), None, "no text");
    assert_eq!(read(&[common_name(0x0c, b"SEP1"), common_name(0x0c, b"SEP1")].concat()), None);
    assert_eq!(read(&common_name(0x0c, b"SEP1\0")), named("SEP1\u{fffd}"));
    assert_eq!(read(&common_name(0x0c, b"SEP1\nSEP2")), named("SEP1\u{fffd}SEP2"));
    let long = read(&common_name(0x0c, &[b'S'; 4000])).unwrap();
    assert_eq!(long.chars().count(), 513);
    assert!(long.ends_with("S…"));
}

#[test]
fn names_shown_are_bounded_and_hold_no_control_characters() {
    let subject = common_name(0x04, &[0xaa; 3000]);
    let facts = CertificateFacts::from_der(&certificate(&[1], &in_2040(), &subject)).unwrap();
    assert_eq!(facts.subject.chars().count(), 513);
    let subject = common_name(0x0c, "a\u{9b}31m\nb".as_bytes());
    let facts = CertificateFacts::from_der(&certificate(&[1], &in_2040(), &subject)).unwrap();
    assert!(!facts.subject.chars().any(char::is_control), "{:?}", facts.subject);
}

#[test]
fn what_is_no_certificate_or_too_long_is_refused() {
    let mic = unhex(CAPTURED_MIC);
    let refused = |der: &[u8]| CertificateFacts::from_der(der).unwrap_err();
    let encoding = |error: CertificateError| matches!(error, CertificateError::Encoding(_));
    assert!(encoding(refused(&[])));
    assert!(encoding(refused(&mic[..mic.len() - 1])));
    assert!(encoding(refused(&[&mic[..], &[0]].concat())));
    assert!(encoding(refused(b"-----BEGIN CERTIFICATE-----")));
    let limit = MAX_CERTIFICATE;
    let octets = limit + 1;
    assert_eq!(refused(&vec![0x30; octets]), CertificateError::TooLong { octets, limit });
}

#[test]
fn a_certificate_with_any_octet_changed_harms_nobody() {
    let lsc = lsc(issuer(), KeyKind::Ec(Curve::P256));
    for sound in [unhex(CAPTURED_MIC), lsc.der().to_vec()] {
        for at in 0..sound.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut octets = sound.clone();
                octets[at] ^= change;
                if let Ok(facts) = CertificateFacts::from_der(&octets) {
                    assert_ne!(facts.sha256, lsc.facts().sha256);
                }
            }
        }
    }
}

#[test]
fn pem_holds_exactly_one_certificate_and_may_have_text_around_it() {
    let mic = unhex(CAPTURED_MIC);
    let pem = to_pem(&mic).unwrap();
    assert_eq!(from_pem(&pem).unwrap(), mic);
    assert_eq!(from_pem(&pem.replace('\n', "\r\n")).unwrap(), mic);
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(from_pem(&format!("subject=CN = MIC\n\n{key}{pem}the end")).unwrap(), mic);

    let count = |text: &str| match from_pem(text).unwrap_err() {
        CertificateError::Pem { found } => found,
        other => panic!("{other}"),
    };
    assert_eq!(count(""), 0);
    assert_eq!(count(key), 0);
    assert_eq!(count(&format!("{pem}{pem}")), 2);
    assert_eq!(count(&pem.replace("MII", "M?I")), 1);
    assert!(matches!(from_pem(&pem.replace("MII", "AII")), Err(CertificateError::Encoding(_))));
    let long = " ".repeat(MAX_PEM + 1);
    assert!(matches!(from_pem(&long), Err(CertificateError::TooLong { .. })));
}
