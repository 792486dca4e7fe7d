//! Follows the bundle: certificates are renewed and parameters changed under a running endpoint.
//!
//! The folder is read every few seconds and its contents compared. That is six small files, works on every kind of mount, and
//! needs no knowledge of how the kubelet swaps links. A bundle that cannot be used, which one caught in the middle of a swap
//! is too, changes nothing: the last good one goes on serving, and the log says why, once for each different reason.

use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::time::sleep;

use super::EndpointError;
use crate::authority::bundle::{Bundle, BundleError};
use crate::pki::CertificateFacts;
use crate::pki::certificate::from_pem;
use crate::pki::control::renew_at;
use crate::telemetry::endpoint::metrics;

/// How often the bundle is compared.
pub const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// What a bundle is recognised by: SHA-256 over all of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Computes it.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Self {
        let Bundle { service_certificate, service_key, client_certificate, client_key, controller_ca, config } = bundle;
        // Debug, because it cannot fail and holds every field.
        let config = format!("{config:?}");
        let mut context = Context::new(&SHA256);
        for part in [
            service_certificate,
            service_key.expose_secret(),
            client_certificate,
            client_key.expose_secret(),
            controller_ca,
            &config,
        ] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut octets = [0; 32];
        octets.copy_from_slice(context.finish().as_ref());
        Self(octets)
    }
}

/// Compares the folder with what was `seen` last, forever, and gives each other bundle to `apply`. Ends when dropped.
pub async fn follow(
    folder: PathBuf,
    every: Duration,
    seen: Fingerprint,
    apply: impl Fn(&Bundle) -> Result<(), EndpointError>,
) {
    let mut seen = Some(seen);
    let mut trouble = String::new();
    loop {
        sleep(every).await;
        let outcome = match read(folder.clone()).await {
            Ok(bundle) => {
                let fingerprint = Fingerprint::of(&bundle);
                if seen == Some(fingerprint) {
                    continue;
                }
                seen = Some(fingerprint);
                apply(&bundle)
            }
            // What comes after a hole is looked at even if it is what was there before, so that its end is in the log too.
            Err(error) => {
                seen = None;
                Err(error.into())
            }
        };
        match outcome {
            Ok(()) => {
                trouble.clear();
                metrics().reloads.with(["ok"]).inc();
                tracing::info!("the bundle changed; new connections are served by the new one");
            }
            Err(error) => {
                let text = error.to_string();
                metrics().bundle_current.value().set(0.0);
                if text != trouble {
                    metrics().reloads.with(["failed"]).inc();
                    tracing::warn!("the bundle changed and cannot be used, the last good one stays: {text}");
                    trouble = text;
                }
            }
        }
    }
}

/// How often the age of the client certificate is looked at.
pub const LOOK_AT_AGE_EVERY: Duration = Duration::from_secs(3600);

/// Says in the log, again and again, that the client certificate has to be exported anew. A mounted bundle never comes to
/// that: its controller renews it in time. Ends when dropped.
pub async fn tell_of_age(folder: PathBuf, every: Duration) {
    loop {
        if let Ok(bundle) = read(folder.clone()).await
            && let Some(text) = aged(&bundle, crate::clock::now())
        {
            tracing::warn!("{text}");
        }
        sleep(every).await;
    }
}

/// What is to be said of the client certificate's age, if anything: past two thirds of its life the controller has made
/// another, and what this endpoint holds is an old export.
#[must_use]
pub fn aged(bundle: &Bundle, now: Timestamp) -> Option<String> {
    let der = from_pem(&bundle.client_certificate).ok()?;
    let facts = CertificateFacts::from_der(&der).ok()?;
    let (proxy, end) = (&bundle.config.proxy, facts.not_after);
    (renew_at(&facts) <= now).then(|| {
        format!(
            "the client certificate of this endpoint ends at {end}, and no controller will hear it afterwards: run \
             `capf endpoint-bundle --proxy {proxy}` again and put the files here"
        )
    })
}

/// Reads without holding up the sessions: a mount may be slow.
async fn read(folder: PathBuf) -> Result<Bundle, BundleError> {
    match tokio::task::spawn_blocking(move || Bundle::read(&folder)).await {
        Ok(outcome) => outcome,
        // Only when the runtime ends, and this task with it.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::bundle::EndpointConfig;
    use crate::pki::control::{generate_controller_ca, proxy_uri};
    use crate::pki::{ControllerCa, OwnPair};

    #[test]
    fn an_export_that_was_not_renewed_is_told_of_in_its_last_third() {
        let at = |days: i64| Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap();
        let OwnPair { certificate, private_key } = generate_controller_ca(at(0)).unwrap();
        let ca = ControllerCa::from_pem(certificate.pem(), &private_key).unwrap();
        let client = ca.client_credential(&proxy_uri("voice", "main"), at(0), 90).unwrap();
        let bundle = Bundle {
            service_certificate: String::new(),
            service_key: "".into(),
            client_certificate: client.certificate.pem().to_owned(),
            client_key: "".into(),
            controller_ca: String::new(),
            config: EndpointConfig {
                namespace: "voice".into(),
                proxy: "main".into(),
                controllers: Vec::new(),
                phone_port: 3804,
                connections: 1,
                handshake_seconds: 1,
                answer_seconds: 1,
            },
        };
        assert_eq!(aged(&bundle, at(59)), None);
        let text = aged(&bundle, at(61)).unwrap();
        assert!(text.contains("capf endpoint-bundle --proxy main"), "{text}");
    }
}
