//! The certificates of AUTH_RES with their signatures, on their way from endpoint to controller.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::questions::base64_octets;
use crate::domain::existing::{Offer, Shown};

/// Hash id of SHA-1 on the wire. Captured.
const SHA1: u8 = 1;
/// Hash id of SHA-512 on the wire. Captured.
const SHA512: u8 = 3;

/// Octets as base64 text.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Octets(#[serde(with = "base64_octets")] pub Vec<u8>);

/// A signature and the id of its hash on the wire.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HashedSignature {
    /// 1 SHA-1, 2 SHA-256, 3 SHA-512.
    pub hash: u8,
    /// The signature.
    pub signature: Octets,
}

/// SUDI_DATA.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SudiProof {
    /// The certificate (DER).
    pub certificate: Octets,
    /// At most four.
    #[serde(default)]
    pub signatures: Vec<HashedSignature>,
}

/// What a phone proves itself with, as it came. SIGNED_DATA can be sent again by whoever sees it, so `Debug` shows lengths
/// only and nothing logs a body.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateProof {
    /// The device name in the case it was sent in: SIGNED_DATA covers it.
    pub name_as_sent: String,
    /// The certificate (DER) of CERTIFICATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Octets>,
    /// SIGNED_DATA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_data: Option<Octets>,
    /// SHA2_SIGNED_DATA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha2_signed_data: Option<HashedSignature>,
    /// SUDI_DATA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudi: Option<SudiProof>,
}

impl fmt::Debug for CertificateProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |octets: Option<&Octets>| octets.map_or(0, |octets| octets.0.len());
        let (certificate, sudi) =
            (length(self.certificate.as_ref()), length(self.sudi.as_ref().map(|s| &s.certificate)));
        write!(f, "CertificateProof({certificate} and {sudi} octets, [hidden])")
    }
}

impl CertificateProof {
    /// The same as decisions take it. A hash that is not known here is no signature.
    #[must_use]
    pub fn offer(&self, session_id: u32) -> Offer {
        let octets = |octets: &Octets| octets.0.clone();
        let sha2 = self.sha2_signed_data.as_ref().filter(|signed| signed.hash == SHA512);
        let in_sudi = |sudi: &SudiProof, hash| {
            sudi.signatures.iter().find(|signed| signed.hash == hash).map(|signed| octets(&signed.signature))
        };
        Offer {
            name_as_sent: self.name_as_sent.clone(),
            session_id,
            certificate: self.certificate.as_ref().map(|certificate| Shown {
                certificate: octets(certificate),
                sha1: self.signed_data.as_ref().map(octets),
                sha512: sha2.map(|signed| octets(&signed.signature)),
            }),
            sudi: self.sudi.as_ref().map(|sudi| Shown {
                certificate: octets(&sudi.certificate),
                sha1: in_sudi(sudi, SHA1),
                sha512: in_sudi(sudi, SHA512),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::questions::{MAX_BODY, OpenRequest};
    use super::*;

    /// As large as AUTH_RES can be: its body is bounded to 16 KiB.
    fn largest() -> OpenRequest {
        let octets = |length| Octets(vec![0xab; length]);
        let signature = |hash| HashedSignature { hash, signature: octets(1024) };
        let sudi = SudiProof { certificate: octets(5 * 1024), signatures: [1, 2, 3, 4].map(signature).into() };
        let proof = CertificateProof {
            name_as_sent: "SEP001122334455".into(),
            certificate: Some(octets(5 * 1024)),
            signed_data: Some(octets(1024)),
            sha2_signed_data: Some(signature(SHA512)),
            sudi: Some(sudi),
        };
        OpenRequest {
            device_name: "SEP001122334455".into(),
            version: 3,
            session_id: u32::MAX,
            digits: None,
            certificate: true,
            proof: Some(proof),
            source: Some([0xffff; 8].into()),
        }
    }

    #[test]
    fn the_largest_proof_fits_into_a_question_and_comes_back_as_it_was() {
        let request = largest();
        let text = serde_json::to_string(&request).unwrap();
        assert!(text.len() < MAX_BODY, "{}", text.len());
        let again: OpenRequest = serde_json::from_str(&text).unwrap();
        assert_eq!(again.proof, request.proof);
    }

    #[test]
    fn a_hash_that_is_not_known_here_is_no_signature() {
        let mut proof = largest().proof.unwrap();
        let offer = proof.offer(7);
        assert_eq!(offer.session_id, 7);
        assert!(offer.certificate.as_ref().unwrap().sha512.is_some());
        proof.sha2_signed_data.as_mut().unwrap().hash = 2;
        assert!(proof.offer(7).certificate.unwrap().sha512.is_none());
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        let shown = format!("{:?}", largest());
        assert!(shown.contains("[hidden]") && !shown.contains("171"), "{shown}");
    }

    #[test]
    fn an_endpoint_of_the_version_before_sends_none() {
        let text = r#"{"deviceName":"SEP001","version":3,"sessionId":7,"certificate":true}"#;
        let request: OpenRequest = serde_json::from_str(text).unwrap();
        assert!(request.certificate && request.proof.is_none());
    }
}
