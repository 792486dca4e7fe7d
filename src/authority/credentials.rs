//! What controllers alone hold: the CA of the connections with endpoints, and the keys of tickets and of used-up
//! strings. One Secret in the controllers' namespace, made by whichever replica comes first.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use secrecy::{ExposeSecret as _, SecretString};

use crate::controller::store::{CallError, Store};
use crate::controller::world::ObjectKey;
use crate::pki::control::{ControllerCa, generate_controller_ca};
use crate::pki::{IssueError, MacKey, MacKeyError};

/// Type of the Secret.
pub const SECRET_TYPE: &str = "capf.dev/controller";
const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const TICKET_KEY: &str = "ticket.key";
const STRING_KEY: &str = "string.key";

/// See the module.
#[derive(Debug)]
pub struct Credentials {
    /// Signs the certificates of controllers and endpoints.
    pub ca: ControllerCa,
    /// CA certificates that endpoints are given, PEM.
    pub ca_pem: String,
    /// Seals tickets.
    pub tickets: MacKey,
    /// Digests used-up strings.
    pub strings: MacKey,
}

/// The credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Making or reading the CA.
    #[error("the controllers' CA: {0}")]
    Ca(#[from] IssueError),
    /// Making or reading a key.
    #[error("the controllers' keys: {0}")]
    Mac(#[from] MacKeyError),
    /// The Secret is not what it should be.
    #[error("Secret {object}: {problem}; delete it to have it made anew, which makes endpoints need a new bundle")]
    Unusable {
        /// Its namespace and name.
        object: ObjectKey,
        /// What is wrong.
        problem: String,
    },
}

impl Credentials {
    /// Reads the Secret, or makes it.
    ///
    /// # Errors
    /// [`CredentialsError`]; waiting helps against the API server's silence only.
    pub async fn obtain(store: &Store, key: &ObjectKey) -> Result<Self, CredentialsError> {
        let secret = match store.get::<Secret>(key).await? {
            Some(secret) => secret,
            None => store.create_or_get(&fresh(key)?).await?,
        };
        if secret.type_.as_deref() != Some(SECRET_TYPE) {
            let problem = format!("is of another type than {SECRET_TYPE}");
            return Err(CredentialsError::Unusable { object: key.clone(), problem });
        }
        let data = secret.data.unwrap_or_default();
        let part = |name: &str| {
            text(&data, name)
                .ok_or_else(|| CredentialsError::Unusable { object: key.clone(), problem: format!("has no {name}") })
        };
        let ca_pem = part(CA_CERTIFICATE)?.expose_secret().to_owned();
        Ok(Self {
            ca: ControllerCa::from_pem(&ca_pem, &part(CA_KEY)?)?,
            ca_pem,
            tickets: MacKey::from_base64(&part(TICKET_KEY)?)?,
            strings: MacKey::from_base64(&part(STRING_KEY)?)?,
        })
    }
}

/// One text of a Secret's data.
#[must_use]
pub fn text(data: &BTreeMap<String, ByteString>, name: &str) -> Option<SecretString> {
    let octets = data.get(name)?;
    std::str::from_utf8(&octets.0).ok().map(SecretString::from)
}

fn fresh(key: &ObjectKey) -> Result<Secret, CredentialsError> {
    let ca = generate_controller_ca(crate::clock::now())?;
    let (tickets, strings) = (MacKey::generate()?, MacKey::generate()?);
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = BTreeMap::from([
        (CA_CERTIFICATE.to_owned(), text(ca.certificate.pem())),
        (CA_KEY.to_owned(), text(ca.private_key.expose_secret())),
        (TICKET_KEY.to_owned(), text(tickets.to_base64().expose_secret())),
        (STRING_KEY.to_owned(), text(strings.to_base64().expose_secret())),
    ]);
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.into()),
        data: Some(data),
        ..Secret::default()
    })
}
