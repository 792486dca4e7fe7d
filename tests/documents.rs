//! What the documents say, as far as it can be compared with the repository: names, numbers, paths and links. Whether
//! a sentence is true is for its reader to check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use capf::api::Reason;
use capf::crds;
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Markdown file of the repository, with its path from the root.
fn documents() -> Vec<(PathBuf, String)> {
    let (mut found, mut open) = (Vec::new(), vec![root()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            // What cargo, Go and git keep is not ours to read.
            if name.starts_with('.') || name == "target" || name == "bin" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if name.ends_with(".md") {
                let relative = path.strip_prefix(root()).unwrap().to_owned();
                found.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.iter().any(|(path, _)| path == Path::new("ARCHITECTURE.md")), "no ARCHITECTURE.md: {found:?}");
    found
}

/// The part of a document below a heading, up to the next heading of its level or a higher one.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let level = heading.chars().take_while(|c| *c == '#').count();
    let start = document.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no {heading}"));
    let rest = &document[start + heading.len() + 2..];
    let ends = (1..=level).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))));
    &rest[..ends.min().unwrap_or(rest.len())]
}

/// The rows of all tables in a text, without headings and rules.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<_> = text.lines().collect();
    let is_rule = |line: &str| line.starts_with("|---");
    let rows = lines.iter().enumerate().filter(|(at, line)| {
        let heads = lines.get(at + 1).is_some_and(|next| is_rule(next));
        line.starts_with('|') && !is_rule(line) && !heads
    });
    rows.map(|(_, line)| line.trim().trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// What stands in backticks, fenced blocks left out.
fn code(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn dependencies() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text("Cargo.toml").lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line == "[dev-dependencies]";
        } else if let (true, Some((name, _))) = (inside && !line.starts_with('#'), line.split_once(" = ")) {
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn the_table_of_dependencies_names_each_of_them_and_no_other() {
    let document = text("ARCHITECTURE.md");
    let named: BTreeSet<_> = rows(section(&document, "## Dependencies")).iter().flat_map(|row| code(&row[0])).collect();
    assert_eq!(named, dependencies());
}

#[test]
fn every_event_of_an_operation_stands_in_the_table_of_transitions() {
    let source = text("src/domain/transition.rs");
    let (_, body) = source.split_once("pub enum Event {\n").expect("the enumeration has gone");
    let body = body.split("\n}\n").next().unwrap();
    let variants: BTreeSet<String> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    ").filter(|rest| rest.starts_with(char::is_uppercase)))
        .map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect())
        .collect();
    assert!(variants.len() >= 6, "{variants:?}");
    let document = text("ARCHITECTURE.md");
    let named: BTreeSet<String> =
        rows(section(&document, "## Status transitions")).iter().flat_map(|row| code(&row[0])).collect();
    let missing: Vec<_> = variants.difference(&named).collect();
    assert!(missing.is_empty(), "the table of transitions lacks {missing:?}");
}

#[test]
fn every_reason_is_told() {
    let document = text("ARCHITECTURE.md");
    let told = section(&document, "## Status transitions");
    let words: BTreeSet<&str> = told.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !words.contains(reason.as_str())).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not say where these come up: {missing:?}");
}

/// A field of the proxy's spec in its schema.
fn field<'a>(spec: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(spec, |schema, name| &schema["properties"][name])
}

#[test]
fn the_limits_that_are_fields_are_those_of_the_crd() {
    let proxy = crds::all().into_iter().find(|crd| crd.spec.names.plural == "certificateauthorityproxies").unwrap();
    let proxy = serde_json::to_value(&proxy).unwrap();
    let spec = &proxy["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let document = text("ARCHITECTURE.md");
    let mut named = BTreeSet::new();
    for row in rows(section(&document, "### Fields of the proxy")) {
        let name = row[0].trim_matches('`').to_owned();
        let schema = field(spec, &name);
        let range = format!("{}–{}", schema["minimum"].as_f64().unwrap(), schema["maximum"].as_f64().unwrap());
        let said = (row[1].clone(), row[2].clone());
        assert_eq!(said, (schema["default"].to_string(), range), "the row of {name}");
        named.insert(name);
    }
    let limits = spec["properties"]["limits"]["properties"].as_object().unwrap();
    let missing: Vec<_> = limits.keys().filter(|name| !named.contains(&format!("limits.{name}"))).collect();
    assert!(missing.is_empty() && !limits.is_empty(), "the table of limits lacks {missing:?}");
}

#[test]
fn the_limits_that_are_fixed_are_those_of_the_source() {
    let document = text("ARCHITECTURE.md");
    let fixed = rows(section(&document, "### Fixed"));
    assert!(fixed.len() > 30, "the table has lost rows: {}", fixed.len());
    for row in fixed {
        let [file, name, value] = [0, 1, 2].map(|column| row[column].trim_matches('`').to_owned());
        let source = text(&file);
        let declared = source.lines().find_map(|line| line.split_once(&format!("const {name}: ")));
        let (_, declared) = declared.unwrap_or_else(|| panic!("{file} declares no {name}"));
        let declared = declared.split_once(" = ").map(|(_, value)| value.trim_end_matches(';'));
        assert_eq!(declared, Some(value.as_str()), "{name} in {file}");
    }
}

/// The target of every link in a document, with what stands before it left out.
fn links(document: &str) -> Vec<&str> {
    document.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// The anchor of a heading, as forges make it.
fn anchor(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn no_link_leads_nowhere() {
    let mut checked = 0;
    for (path, document) in documents() {
        for link in links(&document) {
            if link.starts_with("http://") || link.starts_with("https://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(root().join(&target).exists(), "{}: {link} leads nowhere", path.display());
            if !fragment.is_empty() && (file.ends_with(".md") || file.is_empty()) {
                let found = text(&target).lines().any(|line| line.starts_with('#') && anchor(line) == fragment);
                assert!(found, "{}: {link} names no heading of {}", path.display(), target.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 5, "the links are not seen any more: {checked}");
}

#[test]
fn every_path_that_is_named_exists() {
    let ours = ["src/", "tests/", "e2e/", "crds/", "deploy/", "docs/", "examples/", "charts/", "image/"];
    let mut checked = 0;
    for (path, document) in documents() {
        for named in code(&document) {
            let file = named.split_whitespace().next().unwrap_or_default();
            if ours.iter().any(|folder| file.starts_with(folder)) && !file.contains(['*', '<', '{', '$']) {
                assert!(root().join(file).exists(), "{}: there is no {file}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "the paths are not seen any more: {checked}");
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = text("Makefile");
    for (path, document) in documents() {
        for named in code(&document) {
            let Some(target) = named.strip_prefix("make ").and_then(|rest| rest.split_whitespace().next()) else {
                continue;
            };
            let exists = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            assert!(exists, "{}: the Makefile has no target {target}", path.display());
        }
    }
}

#[test]
fn the_reader_of_tables_sees_what_it_is_told_to_see() {
    let document = "\n## One\n\n| A | B |\n|---|---|\n| `x` | 1 |\n\n## Two\n\n| C |\n|---|\n| y |\n";
    assert_eq!(rows(section(document, "## One")), [["`x`", "1"]]);
    assert_eq!(code("a `b` c\n```\n`no`\n```\n`d`"), ["b", "d"]);
    assert_eq!(anchor("## Not in this version"), "not-in-this-version");
    assert_eq!(links("[a](b.md) and [c](#d)"), ["b.md", "#d"]);
}
