//! Looks twice before a phone is told no for a reason that this replica may be the only one to believe.
//!
//! A replica that stood still for a moment, or whose watch lags, answers from what it knew before. Any yes is put right by the
//! write that follows, which the API server refuses when it was made from something old. A no is followed by nothing: the phone
//! takes it for the last word and does not come again. So what would be a no is asked of the API server, as far as a budget
//! goes: unknown callers must not become its load.

use super::Service;
use crate::api::{CertificateAuthorityProxy, CertificateOperation, Phone};
use crate::authority::questions::{OpenRequest, Unavailable};
use crate::controller::world::ObjectKey;
use crate::domain::budget::Rate;

/// Phones looked for in a second by a replica; the answers to others are what it knows.
pub(super) const SECOND_LOOKS: u16 = 20;

impl Service {
    /// Learns the phone and the operation it is armed with from the API server.
    ///
    /// # Errors
    /// [`Unavailable`] when that cannot be asked, which is no reason to say no.
    pub(super) async fn learn_anew(
        &self,
        proxy: &CertificateAuthorityProxy,
        request: &OpenRequest,
    ) -> Result<(), Unavailable> {
        let granted = {
            let mut budget = self.second_looks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            budget.reserve(Rate::a_second(SECOND_LOOKS), crate::clock::now())
        };
        if !granted {
            return Ok(());
        }
        let namespace = proxy.metadata.namespace.clone().unwrap_or_default();
        let key = ObjectKey::new(&namespace, request.device_name.to_ascii_lowercase());
        let phone = self.fresh::<Phone>(&key).await?;
        let Some(armed) = phone.and_then(|phone| phone.status?.operation) else { return Ok(()) };
        self.fresh::<CertificateOperation>(&ObjectKey::new(namespace, armed.name)).await.map(drop)
    }

    /// Whether there is such a Phone and nobody deletes it. One that is not known here, as in a replica that stood still, is
    /// asked for: a no would end the phone's session for good.
    ///
    /// # Errors
    /// [`Unavailable`] when that cannot be asked.
    pub(super) async fn still_exists(&self, key: &ObjectKey) -> Result<bool, Unavailable> {
        if let Some(known) = self.world.phone_view(key).phone {
            return Ok(known.metadata.deletion_timestamp.is_none());
        }
        let found = self.fresh::<Phone>(key).await?;
        Ok(found.is_some_and(|phone| phone.metadata.deletion_timestamp.is_none()))
    }
}
