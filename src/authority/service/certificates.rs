//! *Open* for operations By Existing Certificate: gather what the phone is measured by, have it judged, answer.

use super::super::questions::{OpenAnswer, OpenRequest, Unavailable};
use super::{Grounds, Service};
use crate::api::{CertificateAuthorityProxy, Reason};
use crate::domain::existing::{Measure, MicTrust, NotLetIn, Offer};
use crate::domain::question::Verdict;

impl Service {
    /// Lets a phone in by its certificates, or says why not. Nothing is written: a certificate that does not count costs the
    /// device it names no try, and whoever knows the name could otherwise end its operation.
    pub(super) async fn by_certificate(
        &self,
        proxy: &CertificateAuthorityProxy,
        request: &OpenRequest,
    ) -> Result<OpenAnswer, Unavailable> {
        let device = &request.device_name;
        let offer = match &request.proof {
            Some(proof) => proof.offer(request.session_id),
            None if request.certificate => {
                tracing::warn!(%device, "its endpoint is of a version that does not pass certificates on: upgrade it");
                return Ok(OpenAnswer::Refused { reason: Reason::InvalidCredentials });
            }
            None => Offer::default(),
        };
        let issuer = self.issuers.of(proxy).await?;
        let mic_trust = match offer.sudi {
            Some(_) => self.anchors.of(proxy).await,
            None => MicTrust::NotConfigured,
        };
        // Others wrote meanwhile, perhaps.
        let found = self.look(proxy, request);
        let (Verdict::CheckCertificates, Some(armed)) = (&found.verdict, found.armed.as_deref()) else {
            return self.without_check(proxy, &found, request).await;
        };
        let status = found.view.phone.as_ref().and_then(|phone| phone.status.as_ref());
        let stored = status.and_then(|status| status.lsc.as_ref());
        let on_record = armed.status.as_ref().and_then(|status| status.certificate.as_ref()).map(|c| &c.summary);
        let measure = Measure {
            mode: armed.spec.authentication_mode,
            device,
            live: stored.into_iter().chain(on_record).map(|lsc| lsc.sha256_fingerprint.as_str()).collect(),
            remembered: status.and_then(|status| status.mic.as_ref()).filter(|mic| mic.verified),
            issuer: issuer.certificate().der(),
            mic_trust,
            past_end: proxy.spec.past_end(),
            now: crate::clock::now(),
        };
        match measure.judge(&offer) {
            Ok(proven) => {
                let authenticated_by = proven.evidence.used.to_string();
                let grounds = Grounds { certificates: Some(proven), ..Grounds::of(authenticated_by) };
                self.admit(proxy, armed, request, grounds).await
            }
            Err(NotLetIn::Refused(reason, why)) => {
                tracing::info!(%device, %reason, why, "not let in");
                Ok(OpenAnswer::Refused { reason })
            }
            Err(NotLetIn::Later(why)) => Err(Unavailable(why)),
        }
    }
}
