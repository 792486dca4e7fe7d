//! Calls with real tokens, most of them refused: the table is `calls.txt`.

use std::collections::BTreeMap;

use axum::http::Method;
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::product::PATIENCE;
use crate::release::{ACCOUNTS, Caller, Release, Scope};

/// A line of the table.
struct Call {
    account: &'static str,
    verb: &'static str,
    /// Plural, and after a point the group; a path where it begins with a slash.
    resource: &'static str,
    subresource: Option<&'static str>,
    name: Option<&'static str>,
    place: &'static str,
    /// Whether it is let in with scope Cluster, and with scope Namespaced.
    allowed: [bool; 2],
}

fn table() -> Vec<Call> {
    let lines = include_str!("calls.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let said = |word: &str| match word {
        "yes" => true,
        "no" => false,
        other => panic!("{other} is neither yes nor no"),
    };
    lines
        .map(|line| {
            let words: Vec<&'static str> = line.split_whitespace().collect();
            let [account, verb, resource, name, place, cluster, namespaced] = words[..] else { panic!("{line}") };
            assert!(ACCOUNTS.contains(&account), "{line}");
            let (resource, subresource) = match resource.split_once('/') {
                Some((resource, sub)) if !resource.is_empty() => (resource, Some(sub)),
                _ => (resource, None),
            };
            let name = Some(name).filter(|name| *name != "-");
            Call { account, verb, resource, subresource, name, place, allowed: [said(cluster), said(namespaced)] }
        })
        .collect()
}

impl Call {
    /// Its path at the API server.
    fn path(&self, release: &Release) -> String {
        if self.resource.starts_with('/') {
            return self.resource.to_owned();
        }
        let (plural, group) = self.resource.split_once('.').unwrap_or((self.resource, ""));
        let mut path = match group {
            "" => "/api/v1".to_owned(),
            "capf.dev" => "/apis/capf.dev/v1alpha1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        if self.place != "all" {
            path += &format!("/namespaces/{}", release.namespace(self.place));
        }
        let parts = [Some(plural), self.name, self.subresource];
        parts.into_iter().flatten().for_each(|part| path += &format!("/{part}"));
        path
    }

    /// Status and message of the API server's answer. Nothing is changed by what is let in.
    async fn make(&self, release: &Release, caller: &Caller) -> (u16, String) {
        let path = self.path(release);
        let dry = format!("{path}?dryRun=All");
        let json = ("content-type", "application/json");
        match self.verb {
            "get" | "list" => caller.call(Method::GET, &path, &[], &Value::Null).await,
            "watch" => caller.call(Method::GET, &format!("{path}?watch=1&timeoutSeconds=1"), &[], &Value::Null).await,
            "create" => caller.call(Method::POST, &dry, &[json], &json!({})).await,
            "update" => caller.call(Method::PUT, &dry, &[json], &json!({})).await,
            "patch" => {
                let merge = ("content-type", "application/merge-patch+json");
                caller.call(Method::PATCH, &dry, &[merge], &json!({})).await
            }
            "delete" | "deletecollection" => caller.call(Method::DELETE, &dry, &[], &Value::Null).await,
            "impersonate" => {
                let somebody = ("impersonate-user", self.name.unwrap());
                caller.call(Method::GET, "/version", &[somebody], &Value::Null).await
            }
            other => panic!("{other} is no verb of the table"),
        }
    }

    /// What RBAC says when it refuses this.
    fn refusal(&self, user: &str) -> String {
        if self.resource.starts_with('/') {
            return format!("User \"{user}\" cannot {} path \"{}\"", self.verb, self.resource);
        }
        let (plural, group) = self.resource.split_once('.').unwrap_or((self.resource, ""));
        let sub = self.subresource.map(|sub| format!("/{sub}")).unwrap_or_default();
        format!("User \"{user}\" cannot {} resource \"{plural}{sub}\" in API group \"{group}\"", self.verb)
    }
}

async fn calls_are_as_the_table_says(scope: Scope) {
    let release = Release::install("calls", scope, "{}").await;
    let callers: BTreeMap<&str, Caller> = ACCOUNTS.map(|part| (part, release.caller(part))).into();
    let (let_in, refused): (Vec<Call>, Vec<Call>) =
        table().into_iter().partition(|call| call.allowed[usize::from(scope == Scope::Namespaced)]);
    assert!(refused.len() >= 50 && let_in.len() >= 10, "{} refused, {} let in", refused.len(), let_in.len());
    // First what is let in: then the bindings are known, and what is refused is not so for being early.
    for call in &let_in {
        let what = format!("{} may {} {}", call.account, call.verb, call.path(&release));
        eventually(&what, PATIENCE, || async {
            match call.make(&release, &callers[call.account]).await {
                // Let in, and found to be empty, or not there.
                (200 | 201 | 400 | 404 | 409 | 422, _) => Ok(()),
                (status, said) => Err(format!("{status}: {said}")),
            }
        })
        .await
        .unwrap();
    }
    for call in &refused {
        let caller = &callers[call.account];
        let (status, said) = call.make(&release, caller).await;
        let path = call.path(&release);
        assert_eq!(status, 403, "{} may {} {path}: {said}", call.account, call.verb);
        assert!(said.contains(&call.refusal(&caller.user)), "{} {} {path}: {said}", call.account, call.verb);
    }
    println!("scope {scope:?}: {} calls refused, {} let in", refused.len(), let_in.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_refused_as_the_table_says_with_scope_cluster() {
    calls_are_as_the_table_says(Scope::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_refused_as_the_table_says_with_scope_namespaced() {
    calls_are_as_the_table_says(Scope::Namespaced).await;
}
