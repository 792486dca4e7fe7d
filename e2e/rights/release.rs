//! A release of the chart with the accounts of all its parts, and calls as each of them.

use std::path::PathBuf;

use axum::http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use kube::config::AuthInfo;
use serde_json::Value;

use crate::harness::{ControlPlane, Namespace};
use crate::helm::{CHART, Objects, command, run, values_file};
use crate::pods::kubeconfig_of;
use crate::product::install_crds;

/// Which namespaces are looked after.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// The parts that have an account, by the names that golden files and the table of calls use.
pub const ACCOUNTS: [&str; 5] = ["controller", "report", "test", "remove-keys", "endpoint"];

/// A release, in a namespace of its own; what it looks after is in another, and a third is none of its business.
pub struct Release {
    pub plane: &'static ControlPlane,
    pub client: Client,
    pub own: Namespace,
    pub watched: Namespace,
    pub foreign: Namespace,
}

impl Release {
    /// Installs the chart, and the accounts of its hooks, which otherwise live as long as these run. `values` come on top.
    pub async fn install(name: &str, scope: Scope, values: &str) -> Self {
        let plane = ControlPlane::shared();
        install_crds(plane);
        let client = plane.client(None);
        let [own, watched, foreign] = ["own", "watched", "foreign"].map(|part| format!("capf-{name}-{part}"));
        let own = Namespace::create(&client, &own).await.unwrap();
        let watched = Namespace::create(&client, &watched).await.unwrap();
        let foreign = Namespace::create(&client, &foreign).await.unwrap();
        let release = Self { plane, client, own, watched, foreign };
        let mut common = format!(
            "crds: {{enabled: false}}\nkeys: {{keep: false}}\nreport: {{enabled: true}}\nscope: {scope:?}\n\
             test: {{proxy: main, namespace: {}}}\n",
            release.watched.name()
        );
        if scope == Scope::Namespaced {
            common += &format!("watchNamespace: {}\n", release.watched.name());
        }
        release.helm("install", &[&common, values]);
        let hooks = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
        for object in release.helm("template", &[&common, values]).0 {
            let hook = object["metadata"]["annotations"]["helm.sh/hook"].is_string();
            if hook && hooks.contains(&object["kind"].as_str().unwrap()) {
                plane.kubectl_stdin(&["apply", "--server-side", "-f", "-"], &object.to_string()).unwrap();
            }
        }
        release
    }

    fn helm(&self, verb: &str, values: &[&str]) -> Objects {
        let files: Vec<_> = values.iter().map(|values| values_file(values)).collect();
        let mut helm = command(Some(&self.plane.kubeconfig(None)));
        helm.args([verb, self.name(), CHART, "--namespace", self.own.name()]);
        for file in &files {
            helm.arg("--values").arg(file.path());
        }
        let said = run(&mut helm).unwrap();
        if verb == "template" { Objects::read(&said) } else { Objects(Vec::new()) }
    }

    /// Its name, and that of the controllers' account: the release's namespace, because roles of the cluster bear it.
    pub fn name(&self) -> &str {
        self.own.name()
    }

    /// A namespace by what it is to the release.
    pub fn namespace(&self, place: &str) -> &str {
        match place {
            "release" => self.own.name(),
            "watched" => self.watched.name(),
            "foreign" => self.foreign.name(),
            _ => panic!("{place} is no namespace"),
        }
    }

    /// Namespace and name of a part's service account.
    pub fn account(&self, part: &str) -> (&str, String) {
        match part {
            "controller" => (self.own.name(), self.name().to_owned()),
            "endpoint" => (self.watched.name(), "default".to_owned()),
            part => (self.own.name(), format!("{}-{part}", self.name())),
        }
    }

    /// A kubeconfig with a token of a part's account.
    pub fn kubeconfig(&self, part: &str) -> PathBuf {
        let (namespace, name) = self.account(part);
        kubeconfig_of(self.plane, namespace, &name)
    }

    /// Calls as a part's account.
    pub fn caller(&self, part: &str) -> Caller {
        let (namespace, name) = self.account(part);
        let token = self.plane.kubectl(&["-n", namespace, "create", "token", &name]).unwrap();
        let mut config = self.plane.config(None);
        config.auth_info = AuthInfo { token: Some(token.trim().to_owned().into()), ..AuthInfo::default() };
        Caller { client: Client::try_from(config).unwrap(), user: format!("system:serviceaccount:{namespace}:{name}") }
    }

    /// `kubectl` as administrator.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.plane.kubectl(args).unwrap()
    }

    /// Objects of the whole cluster that belong to the release.
    pub fn of_the_cluster(&self, kinds: &str) -> String {
        let label = format!("app.kubernetes.io/instance={}", self.name());
        self.kubectl(&["get", kinds, "-l", &label, "-o", "name"])
    }
}

/// Somebody who calls the API server.
pub struct Caller {
    client: Client,
    /// As whom.
    pub user: String,
}

impl Caller {
    /// One call: the status, and the message of what is no success.
    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let response = self.client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status();
        if status.is_success() {
            return (status.as_u16(), String::new());
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        (status.as_u16(), said["message"].as_str().map_or_else(|| String::from_utf8_lossy(&body).into(), str::to_owned))
    }
}
