//! What to do next about one proxy: its own keys and certificates, their publication, its endpoints' bundle.

use jiff::Timestamp;

use super::{callers, endpoints};
use crate::api::{
    CertificateAuthorityProxy, CertificateAuthorityProxyStatus, ConditionType, Conditions, EndpointsStatus,
    PublishedCertificate, resolve_key,
};
use crate::pki::OwnKey;
use crate::pki::certificate::CertificateFacts;

/// Key of the certificate (PEM) in a key pair's Secret.
pub const CERTIFICATE: &str = "tls.crt";
/// Key of the private key (PKCS#8 PEM) in a key pair's Secret.
pub const PRIVATE_KEY: &str = "tls.key";
/// Annotation on a key pair's Secret: the `certificateRevision` it was made for.
pub const REVISION_ANNOTATION: &str = "capf.dev/certificate-revision";

/// One of a proxy's two key pairs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OwnKeyRole {
    /// Signs LSCs; only controllers read it.
    Issuer,
    /// What 3804 presents; endpoints hold it.
    Service,
}

impl OwnKeyRole {
    /// Name of its Secret.
    #[must_use]
    pub fn secret_name(self, proxy: &str) -> String {
        match self {
            Self::Issuer => format!("{proxy}-issuer"),
            Self::Service => format!("{proxy}-service"),
        }
    }

    /// Type of its Secret. A Secret of another type under that name is somebody else's.
    #[must_use]
    pub fn secret_type(self) -> &'static str {
        match self {
            Self::Issuer => "capf.dev/issuer",
            Self::Service => "capf.dev/service",
        }
    }
}

/// Name of the ConfigMap with the published certificates.
#[must_use]
pub fn certificates_config_map(proxy: &str) -> String {
    format!("{proxy}-certificates")
}

/// Name of the Secret with the endpoints' bundle.
#[must_use]
pub fn endpoint_secret(proxy: &str) -> String {
    format!("{proxy}-endpoint")
}

/// Type of the Secret with the endpoints' bundle.
pub const ENDPOINT_SECRET_TYPE: &str = "capf.dev/endpoint-bundle";

/// What is known of one object of the proxy's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found<T> {
    /// There is none.
    Missing,
    /// There is one of that name that is not ours.
    Foreign,
    /// There is one of ours, but it cannot be used.
    Broken(String),
    /// There is one.
    Here(T),
}

/// A key pair on record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnPairFacts {
    /// The certificate.
    pub facts: CertificateFacts,
    /// The `certificateRevision` it was made for.
    pub revision: i64,
}

/// What stands in the way of activation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Obstacle {
    /// Reason in the conditions.
    pub reason: &'static str,
    /// The cause and the remedy.
    pub message: String,
    /// Whether the manifest or an object must change; otherwise waiting helps.
    pub stalls: bool,
}

/// Whether a key pair must be made.
///
/// # Errors
/// An [`Obstacle`] when the name is taken or what is there cannot be used: a key is never overwritten unasked.
pub fn must_make(
    role: OwnKeyRole,
    proxy: &CertificateAuthorityProxy,
    found: &Found<OwnPairFacts>,
) -> Result<bool, Obstacle> {
    let secret = role.secret_name(proxy.metadata.name.as_deref().unwrap_or_default());
    match found {
        Found::Missing => may_make_anew(&secret, proxy),
        Found::Here(pair) => Ok(pair.revision < proxy.spec.certificate_revision),
        Found::Foreign => Err(name_taken("Secret", &secret)),
        Found::Broken(why) => Err(Obstacle {
            reason: "KeyPairUnusable",
            message: format!("Secret {secret}: {why}. Restore it, or raise certificateRevision after removing it"),
            stalls: true,
        }),
    }
}

/// Whether a key pair that is not there may be made. Not in place of one that was published: phones and servers trust
/// that one, and whoever lost its Secret will rather restore it.
fn may_make_anew(secret: &str, proxy: &CertificateAuthorityProxy) -> Result<bool, Obstacle> {
    let published = proxy.status.as_ref().filter(|s| s.issuer_certificate.is_some());
    let made_for = published.map(|s| s.certificate_revision.unwrap_or(0));
    if made_for.is_some_and(|revision| proxy.spec.certificate_revision <= revision) {
        let message =
            format!("Secret {secret} is gone. Restore it, or raise certificateRevision to make the keys anew");
        return Err(Obstacle { reason: "KeyPairMissing", message, stalls: true });
    }
    if proxy.spec.suspend && published.is_none() {
        let message = "keys are not made while the proxy is suspended: restore them, or set suspend: false".into();
        return Err(Obstacle { reason: "Suspended", message, stalls: false });
    }
    Ok(true)
}

/// The obstacle that an object of somebody else's is.
#[must_use]
pub fn name_taken(kind: &str, name: &str) -> Obstacle {
    let message = format!("{kind} {name} exists and is not of this product; rename the proxy or remove the {kind}");
    Obstacle { reason: "NameTaken", message, stalls: true }
}

/// The kind of CAPF's own keys.
///
/// # Errors
/// An [`Obstacle`] for a kind that CAPF's own keys cannot be of; the CRD refuses it before.
pub fn own_key(proxy: &CertificateAuthorityProxy) -> Result<OwnKey, Obstacle> {
    let stalled = |message| Obstacle { reason: "KeySizeUnsupported", message, stalls: true };
    let kind = resolve_key(proxy.spec.key_type, proxy.spec.key_size).map_err(|e| stalled(e.to_string()))?;
    OwnKey::try_from(kind).map_err(|e| stalled(e.to_string()))
}

/// Why what `micRoots` names is of no use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MicRootsProblem {
    /// Reason in the condition.
    pub reason: &'static str,
    /// The object and what is wrong with it.
    pub message: String,
}

/// What there is when everything is in place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Activated {
    /// The issuer's certificate.
    pub issuer: CertificateFacts,
    /// The service certificate.
    pub service: CertificateFacts,
    /// The end of the endpoints' client certificate.
    pub client_not_after: Timestamp,
    /// What is wrong with the roots of MICs, if something is.
    pub mic_roots: Option<MicRootsProblem>,
    /// The endpoint pods, or why there can be none; none are wanted with `placement: External`.
    pub endpoints: Result<Option<EndpointsStatus>, Obstacle>,
}

impl Activated {
    /// Whether something may change soon without anybody saying so.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        let amiss = |seen: &EndpointsStatus| seen.ready < seen.replicas;
        self.mic_roots.is_some() || self.endpoints.as_ref().map_or(true, |seen| seen.as_ref().is_some_and(amiss))
    }
}

/// The proxy's status.
#[must_use]
pub fn status(
    proxy: &CertificateAuthorityProxy,
    outcome: Result<&Activated, &Obstacle>,
    now: Timestamp,
) -> CertificateAuthorityProxyStatus {
    let before = proxy.status.clone().unwrap_or_default();
    let name = proxy.metadata.name.as_deref().unwrap_or_default();
    let said = Conditions::over(&before.conditions, proxy.metadata.generation, now);
    let observed_generation = proxy.metadata.generation.unwrap_or_default();
    let activated = match outcome {
        Ok(activated) => activated,
        Err(obstacle) => {
            let said = hindered(said, obstacle);
            let conditions = callers::with_guessing(said.done(), &before, proxy.metadata.generation, now);
            return CertificateAuthorityProxyStatus { observed_generation, conditions, ..callers::pruned(before, now) };
        }
    };
    let service = published(&activated.service);
    let ctl = proxy.spec.ctl_certificate.as_deref();
    let said = ready(said, proxy, activated);
    let said = match ctl == Some(service.common_name.as_str()) {
        true => {
            said.say(ConditionType::CTLUpdateRequired, false, "CTLCurrent", "the CTL holds the service certificate")
        }
        false => {
            let message = format!(
                "the phones' CTL must hold {}; update it and then set ctlCertificate: {}",
                service.common_name, service.common_name
            );
            said.say(ConditionType::CTLUpdateRequired, true, "ServiceCertificateChanged", message)
        }
    };
    let wanted = own_key(proxy).map(OwnKey::kind).ok();
    let differs = [&activated.issuer, &activated.service].iter().any(|facts| facts.key_kind != wanted);
    let said = match (differs, wanted) {
        (true, Some(wanted)) => said.say(
            ConditionType::KeySizeDiffers,
            true,
            "MadeBefore",
            format!("the keys are not {wanted}; raise certificateRevision to make them anew"),
        ),
        _ => said,
    };
    let said = match activated.client_not_after <= now {
        true => said.say(
            ConditionType::CredentialExpiring,
            true,
            "ClientCertificateExpired",
            "the endpoints' client certificate has expired and could not be renewed",
        ),
        false => said,
    };
    let said = match &activated.mic_roots {
        Some(problem) => said.say(ConditionType::MICRootsUnusable, true, problem.reason, &problem.message),
        None => said,
    };
    let conditions = callers::with_guessing(said.done(), &before, proxy.metadata.generation, now);
    CertificateAuthorityProxyStatus {
        observed_generation,
        service_certificate: Some(service),
        issuer_certificate: Some(published(&activated.issuer)),
        certificate_revision: Some(proxy.spec.certificate_revision),
        certificates_config_map: Some(certificates_config_map(name)),
        endpoint_secret: Some(endpoint_secret(name)),
        endpoints: activated.endpoints.as_ref().map_or_else(|_| before.endpoints.clone(), Clone::clone),
        conditions,
        ..callers::pruned(before, now)
    }
}

fn hindered<'a>(said: Conditions<'a>, obstacle: &Obstacle) -> Conditions<'a> {
    let said = said.say(ConditionType::Ready, false, obstacle.reason, &obstacle.message);
    match obstacle.stalls {
        true => said.say(ConditionType::Stalled, true, obstacle.reason, &obstacle.message),
        false => said,
    }
}

/// Says whether all is in place, endpoint pods that take phones included.
fn ready<'a>(said: Conditions<'a>, proxy: &CertificateAuthorityProxy, activated: &Activated) -> Conditions<'a> {
    let of = |name: &Option<String>| name.clone().unwrap_or_default();
    let seen = match &activated.endpoints {
        Err(obstacle) => return hindered(said, obstacle),
        Ok(seen) => seen.as_ref(),
    };
    let (namespace, name) = (of(&proxy.metadata.namespace), of(&proxy.metadata.name));
    if let Some(amiss) = seen.and_then(|seen| endpoints::amiss(seen, &namespace, &name)) {
        return said.say(ConditionType::Ready, false, "EndpointsUnavailable", amiss);
    }
    if proxy.spec.suspend {
        return said.say(ConditionType::Ready, true, "Suspended", "active; nothing new is armed");
    }
    let message = match seen {
        Some(_) => "keys and certificates are in place, and as many endpoint pods as wanted take phones",
        None => "keys, certificates and the endpoint bundle are in place",
    };
    said.say(ConditionType::Ready, true, "Activated", message)
}

fn published(facts: &CertificateFacts) -> PublishedCertificate {
    PublishedCertificate {
        common_name: facts.subject_common_name.clone().unwrap_or_default(),
        sha256_fingerprint: facts.sha256.clone(),
        not_after: facts.not_after,
    }
}
