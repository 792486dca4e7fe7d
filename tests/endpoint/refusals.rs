//! What no phone should do: each ends with its reason in the log and END_SESSION 7, while another phone is served beside it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use capf::wire::{Command, Reason, SessionId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::logs::Logs;
use super::phone::{Line, auth_res, element, frame, key_response};
use super::support::{CERTIFICATE, LIMITS, Running};

/// How far a session is when it goes wrong.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Greeted,
    AskedForKey,
    GivenCertificate,
}
use Stage::{AskedForKey, GivenCertificate, Greeted};

/// What is sent then.
enum Wrong {
    Bytes(Vec<u8>),
    Frame(u8, Vec<u8>),
    /// As `Frame`, of another session.
    Foreign(u8, Vec<u8>),
}
use Wrong::{Bytes, Foreign, Frame};

type Row = (&'static str, Stage, Wrong, &'static str);

#[tokio::test]
async fn every_malformed_session_ends_with_its_reason_while_another_phone_enrols() {
    let (logs, endpoint) = (Logs::begin(), Running::begin());
    let mut good = Line::connect(endpoint.address).await.unwrap();
    let id = good.present("GOOD").await;
    assert_eq!(good.frame().await.command(), Command::KEY_GENERATE_REQ);

    let rows = [streams(), elements(), turns()].concat_rows();
    assert!(rows.len() >= 50, "{} rows", rows.len());
    for (name, stage, wrong, expected) in rows {
        let mut line = Line::connect(endpoint.address).await.unwrap();
        let id = reach(&mut line, stage).await;
        let bytes = match wrong {
            Bytes(bytes) => bytes,
            Frame(command, body) => frame(command, id, &body),
            Foreign(command, body) => frame(command, SessionId(id.0 ^ 0x100), &body),
        };
        line.send(&bytes).await;
        assert_eq!(line.end().await, Some(Reason::INVALID_ELEMENT), "{name}");
        let end = logs.end_of(line.address()).await;
        assert!(end.contains(expected), "{name}: {end}");
        assert!(end.contains(": refuse phone: "), "{name}: {end}");
    }

    good.send(&key_response(id)).await;
    let certificate = good.frame().await;
    assert_eq!(certificate.command(), Command::STORE_CERT_REQ);
    assert!(certificate.body().ends_with(&CERTIFICATE));
    good.send(&frame(10, id, &element(1, &[1]))).await;
    assert_eq!(good.end().await, Some(Reason::OK));
    assert!(!logs.text().contains("report this fault"));
}

async fn reach(line: &mut Line, stage: Stage) -> SessionId {
    match stage {
        Greeted => line.frame().await.session_id(),
        AskedForKey => {
            let id = line.present("SEP001").await;
            assert_eq!(line.frame().await.command(), Command::KEY_GENERATE_REQ);
            id
        }
        GivenCertificate => {
            let id = line.present_with_key("SEP001").await;
            assert_eq!(line.frame().await.command(), Command::STORE_CERT_REQ);
            id
        }
    }
}

/// Bytes that are no frame of the session.
#[rustfmt::skip] // one row a line
fn streams() -> Vec<Row> {
    let (frames, session) = ("end=\"malformed_frame\"", "end=\"wrong_session\"");
    let head = |command, length: u16| {
        let [high, low] = length.to_be_bytes();
        Bytes(vec![0x55, command, 0, 0, 0, 1, high, low])
    };
    vec![
        ("an HTTP request", Greeted, Bytes(b"GET / HTTP/1.1\r\nHost: capf\r\n\r\n".to_vec()), frames),
        ("one wrong byte", Greeted, Bytes(vec![0x54]), frames),
        ("zeros", Greeted, Bytes(vec![0; 8]), frames),
        ("64 KiB of noise", Greeted, Bytes(vec![0xaa; 0x10000]), frames),
        ("TLS inside TLS", Greeted, Bytes(vec![0x16, 3, 1, 2, 0]), frames),
        ("an endless AUTH_RES", Greeted, head(2, 0xffff), frames),
        ("an AUTH_RES one byte too long", Greeted, head(2, 0x4001), frames),
        ("a key one byte too long", Greeted, head(4, 0x2001), frames),
        ("a long answer of one number", Greeted, head(10, 257), frames),
        ("a long progress report", Greeted, head(17, 257), frames),
        ("a long unknown command", Greeted, head(255, 257), frames),
        ("noise where a key is due", AskedForKey, Bytes(vec![0]), frames),
        ("noise where an answer is due", GivenCertificate, Bytes(vec![0x30; 4000]), frames),
        ("another session's AUTH_RES", Greeted, Foreign(2, vec![]), session),
        ("another session's unknown command", Greeted, Foreign(99, vec![]), session),
        ("another session's key", AskedForKey, Foreign(4, element(9, &[1])), session),
        ("another session's progress", AskedForKey, Foreign(17, vec![]), session),
        ("another session's abort", AskedForKey, Foreign(20, vec![]), session),
        ("another session's answer", GivenCertificate, Foreign(10, element(1, &[1])), session),
    ]
}

/// Frames that are no message.
#[rustfmt::skip] // one row a line
fn elements() -> Vec<Row> {
    let malformed = "end=\"malformed_message\"";
    let (version, name) = (element(7, &[3]), element(13, b"SEP001\0"));
    let auth = |body: &[u8]| Frame(2, body.to_vec());
    let with = |more: &[u8]| Frame(2, [&version, &name, more].concat());
    let named = |text: &[u8]| Frame(2, [&version[..], &element(13, text)].concat());
    vec![
        ("an empty AUTH_RES", Greeted, auth(&[]), malformed),
        ("no version", Greeted, auth(&name), malformed),
        ("no name", Greeted, auth(&version), malformed),
        ("a tag alone", Greeted, with(&[1]), malformed),
        ("half a length", Greeted, with(&[1, 0]), malformed),
        ("a value cut short", Greeted, with(&[1, 0, 2, 1]), malformed),
        ("an unknown element cut short", Greeted, with(&[99, 255, 255, 1]), malformed),
        ("two versions", Greeted, with(&version), malformed),
        ("two names", Greeted, with(&name), malformed),
        ("two strings", Greeted, with(&[element(11, b"1\0"), element(11, b"2\0")].concat()), malformed),
        ("a reason of four bytes", Greeted, with(&element(1, &[0, 0, 0, 1])), malformed),
        ("a name without NUL", Greeted, named(b"SEP001"), malformed),
        ("a name that is empty", Greeted, named(b"\0"), malformed),
        ("a name with two NULs", Greeted, named(b"SEP001\0\0"), malformed),
        ("a name that is no text", Greeted, named(b"SEP\xff\0"), malformed),
        ("a long name", Greeted, named(b"SEP0000000000001\0"), malformed),
        ("an endless name", Greeted, named(&[[b'A'; 9000].as_slice(), b"\0"].concat()), malformed),
        ("a name that is a path", Greeted, named(b"../secret\0"), malformed),
        ("a name with a line break", Greeted, named(b"SEP\nend=\0"), malformed),
        ("an endless string", Greeted, with(&element(11, &[[b'1'; 65].as_slice(), b"\0"].concat())), malformed),
        ("a string without NUL", Greeted, with(&element(11, b"123456")), malformed),
        ("an empty certificate", Greeted, with(&element(4, &[])), malformed),
        ("an empty signature", Greeted, with(&element(6, &[])), malformed),
        ("SUDI data without a certificate", Greeted, with(&element(16, &[1, 0, 1, 9])), malformed),
        ("neither key nor reason", AskedForKey, Frame(4, vec![]), malformed),
        ("an empty key", AskedForKey, Frame(4, element(9, &[])), malformed),
        ("two keys", AskedForKey, Frame(4, [element(9, &[1]), element(9, &[2])].concat()), malformed),
        ("an answer without a reason", GivenCertificate, Frame(10, vec![]), malformed),
        ("an answer with an empty reason", GivenCertificate, Frame(10, element(1, &[])), malformed),
        ("a version of the future", Greeted, auth(&[element(7, &[4]), name.clone()].concat()), "end=\"unsupported_version\""),
    ]
}

/// Messages out of turn.
#[rustfmt::skip] // one row a line
fn turns() -> Vec<Row> {
    let unexpected = "end=\"unexpected_command\"";
    let ok = || element(1, &[1]);
    vec![
        ("a greeting from a phone", Greeted, Frame(1, element(7, &[3])), unexpected),
        ("a key before AUTH_RES", Greeted, Frame(4, element(9, &[1])), unexpected),
        ("progress before AUTH_RES", Greeted, Frame(17, vec![]), unexpected),
        ("an abort before AUTH_RES", Greeted, Frame(20, vec![]), unexpected),
        ("an end from a phone", Greeted, Frame(15, ok()), unexpected),
        ("an unknown command", Greeted, Frame(0xee, vec![]), unexpected),
        ("AUTH_RES again", AskedForKey, Frame(2, vec![]), unexpected),
        ("stored before there is a certificate", AskedForKey, Frame(10, ok()), unexpected),
        ("deleted where a key is due", AskedForKey, Frame(14, ok()), unexpected),
        ("a second key", GivenCertificate, Frame(4, element(9, &[1])), unexpected),
        ("progress while storing", GivenCertificate, Frame(17, vec![]), unexpected),
        ("fetched where stored is due", GivenCertificate, Frame(12, ok()), unexpected),
    ]
}

/// Puts tables together.
trait Tables {
    fn concat_rows(self) -> Vec<Row>;
}

impl<const N: usize> Tables for [Vec<Row>; N] {
    fn concat_rows(self) -> Vec<Row> {
        self.into_iter().flatten().collect()
    }
}

#[tokio::test]
async fn a_phone_that_says_two_things_at_once_is_refused_and_the_authority_not_asked() {
    let (logs, endpoint) = (Logs::begin(), Running::begin());
    let mut line = Line::connect(endpoint.address).await.unwrap();
    let id = line.frame().await.session_id();
    let twice = [auth_res(id, 3, "SEP001"), auth_res(id, 3, "SEP001")].concat();
    line.send(&twice).await;
    assert_eq!(line.end().await, Some(Reason::INVALID_ELEMENT));
    let end = logs.end_of(line.address()).await;
    assert!(end.contains("end=\"unexpected_command\""), "{end}");
    assert!(endpoint.authority.asked().is_empty());
}

#[tokio::test]
async fn a_silent_connection_is_closed_when_the_time_for_tls_is_over() {
    let logs = Logs::begin();
    let mut limits = LIMITS;
    limits.handshake = Duration::from_millis(500);
    let endpoint = Running::with(limits, Duration::ZERO);
    let mut silent = TcpStream::connect(endpoint.address).await.unwrap();
    let began = Instant::now();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    let took = began.elapsed();
    assert!((450..30_000).contains(&took.as_millis()), "{took:?}");
    let end = logs.end_of(silent.local_addr().unwrap()).await;
    assert!(end.contains("end=\"handshake_deadline\""), "{end}");
}

#[tokio::test]
async fn silent_connections_hold_nobody_up() {
    let mut limits = LIMITS;
    limits.handshake = Duration::from_secs(30);
    let endpoint = Running::with(limits, Duration::ZERO);
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(endpoint.address).await.unwrap());
    }
    let began = Instant::now();
    let mut line = Line::connect(endpoint.address).await.unwrap();
    assert_eq!(line.frame().await.command(), Command::AUTH_REQ);
    assert!(began.elapsed() < limits.handshake, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_peer_without_tls_is_refused_in_the_log() {
    let (logs, endpoint) = (Logs::begin(), Running::begin());
    let mut plain = TcpStream::connect(endpoint.address).await.unwrap();
    plain.write_all(b"\x55\x02 no TLS, no session").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    let end = logs.end_of(plain.local_addr().unwrap()).await;
    assert!(end.contains("end=\"handshake_failed\""), "{end}");
}

#[tokio::test]
async fn a_phone_that_says_nothing_is_left_when_its_time_is_over() {
    let logs = Logs::begin();
    let mut limits = LIMITS;
    limits.answer = Duration::from_secs(1);
    let endpoint = Running::with(limits, Duration::ZERO);
    let mut line = Line::connect(endpoint.address).await.unwrap();
    assert_eq!(line.frame().await.command(), Command::AUTH_REQ);
    assert_eq!(line.end().await, None);
    let end = logs.end_of(line.address()).await;
    assert!(end.contains("AUTH_RES (2) did not come in time"), "{end}");
}

#[tokio::test]
async fn a_phone_that_hangs_up_leaves_a_line_that_says_where() {
    let (logs, endpoint) = (Logs::begin(), Running::begin());
    let mut line = Line::connect(endpoint.address).await.unwrap();
    let address = line.address();
    line.present("SEP001").await;
    assert_eq!(line.frame().await.command(), Command::KEY_GENERATE_REQ);
    line.send(&[0x55, 4]).await;
    drop(line);
    let end = logs.end_of(address).await;
    assert!(end.contains("end=\"hung_up\"") && end.contains("after byte 2 of 8"), "{end}");
}

#[tokio::test]
async fn sessions_have_unlike_numbers() {
    let endpoint = Running::begin();
    let mut numbers = HashSet::new();
    let mut lines = Vec::new();
    for _ in 0..20 {
        let mut line = Line::connect(endpoint.address).await.unwrap();
        assert!(numbers.insert(line.frame().await.session_id()));
        lines.push(line);
    }
}
