//! What everything that speaks TLS here shares: the one crypto provider, and PEM as rustls wants it.
//!
//! The provider is given explicitly each time. A process-wide default is a race between crates, and rustls panics when it
//! finds two candidates.

use std::sync::{Arc, LazyLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use secrecy::{ExposeSecret as _, SecretString};

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// The provider of all cryptography: aws-lc-rs, with its default suites. Made once, then shared.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// The clock by which certificates of ours are judged: the one that they are made by.
#[derive(Debug)]
pub struct OwnClock;

impl TimeProvider for OwnClock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = std::time::Duration::try_from(crate::clock::now().as_duration()).ok()?;
        Some(UnixTime::since_unix_epoch(now))
    }
}

/// Credentials that cannot be used for TLS. Waiting does not help; the object named must change.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text cannot be read.
    #[error("reading the {object}: {source}; it must be PEM")]
    Pem {
        /// What it was to be.
        object: &'static str,
        /// What the parser says; it quotes nothing.
        source: rustls::pki_types::pem::Error,
    },
    /// The PEM text holds no certificate.
    #[error("reading the {object}: no certificate is in it; it must hold one in PEM at least")]
    NoCertificate {
        /// What it was to be.
        object: &'static str,
    },
    /// rustls does not take it.
    #[error("using the {object} for TLS: {source}; export certificate and key anew, together")]
    Unusable {
        /// What it was to be.
        object: &'static str,
        /// What rustls says.
        source: rustls::Error,
    },
}

impl TlsError {
    /// Makes the error of an object that rustls does not take.
    pub fn unusable(object: &'static str) -> impl Fn(rustls::Error) -> Self {
        move |source| Self::Unusable { object, source }
    }
}

/// All certificates of a PEM text, in their order; `object` names the text in errors.
///
/// # Errors
/// When it is no PEM, or holds no certificate.
pub fn certificates(pem: &str, object: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { object, source })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { object });
    }
    Ok(chain)
}

/// The first private key of a PEM text; `object` names the text in errors.
///
/// # Errors
/// When it is no PEM, or holds no key.
pub fn private_key(pem: &SecretString, object: &'static str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|source| TlsError::Pem { object, source })
}

/// The certificates of a PEM text as the only roots trusted; `object` names the text in errors.
///
/// # Errors
/// When it is no PEM, holds no certificate, or one that cannot be a root.
pub fn roots(pem: &str, object: &'static str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, object)? {
        store.add(certificate).map_err(TlsError::unusable(object))?;
    }
    Ok(store)
}
