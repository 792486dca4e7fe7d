//! History: which finished operations of a phone have outlived their use.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::api::{CertificateAuthorityProxy, CertificateOperation, Phone, RequestedBy};

/// Finished operations kept of each phone where the proxy does not say.
const KEPT: u16 = 3;
/// Days for which they are kept where the proxy does not say.
const DAYS: u16 = 90;
/// Operations deleted in one look at a phone; the next look follows at once.
const AT_ONCE: usize = 10;

/// Names of the operations to delete now, the oldest first, at most ten.
///
/// Only those of the controller's own making: asked for by no person, and owned by the Phone as only the controller makes
/// them. Never the one that the Phone's status names, and none that is open. The digests of strings they used up must be
/// in the Phone's status by now. A suspended proxy deletes nothing, because a restore may be under way.
#[must_use]
pub fn outlived(
    phone: &Phone,
    operations: &[Arc<CertificateOperation>],
    proxy: &CertificateAuthorityProxy,
    now: Timestamp,
) -> Vec<String> {
    if proxy.spec.suspend {
        return Vec::new();
    }
    let limit = usize::from(proxy.spec.operations_history_limit.unwrap_or(KEPT));
    let days = SignedDuration::from_hours(24 * i64::from(proxy.spec.operations_history_days.unwrap_or(DAYS)));
    let named = phone.status.as_ref().and_then(|s| s.operation.as_ref()).map(|o| &o.name);
    let mut finished: Vec<(Timestamp, &String)> = operations
        .iter()
        .filter(|o| o.phase().is_terminal() && o.metadata.deletion_timestamp.is_none() && is_own(o, phone))
        .filter_map(|o| Some((o.status.as_ref()?.completed_at?, o.metadata.name.as_ref()?)))
        .filter(|(_, name)| Some(*name) != named)
        .collect();
    finished.sort();
    let beyond = finished.len().saturating_sub(limit);
    let is_old = |at: &Timestamp| at.checked_add(days).is_ok_and(|end| end <= now);
    let outlived = finished.iter().enumerate().filter(|(number, (at, _))| *number < beyond || is_old(at));
    outlived.take(AT_ONCE).map(|(_, (_, name))| (*name).clone()).collect()
}

fn is_own(operation: &CertificateOperation, phone: &Phone) -> bool {
    let mut owners = operation.metadata.owner_references.iter().flatten();
    operation.spec.requested_by != RequestedBy::Person
        && phone.metadata.uid.is_some()
        && owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == phone.metadata.uid.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{at, operation, phone, proxy};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use serde_json::json;

    const DAY: i64 = 86_400;

    /// An operation of the controller's that ended at `second`.
    fn ended(name: &str, second: i64) -> CertificateOperation {
        let mut operation = operation(name, at(1));
        operation.metadata.owner_references =
            Some(vec![OwnerReference { uid: "phone-uid".into(), controller: Some(true), ..OwnerReference::default() }]);
        operation.status =
            serde_json::from_value(json!({"phase": "Failed", "completedAt": at(second).to_string()})).unwrap();
        operation
    }

    fn outlived_of(operations: Vec<CertificateOperation>, spec: serde_json::Value, now: i64) -> Vec<String> {
        let mut phone = phone(json!({}));
        phone.status = serde_json::from_value(json!({"operation": {
            "name": "named", "certificateOperation": "Delete", "authenticationMode": "ByNullString",
            "requestedBy": "Phone", "phase": "Failed"
        }}))
        .unwrap();
        let mut proxy = proxy();
        proxy.spec.operations_history_limit = serde_json::from_value(spec["limit"].clone()).unwrap();
        proxy.spec.operations_history_days = serde_json::from_value(spec["days"].clone()).unwrap();
        proxy.spec.suspend = spec["suspend"] == true;
        let operations: Vec<_> = operations.into_iter().map(Arc::new).collect();
        outlived(&phone, &operations, &proxy, at(now))
    }

    #[test]
    fn the_newest_are_kept_besides_the_one_that_the_phone_names() {
        let all = || ["named", "b", "c", "d", "e", "f"].iter().zip(1..).map(|(name, at)| ended(name, at)).collect();
        assert_eq!(outlived_of(all(), json!({}), 100), ["b", "c"]);
        assert_eq!(outlived_of(all(), json!({"limit": 0}), 100), ["b", "c", "d", "e", "f"]);
        assert_eq!(outlived_of(all(), json!({"limit": 9}), 100), [""; 0]);
    }

    #[test]
    fn what_is_too_old_goes_although_the_limit_would_keep_it() {
        let all = || vec![ended("old", 0), ended("young", DAY)];
        assert_eq!(outlived_of(all(), json!({"limit": 9, "days": 7}), 7 * DAY - 1), [""; 0]);
        assert_eq!(outlived_of(all(), json!({"limit": 9, "days": 7}), 7 * DAY), ["old"]);
        assert_eq!(outlived_of(all(), json!({}), 90 * DAY), ["old"]);
    }

    #[test]
    fn what_people_applied_what_is_open_and_what_another_phone_owned_stays() {
        let mut by_person = ended("by-person", 1);
        by_person.spec.requested_by = RequestedBy::Person;
        let mut claimed = ended("claimed", 2);
        claimed.metadata.owner_references = None;
        let mut of_an_earlier_phone = ended("earlier", 3);
        of_an_earlier_phone.metadata.owner_references.as_mut().unwrap()[0].uid = "earlier-uid".into();
        let mut open = ended("open", 4);
        open.status.as_mut().unwrap().phase = crate::api::Phase::InProgress;
        let all = vec![by_person, claimed, of_an_earlier_phone, open, ended("ours", 5)];
        assert_eq!(outlived_of(all, json!({"limit": 0}), 1_000 * DAY), ["ours"]);
    }

    #[test]
    fn at_most_ten_go_at_once_and_none_while_the_proxy_is_suspended() {
        let all = || (0..25).map(|number| ended(&format!("o{number:02}"), number)).collect::<Vec<_>>();
        let first = outlived_of(all(), json!({"limit": 0}), 1);
        assert_eq!((first.len(), first[0].as_str(), first[9].as_str()), (10, "o00", "o09"));
        assert_eq!(outlived_of(all(), json!({"limit": 0, "suspend": true}), 1), [""; 0]);
    }
}
