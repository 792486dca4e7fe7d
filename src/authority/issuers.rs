//! The issuer keys of the proxies, parsed once and kept as long as their proxy publishes the same certificate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use secrecy::ExposeSecret as _;

use super::credentials::text;
use super::questions::Unavailable;
use crate::api::CertificateAuthorityProxy;
use crate::controller::store::Store;
use crate::controller::world::ObjectKey;
use crate::domain::proxy::{CERTIFICATE, OwnKeyRole, PRIVATE_KEY};
use crate::pki::OwnIssuer;

/// See the module.
pub struct Issuers {
    store: Store,
    known: Mutex<HashMap<ObjectKey, (String, Arc<OwnIssuer>)>>,
}

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuers").finish_non_exhaustive()
    }
}

impl Issuers {
    /// None known yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The issuer that the proxy publishes.
    ///
    /// # Errors
    /// [`Unavailable`] before activation, or when the Secret cannot be read or holds another key than is published.
    pub async fn of(&self, proxy: &CertificateAuthorityProxy) -> Result<Arc<OwnIssuer>, Unavailable> {
        let key = ObjectKey::of(proxy);
        let published = proxy.status.as_ref().and_then(|s| s.issuer_certificate.as_ref());
        let Some(published) = published else { return Err(Unavailable(format!("{key} is not activated yet"))) };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((fingerprint, issuer)) = known
            && fingerprint == published.sha256_fingerprint {
                return Ok(issuer);
            }
        let secret = ObjectKey::new(&key.namespace, OwnKeyRole::Issuer.secret_name(&key.name));
        let unusable = |why: &str| Unavailable(format!("Secret {secret} {why}"));
        let read = self.store.get::<Secret>(&secret).await.map_err(|e| Unavailable(e.to_string()))?;
        let read = read.ok_or_else(|| unusable("is missing"))?;
        if read.type_.as_deref() != Some(OwnKeyRole::Issuer.secret_type()) {
            return Err(unusable("is not an issuer's key pair"));
        }
        let data = read.data.unwrap_or_default();
        let (Some(certificate), Some(private_key)) = (text(&data, CERTIFICATE), text(&data, PRIVATE_KEY)) else {
            return Err(unusable("lacks the certificate or the key"));
        };
        let issuer =
            OwnIssuer::from_pem(certificate.expose_secret(), &private_key).map_err(|e| unusable(&e.to_string()))?;
        if issuer.certificate().facts().sha256 != published.sha256_fingerprint {
            return Err(unusable("holds another certificate than is published"));
        }
        let issuer = Arc::new(issuer);
        let entry = (published.sha256_fingerprint.clone(), Arc::clone(&issuer));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry);
        Ok(issuer)
    }
}
