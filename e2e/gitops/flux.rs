//! Flux's kustomize-controller beside the product of one test, and Git as it sees it: a commit is a tarball over HTTP.
//!
//! The repository holds a copy of `examples/gitops/`; a test edits it and commits. The Kustomizations are those of the
//! examples, too, but for their source and for the namespace, which is the test's.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::{Path as Named, State};
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::examples::{FOLDER, built, folder};
use crate::harness::{ControlPlane, Process, eventually};
use crate::product::{PATIENCE, Product, text};

/// How long Flux may take for what waits for several objects.
const FLUX_PATIENCE: Duration = Duration::from_secs(120);

/// Flux in one namespace.
pub struct Flux {
    plane: &'static ControlPlane,
    client: Client,
    namespace: String,
    repository: tempfile::TempDir,
    artifacts: tempfile::TempDir,
    /// Where artifacts are served from.
    url: String,
    controller: Process,
}

impl Flux {
    /// Starts it in the product's namespace, with nothing committed.
    pub async fn start(product: &Product) -> Self {
        let assets = install_types(product.plane);
        let (repository, artifacts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tree = repository.path().join(FOLDER);
        fs::create_dir_all(tree.parent().unwrap()).unwrap();
        run(Command::new("cp").arg("-R").arg(folder()).arg(&tree));
        let mut command = Command::new(assets.join("kustomize-controller"));
        command
            .env("RUNTIME_NAMESPACE", product.ns())
            .args(["--watch-all-namespaces=false", "--feature-gates=ExternalArtifact=true"])
            .args(["--metrics-addr=0", "--health-addr=0", "--log-level=debug"]);
        let mut controller = product.plane.spawn(&format!("{}-flux", product.ns()), None, &mut command).unwrap();
        controller.wait_for_log("Starting workers", PATIENCE).unwrap();
        let url = serve(text(artifacts.path())).await;
        let (plane, client, namespace) = (product.plane, product.client.clone(), product.ns().to_owned());
        let flux = Self { plane, client, namespace, repository, artifacts, url, controller };
        flux.apply(&json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "ExternalArtifact",
            "metadata": {"name": "sites", "namespace": flux.namespace},
        }));
        flux
    }

    /// The Kustomization of a site in the examples.
    pub fn example(site: &str) -> Value {
        let file = folder().join(format!("flux/{site}.yaml"));
        serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    }

    /// Applies the Kustomization of a site.
    pub fn follow(&self, site: &str) {
        let mut kustomization = Self::example(site);
        kustomization["metadata"]["namespace"] = self.namespace.clone().into();
        kustomization["spec"]["targetNamespace"] = self.namespace.clone().into();
        kustomization["spec"]["sourceRef"] = json!({"kind": "ExternalArtifact", "name": "sites"});
        self.apply(&kustomization);
    }

    fn apply(&self, manifest: &Value) {
        self.plane.kubectl_stdin(&["apply", "-f", "-"], &manifest.to_string()).unwrap();
    }

    /// Writes a file below the examples' folder.
    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.repository.path().join(FOLDER).join(file), text).unwrap();
    }

    /// Replaces text in a file below the examples' folder.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.repository.path().join(FOLDER).join(file);
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{file} does not say {from:?}: {before}");
        fs::write(path, before.replace(from, to)).unwrap();
    }

    /// Removes a file below the examples' folder.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.repository.path().join(FOLDER).join(file)).unwrap();
    }

    /// Makes what the repository holds the newest revision, and returns that.
    pub fn commit(&self) -> String {
        let made = self.artifacts.path().join("new");
        run(Command::new("tar").args(["-C", &text(self.repository.path()), "-czf", &text(&made), "examples"]));
        let content = fs::read(&made).unwrap();
        let sum: String = digest(&SHA256, &content).as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
        fs::rename(&made, self.artifacts.path().join(&sum)).unwrap();
        let revision = format!("main@sha256:{sum}");
        let now = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
        let status = json!({"status": {
            "artifact": {
                "url": format!("{}/{sum}", self.url),
                "path": sum,
                "digest": format!("sha256:{sum}"),
                "revision": revision,
                "size": content.len(),
                "lastUpdateTime": now,
            },
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": now},
            ],
        }});
        let patch = ["--subresource=status", "--type=merge", "-p", &status.to_string()];
        let object = ["patch", "-n", &self.namespace, "externalartifact/sites"];
        self.plane.kubectl(&[&object[..], &patch[..]].concat()).unwrap();
        revision
    }

    /// A site's Kustomization as it stands.
    async fn kustomization(&self, site: &str) -> Result<Value, String> {
        let kind = GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk(&kind));
        let found = api.get(site).await.map_err(|error| error.to_string())?;
        Ok(found.data["status"].clone())
    }

    /// Waits until a condition of a site's Kustomization reads so for this revision; its message.
    pub async fn condition(&self, site: &str, revision: &str, type_: &str, wanted: &str) -> String {
        let what = format!("{site} at {revision} is {type_} {wanted}");
        let waited = eventually(&what, FLUX_PATIENCE, || async {
            let status = self.kustomization(site).await?;
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|c| c["type"] == type_ && c["status"] == wanted);
            match found {
                Some(found) if status["lastAttemptedRevision"] == revision => {
                    Ok(found["message"].as_str().unwrap_or_default().to_owned())
                }
                _ => Err(status.to_string()),
            }
        });
        waited.await.unwrap_or_else(|error| panic!("{error}\n{}", self.controller.log()))
    }

    /// Waits until a site is applied at this revision and everything of it is healthy.
    pub async fn healthy(&self, site: &str, revision: &str) {
        self.condition(site, revision, "Ready", "True").await;
        // Flux writes conditions first, and the rest of the status a moment later.
        eventually(&format!("{site} is applied at {revision}"), FLUX_PATIENCE, || async {
            let status = self.kustomization(site).await?;
            if status["lastAppliedRevision"] == revision { Ok(()) } else { Err(status.to_string()) }
        })
        .await
        .unwrap();
    }

    /// Asks for another reconcile of a site, and waits until that is done.
    pub async fn reconcile(&self, site: &str, request: &str) {
        let annotation = format!("reconcile.fluxcd.io/requestedAt={request}");
        self.plane
            .kubectl(&["annotate", "-n", &self.namespace, &format!("kustomization/{site}"), &annotation, "--overwrite"])
            .unwrap();
        eventually("what was asked for is reconciled", FLUX_PATIENCE, || async {
            let status = self.kustomization(site).await?;
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            let busy = conditions.iter().any(|c| c["type"] == "Reconciling");
            let done = status["lastHandledReconcileAt"] == request && ready && !busy;
            done.then_some(()).ok_or_else(|| status.to_string())
        })
        .await
        .unwrap();
    }

    /// Deletes a site's Kustomization, and waits until Flux has taken away what it is to take away.
    pub fn forget(&self, site: &str) {
        let object = format!("kustomization/{site}");
        self.plane.kubectl(&["delete", "-n", &self.namespace, &object, "--timeout=60s"]).unwrap();
    }
}

/// Installs Flux's resource types, once for a control plane; the folder that holds them and the controller.
pub fn install_types(plane: &ControlPlane) -> std::path::PathBuf {
    static INSTALLED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    let mut installed = INSTALLED.lock().unwrap();
    let assets = built("e2e/flux/build");
    if !installed.contains(&plane.supervisor_pid()) {
        let crds = text(&assets.join("crds"));
        plane.kubectl(&["apply", "--server-side", "-f", &crds]).unwrap();
        plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds]).unwrap();
        installed.push(plane.supervisor_pid());
    }
    assets
}

/// Serves the files of a folder over HTTP on loopback, for as long as the test runs.
async fn serve(folder: String) -> String {
    let file = async |State(folder): State<String>, Named(name): Named<String>| {
        fs::read(Path::new(&folder).join(name)).map_err(|_| StatusCode::NOT_FOUND)
    };
    let service = TowerToHyperService::new(Router::new().route("/{name}", get(file)).with_state(folder));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service.clone()));
        }
    });
    url
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
