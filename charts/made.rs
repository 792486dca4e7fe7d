//! What is made of the chart and of the types: the chart's CRDs, the descriptions in its schema, its README, and the
//! controllers' rights for use without it. `generate.rs` writes them, `tests/generated.rs` compares them.

use std::fs;
use std::path::{Path, PathBuf};

use capf::crds;
use serde_json::Value;

/// A file, by its path from the root, with what it should hold.
pub struct Made {
    pub path: String,
    pub content: String,
}

/// Folder of the chart, from the root.
const CHART: &str = "charts/capf-operator";

/// Every file that is made.
pub fn all() -> Vec<Made> {
    let values = values(&read("values.yaml"));
    let mut made = crds();
    made.push(Made {
        path: format!("{CHART}/values.schema.json"),
        content: schema(&read("values.schema.json"), &values),
    });
    made.push(Made { path: format!("{CHART}/README.md"), content: readme(&values) });
    made.push(Made { path: "deploy/rbac.yaml".into(), content: rights() });
    made
}

fn read(name: &str) -> String {
    let path = root().join(CHART).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The CRDs as templates, so that an upgrade of the chart changes them: Helm installs those of a folder `crds`, and never
/// looks at them again.
fn crds() -> Vec<Made> {
    let metadata = "metadata:\n  labels:\n    {{- include \"capf.componentLabels\" (list . \"crds\") | nindent 4 }}\n  \
                    {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n";
    let template = |crd: &_| {
        // What Helm would take for an action is said by one.
        let yaml = crds::yaml(crd).replace("{{", "{{ \"{{\" }}");
        assert!(yaml.matches("\nmetadata:\n").count() == 1, "the metadata of a CRD is not found");
        let yaml = yaml.replace("\nmetadata:\n", &format!("\n{metadata}"));
        format!("{{{{- if .Values.crds.enabled }}}}\n{}\n{{{{- end }}}}\n", yaml.trim_end())
    };
    let path = |crd: &_| format!("{CHART}/templates/crds/{}", crds::file_name(crd));
    crds::all().iter().map(|crd| Made { path: path(crd), content: template(crd) }).collect()
}

/// A key of `values.yaml`.
struct Key {
    path: Vec<String>,
    /// As it is written; none of a map whose keys follow.
    default: Option<String>,
    /// What stands above it.
    meaning: String,
}

/// Reads the keys and what stands above them. Only maps span lines.
fn values(yaml: &str) -> Vec<Key> {
    let (mut keys, mut meaning, mut path) = (Vec::new(), Vec::new(), Vec::<String>::new());
    for line in yaml.lines() {
        let text = line.trim_start();
        if text.is_empty() {
            meaning.clear();
        } else if let Some(comment) = text.strip_prefix("# ") {
            meaning.push(comment);
        } else {
            let (name, default) = text.split_once(':').unwrap_or_else(|| panic!("values.yaml: no key in {line:?}"));
            path.truncate((line.len() - text.len()) / 2);
            path.push(name.to_owned());
            assert!(!meaning.is_empty(), "values.yaml: nothing says what {} means", path.join("."));
            let default = Some(default.trim().to_owned()).filter(|default| !default.is_empty());
            keys.push(Key { path: path.clone(), default, meaning: meaning.join(" ") });
            meaning.clear();
        }
    }
    keys
}

/// The schema, with what each key means.
fn schema(written: &str, values: &[Key]) -> String {
    let mut schema: Value = serde_json::from_str(written).expect("values.schema.json is JSON");
    for key in values {
        let place = key.path.iter().fold(&mut schema, |place, name| &mut place["properties"][name]);
        let name = key.path.join(".");
        let place = place.as_object_mut().unwrap_or_else(|| panic!("values.schema.json knows no {name}"));
        place.insert("description".into(), key.meaning.clone().into());
    }
    serde_json::to_string_pretty(&schema).expect("what was JSON is JSON") + "\n"
}

/// The README: the words of `readme.txt`, and a table of values for each part.
fn readme(values: &[Key]) -> String {
    let mut text = include_str!("readme.txt").to_owned();
    let row = |key: &Key, about: &str| {
        let default = key.default.as_deref().unwrap_or_default();
        let meaning = format!("{about} {}", key.meaning);
        let cell = |text: &str| text.replace('|', "\\|");
        format!("| `{}` | `{}` | {} |\n", key.path.join("."), cell(default), cell(meaning.trim()))
    };
    let head = "\n| Value | Default | Means |\n|---|---|---|\n";
    text.push_str(head);
    values
        .iter()
        .filter(|key| key.path.len() == 1 && key.default.is_some())
        .for_each(|key| text.push_str(&row(key, "")));
    for part in values.iter().filter(|key| key.path.len() == 1 && key.default.is_none()) {
        text.push_str(&format!("\n### {}\n\n{}\n{head}", part.path[0], part.meaning));
        let mut about = "";
        for key in values.iter().filter(|key| key.path.len() > 1 && key.path[0] == part.path[0]) {
            match &key.default {
                // What is said of a map within a part is said again with each of its keys.
                None => about = &key.meaning,
                Some(_) => text.push_str(&row(key, if key.path.len() > 2 { about } else { "" })),
            }
        }
    }
    text
}

/// The rights that the chart gives the controllers, for those who install without it.
fn rights() -> String {
    let role = |kind: &str, metadata: &str, rules: &str| {
        let rules: String = read(rules).lines().map(|line| format!("  {line}\n")).collect();
        format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n{metadata}rules:\n{rules}")
    };
    let everywhere = role("ClusterRole", "  name: capf-controller\n", "files/controller-rules.yaml");
    let own = "  name: capf-controller-lease\n  namespace: capf-system\n";
    let own = role("Role", own, "files/own-rules.yaml");
    format!(
        "# The rights of the controllers, made of the rules in {CHART}/files by `make generate`.\n{everywhere}---\n{own}"
    )
}
