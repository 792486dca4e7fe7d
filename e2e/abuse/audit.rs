//! The API server's audit log: what the product asked of it, in the words of a witness that is not part of it.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::harness::ControlPlane;

/// As whom controllers call, so that replicas can be told apart.
pub const USERS: [&str; 2] = ["capf-controller", "capf-reporter"];

/// A control plane that keeps an audit log of the users above.
pub struct Audited {
    pub plane: &'static ControlPlane,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

/// One answered request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub verb: String,
    #[serde(rename = "requestURI")]
    pub uri: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: Status,
    /// What was sent, of writes of anything but Secrets.
    #[serde(default)]
    pub request_object: Value,
    /// What came back, likewise.
    #[serde(default)]
    pub response_object: Value,
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

impl Request {
    /// Who asked.
    pub fn user(&self) -> &str {
        &self.user.username
    }

    /// The plural name of the kind.
    pub fn resource(&self) -> &str {
        &self.object_ref.resource
    }

    /// Verb, resource and subresource.
    pub fn what(&self) -> String {
        let ObjectRef { resource, subresource, .. } = &self.object_ref;
        let separator = if subresource.is_empty() { "" } else { "/" };
        format!("{} {resource}{separator}{subresource}", self.verb)
    }

    /// Whether it wanted to change something.
    pub fn is_write(&self) -> bool {
        matches!(&*self.verb, "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether it was done.
    pub fn is_accepted(&self) -> bool {
        (200..300).contains(&self.response_status.code)
    }

    /// Whether it was refused because the object had changed.
    pub fn is_refused_as_stale(&self) -> bool {
        self.response_status.code == 409 && self.verb != "create"
    }

    /// Resource and name of the object, where the log holds either.
    pub fn object(&self) -> String {
        let named = self.response_object["metadata"]["name"].as_str();
        format!("{} {}", self.object_ref.resource, named.unwrap_or(&self.object_ref.name))
    }

    /// The version of the object that came back: etcd's revision, which orders all writes of all kinds.
    pub fn version_after(&self) -> Option<u64> {
        version(&self.response_object)
    }

    /// The version that the write demanded.
    pub fn version_demanded(&self) -> Option<u64> {
        version(&self.request_object)
    }
}

fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

impl Audited {
    /// Starts one. It ends with this process. Its log holds the objects that were written where `objects` says so; Secrets never.
    pub fn start(objects: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (policy, log) = (folder.path().join("policy.yaml"), folder.path().join("audit.log"));
        let users = USERS.join(", ");
        let writes = if objects { "RequestResponse" } else { "Metadata" };
        let rules = format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\nrules:\n\
             - {{level: Metadata, users: [{users}], resources: [{{group: \"\", resources: [secrets]}}]}}\n\
             - {{level: {writes}, users: [{users}], verbs: [create, update, patch, delete]}}\n\
             - {{level: Metadata, users: [{users}]}}\n\
             - {{level: None}}\n"
        );
        fs::write(&policy, rules).unwrap();
        let flags = [
            format!("--extra=apiserver=--audit-policy-file={}", policy.display()),
            format!("--extra=apiserver=--audit-log-path={}", log.display()),
            // In megabytes: what is turned over is not read.
            "--extra=apiserver=--audit-log-maxsize=4000".to_owned(),
        ];
        let plane = ControlPlane::start_with(&flags.each_ref().map(String::as_str)).unwrap();
        // A product lives on a control plane that lives as long as its process, and this is the only one of this process.
        Self { plane: Box::leak(Box::new(plane)), log, _folder: folder }
    }

    /// Where the log ends now, for [`Audited::since`].
    pub fn mark(&self) -> usize {
        // The last line may be half written.
        fs::read(&self.log).unwrap().iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1)
    }

    /// Every request that was answered since then, in the order of the answers.
    pub fn since(&self, mark: usize) -> Vec<Request> {
        let log = fs::read(&self.log).unwrap();
        let whole = log[mark..].iter().rposition(|octet| *octet == b'\n').map_or(mark, |at| mark + at);
        let lines = log[mark..whole].split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}
