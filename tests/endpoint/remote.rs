//! The client of the authority against a controller made for the test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capf::authority::client::{Patience, RemoteAuthority};
use capf::authority::questions::{
    Authority as _, COMPLETE, Digits, ISSUE, MAX_BODY, OPEN, OpenAnswer, OpenRequest, SERVER_NAME,
};
use capf::pki::ControllerCa;
use capf::pki::control::uri_san;
use capf::tls::{certificates, crypto_provider, private_key, roots};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::{bundle, controller_ca};

/// Status and body; none hangs.
type Reply = Option<(u16, String)>;
/// Makes the reply from the path, the number of the connection and that of the request, both counted from 1.
type Replies = dyn Fn(&str, usize, usize) -> Reply + Send + Sync;

const NOTHING: &str = r#"{"answer":"nothingScheduled"}"#;
/// For questions that are answered in the end: a try has time for a machine with much else to do, and one that hangs costs it.
const PATIENT: Patience = Patience { question: Duration::from_secs(60), attempt: Duration::from_secs(3) };
/// For questions that never are.
const BRIEF: Patience = Patience { question: Duration::from_millis(1300), attempt: Duration::from_millis(1300) };

/// An HTTPS server that asks for a client certificate.
pub struct Controller {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// URI of the client certificate, and the request, one line each.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Controller {
    pub async fn that_enrols(ca: &ControllerCa) -> Self {
        Self::new(ca, SERVER_NAME, |path, _, _| {
            let body = match path {
                OPEN => r#"{"answer":"install","ticket":"t","key":"RSA-2048","keyGenerationSeconds":9}"#,
                ISSUE => r#"{"answer":"issued","certificate":"MAA=","receipt":"r"}"#,
                COMPLETE => r#"{"answer":"recorded"}"#,
                _ => return Some((404, String::new())),
            };
            Some((200, body.to_owned()))
        })
        .await
    }

    async fn new(
        ca: &ControllerCa,
        name: &str,
        replies: impl Fn(&str, usize, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let pair = ca.server_credential(name, Timestamp::now(), 1).unwrap();
        let trusted = roots(ca.certificate().pem(), "CA").unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), crypto_provider()).build().unwrap();
        let config = rustls::ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                certificates(pair.certificate.pem(), "certificate").unwrap(),
                private_key(&pair.private_key, "key").unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let controller = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            seen: Arc::default(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (connections, requests) = (controller.connections.clone(), controller.requests.clone());
        let (seen, replies): (_, Arc<Replies>) = (controller.seen.clone(), Arc::new(replies));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let connection = connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (acceptor, requests) = (acceptor.clone(), requests.clone());
                let (seen, replies) = (seen.clone(), replies.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let peer = &stream.get_ref().1.peer_certificates().unwrap()[0];
                    let uri = uri_san(peer).unwrap();
                    let service = service_fn(|request: Request<Incoming>| {
                        let number = requests.fetch_add(1, Ordering::SeqCst) + 1;
                        let (seen, replies, uri) = (&seen, &replies, &uri);
                        async move {
                            let path = request.uri().path().to_owned();
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            let body = String::from_utf8(body.to_vec()).unwrap();
                            seen.lock().unwrap().push(format!("{uri} {path} {body}"));
                            let Some((status, body)) = replies(&path, connection, number) else {
                                return std::future::pending().await;
                            };
                            let response = Response::builder().status(status);
                            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        controller
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(status: u16, body: &str) -> Reply {
    Some((status, body.to_owned()))
}

fn request() -> OpenRequest {
    OpenRequest {
        device_name: "SEP001".into(),
        version: 3,
        session_id: 7,
        digits: Some(Digits("4711".into())),
        certificate: false,
        proof: None,
        source: None,
    }
}

fn client(ca: &ControllerCa, controllers: &[SocketAddr]) -> RemoteAuthority {
    RemoteAuthority::with_patience(&bundle(ca, controllers), PATIENT).unwrap()
}

/// Why a question was not answered. The last try may have been out of time before it could see why.
async fn failure(ca: &ControllerCa, controllers: &[SocketAddr]) -> String {
    let authority = RemoteAuthority::with_patience(&bundle(ca, controllers), BRIEF).unwrap();
    loop {
        let text = authority.open(request()).await.unwrap_err().to_string();
        if !text.contains("no answer in time") {
            return text;
        }
    }
}

#[tokio::test]
async fn questions_share_a_connection_and_carry_the_proxys_certificate() {
    let ca = controller_ca();
    let controller = Controller::new(&ca, SERVER_NAME, |_, _, _| answer(200, NOTHING)).await;
    let authority = client(&ca, &[controller.address]);
    for _ in 0..3 {
        let answer = authority.open(request()).await.map(|reply| reply.answer);
        assert_eq!(answer, Ok(OpenAnswer::NothingScheduled));
    }
    assert_eq!((controller.connections(), controller.requests()), (1, 3));
    let seen = controller.seen.lock().unwrap()[0].clone();
    let start = r#"capf://phones/hq /v1/open {"deviceName":"SEP001","#;
    assert!(seen.starts_with(start), "{seen}");
}

#[tokio::test]
async fn a_controller_of_another_authority_is_not_asked() {
    let controller = Controller::new(&controller_ca(), SERVER_NAME, |_, _, _| answer(200, NOTHING)).await;
    let error = failure(&controller_ca(), &[controller.address]).await;
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(controller.requests(), 0);
}

#[tokio::test]
async fn a_controller_of_another_name_is_not_asked() {
    let ca = controller_ca();
    let other = "endpoint.capf.dev";
    let controller = Controller::new(&ca, other, |_, _, _| answer(200, NOTHING)).await;
    let error = failure(&ca, &[controller.address]).await;
    assert!(error.contains(SERVER_NAME), "{error}");
    assert_eq!(controller.requests(), 0);
}

#[tokio::test]
async fn a_failed_try_is_repeated_on_a_fresh_connection() {
    let ca = controller_ca();
    let controller = Controller::new(&ca, SERVER_NAME, |_, connection, _| match connection {
        1 => answer(503, "not yet"),
        2 => answer(200, "{\"answer\":\"of a later version\"}"),
        _ => answer(200, NOTHING),
    })
    .await;
    let answer = client(&ca, &[controller.address]).open(request()).await.map(|reply| reply.answer);
    assert_eq!(answer, Ok(OpenAnswer::NothingScheduled));
    assert_eq!((controller.connections(), controller.requests()), (3, 3));
}

#[tokio::test]
async fn a_pooled_connection_that_went_dead_costs_one_try() {
    let ca = controller_ca();
    let controller = Controller::new(&ca, SERVER_NAME, |_, connection, number| {
        (connection > 1 || number == 1).then(|| (200, NOTHING.to_owned()))
    })
    .await;
    let authority = client(&ca, &[controller.address]);
    assert!(authority.open(request()).await.is_ok());
    let began = Instant::now();
    assert!(authority.open(request()).await.is_ok());
    assert!(began.elapsed() >= PATIENT.attempt, "{:?}", began.elapsed());
    // One that was in vain, and one on a connection of its own.
    assert_eq!((controller.connections(), controller.requests()), (2, 3));
}

#[tokio::test]
async fn a_controller_that_hangs_costs_no_more_than_the_time_for_a_question() {
    let ca = controller_ca();
    let controller = Controller::new(&ca, SERVER_NAME, |_, _, _| None).await;
    let patience = Patience { question: Duration::from_secs(3), attempt: Duration::from_millis(500) };
    let authority = RemoteAuthority::with_patience(&bundle(&ca, &[controller.address]), patience).unwrap();
    let began = Instant::now();
    let error = authority.open(request()).await.unwrap_err();
    let took = began.elapsed();
    assert!((patience.question * 3 / 4..patience.question * 10).contains(&took), "{took:?}");
    assert!(error.to_string().contains("no answer in time"), "{error}");
    assert!(controller.connections() >= 3, "{}", controller.connections());
    assert_eq!(Patience::default().question, Duration::from_secs(6));
    assert_eq!(Patience::default().attempt, Duration::from_secs(2));
}

#[tokio::test]
async fn a_question_that_is_refused_as_such_is_not_repeated() {
    let ca = controller_ca();
    let controller = Controller::new(&ca, SERVER_NAME, |_, _, _| answer(403, "no")).await;
    let error = client(&ca, &[controller.address]).open(request()).await.unwrap_err();
    assert!(error.to_string().contains("403"), "{error}");
    assert_eq!(controller.requests(), 1);
}

#[tokio::test]
async fn the_next_controller_is_asked_and_stays_the_first() {
    let ca = controller_ca();
    // A port of which nobody knows is refused at once.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let busy = Controller::new(&ca, SERVER_NAME, |_, _, _| answer(503, "not yet")).await;
    let controller = Controller::new(&ca, SERVER_NAME, |_, _, _| answer(200, NOTHING)).await;
    let authority = client(&ca, &[dead, busy.address, controller.address]);
    assert!(authority.open(request()).await.is_ok());
    for _ in 0..5 {
        assert!(authority.open(request()).await.is_ok());
    }
    assert_eq!((busy.requests(), controller.requests()), (1, 6), "those before it were asked once");
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_no_answer_is_none_and_is_not_quoted() {
    let ca = controller_ca();
    let rows = [
        ("x".repeat(MAX_BODY + 1), "length limit"),
        (r#"{"answer":"install","ticket":"secret"}"#.to_owned(), "not understood"),
    ];
    for (body, expected) in rows {
        let controller = Controller::new(&ca, SERVER_NAME, move |_, _, _| answer(200, &body)).await;
        let text = failure(&ca, &[controller.address]).await;
        assert!(text.contains(expected) && !text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn a_bundle_without_a_controller_is_refused() {
    let ca = controller_ca();
    let error = RemoteAuthority::new(&bundle(&ca, &[])).err().unwrap();
    assert!(error.to_string().contains("endpoint.json"), "{error}");
}

/// As behind the address of a Service: the first connections lead to a replica that has gone dead, the later ones to another.
#[tokio::test]
async fn of_many_connections_that_went_dead_one_question_is_late_and_no_more() {
    let ca = controller_ca();
    let dead = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let in_vain = Arc::new(AtomicUsize::new(0));
    let (gone, asked) = (dead.clone(), in_vain.clone());
    let controller = Controller::new(&ca, SERVER_NAME, move |_, connection, _| {
        if connection <= 8 && gone.load(Ordering::SeqCst) {
            asked.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        answer(200, NOTHING)
    })
    .await;
    let authority = client(&ca, &[controller.address]);
    let at_once = || futures::future::join_all((0..8).map(|_| authority.open(request())));
    assert!(at_once().await.iter().all(Result::is_ok));
    assert!(controller.connections() > 1, "several are kept");
    // Those that are not open yet lead to the living replica.
    while controller.connections() < 8 {
        controller.connections.fetch_add(1, Ordering::SeqCst);
    }
    dead.store(true, Ordering::SeqCst);
    let began = Instant::now();
    assert!(authority.open(request()).await.is_ok());
    assert!(began.elapsed() >= PATIENT.attempt, "the first that is kept is dead");
    for _ in 0..8 {
        assert!(authority.open(request()).await.is_ok());
    }
    assert_eq!(in_vain.load(Ordering::SeqCst), 1, "and so were the others, which nobody asked");
}
