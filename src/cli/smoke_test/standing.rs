//! Where the Phone of a smoke test stands, by its status.

use crate::api::{ConditionStatus, ConditionType, Phase, Phone};

/// Where the Phone stands, as far as the test cares.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// The controller has not acted on it.
    New,
    /// Its operation waits for it.
    Awaited,
    /// It is done.
    Successful,
    /// It failed, for this reason.
    Failed(String),
    /// It cannot be acted on, for this reason.
    Stalled(String),
}

/// Reads it from the status.
pub(super) fn standing(phone: &Phone) -> Standing {
    let Some(status) = &phone.status else { return Standing::New };
    let stalled =
        status.conditions.iter().find(|c| c.type_ == ConditionType::Stalled && c.status == ConditionStatus::True);
    if let Some(condition) = stalled {
        return Standing::Stalled(format!("{}: {}", condition.reason, condition.message));
    }
    match &status.operation {
        None => Standing::New,
        Some(operation) => match operation.phase {
            Phase::Pending | Phase::InProgress => Standing::Awaited,
            Phase::Successful => Standing::Successful,
            Phase::Failed => {
                let reason = operation.reason.map_or("no reason is on record", |reason| reason.as_str());
                Standing::Failed(reason.to_owned())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Phone with this status.
    fn phone(status: serde_json::Value) -> Phone {
        serde_json::from_value(json!({
            "apiVersion": "capf.dev/v1alpha1",
            "kind": "Phone",
            "metadata": {"name": "capf-smoke-test"},
            "spec": {"deviceName": "CAPF-SMOKE-TEST", "proxyRef": {"name": "main"}},
            "status": status,
        }))
        .unwrap()
    }

    fn operation(phase: &str, more: serde_json::Value) -> Phone {
        let mut operation = json!({
            "name": "capf-smoke-test-00000000",
            "certificateOperation": "InstallUpgrade",
            "authenticationMode": "ByAuthenticationString",
            "requestedBy": "Phone",
            "phase": phase,
        });
        operation.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        phone(json!({"operation": operation}))
    }

    #[test]
    fn a_phone_stands_where_its_status_says() {
        let failed = operation("Failed", json!({"reason": "LockedOut"}));
        let condition = json!({
            "type": "Stalled", "status": "True", "reason": "ProxyNotFound", "message": "there is none",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        });
        for (phone, wanted) in [
            (phone(json!({})), Standing::New),
            (operation("Pending", json!({})), Standing::Awaited),
            (operation("InProgress", json!({})), Standing::Awaited),
            (operation("Successful", json!({})), Standing::Successful),
            (failed, Standing::Failed("LockedOut".into())),
            (phone(json!({"conditions": [condition]})), Standing::Stalled("ProxyNotFound: there is none".into())),
        ] {
            assert_eq!(standing(&phone), wanted);
        }
    }
}
