//! TLS as a phone does it: the server's certificate is the one in the CTL, byte for byte, or nothing is said.
//!
//! No chain, no host name, no dates: a CTL lists certificates, not authorities. What is left to prove is that the server has
//! the key, and that is verified like any handshake signature.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::pki::{
    CertificateFacts,
    certificate::{CertificateError as Unreadable, from_pem},
};

/// The server presented another certificate than the one in the CTL. Waiting does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "verify server: its certificate is not the one in the CTL; give the current CAPF.cer with --ctl, or find out who answers at this address"
)]
pub struct NotInCtl;

/// The configuration for all sessions with the server that has this certificate: TLS 1.2 and 1.3, never resumed, no name sent
/// (phones send none). Share it between phones.
///
/// # Errors
/// [`TlsError`] when what is given is no certificate.
pub fn tls_config(ctl_der: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    // A CTL that cannot be read would pin a server that cannot exist.
    CertificateFacts::from_der(ctl_der)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let pinned = Pinned { certificate: CertificateDer::from(ctl_der.to_vec()), provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    config.enable_sni = false;
    // A resumed session would skip the certificate, and make a load run cheaper than a thousand phones are.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Reads `CAPF.cer` (DER) or the `.0` file (PEM) to DER.
///
/// # Errors
/// [`TlsError::Ctl`] when it is neither.
pub fn read_ctl(content: &[u8]) -> Result<Vec<u8>, TlsError> {
    match std::str::from_utf8(content) {
        Ok(text) if text.contains("-----BEGIN") => Ok(from_pem(text)?),
        _ => {
            CertificateFacts::from_der(content)?;
            Ok(content.to_vec())
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CTL holds no certificate.
    #[error("read CTL: {0}; give CAPF.cer or the .0 file")]
    Ctl(#[from] Unreadable),
    /// rustls and its provider do not fit together: a fault in how this program was built.
    #[error("prepare TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity.as_ref() == self.certificate.as_ref() {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::Other(OtherError(Arc::new(NotInCtl))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a handshake failed because of [`NotInCtl`].
pub(super) fn is_not_in_ctl(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) if why.is::<NotInCtl>()
    )
}
