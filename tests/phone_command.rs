//! `capf phone` as people use it: what it asks, what it shows, how it exits, and many phones at once.

mod phone_support;

use std::path::Path;

use capf::phone::{PhoneArgs, PhoneExit, StateDir, StoredMode, load::Summary, run_with};
use capf::wire::{Answer, Evidence, Question};
use clap::Parser;
use phone_support::{NAME, Reply, Server, install};
use secrecy::ExposeSecret;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    phone: PhoneArgs,
}

/// A directory with the server's CAPF.cer, and what the command line is made of.
struct Desk {
    dir: tempfile::TempDir,
    server: Server,
}

impl Desk {
    async fn new(script: impl Fn(usize, &Question) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(script).await;
        let certificate = &server.service.certificate;
        std::fs::write(dir.path().join("CAPF.cer"), certificate.der()).expect("a file");
        std::fs::write(dir.path().join("CAPF.0"), certificate.pem()).expect("a file");
        Self { dir, server }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Runs `capf phone` with these options, and returns its exit and what it showed.
    async fn run(&self, options: &[&str], typed: &str) -> (PhoneExit, String) {
        let server = self.server.address.to_string();
        let fixed = ["phone", "--server", &server, "--retry-interval", "0.02"];
        let arguments = fixed.iter().chain(options);
        let command = Command::try_parse_from(arguments).expect("a command line");
        let mut shown = Vec::new();
        let exit = run_with(&command.phone, &mut typed.as_bytes(), &mut shown).await;
        (exit, String::from_utf8(shown).expect("text"))
    }
}

fn digits(server: &Server) -> Vec<Option<String>> {
    let openings = server.asked().into_iter().filter_map(|(_, question)| match question {
        Question::Open(opening) => Some(match opening.evidence {
            Evidence::String(digits) => Some(digits.expose_secret().to_owned()),
            _ => None,
        }),
        _ => None,
    });
    openings.collect()
}

#[tokio::test]
async fn a_user_types_the_string_and_sees_pending_and_success() {
    let desk = Desk::new(|_, question| install(question)).await;
    let (ctl, state) = (desk.path("CAPF.cer"), desk.path("phone"));
    let options = ["--device-name", NAME, "--ctl", &ctl, "--state", &state];
    let (exit, shown) = desk.run(&options, "471x\n4711\n").await;
    assert_eq!(exit, PhoneExit::Fine);
    assert!(shown.starts_with("Enter authentication string: It has something else"), "{shown}");
    assert!(shown.ends_with("LSC: Pending\nLSC: Installed. Success\n"), "{shown}");
    assert!(!shown.contains("471"), "{shown}");
    assert_eq!(digits(&desk.server), [Some("4711".to_owned())]);

    let (exit, shown) = desk.run(&["--status", "--state", &state], "").await;
    assert_eq!(exit, PhoneExit::Fine);
    assert!(shown.starts_with("LSC: Installed\n  Subject    CN=SEP001122334455\n"), "{shown}");
    assert!(shown.contains("MIC: Not Installed\nCTL: Installed\n"), "{shown}");
    assert!(!shown.contains("not complete"), "{shown}");
}

#[tokio::test]
async fn a_string_may_come_from_a_file_and_the_ctl_from_pem() {
    let desk = Desk::new(|_, question| install(question)).await;
    let (ctl, file) = (desk.path("CAPF.0"), desk.path("digits"));
    std::fs::write(&file, "0815\n").unwrap();
    let options = ["--device-name", NAME, "--ctl", &ctl, "--authentication-string-file", &file];
    let (exit, shown) = desk.run(&options, "").await;
    assert_eq!((exit, shown.as_str()), (PhoneExit::Fine, "LSC: Pending\nLSC: Installed. Success\n"));
    assert_eq!(digits(&desk.server), [Some("0815".to_owned())]);
}

#[tokio::test]
async fn after_a_power_failure_the_mode_and_the_ctl_come_from_flash() {
    let desk = Desk::new(|connection, question| match connection {
        1..=4 => Reply::HangUp,
        _ => install(question),
    })
    .await;
    let (ctl, state) = (desk.path("CAPF.cer"), desk.path("phone"));
    let options = ["--device-name", NAME, "--state", &state];
    let first = [&options[..], &["--ctl", &ctl, "--null-string"]].concat();
    let (exit, shown) = desk.run(&first, "").await;
    assert_eq!(exit, PhoneExit::NoCommunication);
    assert!(shown.contains("retry 3 of 3 in 0.02 s"), "{shown}");
    assert!(shown.contains("LSC: Failure: hear server: it hung up"), "{shown}");
    let kept = StateDir::open(Path::new(&state)).unwrap();
    assert_eq!(kept.flash().unwrap(), Some(StoredMode::NullString));

    let (exit, shown) = desk.run(&options, "").await;
    assert_eq!(exit, PhoneExit::Fine, "{shown}");
    assert_eq!(kept.flash().unwrap(), None, "complete, so cleared");
    assert_eq!(digits(&desk.server)[4..], [None]);
}

#[tokio::test]
async fn a_refusal_exits_with_one_and_nothing_to_do_with_zero_but_says_so() {
    for (answer, expected, words) in [
        (Answer::Refused, PhoneExit::Refused, "LSC: Failure: refused"),
        (Answer::UnknownDevice, PhoneExit::Refused, "no device of this name"),
        (Answer::NothingScheduled, PhoneExit::Fine, "nothing is scheduled"),
    ] {
        let desk = Desk::new(move |_, _| Reply::Answer(answer.clone())).await;
        let ctl = desk.path("CAPF.cer");
        let options = ["--device-name", NAME, "--ctl", &ctl, "--null-string"];
        let (exit, shown) = desk.run(&options, "").await;
        assert_eq!(exit, expected, "{shown}");
        assert!(shown.contains(words), "{shown}");
        assert_eq!(desk.server.connections(), 1);
    }
}

#[tokio::test]
async fn without_a_ctl_or_a_string_nothing_is_sent() {
    let desk = Desk::new(|_, question| install(question)).await;
    let ctl = desk.path("CAPF.cer");
    for options in [
        &["--device-name", NAME, "--null-string"][..],
        &["--device-name", NAME, "--ctl", &ctl],
        &["--device-name", NAME, "--ctl", "/nowhere", "--null-string"],
    ] {
        assert_eq!(desk.run(options, "").await.0, PhoneExit::Usage, "{options:?}");
    }
    assert_eq!(desk.server.connections(), 0);
}

#[tokio::test]
async fn many_phones_each_with_its_name_key_and_string_come_to_one_summary() {
    let desk = Desk::new(|_, question| match question {
        Question::Open(opening) if opening.device_name.as_str().ends_with("0B") => Reply::Answer(Answer::Refused),
        other => install(other),
    })
    .await;
    let (ctl, pool) = (desk.path("CAPF.cer"), desk.path("keys.pem"));
    let (strings, state) = (desk.path("strings.csv"), desk.path("phones"));
    let lines: String = (9..15).map(|number| format!("SEP{number:012X},10{number:02}\n")).collect();
    std::fs::write(&strings, format!("device,digits\n{lines}")).unwrap();
    let options = [
        "--ctl",
        &ctl,
        "--count",
        "6",
        "--first-number",
        "9",
        "--concurrency",
        "3",
        "--key-pool",
        &pool,
        "--key-kind",
        "EC-P256",
        "--authentication-strings",
        &strings,
        "--state",
        &state,
        "--json",
        "--fault",
        "drop@key-sent:1",
    ];
    let (exit, shown) = desk.run(&options, "").await;
    assert_eq!(exit, PhoneExit::Refused, "one of them failed: {shown}");
    let last = shown.lines().last().unwrap();
    let summary: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(summary["phones"], 6);
    assert_eq!(summary["succeeded"], 5);
    assert_eq!(summary["failures"]["refused"], 1);
    assert_eq!(summary["retries"], 5);
    assert!(summary["p50Ms"].as_f64().unwrap() > 0.0);
    assert!(shown.starts_with("6 phones in "), "{shown}");

    let mut keys = desk.server.keys();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5, "no two phones have the same key");
    let mut names: Vec<_> = desk
        .server
        .asked()
        .into_iter()
        .filter_map(|(_, question)| match question {
            Question::Open(opening) => match &opening.evidence {
                Evidence::String(digits) => Some(format!("{} {}", opening.device_name, digits.expose_secret())),
                other => panic!("{other:?}"),
            },
            _ => None,
        })
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 6);
    assert_eq!(names[1], "SEP00000000000A 1010");
    let of_one = Path::new(&state).join("SEP00000000000A");
    assert!(StateDir::open(&of_one).unwrap().lsc().unwrap().is_some());
}

#[tokio::test]
async fn a_load_run_of_which_nothing_was_scheduled_is_a_failed_one() {
    let desk = Desk::new(|_, _| Reply::Answer(Answer::NothingScheduled)).await;
    let ctl = desk.path("CAPF.cer");
    let options = ["--ctl", &ctl, "--count", "2", "--key-kind", "EC-P256"];
    let (exit, shown) = desk.run(&options, "").await;
    assert_eq!(exit, PhoneExit::Refused);
    assert!(shown.contains("2 x nothing-scheduled"), "{shown}");
}

#[test]
fn an_empty_run_has_a_summary_without_times() {
    let summary = Summary::of(&[], std::time::Duration::ZERO);
    assert_eq!((summary.phones, summary.p99_ms), (0, 0.0));
}
