//! What lifts a lock-out, or gives a waiting phone another authentication string; and who else manages the manifest.
//!
//! A run starts when `revision` changes, so a new revision is all that a generated string needs: the new run supersedes a
//! pending one and gets a string of its own. A given string is read from its Secret at each try, so while the run is pending
//! new digits there are enough, and tries that were spent stay spent. After a lock-out both are needed: the old digits are
//! used up.

use std::fmt;

use kube::api::ObjectMeta;

use crate::api::{AuthenticationMode, CertificateOperationKind, Phase, Phone, Reason, RequestedBy, Written};

/// Largest revision, as the schema says.
const MOST: i64 = 2_147_483_647;

/// What is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// Another run after too many wrong strings.
    Unlock,
    /// Another string for a run that waits for one.
    RenewString,
}

/// What does it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The new `spec.revision` of the Phone, if it takes one.
    pub revision: Option<i64>,
    /// The Secret with the given string, if it needs new digits. They come first.
    pub secret: Option<String>,
}

/// Why nothing is to be changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotNow {
    /// The newest run did not end so.
    #[error("its newest operation is not LockedOut; `capf explain` says what it waits for")]
    NotLockedOut,
    /// No string waits.
    #[error("it does not wait for an authentication string; `capf explain` says what it waits for")]
    NotWaiting,
    /// The spec was changed a moment ago.
    #[error("its newest manifest has not been acted on yet; try again in a moment")]
    NotActedOn,
    /// The run is not the Phone's own.
    #[error("operation {0} was applied by itself; delete it and apply another one, with another name")]
    AppliedByItself(String),
    /// Nothing would run.
    #[error("its certificateOperation is NoPendingOperation; set one, and it runs")]
    NothingAsked,
}

/// What fulfils the wish as the phone stands.
///
/// # Errors
/// [`NotNow`], with what to do instead.
pub fn change(wish: Wish, phone: &Phone) -> Result<Change, NotNow> {
    let status = phone.status.clone().unwrap_or_default();
    let none = match wish {
        Wish::Unlock => NotNow::NotLockedOut,
        Wish::RenewString => NotNow::NotWaiting,
    };
    if phone.metadata.generation.is_some_and(|generation| generation != status.observed_generation) {
        return Err(NotNow::NotActedOn);
    }
    let operation = status.operation.ok_or_else(|| none.clone())?;
    let holds = match wish {
        Wish::Unlock => operation.phase == Phase::Failed && operation.reason == Some(Reason::LockedOut),
        Wish::RenewString => {
            !operation.phase.is_terminal()
                && operation.authentication_mode == AuthenticationMode::ByAuthenticationString
        }
    };
    if !holds {
        return Err(none);
    }
    if operation.requested_by != RequestedBy::Phone {
        return Err(NotNow::AppliedByItself(operation.name));
    }
    if phone.spec.certificate_operation == CertificateOperationKind::NoPendingOperation {
        return Err(NotNow::NothingAsked);
    }
    let secret = phone.spec.authentication_string.as_ref().and_then(|s| s.secret_ref.as_ref()).map(|s| s.name.clone());
    let handled = status.last_handled.and_then(|written: Written| written.revision);
    let newest = phone.spec.revision.unwrap_or(0).max(handled.unwrap_or(0));
    // Any other number starts a run; at the end of them they begin anew.
    let next = if newest < MOST { newest + 1 } else { 1 };
    let revision = (wish == Wish::Unlock || secret.is_none()).then_some(next);
    Ok(Change { revision, secret })
}

/// Who keeps an object as some source has it, and would undo a change of ours or be undone by it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manager {
    /// Flux, Argo CD or Helm.
    pub name: &'static str,
    /// By what it is known.
    pub known_by: String,
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.known_by)
    }
}

/// Labels and annotations that tell of a manager: every key that begins so.
const MARKS: [(&str, &str); 4] = [
    ("kustomize.toolkit.fluxcd.io/", "Flux"),
    ("helm.toolkit.fluxcd.io/", "Flux"),
    ("argocd.argoproj.io/", "Argo CD"),
    ("meta.helm.sh/", "Helm"),
];
/// Field managers that tell of one.
const FIELD_MANAGERS: [(&str, &str); 5] = [
    ("kustomize-controller", "Flux"),
    ("helm-controller", "Flux"),
    ("argocd-controller", "Argo CD"),
    ("argocd-application-controller", "Argo CD"),
    ("helm", "Helm"),
];

/// Who manages the object, if labels, annotations or field managers tell.
#[must_use]
pub fn managed_by(metadata: &ObjectMeta) -> Option<Manager> {
    let both = [("label", &metadata.labels), ("annotation", &metadata.annotations)];
    for (what, map) in both {
        for (key, value) in map.iter().flatten() {
            let mark = MARKS.iter().find(|(prefix, _)| key.starts_with(prefix)).map(|(_, name)| *name);
            let helm = (key == "app.kubernetes.io/managed-by" && value == "Helm").then_some("Helm");
            if let Some(name) = mark.or(helm) {
                return Some(Manager { name, known_by: format!("{what} {key}: {value}") });
            }
        }
    }
    let by_field = |entry: &str| FIELD_MANAGERS.iter().find(|(manager, _)| *manager == entry).map(|(_, name)| *name);
    metadata.managed_fields.iter().flatten().find_map(|entry| {
        let manager = entry.manager.as_deref()?;
        by_field(manager).map(|name| Manager { name, known_by: format!("field manager {manager}") })
    })
}

/// The change of a Phone as it is to be committed.
#[must_use]
pub fn to_commit(phone: &Phone, revision: i64) -> String {
    let metadata = &phone.metadata;
    format!(
        "apiVersion: capf.dev/v1alpha1\nkind: Phone\nmetadata:\n  name: {}\n  namespace: {}\nspec:\n  revision: {revision}\n",
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::phone;
    use serde_json::{Value, json};

    fn with(spec: Value, phase: &str, reason: Option<&str>, requested_by: &str) -> Phone {
        let mut all = json!({"certificateOperation": "InstallUpgrade"});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let mut phone = phone(all);
        let mut operation = json!({
            "name": "sep001-1", "certificateOperation": "InstallUpgrade", "requestedBy": requested_by,
            "authenticationMode": "ByAuthenticationString", "phase": phase,
        });
        if let Some(reason) = reason {
            operation["reason"] = json!(reason);
        }
        phone.status = serde_json::from_value(json!({"observedGeneration": 1, "operation": operation})).unwrap();
        phone
    }

    #[test]
    fn a_lock_out_is_lifted_by_the_next_revision_and_new_digits_in_a_given_secret() {
        let locked = |spec| with(spec, "Failed", Some("LockedOut"), "Phone");
        let change = |phone| change(Wish::Unlock, &phone);
        assert_eq!(change(locked(json!({}))), Ok(Change { revision: Some(1), secret: None }));
        assert_eq!(change(locked(json!({"revision": 4}))), Ok(Change { revision: Some(5), secret: None }));
        let given = json!({"authenticationString": {"secretRef": {"name": "mine"}}});
        assert_eq!(change(locked(given)), Ok(Change { revision: Some(1), secret: Some("mine".into()) }));
        assert_eq!(change(locked(json!({"revision": MOST}))), Ok(Change { revision: Some(1), secret: None }));
    }

    #[test]
    fn a_waiting_string_is_renewed_by_a_new_run_where_it_is_generated_and_by_new_digits_where_it_is_given() {
        let waiting = |spec| with(spec, "Pending", None, "Phone");
        let change = |phone| change(Wish::RenewString, &phone);
        assert_eq!(change(waiting(json!({}))), Ok(Change { revision: Some(1), secret: None }));
        let given = json!({"authenticationString": {"secretRef": {"name": "mine"}}});
        assert_eq!(change(waiting(given)), Ok(Change { revision: None, secret: Some("mine".into()) }));
    }

    #[test]
    fn what_does_not_call_for_it_is_left_alone() {
        let nothing = json!({});
        for (wish, phone, expected) in [
            (Wish::Unlock, with(nothing.clone(), "Failed", Some("Expired"), "Phone"), NotNow::NotLockedOut),
            (Wish::Unlock, with(nothing.clone(), "Pending", None, "Phone"), NotNow::NotLockedOut),
            (Wish::RenewString, with(nothing.clone(), "Failed", Some("LockedOut"), "Phone"), NotNow::NotWaiting),
            (Wish::RenewString, phone(json!({})), NotNow::NotActedOn),
            (
                Wish::Unlock,
                with(nothing.clone(), "Failed", Some("LockedOut"), "Person"),
                NotNow::AppliedByItself("sep001-1".into()),
            ),
            (
                Wish::Unlock,
                with(json!({"certificateOperation": "NoPendingOperation"}), "Failed", Some("LockedOut"), "Phone"),
                NotNow::NothingAsked,
            ),
        ] {
            assert_eq!(change(wish, &phone), Err(expected));
        }
        let mut twice = with(nothing, "Failed", Some("LockedOut"), "Phone");
        twice.metadata.generation = Some(2);
        assert_eq!(change(Wish::Unlock, &twice), Err(NotNow::NotActedOn), "the first unlock is on its way");
    }

    #[test]
    fn flux_argo_cd_and_helm_are_known_by_labels_annotations_and_field_managers() {
        let meta = |json: Value| -> ObjectMeta { serde_json::from_value(json).unwrap() };
        let fields = |manager: &str| json!({"managedFields": [{"manager": "kubectl"}, {"manager": manager}]});
        for (metadata, name) in [
            (json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "phones"}}), Some("Flux")),
            (json!({"labels": {"helm.toolkit.fluxcd.io/name": "phones"}}), Some("Flux")),
            (json!({"annotations": {"argocd.argoproj.io/tracking-id": "a:b"}}), Some("Argo CD")),
            (json!({"labels": {"argocd.argoproj.io/instance": "phones"}}), Some("Argo CD")),
            (json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}), Some("Helm")),
            (json!({"annotations": {"meta.helm.sh/release-name": "phones"}}), Some("Helm")),
            (fields("kustomize-controller"), Some("Flux")),
            (fields("argocd-controller"), Some("Argo CD")),
            (fields("helm"), Some("Helm")),
            (fields("kubectl-client-side-apply"), None),
            (json!({"labels": {"app.kubernetes.io/managed-by": "us", "site": "hq"}}), None),
            (json!({}), None),
        ] {
            let found = managed_by(&meta(metadata.clone()));
            assert_eq!(found.map(|manager| manager.name), name, "{metadata}");
        }
    }
}
