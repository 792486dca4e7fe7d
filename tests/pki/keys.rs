//! What is accepted as a phone's public key, and what is not.

use capf::pki::{Curve, KeyKind, KeyRejected, OwnKey, PublicKey, RsaBits};

use crate::support::{phone_key, tlv, unhex};

/// From a captured session: what the phone sent as PUBLIC_KEY.
const CAPTURED_RSA_2048: &str = "30820122300d06092a864886f70d01010105000382010f003082010a0282010100bed0efe4588050e0\
042d88a1d50b39c0b675441d822d9ebfcfbea6b9a4f2384175fd7f19dbf9b038d7c446beef7825a9f3b2c6e4fd1eab4027b9278f2a8c9cc3a1c8d0a6\
cd50d680c4101bc101db594a93c42b60a0c2af3c85a85fd06eec443f950f0e2844f95a47189eaa95b1be5e5444f31f7704bb8cd45ae71ed476d466ad\
de9cb50faf4577d0abd36f8215bbc829331228824805e8c0a5bd3a34f3c1a84307a1567ad3e6335bf7b73a38abff723574885d5ecbaab2eed11ad32c\
61833268871d6117c2a484d56ab73974bf8b9863255410426d09bd9e89e7fc40ec9713092d816ad1a949bc1fa651941cef15772acaeefb7f6aba94f8\
5d0c038b904629a30203010001";

const RSA: &str = "2a864886f70d010101";
const EC: &str = "2a8648ce3d0201";
const P256: &str = "2a8648ce3d030107";
const P384: &str = "2b81040022";

/// A SubjectPublicKeyInfo of this algorithm, parameters in DER, and bit string.
fn spki(algorithm: &str, parameters: &[u8], bits: &[u8]) -> Vec<u8> {
    let mut identifier = tlv(6, &unhex(algorithm));
    identifier.extend_from_slice(parameters);
    let string = [&[0], bits].concat();
    tlv(0x30, &[tlv(0x30, &identifier), tlv(3, &string)].concat())
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = tlv(0x30, &[tlv(2, modulus), tlv(2, exponent)].concat());
    spki(RSA, &[5, 0], &key)
}

/// A modulus of this many octets as DER has it, its first octet `first` and its last `last`.
fn modulus(octets: usize, first: u8, last: u8) -> Vec<u8> {
    let mut out = vec![0xa5; octets];
    out[0] = first;
    out[octets - 1] = last;
    if first >= 0x80 {
        out.insert(0, 0);
    }
    out
}

fn ec(curve: &str, point: &[u8]) -> Vec<u8> {
    spki(EC, &tlv(6, &unhex(curve)), point)
}

/// A point of P-256, uncompressed: the last octets of a key a phone made.
fn point() -> Vec<u8> {
    let spki = phone_key(KeyKind::Ec(Curve::P256)).spki();
    spki[spki.len() - 65..].to_vec()
}

fn changed(mut octets: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    octets[at] = value;
    octets
}

/// Whether a refusal is the one that was meant.
type Meant = fn(&KeyRejected) -> bool;

#[test]
fn no_malformed_or_unsuitable_key_is_accepted() {
    let sound = unhex(CAPTURED_RSA_2048);
    let odd = modulus(256, 0xc3, 1);
    let f4: &[u8] = &[1, 0, 1];
    let encoding: Meant = |error| matches!(error, KeyRejected::Encoding(_));
    let parameters: Meant = |error| matches!(error, KeyRejected::Parameters { .. });
    let algorithm: Meant = |error| matches!(error, KeyRejected::Algorithm { .. });
    let curve: Meant = |error| matches!(error, KeyRejected::UnknownCurve { .. });
    let form: Meant = |error| matches!(error, KeyRejected::PointForm { .. });
    let off: Meant = |error| matches!(error, KeyRejected::NotOnCurve { .. });
    let size: Meant = |error| matches!(error, KeyRejected::Modulus { .. });
    let exponent: Meant = |error| *error == KeyRejected::Exponent;
    let long: Meant = |error| matches!(error, KeyRejected::TooLong { .. });

    let body = tlv(0x30, &[tlv(2, &odd), tlv(2, f4)].concat());
    let unused_bits = {
        let string = [&[1], body.as_slice()].concat();
        let identifier = [tlv(6, &unhex(RSA)), vec![5, 0]].concat();
        tlv(0x30, &[tlv(0x30, &identifier), tlv(3, &string)].concat())
    };
    let three = tlv(0x30, &[tlv(2, &odd), tlv(2, f4), tlv(2, &[3])].concat());
    let compressed = [&[2], &point()[1..33]].concat();
    let infinity_padded = [vec![4], vec![0; 64]].concat();
    let beyond_the_field = [vec![4], vec![0xff; 64]].concat();

    let cases: Vec<(&str, Vec<u8>, Meant)> = vec![
        ("nothing", vec![], encoding),
        ("truncated", sound[..sound.len() - 1].to_vec(), encoding),
        ("header only", sound[..4].to_vec(), encoding),
        ("a trailing octet", [sound.clone(), vec![0]].concat(), encoding),
        ("two keys", [point_spki(), point_spki()].concat(), encoding),
        ("a length longer than needed", [&[0x30, 0x83, 0x00], &sound[2..]].concat(), encoding),
        ("indefinite length", [&[0x30, 0x80], &sound[4..], &[0, 0]].concat(), encoding),
        ("a certificate request's outer tag", changed(sound.clone(), 0, 0x31), encoding),
        ("over 600 octets", vec![0x30; PublicKey::MAX_SPKI + 1], long),
        ("RSA 8192", rsa(&modulus(1024, 0xc3, 1), f4), long),
        ("DSA", spki("2a8648ce380401", &[5, 0], &body), algorithm),
        ("RSA-PSS", spki("2a864886f70d01010a", &[5, 0], &body), algorithm),
        ("Ed25519", spki("2b6570", &[], &[7; 32]), algorithm),
        ("RSA without NULL", spki(RSA, &[], &body), parameters),
        ("RSA with a number for NULL", spki(RSA, &[2, 1, 0], &body), parameters),
        ("RSA with two NULLs", spki(RSA, &[5, 0, 5, 0], &body), encoding),
        ("unused bits", unused_bits, |error| *error == KeyRejected::PartialOctet),
        ("three numbers", spki(RSA, &[5, 0], &three), encoding),
        ("an octet after the RSA key", spki(RSA, &[5, 0], &[body.clone(), vec![0]].concat()), encoding),
        ("RSA key missing", spki(RSA, &[5, 0], &[]), encoding),
        ("even modulus", rsa(&modulus(256, 0xc3, 2), f4), |error| *error == KeyRejected::EvenModulus),
        ("negative modulus", rsa(&odd[1..], f4), encoding),
        ("modulus with a zero too many", rsa(&[vec![0], odd.clone()].concat(), f4), encoding),
        ("modulus zero", rsa(&[0], f4), size),
        ("modulus of 2047 bits", rsa(&modulus(256, 0x63, 1), f4), size),
        ("modulus of 2056 bits", rsa(&modulus(257, 0xc3, 1), f4), size),
        ("modulus of 1536 bits", rsa(&modulus(192, 0xc3, 1), f4), size),
        ("exponent 0", rsa(&odd, &[0]), exponent),
        ("exponent 1", rsa(&odd, &[1]), exponent),
        ("exponent 2", rsa(&odd, &[2]), exponent),
        ("exponent 65536", rsa(&odd, &[1, 0, 0]), exponent),
        ("exponent of 34 bits", rsa(&odd, &[2, 0, 0, 0, 1]), exponent),
        ("exponent -1", rsa(&odd, &[0xff]), encoding),
        ("EC without curve", spki(EC, &[], &point()), parameters),
        ("EC with NULL", spki(EC, &[5, 0], &point()), parameters),
        ("EC with explicit parameters", spki(EC, &tlv(0x30, &[2, 1, 1]), &point()), parameters),
        ("secp256k1", ec("2b8104000a", &point()), curve),
        ("P-224", ec("2b81040021", &point()), curve),
        ("compressed point", ec(P256, &compressed), form),
        ("point at infinity", ec(P256, &[0]), form),
        ("no point", ec(P256, &[]), form),
        ("hybrid point", ec(P256, &changed(point(), 0, 6)), form),
        ("a P-256 point on P-384", ec(P384, &point()), form),
        ("off the curve", ec(P256, &changed(point(), 64, point()[64] ^ 1)), off),
        ("all zero", ec(P256, &infinity_padded), off),
        ("coordinates beyond the field", ec(P256, &beyond_the_field), off),
    ];
    for (name, octets, meant) in cases {
        let error = PublicKey::from_spki(&octets).expect_err(name);
        assert!(meant(&error), "{name}: refused for another reason: {error:?}");
    }
}

fn point_spki() -> Vec<u8> {
    ec(P256, &point())
}

#[test]
fn no_prefix_of_a_key_is_a_key() {
    let sound = unhex(CAPTURED_RSA_2048);
    for length in 0..sound.len() {
        assert!(PublicKey::from_spki(&sound[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_key_with_any_octet_changed_is_read_as_it_came_or_refused() {
    let rsa = unhex(CAPTURED_RSA_2048);
    for sound in [rsa, point_spki()] {
        for at in 0..sound.len() {
            for change in [0x01, 0x80, 0xff] {
                let octets = changed(sound.clone(), at, sound[at] ^ change);
                if let Ok(key) = PublicKey::from_spki(&octets) {
                    assert_eq!(key.spki(), octets);
                }
            }
        }
    }
}

#[test]
fn a_captured_key_is_read_as_it_came() {
    let sound = unhex(CAPTURED_RSA_2048);
    let key = PublicKey::from_spki(&sound).unwrap();
    assert_eq!(key.kind(), KeyKind::Rsa(RsaBits::B2048));
    assert_eq!(key.spki(), sound);
}

#[test]
fn small_exponents_and_the_largest_are_accepted() {
    let odd = modulus(256, 0xc3, 1);
    for exponent in [&[3][..], &[17], &[1, 0, 1], &[1, 0xff, 0xff, 0xff, 0xff]] {
        assert!(PublicKey::from_spki(&rsa(&odd, exponent)).is_ok(), "{exponent:?}");
    }
}

#[test]
fn a_key_of_each_kind_matches_only_what_was_asked() {
    for came in KeyKind::ALL {
        for asked in KeyKind::ALL {
            let expected = match came == asked {
                true => Ok(()),
                false => Err(KeyRejected::NotAsked { asked, came }),
            };
            assert_eq!(phone_key(came).matches(asked), expected);
        }
    }
}

#[test]
fn a_refusal_names_what_was_asked_and_what_came() {
    let key = phone_key(KeyKind::Ec(Curve::P256));
    let error = key.matches(KeyKind::Rsa(RsaBits::B4096)).unwrap_err();
    let text = "cannot accept the public key: RSA 4096 was asked for, EC P-256 came";
    assert_eq!(error.to_string(), text);
    let error = PublicKey::from_spki(&rsa(&modulus(192, 0xc3, 1), &[3])).unwrap_err();
    assert!(error.to_string().contains("RSA public key of 1536 bits"), "{error}");
}

#[test]
fn kinds_are_written_and_read_in_one_form() {
    let written = ["RSA-512", "RSA-1024", "RSA-2048", "RSA-3072", "RSA-4096", "EC-P256", "EC-P384", "EC-P521"];
    for (kind, text) in KeyKind::ALL.into_iter().zip(written) {
        assert_eq!(serde_json::to_value(kind).unwrap(), text);
        assert_eq!(text.parse(), Ok(kind));
    }
    for text in ["", "RSA", "rsa-2048", "RSA 2048", "RSA-2047", "EC-P-256", "RSA-02048"] {
        let error = text.parse::<KeyKind>().expect_err(text);
        assert!(error.to_string().contains("RSA-2048"), "{error}");
    }
    let shown: Vec<_> = KeyKind::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(shown[2], "RSA 2048");
    assert_eq!(shown[7], "EC P-521");
}

#[test]
fn capf_itself_uses_no_key_below_2048_bits() {
    for kind in KeyKind::ALL {
        let weak = kind.is_rsa() && kind.bits() < 2048;
        assert_eq!(OwnKey::try_from(kind).is_err(), weak, "{kind}");
    }
}
