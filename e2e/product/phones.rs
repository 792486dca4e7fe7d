//! Phones of an installation: their manifests, and simulated ones that call.

use std::io::Write as _;
use std::time::Duration;

use capf::phone::{AttemptOutcome, Proof, SimulatedPhone, tls_config};
use capf::wire::ClaimedName;

use super::Product;

/// The device of [`Product::looked_at_all`].
pub const LAST: &str = "SEPFFFFFFFFFFFF";

/// The manifest of a Phone; `settings` are further lines of its spec, as YAML flow entries.
pub fn phone(device: &str, settings: &str) -> String {
    format!(
        "---\napiVersion: capf.dev/v1alpha1\nkind: Phone\nmetadata: {{name: {}}}\nspec: {{deviceName: {device}, \
         proxyRef: {{name: main}}, {settings}}}\n",
        device.to_lowercase()
    )
}

/// The settings of a phone that enrols By Null String.
pub const BY_NULL: &str = "certificateOperation: InstallUpgrade, authenticationMode: ByNullString";

/// The manifest of a Secret with an authentication string.
pub fn string_secret(name: &str, digits: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: capf.dev/authentication-string\n\
         stringData: {{authenticationString: \"{digits}\"}}\n"
    )
}

impl Product {
    /// A simulated phone that proves itself so and tries again every 100 ms.
    pub async fn simulated(&self, device: &str, proof: Proof) -> SimulatedPhone {
        let address: std::net::SocketAddr = self.address.parse().unwrap();
        let tls = tls_config(&self.ctl().await).unwrap();
        SimulatedPhone::new(address, ClaimedName::parse(device).unwrap(), tls)
            .proof(proof)
            .retries(3, Duration::from_millis(100))
    }

    /// One session of a phone.
    pub async fn attempt(&self, device: &str, proof: Proof) -> AttemptOutcome {
        self.simulated(device, proof).await.attempt().await.unwrap()
    }

    /// Enrols a waiting phone and waits until its status says so. As phones do it comes again after a communication failure, of
    /// which a machine with much else to do makes some; each is told, past the test runner's capture.
    pub async fn enrol(&self, device: &str, proof: Proof) -> Vec<u8> {
        let mut simulated = self.simulated(device, proof).await;
        let ended = simulated.enrol_telling(|retry| {
            // Should stderr be closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{device} in {} comes again: {}", self.ns(), retry.failure);
        });
        self.installed(device, ended.await.last.unwrap()).await
    }

    /// The same by one session, where the product may lose none.
    pub async fn enrol_at_once(&self, device: &str, proof: Proof) -> Vec<u8> {
        self.installed(device, self.attempt(device, proof).await).await
    }

    async fn installed(&self, device: &str, outcome: AttemptOutcome) -> Vec<u8> {
        let AttemptOutcome::Installed { certificate_der } = outcome else { panic!("{device}: {outcome:?}") };
        self.operation_status(&device.to_lowercase(), "Install/Upgrade successful").await;
        certificate_der
    }
}

/// Digits as entered on the phone.
pub fn digits(digits: &str) -> Proof {
    Proof::AuthenticationString(digits.to_owned().into())
}
