//! Helm as the tests call it, and the objects that it renders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use crate::harness;

/// The chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/capf-operator");
/// Namespace of releases that are rendered only.
pub const NAMESPACE: &str = "capf-system";
/// The API that there is after a first install.
pub const KNOWN: &str = "--api-versions=capf.dev/v1alpha1/CertificateAuthorityProxy";

/// Helm, with homes of its own: what the user has configured is neither used nor changed.
pub fn command(kubeconfig: Option<&Path>) -> Command {
    static HOME: LazyLock<PathBuf> =
        LazyLock::new(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("helm-{}", std::process::id())));
    let mut command = Command::new(harness::helm().unwrap());
    for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(home, &*HOME);
    }
    let nowhere = Path::new("/dev/null");
    command.env("KUBECONFIG", kubeconfig.unwrap_or(nowhere)).stdin(Stdio::null());
    command
}

/// Runs Helm to its end: what it printed, or what it said when it failed.
pub fn run(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if status.success() { Ok(out.into_owned()) } else { Err(format!("{out}{err}")) }
}

/// A file with these values, as long as it is kept.
pub fn values_file(values: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), values).unwrap();
    file
}

/// Renders a chart with these values.
pub fn render_chart(chart: &Path, values: &[&str], more: &[&str]) -> Result<Objects, String> {
    let mut command = command(None);
    command.args(["template", "capf", "--namespace", NAMESPACE]).arg(chart).args(more);
    let files: Vec<_> = values.iter().map(|values| values_file(values)).collect();
    for file in &files {
        command.arg("--values").arg(file.path());
    }
    run(&mut command).map(|yaml| Objects::read(&yaml))
}

/// Renders the chart with these values.
pub fn render(values: &[&str]) -> Result<Objects, String> {
    render_chart(Path::new(CHART), values, &[])
}

/// Objects of a release, hooks among them.
#[derive(Clone, Debug)]
pub struct Objects(pub Vec<Value>);

impl Objects {
    /// Reads documents of YAML.
    pub fn read(yaml: &str) -> Self {
        let read: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"));
        Self(read.into_iter().filter(|object| !object.is_null()).collect())
    }

    /// Those of a kind.
    pub fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// The object `Kind/name`, or `Kind/namespace/name` where the name alone is not enough.
    pub fn get(&self, object: &str) -> Option<&Value> {
        let parts: Vec<&str> = object.split('/').collect();
        let mut found = self.of(parts[0]).filter(|object| match parts[1..] {
            [name] => object["metadata"]["name"] == name,
            [namespace, name] => object["metadata"]["name"] == name && object["metadata"]["namespace"] == namespace,
            _ => panic!("{parts:?} names no object"),
        });
        let first = found.next();
        assert!(found.next().is_none(), "there are several {object}");
        first
    }

    /// What stands at a JSON pointer of an object; null where either is not there.
    pub fn at(&self, object: &str, pointer: &str) -> Value {
        self.get(object).and_then(|object| object.pointer(pointer)).cloned().unwrap_or_default()
    }
}
