//! `kubectl auth can-i --list` of each account is what golden files say: a right more or less shows in a diff.
//!
//! After a change that is meant, `CAPF_WRITE_GOLDEN=1 cargo test --test rights golden` writes them anew.

use std::fs;
use std::path::PathBuf;

use crate::harness::eventually;
use crate::product::PATIENCE;
use crate::release::{ACCOUNTS, Release, Scope};

/// The rights of an account in a namespace: resources, paths, names and verbs, a line each, in order.
fn list(release: &Release, kubeconfig: &PathBuf, namespace: &str) -> Vec<String> {
    let mut kubectl = release.plane.kubectl_command(None);
    kubectl.env("KUBECONFIG", kubeconfig).args(["auth", "can-i", "--list", "--no-headers", "-n", namespace]);
    let output = kubectl.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // Columns are filled up with blanks; what stands in brackets has single ones, and no order that matters.
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut parts: Vec<String> = line.split('[').map(|part| part.trim().replace(']', "")).collect();
            parts.iter_mut().for_each(|part| {
                let mut words: Vec<&str> = part.split_whitespace().collect();
                words.sort_unstable();
                *part = words.join(" ");
            });
            let subject = if parts[0].is_empty() { &parts[1] } else { &parts[0] };
            let names = if parts[2].is_empty() { String::new() } else { format!(" of {}", parts[2]) };
            format!("{subject}{names}: {}", parts[3])
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("e2e/rights/golden").join(name)
}

/// Waits until what is seen is what the file says, or writes the file when that is asked.
async fn is_as_golden(name: &str, see: impl Fn() -> String) {
    let path = golden(name);
    if std::env::var_os("CAPF_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, see()).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // The API server hears of new bindings a moment after they are made.
    eventually(&format!("the rights are those of {}", path.display()), PATIENCE, || async {
        let seen = see();
        if seen == wanted { Ok(()) } else { Err(format!("\n{seen}")) }
    })
    .await
    .unwrap();
}

async fn rights_are_golden(scope: Scope) {
    let release = Release::install("lists", scope, "{}").await;
    // What everybody may who has a token: shown once, and left out of the rest.
    release.kubectl(&["-n", release.foreign.name(), "create", "serviceaccount", "nobody"]);
    let nobody = crate::pods::kubeconfig_of(release.plane, release.foreign.name(), "nobody");
    let everybody = list(&release, &nobody, release.foreign.name());
    is_as_golden("everybody.txt", || list(&release, &nobody, release.foreign.name()).join("\n") + "\n").await;
    // By a call that is let in it is known that the bindings are known, for files that are written.
    let controller = release.caller("controller");
    let phones = format!("/apis/capf.dev/v1alpha1/namespaces/{}/phones", release.watched.name());
    eventually("the bindings are known", PATIENCE, || async {
        controller.call(axum::http::Method::GET, &phones, &[], &serde_json::Value::Null).await.0 == 200
    })
    .await
    .unwrap();
    for part in ACCOUNTS {
        let kubeconfig = release.kubeconfig(part);
        let file = format!("{}/{part}.txt", format!("{scope:?}").to_lowercase());
        let see = || {
            let mut text = String::new();
            for place in ["release", "watched", "foreign"] {
                let lines = list(&release, &kubeconfig, release.namespace(place));
                text += &format!("In the {place} namespace\n");
                assert!(everybody.iter().all(|line| lines.contains(line)), "{lines:#?}");
                let left: Vec<_> = lines.iter().filter(|line| !everybody.contains(line)).collect();
                left.iter().for_each(|line| text += &format!("  {line}\n"));
                if left.is_empty() {
                    text += "  nothing\n";
                }
            }
            text
        };
        is_as_golden(&file, see).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_each_account_are_golden_with_scope_cluster() {
    rights_are_golden(Scope::Cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_each_account_are_golden_with_scope_namespaced() {
    rights_are_golden(Scope::Namespaced).await;
}
