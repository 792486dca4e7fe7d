//! The limit of open files, of a process started as a service manager starts it: with a low soft limit.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::support::{bundle, controller_ca, write};

/// An endpoint under these limits, and its log up to the line that it waits for phones, or the line after it.
struct Limited {
    child: Child,
    log: String,
}

impl Limited {
    /// Reads the log until a line holds `last`.
    fn start(folder: &Path, soft: u64, hard: u64, last: &str) -> Self {
        let script = format!("ulimit -S -n {soft}; ulimit -H -n {hard}; exec \"$0\" \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_capf"), "endpoint", "--listen", "127.0.0.1:0", "--bundle"])
            .arg(folder)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap) {
            log.push_str(&line);
            log.push('\n');
            if line.contains(last) {
                break;
            }
        }
        assert!(log.contains(last), "the endpoint ended: {log}");
        Self { child, log }
    }

    /// The soft and the hard limit of the running process.
    fn limits(&self) -> [u64; 2] {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap());
        [numbers.next().unwrap(), numbers.next().unwrap()]
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let folder = tempfile::tempdir().unwrap();
    write(&bundle(&controller_ca(), &[([127, 0, 0, 1], 1).into()]), folder.path());
    let endpoint = Limited::start(folder.path(), 64, 1000, "phones are awaited");
    assert_eq!(endpoint.limits(), [1000, 1000]);
    assert!(!endpoint.log.contains("RLIMIT_NOFILE"), "{}", endpoint.log);
}

#[test]
fn a_hard_limit_lower_than_the_connections_is_told_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let mut bundle = bundle(&controller_ca(), &[([127, 0, 0, 1], 1).into()]);
    bundle.config.connections = 5000;
    write(&bundle, folder.path());
    let endpoint = Limited::start(folder.path(), 64, 1000, "RLIMIT_NOFILE");
    for part in [" WARN ", "limits.connections", "limit=1000", "connections=5000", "raise the hard limit"] {
        assert!(endpoint.log.contains(part), "no {part}: {}", endpoint.log);
    }
}
