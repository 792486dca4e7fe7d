//! Proof by the certificates a simulated phone holds, made as the phone of the captures makes it: the LSC in CERTIFICATE, the
//! MIC in SUDI_DATA; without an LSC the MIC in both; each with a signature by SHA-1 and one by SHA-512.

use aws_lc_rs::digest::{self, Algorithm};

use crate::pki::possession::{signed_data, sudi_data};
use crate::wire::{CertType, Certificate, CertificateEvidence, Evidence, HashId, SessionId, Signature, SudiData};

use super::key::PhoneKey;

/// A certificate (DER) and its key.
pub type Held<'a> = (&'a [u8], &'a PhoneKey);

/// The evidence of a phone that claims `name`, in the case it sends it in, for one session. Nothing where it holds nothing.
pub fn evidence(name: &str, session: SessionId, lsc: Option<Held<'_>>, mic: Option<Held<'_>>) -> Evidence {
    let sudi = mic.map(|(der, key)| {
        let message = sudi_data(session.0, der);
        let signatures = [(HashId::SHA1, &digest::SHA1_FOR_LEGACY_USE_ONLY), (HashId::SHA512, &digest::SHA512)];
        let signatures = signatures.into_iter().filter_map(|(hash, algorithm)| {
            sign(key, algorithm, &message).map(|signature| Signature { hash, signature: signature.into() })
        });
        SudiData { certificate: der.into(), signatures: signatures.collect() }
    });
    let Some((der, key)) = lsc.or(mic) else { return Evidence::Null };
    let message = signed_data(name, der);
    let sha512 = sign(key, &digest::SHA512, &message);
    Evidence::Certificate(Box::new(CertificateEvidence {
        password: None,
        certificate: Some(Certificate::new(CertType::LSC, der)),
        signed_data: sign(key, &digest::SHA1_FOR_LEGACY_USE_ONLY, &message).map(Into::into),
        sha2_signed_data: sha512.map(|signature| Signature { hash: HashId::SHA512, signature: signature.into() }),
        sudi,
    }))
}

/// None where the hash does not fit into the key, as SHA-512 does not into 512 bits.
fn sign(key: &PhoneKey, algorithm: &'static Algorithm, message: &[u8]) -> Option<Vec<u8>> {
    key.sign_hash(digest::digest(algorithm, message).as_ref())
}
