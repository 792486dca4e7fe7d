//! The phone's decision table: each test is a situation and what is done about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::phone::{Observed, Step, StringFact, decide, operation_name};
use super::testing::{at, issued, operation, phone, proxy};
use super::transition::{Event, advance};
use crate::api::{
    CertificateAuthorityProxy, CertificateOperation, ConditionType, LscState, Phase, Phone, PhoneStatus, Reason,
    RequestedBy,
};

/// A little cluster: steps are applied to it the way the API server would.
pub(super) struct Cluster {
    pub phone: Option<Phone>,
    pub operations: Vec<CertificateOperation>,
    pub proxy: Option<CertificateAuthorityProxy>,
    pub strings: BTreeMap<String, StringFact>,
    pub now: Timestamp,
}

impl Cluster {
    pub(super) fn with(spec: Value) -> Self {
        Self {
            phone: Some(phone(spec)),
            operations: Vec::new(),
            proxy: Some(proxy()),
            strings: BTreeMap::new(),
            now: at(0),
        }
    }

    pub(super) fn step(&self) -> Step {
        let operations: Vec<_> = self.operations.iter().cloned().map(Arc::new).collect();
        let observed = Observed {
            phone: self.phone.as_ref(),
            operations: &operations,
            proxy: self.proxy.as_ref(),
            strings: &self.strings,
        };
        decide(&observed, self.now)
    }

    /// Takes steps until there is nothing left to do; returns them without the last rest.
    pub(super) fn settle(&mut self) -> Vec<Step> {
        let mut taken = Vec::new();
        for _ in 0..20 {
            let step = self.step();
            match step.clone() {
                Step::Rest { .. } | Step::LookAtString { .. } => return taken,
                Step::Create { name, spec } => {
                    let mut made = operation(&name, self.now);
                    made.spec = *spec;
                    made.metadata.creation_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
                    self.operations.push(made);
                }
                Step::ResolveDeadline { operation, completes_by } => {
                    self.happen(&operation, Event::Armed { completes_by });
                }
                Step::End { operation, reason, message } => self.happen(&operation, Event::Ended { reason, message }),
                Step::Prune { operations } => {
                    let goes = |o: &CertificateOperation| operations.contains(o.metadata.name.as_ref().unwrap());
                    self.operations.retain(|o| !goes(o));
                }
                Step::WriteStatus { status, .. } => self.phone.as_mut().unwrap().status = Some(*status),
            }
            taken.push(step);
        }
        panic!("the decision never settles: {taken:#?}");
    }

    pub(super) fn happen(&mut self, name: &str, event: Event) {
        let now = self.now;
        let operation = self.operations.iter_mut().find(|o| o.metadata.name.as_deref() == Some(name)).unwrap();
        operation.status = Some(advance(operation, event, now).unwrap());
    }

    pub(super) fn succeed(&mut self) {
        let name = self.status().operation.clone().unwrap().name;
        self.happen(
            &name,
            Event::Issued {
                certificate: issued("aa", self.now),
                authenticated_by: "NullString".into(),
                evidence: None,
                spent_string: None,
            },
        );
        self.happen(&name, Event::Stored { sha256_fingerprint: "aa".into() });
        self.settle();
    }

    /// Changes the spec as a person would: the generation goes up.
    pub(super) fn edit(&mut self, change: Value) {
        let phone = self.phone.as_mut().unwrap();
        let mut spec = serde_json::to_value(&phone.spec).unwrap();
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        phone.spec = serde_json::from_value(spec).unwrap();
        *phone.metadata.generation.as_mut().unwrap() += 1;
    }

    pub(super) fn status(&self) -> &PhoneStatus {
        self.phone.as_ref().unwrap().status.as_ref().unwrap()
    }

    /// Looks at a Secret.
    fn look(&mut self, secret: &str, fact: StringFact) {
        self.strings.insert(secret.into(), fact);
    }

    pub(super) fn condition(&self, type_: ConditionType) -> Option<(String, String)> {
        let found = self.status().conditions.iter().find(|c| c.type_ == type_)?;
        Some((format!("{:?}", found.status), found.reason.clone()))
    }

    pub(super) fn phases(&self) -> Vec<Phase> {
        self.operations.iter().map(CertificateOperation::phase).collect()
    }
}

const NULL_INSTALL: &str = r#"{"certificateOperation": "InstallUpgrade", "authenticationMode": "ByNullString"}"#;

fn null_install() -> Cluster {
    Cluster::with(serde_json::from_str(NULL_INSTALL).unwrap())
}

#[test]
fn an_applied_phone_costs_one_operation_and_one_status_write() {
    let mut cluster = null_install();
    let steps = cluster.settle();
    assert!(matches!(&steps[..], [Step::Create { .. }, Step::WriteStatus { make_string_for: None, .. }]), "{steps:#?}");
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Install/Upgrade pending"));
    assert_eq!(cluster.condition(ConditionType::Ready).unwrap(), ("True".into(), "OperationPending".into()));
    assert_eq!(cluster.condition(ConditionType::Succeeded).unwrap().0, "Unknown");
    assert_eq!(cluster.status().observed_generation, 1);
}

#[test]
fn the_proxys_defaults_are_resolved_into_the_operation_and_a_change_of_them_starts_nothing() {
    let mut cluster = Cluster::with(json!({"certificateOperation": "InstallUpgrade"}));
    let proxy = cluster.proxy.as_mut().unwrap();
    proxy.spec.phone_defaults =
        serde_json::from_value(json!({"authenticationMode": "ByNullString", "keyType": "EC", "keySize": 384})).unwrap();
    cluster.settle();
    let spec = &cluster.operations[0].spec;
    assert_eq!((spec.key_type.unwrap(), spec.key_size.unwrap()), (crate::api::KeyType::EC, 384));
    assert_eq!(spec.operation_completes_by, Some(at(10 * 86_400)));
    let proxy = cluster.proxy.as_mut().unwrap();
    proxy.spec.phone_defaults = None;
    proxy.spec.operation_expires_in_days = 1;
    assert_eq!(cluster.settle(), []);
}

#[test]
fn a_generated_string_is_made_when_its_operation_is_armed_and_discarded_when_it_is_over() {
    let mut cluster = Cluster::with(json!({"certificateOperation": "InstallUpgrade"}));
    let steps = cluster.settle();
    let name = cluster.operations[0].metadata.name.clone();
    let Some(Step::WriteStatus { make_string_for, .. }) = steps.last() else { panic!("{steps:#?}") };
    assert_eq!(*make_string_for, name);
    let secret = cluster.status().operation.as_ref().unwrap().authentication_string_secret.clone().unwrap();
    assert_eq!(secret, format!("{}-string", name.clone().unwrap()));
    cluster.now = at(11 * 86_400);
    let steps = cluster.settle();
    let Some(Step::WriteStatus { discard_strings_of, status, .. }) = steps.last() else { panic!("{steps:#?}") };
    assert_eq!(*discard_strings_of, Vec::from_iter(name));
    assert_eq!(status.operation.as_ref().unwrap().authentication_string_secret, None);
}

#[test]
fn the_string_of_a_replaced_run_is_discarded_by_the_write_that_forgets_it_whoever_ended_it_and_when() {
    let mut cluster = Cluster::with(json!({"certificateOperation": "InstallUpgrade"}));
    cluster.settle();
    let first = cluster.operations[0].metadata.name.clone().unwrap();
    // The leader dies right after the first run is over; the next one finds only the record.
    let ended = Event::Ended { reason: Reason::Superseded, message: "replaced".into() };
    cluster.happen(&first, ended);
    cluster.edit(json!({"revision": 1}));
    let steps = cluster.settle();
    let [Step::Create { name: second, .. }, Step::WriteStatus { make_string_for, discard_strings_of, .. }] = &steps[..]
    else {
        panic!("{steps:#?}")
    };
    assert_eq!(*discard_strings_of, [first]);
    assert_eq!(make_string_for.as_ref(), Some(second));
}

#[test]
fn a_given_string_is_looked_at_before_anything_is_armed() {
    let given = json!({
        "certificateOperation": "InstallUpgrade",
        "authenticationMode": "ByAuthenticationString",
        "authenticationString": {"secretRef": {"name": "digits"}}
    });
    let mut cluster = Cluster::with(given);
    assert_eq!(cluster.step(), Step::LookAtString { secret: "digits".into() });
    cluster.look("digits", StringFact::Missing("no such Secret".into()));
    cluster.settle();
    assert_eq!(cluster.condition(ConditionType::Ready).unwrap(), ("False".into(), "SecretNotFound".into()));
    assert_eq!(cluster.condition(ConditionType::Stalled), None, "the Secret may come later");
    assert_eq!(cluster.step(), Step::Rest { wake: Some(at(5)) });
    cluster.look("digits", StringFact::Unusable(Reason::AuthenticationStringReused, "used before".into()));
    cluster.settle();
    assert_eq!(
        cluster.condition(ConditionType::Stalled).unwrap(),
        ("True".into(), "AuthenticationStringReused".into())
    );
    assert_eq!(cluster.operations, []);
    assert_eq!(cluster.step(), Step::Rest { wake: Some(at(5)) }, "the Secret may be written anew, and is not watched");
    cluster.look("digits", StringFact::Usable);
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Pending]);
    assert_eq!(cluster.status().operation.as_ref().unwrap().authentication_string_secret.as_deref(), Some("digits"));
    assert_eq!(cluster.condition(ConditionType::Stalled), None);
}

#[test]
fn by_null_string_is_refused_where_the_proxy_does_not_permit_it_and_runs_once_it_does() {
    let mut cluster = null_install();
    cluster.proxy.as_mut().unwrap().spec.permit_null_string = false;
    cluster.settle();
    assert_eq!(cluster.condition(ConditionType::Stalled).unwrap().1, "PolicyDenied");
    assert!(cluster.status().conditions[0].message.contains("permitNullString"));
    assert_eq!(cluster.status().last_handled, None);
    cluster.proxy.as_mut().unwrap().spec.permit_null_string = true;
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Pending]);
}

#[test]
fn a_finished_run_is_rolled_up_in_one_write_and_nothing_starts_it_again() {
    let mut cluster = null_install();
    cluster.settle();
    cluster.succeed();
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Install/Upgrade successful"));
    assert_eq!(cluster.status().lsc_state, LscState::Installed);
    assert_eq!(cluster.status().lsc.as_ref().unwrap().sha256_fingerprint, "aa");
    assert_eq!(cluster.condition(ConditionType::Succeeded).unwrap().0, "True");
    // A later completes-by, another mode, a changed default, a bumped label: none of them asks for another run.
    cluster.edit(json!({"operationCompletesBy": "1971-01-01T00:00:00Z"}));
    let steps = cluster.settle();
    assert!(matches!(&steps[..], [Step::WriteStatus { .. }]), "{steps:#?}");
    assert_eq!(cluster.status().observed_generation, 2);
    assert_eq!(cluster.phases(), [Phase::Successful]);
}

#[test]
fn restored_specs_and_statuses_start_nothing_also_under_new_uids() {
    let mut cluster = null_install();
    cluster.settle();
    cluster.succeed();
    let phone = cluster.phone.as_mut().unwrap();
    phone.metadata.uid = Some("another-uid".into());
    cluster.operations.clear();
    assert_eq!(cluster.settle(), [], "the garbage collector took the operations with it");
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Install/Upgrade successful"));
}

#[test]
fn a_pending_run_that_a_restore_lost_is_armed_again() {
    let mut cluster = null_install();
    cluster.settle();
    cluster.phone.as_mut().unwrap().metadata.uid = Some("another-uid".into());
    cluster.operations.clear();
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Pending]);
    let named = cluster.status().operation.clone().unwrap().name;
    assert_eq!(named, operation_name(cluster.phone.as_ref().unwrap()));
}

#[test]
fn a_new_revision_runs_again() {
    let mut cluster = null_install();
    cluster.settle();
    cluster.succeed();
    cluster.edit(json!({"revision": 2}));
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Successful, Phase::Pending]);
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Install/Upgrade pending"));
    assert_eq!(cluster.status().lsc.as_ref().unwrap().sha256_fingerprint, "aa", "the old LSC is live until then");
}

#[test]
fn settings_changed_while_pending_replace_the_pending_run() {
    let mut cluster = null_install();
    cluster.settle();
    cluster.edit(json!({"operationCompletesBy": "1970-01-03T00:00:00Z"}));
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Failed, Phase::Pending]);
    assert_eq!(cluster.operations[0].status_or_default().reason, Some(Reason::Superseded));
    assert_eq!(cluster.operations[1].completes_by(), Some(at(2 * 86_400)));
}

#[test]
fn no_pending_operation_cancels_a_pending_run_and_leaves_a_finished_one_alone() {
    let mut cluster = null_install();
    cluster.settle();
    cluster.edit(json!({"certificateOperation": "NoPendingOperation"}));
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Failed]);
    assert!(cluster.operations[0].status_or_default().message.unwrap().contains("cancelled"));
    cluster.edit(json!({"certificateOperation": "InstallUpgrade"}));
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Failed, Phase::Pending]);
    cluster.succeed();
    cluster.edit(json!({"certificateOperation": "NoPendingOperation"}));
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Failed, Phase::Successful]);
}

#[test]
fn a_deadline_ends_the_run_and_one_in_the_past_ends_it_at_once() {
    let mut cluster = null_install();
    cluster.settle();
    assert_eq!(cluster.step(), Step::Rest { wake: Some(at(10 * 86_400)) });
    cluster.now = at(10 * 86_400);
    cluster.settle();
    assert_eq!(cluster.operations[0].status_or_default().reason, Some(Reason::Expired));
    assert_eq!(cluster.status().operation_status.as_deref(), Some("Install/Upgrade failed"));
    assert_eq!(cluster.condition(ConditionType::Ready).unwrap().0, "True", "a failed run does not need a new manifest");

    let mut late = null_install();
    late.now = at(1_000_000);
    late.edit(json!({"operationCompletesBy": "1970-01-02T00:00:00Z"}));
    late.settle();
    assert_eq!(late.phases(), [Phase::Failed]);
    assert_eq!(late.status().operation.as_ref().unwrap().reason, Some(Reason::Expired));
}

#[test]
fn a_run_whose_certificate_is_being_delivered_is_not_cut_off() {
    let mut cluster = null_install();
    cluster.settle();
    let name = cluster.operations[0].metadata.name.clone().unwrap();
    cluster.happen(
        &name,
        Event::Issued {
            certificate: issued("aa", at(0)),
            authenticated_by: "NullString".into(),
            evidence: None,
            spent_string: None,
        },
    );
    cluster.edit(json!({"revision": 1}));
    assert_eq!(cluster.settle(), []);
    assert_eq!(cluster.step(), Step::Rest { wake: Some(at(254)) });
    cluster.now = at(254);
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Failed, Phase::Pending]);
}

#[test]
fn a_suspended_proxy_arms_nothing_new_and_lets_armed_runs_go_on() {
    let mut cluster = null_install();
    cluster.proxy.as_mut().unwrap().spec.suspend = true;
    cluster.settle();
    assert_eq!(cluster.operations, []);
    assert_eq!(cluster.condition(ConditionType::Ready).unwrap(), ("True".into(), "Suspended".into()));
    cluster.proxy.as_mut().unwrap().spec.suspend = false;
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Pending]);
    cluster.proxy.as_mut().unwrap().spec.suspend = true;
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Pending]);
}

#[test]
fn a_phone_waits_for_a_proxy_that_is_not_there_yet_without_being_stalled() {
    let mut cluster = null_install();
    cluster.proxy = None;
    cluster.settle();
    assert_eq!(cluster.condition(ConditionType::Ready).unwrap(), ("False".into(), "ProxyNotFound".into()));
    assert_eq!(cluster.condition(ConditionType::Stalled), None);
}

fn by_person(name: &str, created: i64) -> CertificateOperation {
    let mut applied = operation(name, at(0));
    applied.spec.requested_by = RequestedBy::Person;
    applied.spec.operation_completes_by = None;
    applied.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(created)));
    applied
}

#[test]
fn an_operation_applied_by_a_person_is_armed_with_a_resolved_deadline_and_supersedes_the_pending_one() {
    let mut cluster = null_install();
    cluster.settle();
    cluster.operations.push(by_person("by-hand", 50));
    cluster.now = at(60);
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Failed, Phase::Pending]);
    assert_eq!(cluster.status().operation.as_ref().unwrap().name, "by-hand");
    assert_eq!(cluster.operations[1].completes_by(), Some(at(10 * 86_400 + 50)));
}

#[test]
fn an_operation_applied_by_a_person_that_the_proxy_does_not_permit_ends_denied() {
    let mut cluster = Cluster::with(json!({}));
    cluster.proxy.as_mut().unwrap().spec.permit_null_string = false;
    cluster.operations.push(by_person("by-hand", 50));
    cluster.settle();
    assert_eq!(cluster.operations[0].status_or_default().reason, Some(Reason::PolicyDenied));
}

#[test]
fn of_two_operations_applied_at_once_the_newest_runs_and_the_other_ends_superseded() {
    let mut cluster = Cluster::with(json!({}));
    cluster.operations.push(by_person("newer", 51));
    cluster.operations.push(by_person("older", 50));
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Pending, Phase::Failed]);
}

#[test]
fn a_person_who_deletes_their_pending_operation_cancels_it_without_starting_the_phones_run_again() {
    let mut cluster = null_install();
    cluster.settle();
    cluster.succeed();
    cluster.operations.push(by_person("by-hand", 50));
    cluster.settle();
    cluster.operations.pop();
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Successful]);
    assert_eq!(cluster.status().operation, None);
    assert_eq!(cluster.status().operation_status.as_deref(), Some("No Pending Operation"));
}

#[test]
fn an_operation_without_a_phone_still_expires() {
    let mut cluster = Cluster::with(json!({}));
    cluster.phone = None;
    cluster.operations.push(operation("stray", at(30)));
    assert_eq!(cluster.step(), Step::Rest { wake: Some(at(30)) });
    cluster.now = at(30);
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Failed]);
}

#[test]
fn a_certificate_delivered_before_the_deadline_may_be_answered_for_after_it() {
    let mut cluster = null_install();
    cluster.edit(json!({"operationCompletesBy": "1970-01-01T00:01:00Z"}));
    cluster.settle();
    let name = cluster.status().operation.clone().unwrap().name;
    cluster.now = at(59);
    cluster.happen(
        &name,
        Event::Issued {
            certificate: issued("aa", at(59)),
            authenticated_by: "NullString".into(),
            evidence: None,
            spent_string: None,
        },
    );
    cluster.now = at(61);
    assert_eq!(cluster.settle(), []);
    assert_eq!(cluster.step(), Step::Rest { wake: Some(at(59 + 254)) });
    cluster.now = at(59 + 254);
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Failed]);
}

#[test]
fn each_given_string_is_judged_by_its_own_secret() {
    let mut cluster = Cluster::with(json!({}));
    let mut applied = by_person("by-hand", 50);
    applied.spec.authentication_mode = crate::api::AuthenticationMode::ByAuthenticationString;
    applied.spec.authentication_string = serde_json::from_value(json!({"secretRef": {"name": "b"}})).unwrap();
    cluster.operations.push(applied);
    cluster.look("a", StringFact::Unusable(Reason::AuthenticationStringReused, "used before".into()));
    cluster.settle();
    assert_eq!(cluster.step(), Step::LookAtString { secret: "b".into() });
    cluster.look("b", StringFact::Missing("not yet".into()));
    cluster.settle();
    assert_eq!(cluster.phases(), [Phase::Pending]);
    assert!(cluster.operations[0].completes_by().is_some(), "it has a deadline also while it waits for its Secret");
    let Step::Rest { wake: Some(wake) } = cluster.step() else { panic!("it is never looked at again") };
    assert!(wake <= at(300));
    cluster.look("b", StringFact::Usable);
    cluster.settle();
    assert_eq!(cluster.status().operation.as_ref().unwrap().name, "by-hand");
}
