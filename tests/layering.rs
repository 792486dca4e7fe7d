//! The wall between the rings, which one crate does not have by itself: what each folder may not mention.

use std::fs;
use std::path::{Path, PathBuf};

/// Source files below a folder, or the file itself, with their text outside of tests and comments.
fn sources(under: &str) -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open = vec![root.join(under)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test_file(&path) {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            found.push((name, without_tests_and_comments(&fs::read_to_string(&path).unwrap())));
        }
    }
    found
}

/// Modules that are wholly under `#[cfg(test)]` where they are declared.
fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name == "tests" || name.ends_with("_tests") || name == "testing" || name == "fuzz"
}

/// The text up to the unit tests, which stand at the end of a file in this house, without whole-line comments.
fn without_tests_and_comments(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Whether `word` stands in `code` as a word or path of its own.
fn mentions(code: &str, word: &str) -> bool {
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(part_of_a_word) && !after.is_some_and(part_of_a_word)
    })
}

fn assert_silent(under: &str, words: &[&str], why: &str) {
    let found = sources(under);
    for (name, code) in &found {
        for word in words {
            assert!(!mentions(code, word), "{name} mentions {word}: {why}");
        }
    }
}

const CLOCK: [&str; 5] = ["SystemTime", "Instant::now", "Timestamp::now", "Zoned::now", "UNIX_EPOCH"];

#[test]
fn pure_rings_know_no_client_no_socket_and_no_clock() {
    for ring in ["src/api", "src/domain", "src/wire", "src/pki"] {
        assert!(!sources(ring).is_empty(), "{ring} has gone: this test looks at nothing");
        let io = ["kube::Client", "kube::Api", "Client", "Api", "tokio", "std::net", "TcpStream", "reqwest", "hyper"];
        assert_silent(ring, &io, "a pure ring does no I/O");
        assert_silent(ring, &["std::fs", "std::env", "std::process"], "a pure ring does no I/O");
        assert_silent(ring, &CLOCK, "decisions take `now` as an argument");
        assert_silent(ring, &["crate::clock"], "decisions take `now` as an argument");
        let outer = ["crate::controller", "crate::endpoint", "crate::phone", "crate::cli", "crate::telemetry"];
        assert_silent(ring, &outer, "an inner ring does not know an outer one");
    }
}

#[test]
fn the_wire_and_the_keys_do_not_know_kubernetes() {
    for ring in ["src/wire", "src/pki"] {
        assert_silent(ring, &["kube", "k8s_openapi", "crate::api", "crate::domain"], "it serves phones of any kind");
    }
}

#[test]
fn the_endpoint_does_not_know_kubernetes() {
    let why = "an endpoint holds no Kubernetes credentials and talks to controllers only";
    for place in ["src/endpoint", "src/phone"].iter().filter(|place| Path::new(place).exists()) {
        assert_silent(place, &["kube", "k8s_openapi"], why);
    }
}

#[test]
fn one_file_reads_the_clock() {
    for (name, code) in sources("src").iter().filter(|(name, _)| name != "src/clock.rs") {
        for word in ["SystemTime::now", "Timestamp::now", "Zoned::now"] {
            assert!(!mentions(code, word), "{name} mentions {word}: only src/clock.rs reads the clock");
        }
    }
}

#[test]
fn the_wall_sees_what_it_is_told_to_see() {
    assert!(mentions("use kube::{Api, Client};", "Api"));
    assert!(mentions("let t = jiff::Timestamp::now();", "Timestamp::now"));
    assert!(!mentions("struct ApiKind; fn kubeless() {}", "Api"));
    assert!(!mentions(&without_tests_and_comments("// kube\n#[cfg(test)]\nmod tests { use kube; }"), "kube"));
}
