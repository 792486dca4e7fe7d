//! What people and phones do at a [`Site`]: manifests, calls, and looks at what is there.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capf::api::{CertificateOperation, Phone};
use capf::phone::{Proof, SimulatedPhone, StateDir};
use capf::wire::ClaimedName;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::eventually;

use super::disk::PhoneDisk;
use super::site::{Site, lock};

/// How often a phone comes again, in this time each, before it is asked what it saw.
const RETRIES: (u32, Duration) = (50, Duration::from_millis(200));

impl Site {
    /// Applies a Phone: `settings` are further fields of its spec.
    pub async fn apply(&self, device: &str, settings: &Value) {
        let mut spec = json!({ "deviceName": device, "proxyRef": { "name": "main" } });
        merge(&mut spec, settings);
        let phone = json!({
            "apiVersion": "capf.dev/v1alpha1", "kind": "Phone",
            "metadata": { "name": device.to_lowercase() }, "spec": spec,
        });
        let phone: Phone = serde_json::from_value(phone).unwrap();
        self.admin("the phone is applied", async || {
            self.product.api::<Phone>().create(&PostParams::default(), &phone).await.map(drop).or_else(|error| {
                // An API server that was killed may have kept it.
                if matches!(&error, kube::Error::Api(status) if status.is_already_exists()) {
                    Ok(())
                } else {
                    Err(error)
                }
            })
        })
        .await;
    }

    /// Changes a Phone, by a merge patch.
    pub async fn patch(&self, device: &str, patch: &Value) {
        self.admin("the phone is changed", async || {
            let phones = self.product.api::<Phone>();
            phones.patch(&device.to_lowercase(), &PatchParams::default(), &Patch::Merge(patch)).await
        })
        .await;
    }

    /// The phone as the API server has it.
    pub async fn phone(&self, device: &str) -> Phone {
        self.admin("the phone is read", async || self.product.api().get(&device.to_lowercase()).await).await
    }

    /// An operation as the API server has it.
    pub async fn operation(&self, name: &str) -> CertificateOperation {
        self.admin("the operation is read", async || self.product.api().get(name).await).await
    }

    /// Waits until the phone has an armed operation for which `wanted` holds, and returns it.
    pub async fn armed(
        &self,
        device: &str,
        what: &str,
        wanted: impl Fn(&Phone, &CertificateOperation) -> bool,
    ) -> CertificateOperation {
        let (phones, operations) = (self.product.api::<Phone>(), self.product.api::<CertificateOperation>());
        let name = device.to_lowercase();
        eventually(&format!("{device}: {what}"), Duration::from_secs(60), || async {
            let phone = phones.get(&name).await.map_err(|e| e.to_string())?;
            let armed = phone.status.as_ref().and_then(|s| s.operation.clone());
            let armed = armed.ok_or_else(|| format!("{:?}", phone.status))?;
            let operation = operations.get(&armed.name).await.map_err(|e| e.to_string())?;
            let seen = format!("{:?}, {:?}", phone.status, operation.status);
            if wanted(&phone, &operation) { Ok(operation) } else { Err(seen) }
        })
        .await
        .unwrap()
    }

    /// Waits until the phone is waited for.
    pub async fn pending(&self, device: &str) -> CertificateOperation {
        self.armed(device, "an operation is pending", |phone, _| says(phone) == Some("Install/Upgrade pending")).await
    }

    /// The phone itself: with a disk, and patience.
    pub fn simulated(&self, device: &str, proof: Proof) -> SimulatedPhone {
        lock(&self.phones).insert(device.to_owned());
        let address: std::net::SocketAddr = self.product.address.parse().unwrap();
        let state = self.state(device);
        SimulatedPhone::new(address, ClaimedName::parse(device).unwrap(), Arc::clone(&self.tls))
            .own_address(address_of(device))
            .proof(proof)
            .retries(RETRIES.0, RETRIES.1)
            .state(state)
            .unwrap()
    }

    /// The phone calls until its operation is over, and no longer than until then.
    ///
    /// # Errors
    /// What the phone and the API server said last.
    pub async fn calls_until_over(
        &self,
        device: &str,
        proof: Proof,
        until: Instant,
    ) -> Result<CertificateOperation, String> {
        let mut phone = self.simulated(device, proof);
        loop {
            let ended = phone.enrol().await;
            let operation = self.armed(device, "an operation is armed", |_, _| true).await;
            if operation.phase().is_terminal() {
                return Ok(operation);
            }
            if Instant::now() > until {
                return Err(format!("{device} calls in vain: {ended:?}, {:?}", operation.status));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The phone's directory.
    pub fn state(&self, device: &str) -> StateDir {
        StateDir::open(&self.folder(device)).unwrap()
    }

    fn folder(&self, device: &str) -> PathBuf {
        self.product.folder.path().join("phones").join(device)
    }

    /// What the phone has.
    pub fn disk(&self, device: &str) -> PhoneDisk {
        PhoneDisk::read(device, &self.folder(device))
    }

    /// The digits in the Secret of this operation, which are planted.
    pub async fn digits(&self, operation: &CertificateOperation) -> String {
        let name = format!("{}-string", operation.name_any());
        let secret = self.admin("the string is read", async || self.product.api::<Secret>().get(&name).await).await;
        let octets = secret.data.unwrap_or_default().remove("authenticationString").unwrap_or_default();
        let digits = String::from_utf8(octets.0).unwrap();
        self.plant(&name, &digits);
        digits
    }
}

/// Where a phone calls from: a /24 for every device (by its last four digits), or the wrong strings of one would have the next
/// one's not checked.
fn address_of(device: &str) -> IpAddr {
    let number = u16::from_str_radix(&device[device.len() - 4..], 16).unwrap();
    let [high, low] = number.to_be_bytes();
    // 127.0.0.0/8 is this machine's own, all of it.
    Ipv4Addr::new(127, 1 + high % 254, low, 1).into()
}

/// The settings of a phone that enrols By Null String.
pub fn by_null() -> Value {
    json!({ "certificateOperation": "InstallUpgrade", "authenticationMode": "ByNullString", "keyType": "EC" })
}

/// The settings of a phone that enrols with a string that is generated for it.
pub fn by_string() -> Value {
    json!({ "certificateOperation": "InstallUpgrade", "authenticationMode": "ByAuthenticationString", "keyType": "EC" })
}

/// Other digits than these.
pub fn wrong(digits: &str) -> String {
    digits.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect()
}

/// A phone's Operation Status.
pub fn says(phone: &Phone) -> Option<&str> {
    phone.status.as_ref()?.operation_status.as_deref()
}

fn merge(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from.clone());
    }
}
