//! Writes with a token, to no effect: what controllers write, changed at one place or another, and what became of it.

use axum::http::Method;
use capf::api::CertificateAuthorityProxy;
use capf::domain::endpoints::{PodFlags, Wanted, wanted};
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::product::PATIENCE;
use crate::release::{Caller, Release, Scope};

/// The image that the chart configures here, and its account and Secret for endpoints.
pub const VALUES: &str =
    "image: {repository: example.net/capf, tag: v1, pullSecrets: [pull]}\nendpoints: {serviceAccountName: phones}\n";

/// What controllers write for a proxy `main` of this namespace.
pub fn genuine(namespace: &str) -> Wanted {
    let proxy: CertificateAuthorityProxy = serde_json::from_value(json!({
        "apiVersion": "capf.dev/v1alpha1", "kind": "CertificateAuthorityProxy", "spec": {},
        "metadata": {"name": "main", "namespace": namespace, "uid": "00000000-0000-4000-8000-000000000000"},
    }))
    .unwrap();
    let flags = PodFlags {
        image: "example.net/capf:v1".into(),
        pull_policy: None,
        pull_secrets: vec!["pull".into()],
        service_account: "phones".into(),
    };
    wanted(&proxy, &flags)
}

/// The object with something else at JSON pointers; a null removes what is there.
pub fn with(object: &Value, changes: &[(&str, Value)]) -> Value {
    let mut object = object.clone();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}: there is no such place"));
        let key = key.replace("~1", "/");
        match (parent, value) {
            (Value::Object(parent), Value::Null) => drop(parent.remove(&key)),
            (Value::Object(parent), value) => drop(parent.insert(key, value.clone())),
            (Value::Array(parent), value) if key == "-" => parent.push(value.clone()),
            (parent, _) => panic!("{pointer}: {parent} takes nothing"),
        }
    }
    object
}

/// Collection of an object, at the API server.
pub fn collection(object: &Value) -> String {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap().to_lowercase());
    let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    format!("{root}/namespaces/{}/{kind}s", object["metadata"]["namespace"].as_str().unwrap())
}

pub fn one(object: &Value) -> String {
    format!("{}/{}", collection(object), object["metadata"]["name"].as_str().unwrap())
}

/// Applies an object as controllers apply theirs, to no effect.
pub async fn apply(caller: &Caller, object: &Value) -> (u16, String) {
    let how = format!("{}?fieldManager=capf-endpoints&force=true&dryRun=All", one(object));
    caller.call(Method::PATCH, &how, &[("content-type", "application/apply-patch+yaml")], object).await
}

/// Creates or updates an object, to no effect.
pub async fn write(caller: &Caller, method: Method, object: &Value) -> (u16, String) {
    let path = if method == Method::POST { collection(object) } else { one(object) };
    caller.call(method, &format!("{path}?dryRun=All"), &[("content-type", "application/json")], object).await
}

pub async fn delete(caller: &Caller, object: &Value) -> (u16, String) {
    caller.call(Method::DELETE, &format!("{}?dryRun=All", one(object)), &[], &Value::Null).await
}

/// What controllers may do, of which nothing must be refused.
pub fn passes(what: &str, (status, said): (u16, String)) {
    assert!((200..300).contains(&status), "{what}: {status}: {said}");
}

/// What was forged, and is refused by the policy with this in its message.
pub fn refused(what: &str, rule: &str, (status, said): (u16, String)) {
    assert!(
        status == 403 && said.contains("ValidatingAdmissionPolicy") && said.contains(rule) && !said.contains("failed:"),
        "{what}: {status}: {said}"
    );
}

/// A release whose policies are in force.
pub async fn in_force(name: &str, scope: Scope, values: &str) -> (Release, Caller) {
    let release = Release::install(name, scope, values).await;
    let caller = release.caller("controller");
    release.await_policies(&caller).await;
    (release, caller)
}

impl Release {
    /// Waits until the API server goes by the policies of this release, each of them.
    pub async fn await_policies(&self, caller: &Caller) {
        let ns = self.watched.name();
        let object = |version: &str, kind: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "forged", "namespace": ns}, "spec": spec});
        let mut deployment = genuine(ns).deployment;
        deployment["metadata"]["name"] = json!("forged");
        let mut secret = object("v1", "Secret", Value::Null);
        secret.as_object_mut().unwrap().remove("spec");
        let mut map = secret.clone();
        map["kind"] = json!("ConfigMap");
        let service = object("v1", "Service", json!({"ports": [{"port": 80}]}));
        let budget = object("policy/v1", "PodDisruptionBudget", json!({"minAvailable": 1}));
        let mut lease = object("coordination.k8s.io/v1", "Lease", json!({}));
        lease["metadata"]["namespace"] = json!(self.own.name());
        for object in [deployment, secret, map, service, budget, lease] {
            eventually(&format!("a forged {} is refused", object["kind"]), PATIENCE, || async {
                match write(caller, Method::POST, &object).await {
                    (403, said) if said.contains("ValidatingAdmissionPolicy") => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await
            .unwrap();
        }
    }
}
