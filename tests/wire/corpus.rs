//! The inputs fuzzers begin with: made from the captures and a list of nasty ones, committed, and run by every test.
//!
//! To make the files anew after a change here: `CAPF_WRITE_CORPUS=1 cargo test --test wire corpus`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

use capf::wire::{Action, Answer, Command, KeyRequest, ServerSession, Waiting, fuzz};

use crate::support::{Captured, Speaker, captures, decode, element, frame, hex};

/// A fuzz target.
type Target = fn(&[u8]);

/// The targets, by the names of their folders.
const TARGETS: [(&str, Target); 4] = [
    ("frame", fuzz::fuzz_frame),
    ("message", fuzz::fuzz_message),
    ("server_session", fuzz::fuzz_server_session),
    ("phone_session", fuzz::fuzz_phone_session),
];

/// Inputs by target and file name.
type Corpus = BTreeMap<(&'static str, String), Vec<u8>>;

#[test]
fn the_committed_corpus_is_what_the_captures_and_the_nasty_ones_make() {
    let made = corpus();
    if env::var_os("CAPF_WRITE_CORPUS").is_some() {
        write(&made);
    }
    let mut committed = Corpus::new();
    for (target, _) in TARGETS {
        for entry in fs::read_dir(folder(target)).expect("the corpus has a folder a target") {
            let path = entry.expect("a file").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            committed.insert((target, name), fs::read(&path).expect("a readable file"));
        }
    }
    let names = |corpus: &Corpus| corpus.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&committed), names(&made), "write the corpus anew, see the top of this file");
    for (key, bytes) in &made {
        assert_eq!(committed.get(key), Some(bytes), "{key:?}: write the corpus anew");
    }
}

#[test]
fn no_input_of_the_corpus_makes_its_target_panic_nor_any_other() {
    for bytes in corpus().values() {
        for (_, target) in TARGETS {
            target(bytes);
        }
    }
}

#[test]
fn no_input_of_the_corpus_with_one_byte_changed_or_cut_makes_its_target_panic() {
    for ((name, _), bytes) in corpus() {
        let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).expect("a target");
        // Certificates are long and opaque: beyond the first bytes a few places stand for all.
        let places = (0..bytes.len()).filter(|at| *at < 64 || at % 97 == 0);
        for at in places {
            target(&bytes[..at]);
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                target(&changed);
            }
        }
    }
}

fn corpus() -> Corpus {
    let mut corpus = Corpus::new();
    let mut add = |target, name: &str, bytes| {
        assert_eq!(corpus.insert((target, name.to_owned()), bytes), None, "{target}/{name} is made twice");
    };
    for capture in captures() {
        let name = capture.name.split([' ', ',']).next().unwrap_or_default();
        add("frame", &format!("{name}-phone"), capture.stream(Speaker::Phone));
        add("frame", &format!("{name}-server"), capture.stream(Speaker::Server));
        add("server_session", name, server_script(&capture));
        add("phone_session", name, phone_script(&capture));
    }
    let mut seen = BTreeSet::new();
    for capture in captures() {
        let name = capture.name.split([' ', ',']).next().unwrap_or_default();
        for (index, (_, bytes)) in capture.frames.iter().enumerate() {
            let input = [&bytes[1..2], &bytes[8..]].concat();
            if seen.insert(input.clone()) {
                add("message", &format!("{name}-{index}"), input);
            }
        }
    }
    for (name, bytes) in nasty_streams() {
        add("frame", name, bytes);
    }
    for (name, command, body) in nasty_bodies() {
        add("message", name, [&[command.0][..], &body].concat());
        add("server_session", name, script_of_frame(command, &body));
    }
    for (name, digits) in [
        ("aborts", "030c00 0314 00 0100 010d"),
        ("deadline-first", "02"),
        ("progress-forever", "0100 031100 031100 031100 031100 02 010d"),
        ("answers-only", "0100 0101 0102 0103 0104 0105 0106 0107 0108 0109 010a 010b 010c 010d"),
    ] {
        add("server_session", name, hex(digits));
        add("phone_session", name, hex(digits));
    }
    corpus
}

/// The phone's frames as bytes, and after each the answers to what it leads to.
fn server_script(capture: &Captured) -> Vec<u8> {
    let mut script = Vec::new();
    let (mut session, _) = ServerSession::start(fuzz::SESSION);
    for bytes in capture.said_by(Speaker::Phone) {
        let bytes = of_session_one(bytes);
        script.extend(feed(&bytes));
        let mut actions;
        (session, actions) = session.on_frame(decode(Speaker::Phone, &bytes));
        while let Some(Action::Ask(question)) = actions.pop() {
            let number = server_number(&capture.answer(&question));
            script.extend([1, number]);
            (session, actions) = session.on_answer(fuzz::server_answer(number));
        }
    }
    // A script that derails early would leave a fuzzer at the door.
    assert_eq!(session.waiting_for(), Waiting::Nothing, "{}", capture.name);
    script
}

/// The number of an answer in `fuzz_server_session`.
fn server_number(answer: &Answer) -> u8 {
    match answer {
        Answer::Install { key: KeyRequest::Rsa { .. } } => 0,
        Answer::Install { key: KeyRequest::Ec(_) } => 1,
        Answer::Delete => 4,
        Answer::Fetch { .. } => 5,
        Answer::NothingScheduled => 7,
        Answer::UnknownDevice => 8,
        Answer::Refused => 9,
        Answer::Unavailable => 10,
        Answer::Issued { .. } => 11,
        Answer::Recorded => 13,
    }
}

/// The server's frames as bytes, and after each what the driver of the phone does about it.
fn phone_script(capture: &Captured) -> Vec<u8> {
    let mut script = Vec::new();
    for bytes in capture.said_by(Speaker::Server) {
        script.extend(feed(&of_session_one(bytes)));
        match Command(bytes[1]) {
            Command::AUTH_REQ => script.extend([1, 1]),
            Command::KEY_GENERATE_REQ => script.extend([1, 5, 1, 2]),
            Command::STORE_CERT_REQ => script.extend([1, 6]),
            Command::DELETE_CERT_REQ => script.extend([1, 8]),
            Command::FETCH_CERT_REQ => script.extend([1, 11]),
            _ => {}
        }
    }
    script
}

/// The same frame in the session that is fuzzed.
fn of_session_one(bytes: &[u8]) -> Vec<u8> {
    [&bytes[..2], &fuzz::SESSION.0.to_be_bytes(), &bytes[6..]].concat()
}

/// The opcode for bytes from the other side.
fn feed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a frame is short").to_be_bytes();
    [&[0][..], &length, bytes].concat()
}

/// A script of one frame as bytes, so that its body may be long.
fn script_of_frame(command: Command, body: &[u8]) -> Vec<u8> {
    feed(&frame(command, body).encode())
}

fn nasty_streams() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("empty", vec![]),
        ("half-header", hex("5502")),
        ("http", b"GET / HTTP/1.1\r\nHost: capf\r\n\r\n".to_vec()),
        ("tls-client-hello", hex("160301004a010000460303")),
        ("endless-auth-res", hex("550200000001ffff")),
        ("longest-auth-res", [hex("5502000000014000"), vec![0; 0x4000]].concat()),
        ("noise-after-frame", hex("551100000001000000")),
        ("many-empty-frames", hex("5511000000010000").repeat(50)),
        ("magic-in-body", hex("550a00000001000455555555550a000000010000")),
    ]
}

fn nasty_bodies() -> Vec<(&'static str, Command, Vec<u8>)> {
    let auth = [element(7, &[3]), element(13, b"SEP58971ECC97C1\0")].concat();
    let with = |extra: &[u8]| [&auth[..], extra].concat();
    let auth_res = Command::AUTH_RES;
    vec![
        ("nasty-empty-auth", auth_res, vec![]),
        ("nasty-tag-alone", auth_res, with(&[4])),
        ("nasty-length-over-end", auth_res, with(&[4, 0xff, 0xff, 0])),
        ("nasty-name-without-nul", auth_res, [element(7, &[2]), element(13, b"SEP1")].concat()),
        ("nasty-name-of-nuls", auth_res, [element(7, &[2]), element(13, &[0; 15])].concat()),
        ("nasty-name-not-text", auth_res, [element(7, &[2]), element(13, b"\xff\xfe\xfd\0")].concat()),
        ("nasty-all-elements-empty", auth_res, (0..=255).flat_map(|tag| element(tag, &[])).collect()),
        ("nasty-thousand-unknown", auth_res, with(&element(0xee, &[]).repeat(1000))),
        ("nasty-certificate-inner-length", auth_res, with(&element(4, &[1, 0xff, 0xff, 0, 1, 0x30]))),
        ("nasty-sudi-nothing-inside", auth_res, with(&element(16, &[]))),
        ("nasty-sudi-cut", auth_res, with(&element(16, &[0, 0, 1, 9, 1, 1, 0]))),
        (
            "nasty-sudi-many",
            auth_res,
            with(&element(16, &(0..=9).flat_map(|tag| element(tag, &[9])).collect::<Vec<_>>())),
        ),
        ("nasty-version-nine", auth_res, [element(7, &[9]), element(13, b"SEP1\0")].concat()),
        ("nasty-version-two", auth_res, [element(7, &[2]), element(13, b"csfjdoe\0"), element(1, &[1])].concat()),
        ("nasty-key-and-failure", Command::KEY_GENERATE_RES, [element(1, &[9]), element(9, &[0x30])].concat()),
        ("nasty-ok-without-certificate", Command::FETCH_CERT_RES, element(1, &[1])),
        ("nasty-other", Command::SIGN_CERT_RES, vec![0xff; 200]),
    ]
}

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "corpus", "wire", target].iter().collect()
}

fn write(corpus: &Corpus) {
    for (target, _) in TARGETS {
        // Files of names no longer made go too.
        let _ = fs::remove_dir_all(folder(target));
        fs::create_dir_all(folder(target)).expect("make a folder of the corpus");
    }
    for ((target, name), bytes) in corpus {
        fs::write(folder(target).join(name), bytes).expect("write a file of the corpus");
    }
}
