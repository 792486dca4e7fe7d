//! An endpoint's bundle: the files that are all an endpoint has, in a pod or outside the cluster alike.

use std::io;
use std::path::Path;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Files of the bundle, which are the keys of the Secret `<proxy>-endpoint` too.
pub mod files {
    /// The service certificate that 3804 presents, PEM.
    pub const SERVICE_CERTIFICATE: &str = "tls.crt";
    /// Its private key, PKCS#8 PEM.
    pub const SERVICE_KEY: &str = "tls.key";
    /// The certificate by which the controller knows the endpoint's proxy, PEM.
    pub const CLIENT_CERTIFICATE: &str = "client.crt";
    /// Its private key, PKCS#8 PEM.
    pub const CLIENT_KEY: &str = "client.key";
    /// The certificates by which the endpoint knows the controller, PEM.
    pub const CONTROLLER_CA: &str = "ca.crt";
    /// [`EndpointConfig`](super::EndpointConfig), JSON.
    pub const CONFIG: &str = "endpoint.json";
    /// All of them.
    pub const ALL: [&str; 6] =
        [SERVICE_CERTIFICATE, SERVICE_KEY, CLIENT_CERTIFICATE, CLIENT_KEY, CONTROLLER_CA, CONFIG];
}

/// Parameters of an endpoint, from its proxy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointConfig {
    /// Namespace of the proxy.
    pub namespace: String,
    /// Name of the proxy.
    pub proxy: String,
    /// Where controllers answer, `host:port`; tried in turn.
    pub controllers: Vec<String>,
    /// CAPF Phone Port.
    pub phone_port: u16,
    /// Connections open at once.
    pub connections: u32,
    /// Seconds for the TLS handshake.
    pub handshake_seconds: u16,
    /// Seconds for an answer of the phone, key generation excepted.
    pub answer_seconds: u16,
}

/// The bundle as read.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Service certificate, PEM.
    pub service_certificate: String,
    /// Service key, PEM.
    pub service_key: SecretString,
    /// Client certificate, PEM.
    pub client_certificate: String,
    /// Client key, PEM.
    pub client_key: SecretString,
    /// CA certificates of the controller, PEM.
    pub controller_ca: String,
    /// Parameters.
    pub config: EndpointConfig,
}

/// The bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read.
    #[error("reading {file} of the endpoint bundle: {source}; export it anew with `capf endpoint-bundle`")]
    Read {
        /// The file's name.
        file: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The parameters cannot be understood.
    #[error("reading endpoint.json of the endpoint bundle: {0}; export it anew with `capf endpoint-bundle`")]
    Config(#[from] serde_json::Error),
}

impl Bundle {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// When a file is missing or the parameters are not understood; waiting helps while a mount is being swapped.
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        let read = |file: &'static str| {
            std::fs::read_to_string(folder.join(file)).map_err(|source| BundleError::Read { file, source })
        };
        Ok(Self {
            service_certificate: read(files::SERVICE_CERTIFICATE)?,
            service_key: read(files::SERVICE_KEY)?.into(),
            client_certificate: read(files::CLIENT_CERTIFICATE)?,
            client_key: read(files::CLIENT_KEY)?.into(),
            controller_ca: read(files::CONTROLLER_CA)?,
            config: serde_json::from_str(&read(files::CONFIG)?)?,
        })
    }
}
