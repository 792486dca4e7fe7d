//! What the API server would say of an object, without one: the schema's bounds, checked here, and its CEL rules,
//! run by the interpreter that comes with `kube`.
#![allow(dead_code, reason = "each test target uses a part of it")]

use capf::crds;
use kube::core::cel::{Validator, apply_defaults};
use serde_json::{Value, json};

/// The schema of a kind, from its CRD.
pub fn schema(kind: &str) -> Value {
    let crd = crds::all().into_iter().find(|crd| crd.spec.names.kind == kind).expect("no such kind");
    let schema = crd.spec.versions[0].schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref());
    serde_json::to_value(schema.expect("a CRD without a schema")).expect("a schema is plain data")
}

/// Why an object is refused when it is created, or changed from `old`; empty when it is accepted.
pub fn refusals(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = schema(kind);
    let object = apply_defaults(&schema, object);
    let mut found = Vec::new();
    bounds(&schema, &object, "", &mut found);
    if let Err(errors) = Validator::new().validate(&schema, &object, old) {
        found.extend(errors.as_slice().iter().map(|error| format!("{}: {}", error.field_path, error.message)));
    }
    found
}

/// Checks what the schema says besides CEL, as far as our schemas say it.
pub fn bounds(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut refuse = |why: String| found.push(format!("{path}: {why}"));
    if schema["enum"].as_array().is_some_and(|choices| !choices.contains(value)) {
        return refuse(format!("{value} is not one of {}", schema["enum"]));
    }
    match (schema["type"].as_str(), value) {
        (Some("object"), Value::Object(members)) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !members.contains_key(name) {
                    found.push(format!("{path}.{name}: is required"));
                }
            }
            if schema["maxProperties"].as_u64().is_some_and(|max| members.len() as u64 > max) {
                found.push(format!("{path}: has too many members"));
            }
            for (name, member) in members {
                if let Some(inner) = schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
                    bounds(inner, member, &format!("{path}.{name}"), found);
                }
            }
        }
        (Some("array"), Value::Array(items)) => {
            if schema["maxItems"].as_u64().is_some_and(|max| items.len() as u64 > max) {
                refuse("has too many items".into());
            }
            for item in items {
                bounds(&schema["items"], item, &format!("{path}[]"), found);
            }
        }
        (Some("string"), Value::String(text)) => {
            let length = text.chars().count() as u64;
            if schema["maxLength"].as_u64().is_some_and(|max| length > max) {
                refuse("is too long".into());
            }
            if schema["minLength"].as_u64().is_some_and(|min| length < min) {
                refuse("is too short".into());
            }
            if let Some(pattern) = schema["pattern"].as_str().filter(|pattern| !matches(pattern, text)) {
                refuse(format!("does not match {pattern}"));
            }
        }
        (Some("integer"), Value::Number(number)) if number.is_i64() => {
            let number = number.as_f64().expect("an integer is a number");
            if schema["maximum"].as_f64().is_some_and(|max| number > max)
                || schema["minimum"].as_f64().is_some_and(|min| number < min)
            {
                refuse("is out of range".into());
            }
        }
        (Some("boolean"), Value::Bool(_)) => {}
        (wanted, other) => refuse(format!("{other} is not of type {wanted:?}")),
    }
}

/// Whether a text matches a pattern, by the regular expressions of CEL, which are those of the API server.
fn matches(pattern: &str, text: &str) -> bool {
    let rule = json!({"type": "string", "x-kubernetes-validations": [{"rule": format!("self.matches(r'{pattern}')")}]});
    Validator::new().validate(&rule, &json!(text), None).is_ok()
}

/// Visits every schema below `schema`, with its path.
pub fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, &format!("{path}.{name}"), visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), visit);
    }
}

/// `base` with `change` laid over it (RFC 7396: null removes).
pub fn with(base: &Value, change: Value) -> Value {
    let mut result = base.clone();
    merge(&mut result, change);
    result
}

fn merge(target: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        *target = change;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let members = target.as_object_mut().expect("made an object just now");
    for (name, value) in change {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}
