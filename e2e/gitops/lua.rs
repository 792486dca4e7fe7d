//! Argo CD's health checks, run as it runs them (`e2e/argocd`).

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::examples::{built, kustomized};
use crate::harness::ControlPlane;

/// What Argo CD shows.
#[derive(Debug, Deserialize, PartialEq)]
pub struct Health {
    pub status: String,
    pub message: String,
}

/// Health of an object, by the check that the ConfigMap of the examples has for its kind.
pub fn health(object: &impl Serialize) -> Health {
    let object = serde_json::to_value(object).unwrap();
    let checks: Value = serde_saphyr::from_str(&kustomized(ControlPlane::shared(), "argocd")).unwrap();
    let kind = object["kind"].as_str().unwrap();
    let key = format!("resource.customizations.health.capf.dev_{kind}");
    let script = checks["data"][&key].as_str().unwrap_or_else(|| panic!("there is no {key}"));
    run(script, &object).unwrap()
}

/// Runs a health check.
///
/// # Errors
/// What Argo CD would not take, or what went wrong in the script.
pub fn run(script: &str, object: &Value) -> Result<Health, String> {
    let mut process = Command::new(built("e2e/argocd/build"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(json!({"script": script, "object": object}).to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn scripts_have_what_argo_cd_gives_them_and_no_more() {
    let object = json!({"metadata": {"generation": 3}, "list": ["a", "b"]});
    let said = run("return {status = 'Healthy', message = obj.list[2] .. obj.metadata.generation}", &object).unwrap();
    assert_eq!(said, Health { status: "Healthy".into(), message: "b3".into() });
    for refused in [
        "return {status = string.upper('Healthy')}",
        "return {status = io and 'Healthy' or os.getenv('HOME')}",
        "return {status = 'Fine'}",
        "return 'Healthy'",
        "while true do end",
    ] {
        assert!(run(refused, &object).is_err(), "{refused}");
    }
}
