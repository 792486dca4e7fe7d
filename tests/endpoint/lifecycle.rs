//! The endpoint as a process: its limit, its end, and a bundle that changes under it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use capf::authority::bundle::{Bundle, files};
use capf::endpoint::reload::{Fingerprint, follow};
use capf::endpoint::{Endpoint, EndpointError, EndpointOptions, Service, run};
use capf::telemetry::server::HttpArgs;
use capf::wire::{Command, Evidence, Reason, Version};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::logs::Logs;
use super::phone::{Line, element, frame, key_response};
use super::remote::Controller;
use super::support::{CERTIFICATE, Fake, LIMITS, Running, bundle, controller_ca, service_pair, write};

#[tokio::test]
async fn an_open_session_finishes_while_the_endpoint_stops_and_no_new_one_begins() {
    let endpoint = Running::begin();
    let address = endpoint.address;
    let mut line = Line::connect(address).await.unwrap();
    let id = line.present("SEP001").await;
    assert_eq!(line.frame().await.command(), Command::KEY_GENERATE_REQ);

    let mut stopped = endpoint.stop();
    until_refused(address).await;
    let early = tokio::time::timeout(Duration::from_millis(100), &mut stopped).await;
    assert!(early.is_err(), "it waits for the session");

    line.send(&key_response(id)).await;
    assert_eq!(line.frame().await.command(), Command::STORE_CERT_REQ);
    line.send(&frame(10, id, &element(1, &[1]))).await;
    assert_eq!(line.end().await, Some(Reason::OK));
    drop(line);
    assert_eq!(stopped.await.unwrap(), 0);
}

/// Waits until the port is closed. A connection in the kernel's queue at that moment is reset, those after it are refused.
async fn until_refused(address: SocketAddr) {
    for _ in 0..200 {
        match TcpStream::connect(address).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{address} still takes connections");
}

#[tokio::test]
async fn a_session_that_outlasts_the_drain_is_cut_off() {
    let logs = Logs::begin();
    let endpoint = Running::with(LIMITS, Duration::from_millis(100));
    let mut line = Line::connect(endpoint.address).await.unwrap();
    line.present("SEP001").await;
    assert_eq!(line.frame().await.command(), Command::KEY_GENERATE_REQ);
    assert_eq!(endpoint.stop().await.unwrap(), 1);
    logs.line(&["WARN", "the time to finish is over", "open=1"]).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_unanswered_with_one_line() {
    let logs = Logs::begin();
    let mut limits = LIMITS;
    limits.connections = 1;
    let endpoint = Running::with(limits, Duration::ZERO);
    let mut first = Line::connect(endpoint.address).await.unwrap();
    assert_eq!(first.frame().await.command(), Command::AUTH_REQ);
    for _ in 0..5 {
        let mut beyond = TcpStream::connect(endpoint.address).await.unwrap();
        assert_eq!(beyond.read(&mut [0; 1]).await.unwrap(), 0);
    }
    let lines = logs.text().matches("closed unanswered").count();
    assert_eq!(lines, 1, "{}", logs.text());

    drop(first);
    for _ in 0..200 {
        if Line::connect(endpoint.address).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a place that is free again is not given to anyone");
}

/// A connection from another block of this machine's own addresses.
async fn stranger(endpoint: &Running, own: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((own, 0).into()).unwrap();
    socket.connect(endpoint.address).await.unwrap()
}

#[tokio::test]
async fn a_crowd_of_strangers_makes_room_for_phones_of_other_blocks() {
    let logs = Logs::begin();
    let mut limits = LIMITS;
    (limits.connections, limits.handshake) = (4, Duration::from_secs(60));
    let endpoint = Running::with(limits, Duration::ZERO);
    let mut waiting = Line::connect(endpoint.address).await.unwrap();
    let id = waiting.present("SEP001").await;
    assert_eq!(waiting.frame().await.command(), Command::KEY_GENERATE_REQ);
    let mut crowd = Vec::new();
    for own in 1..=3 {
        crowd.push(stranger(&endpoint, [127, 9, 9, own]).await);
    }

    // All places are taken. One more of the crowd gets none, a phone gets the place of the one that came first.
    assert_eq!(stranger(&endpoint, [127, 9, 9, 4]).await.read(&mut [0; 1]).await.unwrap(), 0);
    let mut phone = Line::connect(endpoint.address).await.unwrap();
    assert_eq!(phone.frame().await.command(), Command::AUTH_REQ);
    assert_eq!(crowd[0].read(&mut [0; 1]).await.unwrap(), 0);
    for left in &crowd[1..] {
        assert_eq!(left.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    // Whoever has presented itself is no stranger, however long it waits.
    waiting.send(&key_response(id)).await;
    assert_eq!(waiting.frame().await.command(), Command::STORE_CERT_REQ);
    assert!(!logs.text().contains("report this fault"), "{}", logs.text());
}

#[tokio::test]
async fn a_changed_bundle_is_presented_and_a_broken_one_is_not() {
    let (logs, endpoint) = (Logs::begin(), Running::begin());
    let folder = tempfile::tempdir().unwrap();
    let mut bundle = endpoint.bundle.clone();
    write(&bundle, folder.path());
    let (handle, fake) = (endpoint.handle.clone(), endpoint.authority.clone());
    let apply = move |bundle: &Bundle| -> Result<(), EndpointError> {
        handle.replace(Service::new(bundle, fake.clone())?);
        Ok(())
    };
    let every = Duration::from_millis(20);
    let following = follow(folder.path().to_owned(), every, Fingerprint::of(&bundle), apply);
    let following = tokio::spawn(following);
    let mut before = Line::connect(endpoint.address).await.unwrap();

    let (old, new) = (before.certificate(), service_pair());
    bundle.service_certificate = new.certificate.pem().to_owned();
    bundle.service_key = new.private_key;
    write(&bundle, folder.path());
    logs.line(&["INFO", "the bundle changed"]).await;
    let presented = async || {
        let line = Line::connect(endpoint.address).await.unwrap();
        line.certificate()
    };
    assert_ne!(presented().await, old);
    assert_eq!(presented().await, new.certificate.der());

    std::fs::write(folder.path().join(files::SERVICE_KEY), "no key").unwrap();
    logs.line(&["WARN", "the last good one stays", "service key"]).await;
    std::fs::remove_file(folder.path().join(files::CONTROLLER_CA)).unwrap();
    logs.line(&["WARN", "the last good one stays", "reading ca.crt"]).await;
    assert_eq!(presented().await, new.certificate.der());
    let complaints = logs.text().matches("the last good one stays").count();
    tokio::time::sleep(every * 5).await;
    let later = logs.text().matches("the last good one stays").count();
    assert_eq!(complaints, later, "a reason is told once");

    let ended = before.play("SEP001", Version::THREE, Evidence::Null).await;
    assert_eq!(ended, Ok((Reason::OK, Some(CERTIFICATE.to_vec()))));
    following.abort();
}

#[tokio::test]
async fn certificate_and_key_of_two_pairs_are_refused_at_the_start() {
    let mut bundle = bundle(&controller_ca(), &[]);
    bundle.service_key = service_pair().private_key;
    let error = Service::new(&bundle, Fake::default()).err().unwrap();
    assert!(error.to_string().contains("service certificate"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let endpoint = Running::begin();
    let service = Service::new(&endpoint.bundle, Fake::default()).unwrap();
    let error = Endpoint::bind(endpoint.address, service).err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&endpoint.address.to_string()), "{text}");
}

#[tokio::test]
async fn a_phone_enrols_through_the_whole_endpoint_with_its_authority_across_the_network() {
    let logs = Logs::begin();
    let ca = controller_ca();
    let controller = Controller::that_enrols(&ca).await;
    let folder = tempfile::tempdir().unwrap();
    write(&bundle(&ca, &[controller.address]), folder.path());
    let options = EndpointOptions {
        bundle: folder.path().to_owned(),
        listen: Some(([127, 0, 0, 1], 0).into()),
        port: None,
        drain: Duration::from_secs(5),
        http: HttpArgs::default(),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(run(options, async {
        let _ = stopped.await;
    }));
    let begun = logs.line(&["INFO", "phones are awaited"]).await;
    let (_, rest) = begun.split_once("address=").unwrap();
    let address = rest.split(' ').next().unwrap().parse().unwrap();

    let mut line = Line::connect(address).await.unwrap();
    let ended = line.play("SEP001", Version::THREE, Evidence::Null).await;
    assert_eq!(ended, Ok((Reason::OK, Some(vec![0x30, 0]))));
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
