//! `examples/gitops/` as Kustomize builds it and the API server takes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::flux::{Flux, install_types};
use crate::harness::ControlPlane;
use crate::product::install_crds;

/// The folder, from the root of the repository.
pub const FOLDER: &str = "examples/gitops";

/// The same, to read from.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER)
}

/// Runs a build script of `e2e/` and returns the path that it prints.
pub fn built(script: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(program).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// What Kustomize makes of a folder below [`FOLDER`], as kubectl has it built in.
pub fn kustomized(plane: &ControlPlane, below: &str) -> String {
    plane.kubectl(&["kustomize", folder().join(below).to_str().unwrap()]).unwrap()
}

/// The sites, by the names of their folders.
fn sites() -> Vec<String> {
    let entries = fs::read_dir(folder().join("sites")).unwrap();
    let mut sites: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    sites.sort();
    sites
}

/// The documents of a file.
fn documents(yaml: &str) -> Vec<Value> {
    yaml.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

#[test]
fn every_site_is_taken_by_the_api_server_and_applied_again_changes_nothing() {
    let plane = ControlPlane::shared();
    install_crds(plane);
    let sites = sites();
    assert_eq!(sites, ["auckland", "wellington"]);
    for site in sites {
        let manifests = kustomized(plane, &format!("sites/{site}"));
        let namespace = format!("voice-{site}");
        let elsewhere = documents(&manifests)
            .into_iter()
            .filter(|m| m["kind"] != "Namespace" && m["metadata"]["namespace"] != namespace);
        assert_eq!(elsewhere.count(), 0, "{manifests}");
        plane.kubectl(&["create", "namespace", &namespace]).unwrap();
        plane.kubectl_stdin(&["apply", "--server-side", "--dry-run=server", "-f", "-"], &manifests).unwrap();
        let versions = || {
            plane.kubectl_stdin(&["apply", "--server-side", "-f", "-"], &manifests).unwrap();
            let version =
                "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
            plane.kubectl_stdin(&["get", "-f", "-", "-o", version], &manifests).unwrap()
        };
        // What is created has no status, and no controller is here to give it one: the API server writes its default down at
        // the first update. From then on nothing is written.
        versions();
        let second = versions();
        assert!(second.lines().count() > 3, "{second}");
        assert_eq!(versions(), second);
        plane.kubectl(&["delete", "namespace", &namespace, "--wait=false"]).unwrap();
    }
}

#[test]
fn what_flux_is_told_is_taken_by_the_api_server_and_names_folders_that_exist() {
    let plane = ControlPlane::shared();
    install_types(plane);
    plane.kubectl(&["create", "namespace", "flux-system"]).unwrap();
    let flux = folder().join("flux");
    plane.kubectl(&["apply", "--server-side", "--dry-run=server", "-f", flux.to_str().unwrap()]).unwrap();
    for site in sites() {
        let kustomization = Flux::example(&site);
        let path = kustomization["spec"]["path"].as_str().unwrap().trim_start_matches("./");
        assert_eq!(path, format!("{FOLDER}/sites/{site}"));
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_dir());
    }
    let set: Value = serde_saphyr::from_str(&fs::read_to_string(folder().join("argocd/sites.yaml")).unwrap()).unwrap();
    let directory = &set["spec"]["generators"][0]["git"]["directories"][0]["path"];
    assert_eq!(directory, &format!("{FOLDER}/sites/*"));
}

#[test]
fn no_authentication_string_stands_in_what_goes_into_git() {
    let plane = ControlPlane::shared();
    for site in sites() {
        let kinds = documents(&kustomized(plane, &format!("sites/{site}"))).into_iter().map(|m| m["kind"].clone());
        assert_eq!(kinds.filter(|kind| kind == "Secret").count(), 0, "{site}");
    }
}
