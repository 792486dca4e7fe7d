//! Phones with certificates, and the manufacturer who makes their MICs.

use std::path::Path;
use std::process::Command;

use capf::api::{CertificateOperation, Phase, Phone};
use capf::phone::{AttemptOutcome, PhoneKey, Proof, SimulatedPhone};
use kube::ResourceExt as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::harness::eventually;
use crate::product::{BY_NULL, Options, PATIENCE, Product, phone};

pub const LSC_FIRST: &str = "ByExistingCertificatePrecedenceToLSC";
pub const MIC_FIRST: &str = "ByExistingCertificatePrecedenceToMIC";

/// A certificate (DER) and its key.
pub type Held = (Vec<u8>, PhoneKey);

/// Whoever makes phones.
pub struct Manufacturer {
    issuer: Issuer<'static, KeyPair>,
    /// Its root.
    pub pem: String,
}

impl Manufacturer {
    pub fn new() -> Self {
        let mut params = params("Manufacturing CA", 2090);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A MIC that ends with this year.
    pub fn mic(&self, device: &str, year: i32) -> Held {
        self.certificate(&format!("CP-8841-{device}"), year)
    }

    /// A certificate of any name.
    pub fn certificate(&self, common_name: &str, year: i32) -> Held {
        let key = KeyPair::generate().unwrap();
        let der = params(common_name, year).signed_by(&key, &self.issuer).unwrap().der().to_vec();
        (der, PhoneKey::from_pem(&key.serialize_pem().into()).unwrap())
    }
}

fn params(common_name: &str, year: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(2015, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 12, 31);
    params
}

/// A MIC as it was made twenty years ago, X.509 v1 with RSA-1024 and SHA-1, and its root in PEM. Made by `openssl`.
pub fn old_mic(folder: &Path, device: &str) -> (Held, String) {
    let run = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("genrsa -out old-ca.key 1024");
    run("req -new -key old-ca.key -subj /O=Example/CN=Old -out old-ca.csr");
    run("x509 -req -in old-ca.csr -signkey old-ca.key -sha1 -days 3650 -out old-ca.pem");
    run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out old.key");
    run(&format!("req -new -key old.key -subj /O=Example/CN=CP-7960G-{device} -out old.csr"));
    run(
        "x509 -req -in old.csr -CA old-ca.pem -CAkey old-ca.key -set_serial 7 -sha1 -days 3650 -outform DER -out old.der",
    );
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let key = PhoneKey::from_pem(&read("old.key").into()).unwrap();
    ((std::fs::read(folder.join("old.der")).unwrap(), key), read("old-ca.pem"))
}

/// The product with this manufacturer's root in a ConfigMap.
pub async fn with_manufacturer(name: &str) -> (Product, Manufacturer) {
    with_manufacturer_and(name, Options::default()).await
}

/// The same with options.
pub async fn with_manufacturer_and(name: &str, options: Options) -> (Product, Manufacturer) {
    let (product, manufacturer) = (Product::start_with(name, options).await, Manufacturer::new());
    set_roots(&product, &manufacturer.pem);
    patch_proxy(&product, r#"{"spec":{"micRoots":{"configMapRef":{"name":"roots"},"key":"roots.pem"}}}"#).await;
    (product, manufacturer)
}

/// Puts roots into the ConfigMap.
pub fn set_roots(product: &Product, pem: &str) {
    let indented: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    product.apply(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: roots}}\ndata:\n  roots.pem: |\n{indented}"
    ));
}

/// Changes the proxy and waits until that is acted on.
pub async fn patch_proxy(product: &Product, patch: &str) {
    product.kubectl(&["patch", "capf/main", "--type=merge", "-p", patch]);
    let proxies: kube::Api<capf::api::CertificateAuthorityProxy> = product.api();
    eventually("the proxy's change is acted on", PATIENCE, || async {
        let proxy = proxies.get("main").await.map_err(|e| e.to_string())?;
        let observed = proxy.status.as_ref().map(|status| status.observed_generation);
        if observed == proxy.metadata.generation { Ok(()) } else { Err(format!("{observed:?}")) }
    })
    .await
    .unwrap();
}

/// Has an installation By Existing Certificate wait for the phone, whatever was before.
pub async fn arm(product: &Product, device: &str, mode: &str, revision: u32) -> CertificateOperation {
    arm_to(product, device, "InstallUpgrade, keyType: EC", mode, revision).await
}

/// The same with another operation and its settings.
pub async fn arm_to(product: &Product, device: &str, what: &str, mode: &str, revision: u32) -> CertificateOperation {
    let settings = format!("certificateOperation: {what}, authenticationMode: {mode}, revision: {revision}");
    product.apply(&phone(device, &settings));
    let name = device.to_lowercase();
    eventually(&format!("{device} waits with revision {revision}"), PATIENCE, || async {
        let status = product.phone(&name).await.status.unwrap_or_default();
        let handled = status.last_handled.as_ref().and_then(|handled| handled.revision);
        let pending = status.operation.as_ref().is_some_and(|operation| operation.phase == Phase::Pending);
        if handled == Some(revision.into()) && pending { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await
    .unwrap();
    product.armed(&name).await
}

/// Enrols a new phone By Null String with an EC key, or another one.
pub async fn enrolled(product: &Product, device: &str, key: &str) -> SimulatedPhone {
    product.apply(&phone(device, &format!("{BY_NULL}, {key}")));
    product.operation_status(&device.to_lowercase(), "Install/Upgrade pending").await;
    let mut simulated = product.simulated(device, Proof::NullString).await;
    let outcome = simulated.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Installed { .. }), "{device}: {outcome:?}");
    product.operation_status(&device.to_lowercase(), "Install/Upgrade successful").await;
    simulated.proof(Proof::ExistingCertificate)
}

/// The LSC of a phone.
pub fn lsc(simulated: &SimulatedPhone) -> Held {
    (simulated.lsc().unwrap().to_vec(), simulated.lsc_key().unwrap().clone())
}

/// A phone that holds these and proves itself by them.
pub async fn holding(product: &Product, device: &str, lsc: Option<Held>, mic: Option<Held>) -> SimulatedPhone {
    let mut simulated = product.simulated(device, Proof::ExistingCertificate).await;
    if let Some((der, key)) = lsc {
        simulated = simulated.holding_lsc(der, key);
    }
    if let Some((der, key)) = mic {
        simulated = simulated.holding_mic(der, key);
    }
    simulated
}

/// A phone in one of the states of the tables, with nothing waiting for it yet, or never heard of.
pub async fn in_state(product: &Product, manufacturer: &Manufacturer, device: &str, state: &str) -> SimulatedPhone {
    let ec = "keyType: EC";
    let held = match state {
        "LSC" | "both" | "LSC and expired MIC" => Some(lsc(&enrolled(product, device, ec).await)),
        "512-bit LSC" => Some(lsc(&enrolled(product, device, "keySize: 512").await)),
        "foreign LSC" => Some(Manufacturer::new().certificate(device, 2090)),
        "LSC of another device" => {
            let another = device.replace("SEP", "CSF");
            Some(lsc(&enrolled(product, &another, ec).await))
        }
        "superseded LSC" => {
            let first = enrolled(product, device, ec).await;
            let replaced = lsc(&first);
            arm(product, device, LSC_FIRST, 1).await;
            let mut first = first.proof(Proof::ExistingCertificate);
            first.attempt().await.unwrap();
            product.operation_status(&device.to_lowercase(), "Install/Upgrade successful").await;
            Some(replaced)
        }
        _ => None,
    };
    let mic = match state {
        "MIC" | "both" => Some(manufacturer.mic(device, 2090)),
        "expired MIC" | "LSC and expired MIC" => Some(manufacturer.mic(device, 2020)),
        _ => None,
    };
    holding(product, device, held, mic).await
}

/// What must stay as it is when a phone is refused: the versions of the Phone and of its operation.
pub async fn versions(product: &Product, device: &str) -> [Option<String>; 2] {
    let found: Phone = product.phone(&device.to_lowercase()).await;
    [found.resource_version(), product.armed(&device.to_lowercase()).await.resource_version()]
}

/// The reason in the controller's last line about a phone that it did not let in.
pub fn reason(product: &Product, device: &str) -> String {
    let (logs, wanted) = (product.logs(), format!("not let in device={device} reason="));
    let line = logs.lines().rev().find_map(|line| line.split_once(&wanted));
    let (_, rest) = line.unwrap_or_else(|| panic!("nothing is logged of {device}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

/// One session that must be refused for this reason, writing nothing.
pub async fn refused(product: &Product, device: &str, simulated: &mut SimulatedPhone, wanted: &str, what: &str) {
    let before = versions(product, device).await;
    let outcome = simulated.attempt().await.unwrap();
    assert!(matches!(outcome, AttemptOutcome::Refused { reason } if reason.0 == 7), "{what}: {outcome:?}");
    assert_eq!(reason(product, device), wanted, "{what}");
    assert_eq!(versions(product, device).await, before, "{what}: something was written");
}
