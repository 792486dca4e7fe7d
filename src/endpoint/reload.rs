//! Follows the bundle: certificates are renewed and parameters changed under a running endpoint.
//!
//! The folder is read every few seconds and its contents compared. That is six small files, works on every kind of mount, and
//! needs no knowledge of how the kubelet swaps links. A bundle that cannot be used, which one caught in the middle of a swap
//! is too, changes nothing: the last good one goes on serving, and the log says why, once for each different reason.

use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use secrecy::ExposeSecret as _;
use tokio::time::sleep;

use super::EndpointError;
use crate::authority::bundle::{Bundle, BundleError};

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
                tracing::info!("the bundle changed; new connections are served by the new one");
            }
            Err(error) => {
                let text = error.to_string();
                if text != trouble {
                    tracing::warn!("the bundle changed and cannot be used, the last good one stays: {text}");
                    trouble = text;
                }
            }
        }
    }
}

/// Reads without holding up the sessions: a mount may be slow.
async fn read(folder: PathBuf) -> Result<Bundle, BundleError> {
    match tokio::task::spawn_blocking(move || Bundle::read(&folder)).await {
        Ok(outcome) => outcome,
        // Only when the runtime ends, and this task with it.
        Err(_) => std::future::pending().await,
    }
}
