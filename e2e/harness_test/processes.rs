//! Guarded programs, and waiting.

use std::{fs, process::Command, time::Duration};

use super::{
    PATIENCE, all_ended,
    harness::{HarnessError, Process, eventually, is_alive},
    sleeper,
};

#[tokio::test]
async fn what_is_awaited_in_vain_is_reported_with_what_was_seen() {
    let short = Duration::from_millis(100);
    let error = eventually("pigs fly", short, || async { Err::<(), _>("they walk") }).await.unwrap_err();
    assert_eq!(error.to_string(), "pigs fly: not within 100ms; last seen: they walk");
    let error = eventually("it answers", short, std::future::pending::<bool>).await.unwrap_err();
    assert!(error.to_string().contains("never came back"), "{error}");
}

#[test]
fn a_process_is_heard_stopped_continued_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("echo.log");
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap 'echo leaving; exit 3' TERM; echo hello $NAME; pwd; while :; do sleep 0.01; done"])
        .env("NAME", "phone")
        .current_dir("/");
    let mut process = Process::start(&command, &log).unwrap();
    assert_eq!(process.wait_for_log("hello", PATIENCE).unwrap(), "hello phone");
    assert_eq!(process.wait_for_log("/", PATIENCE).unwrap(), "/");
    process.stop().unwrap();
    assert!(process.is_running());
    process.cont().unwrap();
    assert_eq!(process.terminate().unwrap(), 3);
    assert!(!process.is_running());
    assert!(!is_alive(process.pid()));
    assert_eq!(process.log(), "hello phone\n/\nleaving\n");

    // The same log again, without what stood in it.
    let mut second = Process::start(&sleeper(), &log).unwrap();
    second.wait_for_log("sleeping", PATIENCE).unwrap();
    assert_eq!(second.log(), "sleeping\n");
    second.stop().unwrap();
    second.kill().unwrap();
    assert_eq!(second.wait(PATIENCE).unwrap(), 128 + 9);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn a_dropped_process_and_what_it_started_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo $!; wait"]);
    let mut process = Process::start(&command, folder.path().join("parent.log")).unwrap();
    process.wait_for_log("", PATIENCE).unwrap();
    let grandchild: u32 = process.log().trim().parse().unwrap();
    let pid = process.pid();
    assert!(is_alive(pid) && is_alive(grandchild));
    drop(process);
    assert!(!is_alive(pid));
    all_ended(vec![grandchild]).await;
}

#[test]
fn a_program_that_does_not_exist_or_ends_early_is_reported_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let error = Process::start(&Command::new("/no/such/program"), folder.path().join("none.log")).err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, HarnessError::Ended { status: 127, .. }), "{text}");
    assert!(text.contains("/no/such/program"), "{text}");

    let mut command = Command::new("sh");
    command.args(["-c", "echo no configuration >&2; exit 4"]);
    let mut process = Process::start(&command, folder.path().join("early.log")).unwrap();
    let error = process.wait_for_log("ready", PATIENCE).unwrap_err();
    assert!(matches!(&error, HarnessError::Ended { status: 4, log, .. } if log == "no configuration"), "{error}");
}
