//! What holds for every field of every kind: a description, a bound, no null; and how large objects can become.

mod api_support;

use api_support::{bounds, schema, walk};
use capf::crds;
use kube::core::cel::Validator;
use serde_json::{Map, Value, json};

const KINDS: [&str; 3] = ["CertificateAuthorityProxy", "Phone", "CertificateOperation"];

/// Everything below spec and status of every kind.
fn each_field(mut visit: impl FnMut(&str, &Value)) {
    for kind in KINDS {
        for part in ["spec", "status"] {
            walk(&schema(kind)["properties"][part], &format!("{kind}.{part}"), &mut visit);
        }
    }
}

#[test]
fn every_kind_is_looked_at_here() {
    let kinds: Vec<_> = crds::all().into_iter().map(|crd| crd.spec.names.kind).collect();
    assert_eq!(kinds, KINDS);
}

#[test]
fn group_version_and_short_names_are_the_documented_ones() {
    let short_names: Vec<_> = crds::all()
        .into_iter()
        .map(|crd| {
            assert_eq!(crd.spec.group, capf::api::GROUP);
            assert_eq!(crd.spec.versions.len(), 1);
            assert_eq!(crd.spec.versions[0].name, capf::api::VERSION);
            assert_eq!(crd.spec.scope, "Namespaced");
            crd.spec.names.short_names.unwrap_or_default()
        })
        .collect();
    assert_eq!(short_names, [vec!["capf"], vec!["ph"], vec!["certop"]]);
}

#[test]
fn every_field_says_what_it_is() {
    each_field(|path, field| {
        let described = field["description"].as_str().is_some_and(|text| text.len() > 3);
        assert!(described || path.ends_with("[]"), "{path} has no description");
    });
}

#[test]
fn every_string_list_and_number_is_bounded() {
    each_field(|path, field| match field["type"].as_str() {
        Some("string") => {
            let bounded = field["enum"].is_array() || field["maxLength"].is_u64();
            assert!(bounded, "{path} is a string without a bound");
        }
        Some("array") => assert!(field["maxItems"].is_u64(), "{path} is a list without a bound"),
        Some("integer") => assert!(field["format"].is_string() || field["maximum"].is_number(), "{path}"),
        Some("object") => match field.get("additionalProperties") {
            None => assert!(field["properties"].is_object(), "{path} holds anything"),
            Some(values) => {
                let bounded = field["maxProperties"].is_u64() && values["maxLength"].is_u64();
                assert!(bounded, "{path} is a map without a bound");
            }
        },
        Some("boolean") => {}
        other => panic!("{path} is of type {other:?}"),
    });
}

#[test]
fn no_field_is_ever_null() {
    each_field(|path, field| {
        assert!(field.get("default").is_none_or(|default| !has_null(default)), "{path} defaults to null");
        let whole_status = path.ends_with(".status") && path.matches('.').count() == 1;
        assert!(field.get("nullable").is_none() || whole_status, "{path} may be null, and is then stored so");
        assert!(field["enum"].as_array().is_none_or(|choices| !choices.contains(&Value::Null)), "{path}");
    });
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().any(has_null),
        Value::Array(items) => items.iter().any(has_null),
        _ => false,
    }
}

#[test]
fn every_default_obeys_the_rules_of_its_own_field() {
    // The API server refuses a CRD otherwise.
    each_field(|path, field| {
        let Some(default) = field.get("default") else { return };
        let mut found = Vec::new();
        bounds(field, default, path, &mut found);
        assert!(found.is_empty(), "{found:?}");
        assert!(Validator::new().validate(field, default, None).is_ok(), "{path}: {default} breaks a rule of its own");
    });
}

#[test]
fn a_new_object_has_a_status_that_says_it_was_not_looked_at() {
    assert_eq!(schema("Phone")["properties"]["status"]["default"], json!({"observedGeneration": -1}));
    let proxy = schema("CertificateAuthorityProxy");
    assert_eq!(proxy["properties"]["status"]["default"], json!({"observedGeneration": -1}));
    assert_eq!(schema("CertificateOperation")["properties"]["status"]["default"], json!({"phase": "Pending"}));
}

#[test]
fn the_description_of_a_field_is_its_own_and_not_that_of_its_type() {
    let phone = schema("Phone");
    let mode = phone["properties"]["spec"]["properties"]["authenticationMode"]["description"].as_str();
    assert!(mode.is_some_and(|text| text.contains("when absent the proxy's default")), "{mode:?}");
}

#[test]
fn printer_columns_and_selectable_fields_point_to_fields_that_exist() {
    for crd in crds::all() {
        let version = &crd.spec.versions[0];
        let columns = version.additional_printer_columns.iter().flatten().map(|column| column.json_path.clone());
        let selectable = version.selectable_fields.iter().flatten().map(|field| field.json_path.clone());
        for path in columns.chain(selectable).filter(|path| !path.starts_with(".metadata.")) {
            let mut at = schema(&crd.spec.names.kind);
            let plain = path.split("[?").next().unwrap_or_default();
            for step in plain.trim_start_matches('.').split('.') {
                at = at["properties"][step].clone();
                assert!(at.is_object(), "{}: {path} leads nowhere", crd.spec.names.kind);
            }
        }
    }
}

/// The largest JSON that a schema allows, of one-octet characters.
fn fattest(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let members = schema["properties"].as_object().into_iter().flatten();
            Value::Object(members.map(|(name, inner)| (name.clone(), fattest(inner))).collect::<Map<_, _>>())
        }
        Some("array") => {
            let items = schema["maxItems"].as_u64().expect("bounded");
            Value::Array((0..items).map(|_| fattest(&schema["items"])).collect())
        }
        Some("string") => match (schema["format"].as_str(), schema["enum"].as_array()) {
            (_, Some(choices)) => choices.iter().max_by_key(|c| c.to_string().len()).expect("a choice").clone(),
            (Some("date-time"), None) => json!("2027-01-31T18:00:00.123456789Z"),
            (_, None) => json!("x".repeat(usize::try_from(schema["maxLength"].as_u64().expect("bounded")).unwrap())),
        },
        Some("boolean") => json!(false),
        _ => json!(schema["maximum"].as_f64().map_or(i64::MAX, |maximum| maximum as i64)),
    }
}

/// Metadata as the controller makes it, with room for a label of somebody else. Managed fields are left out: they are
/// the API server's, and grow with the number of writers, not with what is written.
fn metadata() -> Value {
    json!({
        "name": "x".repeat(24), "namespace": "x".repeat(63), "uid": "x".repeat(36), "generation": i64::MAX,
        "resourceVersion": "1234567890123", "creationTimestamp": "2027-01-31T18:00:00Z",
        "labels": {"capf.dev/proxy": "x".repeat(40), "example.com/other": "x".repeat(63)},
        "ownerReferences": [{
            "apiVersion": "capf.dev/v1alpha1", "kind": "Phone", "name": "x".repeat(15), "uid": "x".repeat(36),
            "controller": true, "blockOwnerDeletion": true,
        }],
    })
}

fn size(kind: &str, object: &mut Value) -> usize {
    object["metadata"] = metadata();
    object["apiVersion"] = json!("capf.dev/v1alpha1");
    object["kind"] = json!(kind);
    object.to_string().len()
}

#[test]
fn the_fattest_phone_that_is_ever_written_takes_6_kib() {
    let mut phone = fattest(&schema("Phone"));
    // `Succeeded` has a reason's meaning for its message, and no reason means more than this.
    let longest = capf::api::Reason::ALL.iter().map(|reason| reason.meaning().len()).max().expect("a reason");
    phone["status"]["conditions"][0]["message"] = json!("x".repeat(longest));
    let size = size("Phone", &mut phone);
    assert!(size <= 6 << 10, "{size} octets");
}

#[test]
fn the_fattest_operation_that_is_ever_written_takes_8_kib() {
    let mut operation = fattest(&schema("CertificateOperation"));
    // An installation leaves a certificate, Troubleshoot traces, and neither leaves the other's.
    let mut traced = operation.clone();
    let status = |operation: &mut Value, without: &[&str]| {
        let status = operation["status"].as_object_mut().expect("an object");
        without.iter().for_each(|field| drop(status.remove(*field).expect("a field of this name")));
    };
    status(&mut operation, &["traces", "begunAt"]);
    status(&mut traced, &["certificate", "supersededSerialNumbers"]);
    // Both certificates together have 3,328 characters, and an operation that has come so far ends with a reason's meaning.
    traced["status"]["traces"][1]["certificate"]["pem"] = json!("x".repeat(3_328 - 2_304));
    for message in ["/status/message", "/status/conditions/1/message"] {
        *traced.pointer_mut(message).expect("a message") = json!("x".repeat(160));
    }
    // An RSA-4096 LSC signed with RSA-4096, all names of subject and issuer at their 64 letters, has 2,849 octets. The bound
    // of the field leaves room for letters of several octets.
    operation["status"]["certificate"]["pem"] = json!("x".repeat(2_860));
    // With a certificate on record an operation ends with words of ours only, the longest of which tell why a key is rejected.
    for message in ["/status/message", "/status/conditions/1/message"] {
        *operation.pointer_mut(message).expect("a message") = json!("x".repeat(320));
    }
    for mut operation in [operation, traced] {
        // The end of an operation leaves two conditions, only one of which repeats the message.
        let conditions = operation["status"]["conditions"].as_array_mut().expect("a list");
        conditions.truncate(2);
        conditions[0]["message"] = json!("the operation is over");
        let size = size("CertificateOperation", &mut operation);
        assert!(size <= 8 << 10, "{size} octets");
    }
}
