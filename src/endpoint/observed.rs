//! What an endpoint tells of itself: whether it is ready, and what of its bundle is in use.
//!
//! Ready means that a phone that comes here is served as well as this installation can: the port is open, the process is
//! not about to stop, and controllers will hear it, because its client certificate has not ended. Controllers that do not
//! answer make no endpoint unready: all would be so at once, phones would meet a closed port instead of one that hangs
//! up, and no node could be drained meanwhile. Neither does a changed bundle that cannot be used while the last good one
//! serves: that is for an alert.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::authority::bundle::Bundle;
use crate::pki::CertificateFacts;
use crate::pki::certificate::from_pem;
use crate::telemetry::endpoint::metrics;
use crate::telemetry::health::Health;
use crate::telemetry::server::{self, HttpArgs, HttpError, Server};

/// The part of being ready that is about the port for phones.
pub(super) const PHONES: &str = "phones";

/// The end of the client certificate in use. Clones are one.
#[derive(Clone, Default)]
pub(super) struct InUse(Arc<Mutex<Option<Timestamp>>>);

impl InUse {
    /// From now on this bundle is in use.
    pub(super) fn take(&self, bundle: &Bundle) {
        let client = end_of(&bundle.client_certificate);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = client;
        let ends = [("client", client), ("service", end_of(&bundle.service_certificate))];
        for (certificate, end) in ends.into_iter().filter_map(|(which, end)| Some((which, end?))) {
            metrics().certificate_end.with([certificate]).set(end.as_duration().as_secs_f64());
        }
        metrics().bundle_current.value().set(1.0);
    }

    /// The line that names it, if its time is over.
    fn ended(&self, now: Timestamp) -> Option<String> {
        let end = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        (end <= now).then(|| format!("bundle: its client certificate ended at {end}, and no controller hears it"))
    }
}

fn end_of(pem: &str) -> Option<Timestamp> {
    let der = from_pem(pem).ok()?;
    CertificateFacts::from_der(&der).ok().map(|facts| facts.not_after)
}

/// Begins to serve probes and metrics where `args` ask for it. The server ends when what is returned is dropped.
pub(super) fn serve(args: HttpArgs, health: &Health, bundle: &InUse) -> Result<Option<Server>, HttpError> {
    health.lacks(PHONES, "not listening yet");
    let bundle = bundle.clone();
    health.look_at(move || bundle.ended(crate::clock::now()).into_iter().collect());
    let ready = health.clone();
    let scrape = Arc::new(move || {
        metrics().ready.value().set(f64::from(u8::from(ready.unready().is_empty())));
        metrics().exposition.text()
    });
    args.http_listen.map(|address| server::begin(address, health.clone(), scrape)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_no_controller_hears_is_not_ready() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let in_use = InUse(Arc::new(Mutex::new(Some(at(1000)))));
        assert_eq!(in_use.ended(at(999)), None);
        assert!(in_use.ended(at(1000)).unwrap().contains("client certificate ended"));
        assert_eq!(InUse::default().ended(at(1000)), None);
    }
}
