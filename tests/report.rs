//! The CAPF report: what selects phones, what stands in the rows, and how they are read from an API server.

mod report_support;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use capf::api::{AuthenticationMode, LscState, Reason};
use capf::cli::report::{Form, Format, Query, ReportError, Sink, Summary, write};
use capf::cli::table::Lines;
use capf::domain::report::{Column, Criteria, CsvReport, DeviceNamePattern, OperationStatus, Row, StringCell, guarded};
use report_support::{FakeServer, at, failure, list, operation, phone, phone_json, secret, with_lsc};
use serde_json::{Value, json};

const STRING_TYPE: &str = "capf.dev/authentication-string";
const NOW: &str = "2027-01-01T00:00:00Z";

#[test]
fn each_criterion_selects_and_leaves_out() {
    let pending = phone("SEP001", operation("Pending", None, None));
    let failed = phone("SEP002", operation("Failed", Some("LockedOut"), None));
    let done = phone("CSF-Ada", operation("Successful", None, None));
    let fresh = phone("ATA1", Value::Null);
    let ending = phone("SEP003", with_lsc("2027-01-11T00:00:00Z"));
    let ended = phone("SEP004", with_lsc("2026-12-31T00:00:00Z"));
    let all = [&pending, &failed, &done, &fresh, &ending, &ended];
    let any = Criteria::default;
    let name = |pattern: &str| Criteria { device_name: Some(DeviceNamePattern::new(pattern)), ..any() };
    let cases: Vec<(Criteria, &[&str])> = vec![
        (any(), &["SEP001", "SEP002", "CSF-Ada", "ATA1", "SEP003", "SEP004"]),
        (Criteria { operation_status: vec![OperationStatus::Pending], ..any() }, &["SEP001"]),
        (
            Criteria { operation_status: vec![OperationStatus::Failed, OperationStatus::Successful], ..any() },
            &["SEP002", "CSF-Ada"],
        ),
        (Criteria { operation_status: vec![OperationStatus::None], ..any() }, &["ATA1", "SEP003", "SEP004"]),
        (Criteria { reason: vec![Reason::LockedOut], ..any() }, &["SEP002"]),
        (Criteria { reason: vec![Reason::Expired], ..any() }, &[]),
        (
            Criteria { authentication_mode: vec![AuthenticationMode::ByAuthenticationString], ..any() },
            &["SEP001", "SEP002", "CSF-Ada"],
        ),
        (Criteria { authentication_mode: vec![AuthenticationMode::ByNullString], ..any() }, &[]),
        (Criteria { lsc: vec![LscState::Installed], ..any() }, &["SEP003", "SEP004"]),
        (Criteria { lsc: vec![LscState::NotInstalled], ..any() }, &[]),
        (name("sep*"), &["SEP001", "SEP002", "SEP003", "SEP004"]),
        (name("*ada"), &["CSF-Ada"]),
        (name("*F-A*"), &["CSF-Ada"]),
        (name("sep00?"), &["SEP001", "SEP002", "SEP003", "SEP004"]),
        (name("SEP001"), &["SEP001"]),
        (name("EP001"), &[]),
        (name(""), &[]),
        (Criteria { expires_before: Some(at("2027-01-01T00:00:00Z")), ..any() }, &["SEP004"]),
        (Criteria { expires_within_days: Some(0), ..any() }, &["SEP004"]),
        (Criteria { expires_within_days: Some(10), ..any() }, &["SEP004"]),
        (Criteria { expires_within_days: Some(11), ..any() }, &["SEP003", "SEP004"]),
        (Criteria { expires_within_days: Some(u32::MAX), ..any() }, &["SEP003", "SEP004"]),
        (Criteria { proxy: Some("main".into()), ..name("ATA*") }, &["ATA1"]),
        (Criteria { proxy: Some("other".into()), ..any() }, &[]),
        (Criteria { lsc: vec![LscState::Installed], expires_within_days: Some(1), ..name("*3") }, &[]),
    ];
    for (criteria, expected) in cases {
        let rows = all.iter().map(|phone| Row::from(*phone)).filter(|row| criteria.matches(row, at(NOW)));
        let found: Vec<_> = rows.map(|row| row.device_name).collect();
        assert_eq!(found, expected, "{criteria:?}");
    }
}

#[test]
fn wildcards_are_those_of_a_shell() {
    let cases = [
        ("*", "SEP1", true),
        ("**", "SEP1", true),
        ("S*P*1", "SEP11", true),
        ("S*P*1", "SEP12", false),
        ("?EP1", "SEP1", true),
        ("?SEP1", "SEP1", false),
        ("*1*1*1", "S1E1P1", true),
        ("*1*1*1*1", "S1E1P1", false),
        ("SEP1*", "SEP1", true),
        ("[S]EP1", "SEP1", false),
    ];
    for (pattern, name, expected) in cases {
        assert_eq!(DeviceNamePattern::new(pattern).matches(name), expected, "{pattern} on {name}");
    }
}

#[test]
fn a_row_tells_what_the_phone_window_tells() {
    let mut waiting = phone("SEP001", operation("Pending", None, Some("s")));
    let row = Row::from(&waiting);
    let cells: Vec<_> = Column::all(true).map(|column| column.cell(&row)).collect();
    assert_eq!(
        cells,
        [
            "voice",
            "SEP001",
            "main",
            "Install/Upgrade pending",
            "Pending",
            "",
            "By Authentication String",
            "Unknown",
            "",
            "",
            "2027-01-10T00:00:00Z",
            "Phone",
            "",
            ""
        ]
    );
    waiting.status = None;
    assert_eq!(Column::OperationStatus.cell(&Row::from(&waiting)), "No Pending Operation");
}

#[test]
fn what_a_spreadsheet_would_run_or_change_is_marked_and_nothing_else_is() {
    let marked = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r\n=1",
        "\n",
        " =1+1",
        "'quoted",
        "0012345678",
        "0000",
        "1234567890123456",
        "12e5",
        "1E10",
    ];
    for field in marked {
        assert_eq!(guarded(field.to_owned()), format!("'{field}"));
    }
    let plain =
        ["", "0", "4711", "1234567890", "SEP001", "a=b", "2027-01-10T00:00:00Z", "12ab", "e5", "Install/Upgrade"];
    for field in plain {
        assert_eq!(guarded(field.to_owned()), field);
    }
}

#[test]
fn the_csv_file_has_a_header_quotes_what_must_be_and_ends_lines_as_rfc_4180_does() {
    let mut evil = phone("SEP001", operation("Pending", None, None));
    evil.status.as_mut().unwrap().operation_status = Some("=HYPERLINK(\"x\",\"y\")".into());
    let mut out = Vec::new();
    let mut csv = CsvReport::new(&mut out, true).unwrap();
    let mut row = Row::from(&evil);
    row.authentication_string = StringCell::Digits("0012345678".to_owned().into());
    csv.row(&row).unwrap();
    csv.flush().unwrap();
    drop(csv);
    let text = String::from_utf8(out).unwrap();
    let expected = "Namespace,Device Name,Proxy,Operation Status,Phase,Reason,Authentication Mode,LSC,\
        LSC Serial Number,LSC Expires,Completes By,Requested By,Ready,Authentication String\r\n\
        voice,SEP001,main,\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\",Pending,,By Authentication String,Unknown,\
        ,,2027-01-10T00:00:00Z,Phone,,'0012345678\r\n";
    assert_eq!(text, expected);
    assert!(!format!("{row:?}").contains("0012345678"), "Debug shows the string");
}

fn form(format: Format, columns: Vec<Column>) -> Form {
    Form { format, columns, heading: String::new(), output: None }
}

async fn csv(server: &FakeServer, query: &Query) -> (String, Result<Summary, ReportError>) {
    let mut out = Vec::new();
    let form = form(Format::Csv, Column::all(query.strings).collect());
    let mut sink = Sink::new(&mut out, &form, Lines::Unbounded).unwrap();
    let summary = write(&server.cluster, query, at(NOW), &mut sink, "here").await;
    drop(sink);
    (String::from_utf8(out).unwrap(), summary)
}

fn device_names(csv: &str) -> Vec<String> {
    csv.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn no_secret_is_read_unless_asked_for_and_the_column_is_not_there() {
    let server = FakeServer::start(|_, _| async {
        list(vec![phone_json("SEP001", operation("Pending", None, Some("sep001-string")))], None)
    })
    .await;
    let (text, summary) = csv(&server, &Query::default()).await;
    assert_eq!(summary.unwrap(), Summary { rows: 1, ..Summary::default() });
    assert!(!text.lines().next().unwrap().contains("Authentication String"), "{text}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn asked_for_strings_are_shown_and_what_stands_in_their_way_is_named_and_counted() {
    let server = FakeServer::start(|_, asked| async move {
        match asked.path.rsplit('/').next().unwrap() {
            "phones" => {
                let secrets = ["good", "forbidden", "gone", "tls", "word"];
                let phones = secrets.iter().enumerate().map(|(number, name)| {
                    phone_json(&format!("SEP00{number}"), operation("Pending", None, Some(name)))
                });
                list(phones.chain([phone_json("SEP005", operation("Failed", None, None))]).collect(), None)
            }
            "good" => secret(STRING_TYPE, b"47114711\n"),
            "forbidden" => failure(403, "Forbidden", "secrets \"forbidden\" is forbidden"),
            "gone" => failure(404, "NotFound", "secrets \"gone\" not found"),
            "tls" => secret("kubernetes.io/tls", b"12345"),
            "word" => secret(STRING_TYPE, b"password"),
            other => panic!("asked for {other}"),
        }
    })
    .await;
    let (text, summary) = csv(&server, &Query { strings: true, ..Query::default() }).await;
    let cells: Vec<_> = text.lines().skip(1).map(|line| line.rsplit(',').next().unwrap()).collect();
    assert_eq!(cells, ["47114711", "<forbidden>", "<missing>", "<unusable>", "<unusable>", ""]);
    assert!(!text.contains("12345") && !text.contains("password"));
    let summary = summary.unwrap();
    assert_eq!(summary, Summary { rows: 6, forbidden: 1, missing: 1, unusable: 2, expired: 0 });
    assert!(summary.notes().iter().any(|note| note.contains("resources: [secrets], verbs: [get]")));
}

#[tokio::test]
async fn secrets_of_phones_that_are_not_shown_are_not_read() {
    let server = FakeServer::start(|_, asked| async move {
        match asked.path.rsplit('/').next().unwrap() {
            "phones" => list(
                vec![
                    phone_json("SEP001", operation("Pending", None, Some("one"))),
                    phone_json("SEP002", operation("Pending", None, Some("two"))),
                ],
                None,
            ),
            _ => secret(STRING_TYPE, b"4711"),
        }
    })
    .await;
    let criteria = Criteria { device_name: Some(DeviceNamePattern::new("*2")), ..Criteria::default() };
    let (text, _) = csv(&server, &Query { criteria, strings: true, ..Query::default() }).await;
    assert_eq!(device_names(&text), ["SEP002"]);
    let read: Vec<_> = server.asked().into_iter().map(|asked| asked.path).filter(|p| p.contains("secrets")).collect();
    assert_eq!(read, ["/api/v1/namespaces/voice/secrets/two"]);
}

#[tokio::test]
async fn at_most_sixteen_secrets_are_read_at_the_same_time_and_rows_keep_their_order() {
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let server = FakeServer::start(|_, asked| async move {
        if asked.path.ends_with("phones") {
            let phones = (0..60).map(|n| phone_json(&format!("SEP{n:03}"), operation("Pending", None, Some("s"))));
            return list(phones.collect(), None);
        }
        MOST.fetch_max(OPEN.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        OPEN.fetch_sub(1, Ordering::SeqCst);
        secret(STRING_TYPE, b"4711")
    })
    .await;
    let (text, _) = csv(&server, &Query { strings: true, ..Query::default() }).await;
    let expected: Vec<_> = (0..60).map(|n| format!("SEP{n:03}")).collect();
    assert_eq!(device_names(&text), expected);
    let most = MOST.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most} at the same time");
}

/// Counts the octets that were written through it.
struct Counting(Arc<AtomicUsize>);

impl Write for Counting {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(octets.len(), Ordering::SeqCst);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn ten_thousand_phones_are_never_held_together() {
    const PHONES: usize = 10_000;
    let written = Arc::new(AtomicUsize::new(0));
    for format in [Format::Csv, Format::Table] {
        written.store(0, Ordering::SeqCst);
        let seen = Arc::clone(&written);
        let server = FakeServer::start(move |number, asked| {
            // Before a page is asked for, all rows of those before it have gone out.
            let rows_before = number * 500;
            assert!(seen.load(Ordering::SeqCst) >= rows_before * 30, "page {number} was asked for too early");
            async move {
                let limit: usize = asked.query["limit"].parse().unwrap();
                assert_eq!(limit, 500);
                let from: usize = asked.query.get("continue").map_or(0, |token| token.parse().unwrap());
                let phones = (from..from + limit).map(|n| phone_json(&format!("SEP{n:05}"), Value::Null));
                let next = (from + limit < PHONES).then(|| (from + limit).to_string());
                list(phones.collect(), next.as_deref())
            }
        })
        .await;
        let columns = vec![Column::DeviceName, Column::OperationStatus];
        let form = form(format, columns);
        let mut sink = Sink::new(Counting(Arc::clone(&written)), &form, Lines::Unbounded).unwrap();
        let summary = write(&server.cluster, &Query::default(), at(NOW), &mut sink, "here").await.unwrap();
        assert_eq!(summary.rows, PHONES as u64);
        assert_eq!(server.asked().len(), PHONES / 500);
    }
}

fn phones(numbers: std::ops::Range<usize>) -> Vec<Value> {
    numbers.map(|n| phone_json(&format!("SEP{n:03}"), Value::Null)).collect()
}

#[tokio::test]
async fn a_list_that_expires_goes_on_where_the_api_server_says() {
    let server = FakeServer::start(|number, asked| async move {
        match number {
            0 => list(phones(0..3), Some("old")),
            1 => {
                let (code, mut status) = failure(410, "Expired", "The provided continue parameter is too old");
                status["metadata"] = json!({"continue": "new"});
                (code, status)
            }
            _ => {
                assert_eq!(asked.query["continue"], "new");
                list(phones(3..5), None)
            }
        }
    })
    .await;
    let (text, summary) = csv(&server, &Query::default()).await;
    assert_eq!(device_names(&text), ["SEP000", "SEP001", "SEP002", "SEP003", "SEP004"]);
    let summary = summary.unwrap();
    assert_eq!(summary.expired, 1);
    assert!(summary.notes().iter().any(|note| note.contains("expired")));
}

#[tokio::test]
async fn a_list_that_expires_without_a_word_begins_anew_and_shows_no_phone_twice() {
    let server = FakeServer::start(|number, asked| async move {
        match number {
            0 => list(phones(0..3), Some("old")),
            1 => failure(410, "Expired", "The provided continue parameter is too old"),
            2 => {
                assert!(!asked.query.contains_key("continue"));
                list(phones(0..4), Some("next"))
            }
            _ => list(phones(4..6), None),
        }
    })
    .await;
    let (text, _) = csv(&server, &Query::default()).await;
    assert_eq!(device_names(&text), ["SEP000", "SEP001", "SEP002", "SEP003", "SEP004", "SEP005"]);
}

#[tokio::test]
async fn a_list_that_always_expires_ends_the_report() {
    let server = FakeServer::start(|_, _| async { failure(410, "Expired", "too old") }).await;
    let error = csv(&server, &Query::default()).await.1.unwrap_err().to_string();
    assert!(error.contains("listing Phones") && error.contains("expired"), "{error}");
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn an_api_server_without_capacity_is_asked_again_and_one_that_refuses_is_not() {
    let server = FakeServer::start(|number, _| async move {
        match number {
            0 => failure(429, "TooManyRequests", "slow down"),
            _ => list(phones(0..1), None),
        }
    })
    .await;
    assert_eq!(csv(&server, &Query::default()).await.1.unwrap().rows, 1);

    let server = FakeServer::start(|_, _| async { failure(403, "Forbidden", "phones.capf.dev is forbidden") }).await;
    let error = csv(&server, &Query::default()).await.1.unwrap_err().to_string();
    assert!(error.contains("phones.capf.dev is forbidden") && error.contains("Role"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_cluster_without_the_crds_is_told_how_to_get_them() {
    let server = FakeServer::start(|_, _| async { failure(404, "NotFound", "the server could not find it") }).await;
    let error = csv(&server, &Query::default()).await.1.unwrap_err().to_string();
    assert!(error.contains("capf crds | kubectl apply -f -"), "{error}");
}

#[tokio::test]
async fn what_the_api_server_can_select_is_left_to_it() {
    let server = FakeServer::start(|_, _| async { list(Vec::new(), None) }).await;
    let criteria = Criteria {
        operation_status: vec![OperationStatus::Pending],
        proxy: Some("main".into()),
        ..Criteria::default()
    };
    let (_, summary) = csv(&server, &Query { criteria, labels: Some("site=hq".into()), ..Query::default() }).await;
    assert_eq!(summary.unwrap().notes(), ["No phones found."]);
    let asked = server.asked().remove(0);
    assert_eq!(asked.query["fieldSelector"], "spec.proxyRef.name=main,status.operation.phase=Pending");
    assert_eq!(asked.query["labelSelector"], "site=hq");
    assert_eq!(asked.path, "/apis/capf.dev/v1alpha1/namespaces/voice/phones");
}
