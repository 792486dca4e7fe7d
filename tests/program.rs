//! The program as a process: what it says it is, and `capf pause`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_capf");

/// Looks until it is so.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_says_its_version_also_of_each_subcommand() {
    for arguments in [&["--version"][..], &["controller", "--version"]] {
        let output = Command::new(PROGRAM).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(said.trim_end().ends_with(capf::version::version()), "{said}");
        assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    }
}

/// Whether a process handles SIGTERM itself, by the mask of handled signals in its status.
fn handles_sigterm(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (15 - 1) != 0
}

#[test]
fn a_pause_takes_note_of_children_that_end_and_ends_when_it_is_told_to() {
    // A child that the shell leaves to what it becomes, and that ends when this test closes its standard input.
    let script = "exec 3<&0; cat <&3 & echo $!; exec 3<&- </dev/null \"$0\" pause";
    let mut pause = Command::new("sh")
        .args(["-c", script, PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let mut line = String::new();
    BufReader::new(pause.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child = format!("/proc/{}", line.trim());
    assert!(Path::new(&child).exists());
    eventually("it waits", || handles_sigterm(pause.id()));
    assert!(Path::new(&child).exists());

    drop(pause.stdin.take());
    // A child whose end nobody has taken note of would still be there, as a zombie.
    eventually("the child is gone", || !Path::new(&child).exists());
    assert!(pause.try_wait().unwrap().is_none(), "it has ended with its child");

    let pid = Pid::from_raw(i32::try_from(pause.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let mut status = None;
    eventually("it ends", || {
        status = pause.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?}");
}
