//! The signatures of AUTH_RES: those of the captures, those `openssl` makes, and forged ones.

use capf::pki::{
    Curve, KeyKind, NotProven, PublicKey, RsaBits, Signatures,
    possession::{prove, signed_data, sudi_data},
};
use capf::wire::{AuthRes, Frame, FrameDecoder, HashId, Message, Side};
use der::{Decode, Encode};

use crate::support::{folder, openssl, unhex};

/// AUTH_RES of a captured session, and its session id.
fn captured(session: &str) -> (u32, AuthRes) {
    let text = include_str!("../vectors/sessions.txt");
    let (_, rest) = text.split_once(&format!("## {session}")).expect("the session is there");
    let line = rest.lines().find_map(|line| line.strip_prefix("> ")).unwrap();
    let mut decoder = FrameDecoder::new(Side::Server);
    let frame: Frame = decoder.decode(&mut &unhex(line)[..]).unwrap().unwrap();
    let Message::AuthRes(response) = Message::parse(&frame).unwrap().message else { panic!("{session}") };
    (frame.session_id().0, *response)
}

fn key_of(certificate: &[u8]) -> PublicKey {
    let certificate = x509_cert::Certificate::from_der(certificate).unwrap();
    PublicKey::from_spki(&certificate.tbs_certificate().subject_public_key_info().to_der().unwrap()).unwrap()
}

#[test]
fn every_signature_of_the_captures_is_one() {
    for session in ["install-by-lsc-and-sudi-rsa", "fetch-by-lsc-ec-and-sudi-rsa", "install-by-mic"] {
        let (id, response) = captured(session);
        let certificate = response.certificate.unwrap().der;
        let signatures = Signatures {
            sha1: response.signed_data.as_deref(),
            sha512: response.sha2_signed_data.as_ref().map(|found| &*found.signature),
        };
        let name = response.device_name.as_sent();
        assert_eq!(prove(&key_of(&certificate), &signed_data(name, &certificate), signatures), Ok(()), "{session}");
        let other = signed_data("SEP000000000001", &certificate);
        assert_eq!(prove(&key_of(&certificate), &other, signatures), Err(NotProven::Wrong("SHA-1")), "{session}");

        let sudi = response.sudi.unwrap();
        let signatures = Signatures {
            sha1: sudi.signature(HashId(1)).map(|found| &**found),
            sha512: sudi.signature(HashId(3)).map(|found| &**found),
        };
        let key = key_of(&sudi.certificate);
        assert_eq!(prove(&key, &sudi_data(id, &sudi.certificate), signatures), Ok(()), "{session}");
        let another = sudi_data(id + 1, &sudi.certificate);
        assert_eq!(prove(&key, &another, signatures), Err(NotProven::Wrong("SHA-1")), "{session}: another session");
    }
}

const MESSAGE: &[u8] = b"SEP002\0a certificate";

/// A key of `openssl` and its signatures over [`MESSAGE`].
struct Signed {
    folder: tempfile::TempDir,
    key: PublicKey,
}

impl Signed {
    fn new(kind: &[&str]) -> Self {
        let folder = folder(&[("message", MESSAGE)]);
        let generate = [&["genpkey", "-out", "key.pem"], kind].concat();
        openssl(folder.path(), &generate);
        openssl(folder.path(), &["pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "spki.der"]);
        let key = PublicKey::from_spki(&std::fs::read(folder.path().join("spki.der")).unwrap()).unwrap();
        Self { folder, key }
    }

    fn rsa(bits: u16) -> Self {
        Self::new(&["-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
    }

    fn ec(curve: &str) -> Self {
        Self::new(&["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")])
    }

    fn hash(&self, name: &str) -> Vec<u8> {
        openssl(self.folder.path(), &["dgst", &format!("-{name}"), "-binary", "-out", name, "message"]);
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    /// A signature over a hash.
    fn sign(&self, hash: &[u8], options: &[&str]) -> Vec<u8> {
        self.run("-sign", hash, options)
    }

    fn run(&self, operation: &str, input: &[u8], options: &[&str]) -> Vec<u8> {
        std::fs::write(self.folder.path().join("input"), input).unwrap();
        let arguments = ["pkeyutl", operation, "-inkey", "key.pem", "-in", "input", "-out", "output"];
        openssl(self.folder.path(), &[&arguments[..], options].concat());
        std::fs::read(self.folder.path().join("output")).unwrap()
    }

    fn bare(&self, name: &str) -> Vec<u8> {
        self.sign(&self.hash(name), &[])
    }

    fn verdict(&self, sha1: &[u8], sha512: &[u8]) -> Result<(), NotProven> {
        prove(&self.key, MESSAGE, Signatures { sha1: Some(sha1), sha512: Some(sha512) })
    }

    /// A block as it should be, but for what `change` does to it.
    fn block(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let hash = self.hash("sha512");
        let length = usize::from(self.key.kind().bits()) / 8;
        let mut block = [&[0, 1][..], &vec![0xff; length - 3 - hash.len()], &[0], &hash].concat();
        change(&mut block);
        // The private operation on the block as it is.
        self.run("-decrypt", &block, &["-pkeyopt", "rsa_padding_mode:none"])
    }
}

#[test]
fn what_openssl_signs_with_any_kind_of_key_is_believed_and_the_other_way_round_is_not() {
    for signed in [
        Signed::rsa(1024),
        Signed::rsa(2048),
        Signed::rsa(3072),
        Signed::rsa(4096),
        Signed::ec("P-256"),
        Signed::ec("P-384"),
        Signed::ec("P-521"),
    ] {
        let (sha1, sha512) = (signed.bare("sha1"), signed.bare("sha512"));
        let kind = signed.key.kind();
        assert_eq!(signed.verdict(&sha1, &sha512), Ok(()), "{kind}");
        assert_eq!(signed.verdict(&sha512, &sha1), Err(NotProven::Wrong("SHA-1")), "{kind}");
        assert_eq!(signed.verdict(&sha1, &sha1), Err(NotProven::Wrong("SHA-512")), "{kind}");
        assert_eq!(signed.verdict(&sha1, &[]), Err(NotProven::Wrong("SHA-512")), "{kind}");
        let mut bent = sha512.clone();
        *bent.last_mut().unwrap() ^= 1;
        assert_eq!(signed.verdict(&sha1, &bent), Err(NotProven::Wrong("SHA-512")), "{kind}");
        let one = |signatures| prove(&signed.key, MESSAGE, signatures);
        assert_eq!(one(Signatures { sha1: Some(&sha1), sha512: None }), Err(NotProven::Missing("SHA-512")));
        assert_eq!(one(Signatures { sha1: None, sha512: Some(&sha512) }), Err(NotProven::Missing("SHA-1")));
    }
}

#[test]
fn the_whole_block_counts_and_not_its_end() {
    let signed = Signed::rsa(2048);
    let sha1 = signed.bare("sha1");
    assert_eq!(signed.verdict(&sha1, &signed.block(|_| {})), Ok(()), "the block itself is right");
    let end = 256 - 65;
    let changes: [(&str, Box<dyn FnOnce(&mut Vec<u8>)>); 6] = [
        ("type 2", Box::new(|block| block[1] = 2)),
        ("a first octet that is not zero", Box::new(|block| block[0] = 1)),
        ("a gap in the padding", Box::new(|block| block[100] = 0xfe)),
        ("padding that ends early", Box::new(|block| block[100] = 0)),
        ("no zero before the hash", Box::new(move |block| block[end] = 0xff)),
        ("hash at the end of nothing", Box::new(move |block| block[1..=end].fill(0))),
    ];
    for (what, change) in changes {
        let forged = signed.block(change);
        assert_eq!(signed.verdict(&sha1, &forged), Err(NotProven::Wrong("SHA-512")), "{what}");
    }
    let with_digest_info = signed.sign(&signed.hash("sha512"), &["-pkeyopt", "digest:sha512"]);
    assert_eq!(signed.verdict(&sha1, &with_digest_info), Err(NotProven::Wrong("SHA-512")), "a DigestInfo");
    let longer = [&[0][..], &signed.bare("sha512")].concat();
    assert_eq!(signed.verdict(&sha1, &longer), Err(NotProven::Wrong("SHA-512")), "one octet more");
}

#[test]
fn a_cube_root_is_no_signature_of_a_key_with_exponent_3() {
    let signed =
        Signed::new(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"]);
    assert_eq!(signed.verdict(&signed.bare("sha1"), &signed.bare("sha512")), Ok(()));
    // A number whose cube ends in the hash: exists for every odd hash, found bit by bit, and takes no private key.
    let mut hash = signed.hash("sha512");
    hash.reverse();
    assert_eq!(hash[0] & 1, 1, "an even hash may have no such root: take another message");
    let wanted = rsa::BigUint::from_bytes_le(&hash);
    let mut root = rsa::BigUint::from(1_u8);
    for bit in 1..512_usize {
        let modulus = rsa::BigUint::from(1_u8) << (bit + 1);
        let cube = &root * &root * &root;
        if cube % &modulus != &wanted % &modulus {
            root += rsa::BigUint::from(1_u8) << bit;
        }
    }
    assert_eq!((&root * &root * &root) % (rsa::BigUint::from(1_u8) << 512_usize), wanted, "the forgery is one");
    let bytes = root.to_bytes_be();
    let forged = [vec![0; 256 - bytes.len()], bytes].concat();
    assert_eq!(signed.verdict(&signed.bare("sha1"), &forged), Err(NotProven::Wrong("SHA-512")));
}

#[test]
fn a_key_of_512_bits_is_told_apart_from_a_wrong_signature() {
    let key = crate::support::phone_key(KeyKind::Rsa(RsaBits::B512));
    let refused = prove(key, MESSAGE, Signatures::default());
    assert_eq!(refused, Err(NotProven::KeyTooShort(512)));
    let ec = crate::support::phone_key(KeyKind::Ec(Curve::P256));
    assert_eq!(prove(ec, MESSAGE, Signatures::default()), Err(NotProven::Missing("SHA-1")));
}
