//! A scripted CAPF server: the wire ring's server side over real TLS, with a real issuer and whatever answers a test wants.
#![allow(dead_code, reason = "every test target that includes this uses its own part")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use capf::phone::{SimulatedPhone, StateDir, tls_config};
use capf::pki::{
    IssuerRequest, LscRequest, LscSubject, OwnIssuer, OwnKey, OwnPair, PublicKey, ServiceRequest, generate_issuer,
    generate_service,
};
use capf::wire::{
    Action, Answer, DeviceName, FrameDecoder, KeyRequest, Question, ServerSession, SessionId, Side, Waiting,
};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// The phone of these tests.
pub const NAME: &str = "SEP001122334455";

/// How long the server waits for a phone, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the server does about a question.
pub enum Reply {
    /// Gives this answer.
    Answer(Answer),
    /// Issues a certificate over the phone's key.
    Issue,
    /// Issues a certificate over a key of its own.
    IssueForeign,
    /// Hangs up.
    HangUp,
    /// Says nothing any more, and keeps the connection.
    Silence,
}

/// What the server does as long as a test has no wish of its own: installs an EC P-256 certificate.
pub fn install(question: &Question) -> Reply {
    match question {
        Question::Open(_) => Reply::Answer(Answer::Install { key: KeyRequest::Ec(capf::wire::Curve::P256) }),
        Question::Issue { .. } => Reply::Issue,
        Question::Complete(_) => Reply::Answer(Answer::Recorded),
    }
}

type Script = dyn Fn(usize, &Question) -> Reply + Send + Sync;

/// A running server. Everything it was asked is kept.
pub struct Server {
    pub address: SocketAddr,
    pub service: OwnPair,
    shared: Arc<Shared>,
}

struct Shared {
    issuer: OwnIssuer,
    script: Box<Script>,
    asked: Mutex<Vec<(usize, Question)>>,
    connections: Mutex<usize>,
    acceptor: TlsAcceptor,
    patience: Duration,
}

/// Makes the certificate of a server.
pub fn service() -> OwnPair {
    let subject = LscSubject::default();
    generate_service(&ServiceRequest {
        subject: &subject,
        key: OwnKey::EC_P256,
        years: 1,
        issuer_not_after: Timestamp::MAX,
        now: Timestamp::now(),
    })
    .expect("a service certificate")
}

fn service_key(service: &OwnPair) -> PrivateKeyDer<'static> {
    let pem = service.private_key.expose_secret().as_bytes();
    PrivateKeyDer::from_pem_slice(pem).expect("a key")
}

impl Server {
    /// Starts one that has the certificate of the CTL and the key of another.
    pub async fn start_impostor(tls: &'static rustls::SupportedProtocolVersion) -> Self {
        let service = service();
        let other = service_key(&self::service());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(other);
        let chain = vec![CertificateDer::from(service.certificate.der().to_vec())];
        let pair = rustls::sign::CertifiedKey::new(chain, key.expect("a key"));
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[tls])
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
        Self::serve_with(service, config, PATIENCE, |_, question| install(question)).await
    }

    /// Starts one. `script` is given the number of the connection, the first being 1, and the question.
    pub async fn start(script: impl Fn(usize, &Question) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_patient(PATIENCE, script).await
    }

    /// The same, waiting for the phone for this long.
    pub async fn start_patient(
        patience: Duration,
        script: impl Fn(usize, &Question) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let service = service();
        let chain = vec![CertificateDer::from(service.certificate.der().to_vec())];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, service_key(&service))
            .expect("a pair");
        Self::serve_with(service, config, patience, script).await
    }

    async fn serve_with(
        service: OwnPair,
        config: rustls::ServerConfig,
        patience: Duration,
        script: impl Fn(usize, &Question) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let subject = LscSubject::default();
        let issuer = generate_issuer(&IssuerRequest {
            common_name: None,
            subject: &subject,
            key: OwnKey::EC_P256,
            years: 1,
            now: Timestamp::now(),
        })
        .expect("an issuer");
        let issuer = OwnIssuer::from_pem(issuer.certificate.pem(), &issuer.private_key);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            issuer: issuer.expect("an issuer"),
            script: Box::new(script),
            asked: Mutex::default(),
            connections: Mutex::default(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            patience,
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let number = {
                    let mut connections = accepting.connections.lock().expect("a lock");
                    *connections += 1;
                    *connections
                };
                tokio::spawn(Arc::clone(&accepting).serve(tcp, number));
            }
        });
        Self { address, service, shared }
    }

    /// A phone that trusts this server and tries again soon.
    pub fn phone(&self) -> SimulatedPhone {
        let tls = tls_config(self.service.certificate.der()).expect("a configuration");
        let name = DeviceName::parse(NAME).expect("a name");
        SimulatedPhone::new(self.address, name, tls).retries(3, Duration::from_millis(50))
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().expect("a lock")
    }

    /// What was asked so far, with the numbers of the connections.
    pub fn asked(&self) -> Vec<(usize, Question)> {
        self.shared.asked.lock().expect("a lock").clone()
    }

    /// The keys that certificates were asked for.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let keys = self.asked().into_iter().filter_map(|(_, question)| match question {
            Question::Issue { public_key } => Some(public_key.to_vec()),
            _ => None,
        });
        keys.collect()
    }

    /// What the phone said about how it went, in words of `Debug`.
    pub fn outcomes(&self) -> Vec<String> {
        let outcomes = self.asked().into_iter().filter_map(|(_, question)| match question {
            Question::Complete(outcome) => Some(format!("{outcome:?}")),
            _ => None,
        });
        outcomes.collect()
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, tcp: TcpStream, number: usize) {
        let Ok(mut stream) = self.acceptor.accept(tcp).await else {
            return;
        };
        let mut decoder = FrameDecoder::new(Side::Server);
        let (mut session, mut actions) = ServerSession::start(SessionId(0x1000 + number as u32));
        loop {
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Send(frame) => {
                        if stream.write_all(&frame.encode()).await.is_err() {
                            return;
                        }
                    }
                    Action::Close(_) => {
                        let _ = stream.shutdown().await;
                        return;
                    }
                    Action::Ask(question) => {
                        self.asked.lock().expect("a lock").push((number, question.clone()));
                        let answer = match (self.script)(number, &question) {
                            Reply::Answer(answer) => answer,
                            Reply::Issue => self.issue(&question, false),
                            Reply::IssueForeign => self.issue(&question, true),
                            Reply::HangUp => return,
                            Reply::Silence => {
                                tokio::time::sleep(Duration::from_secs(60)).await;
                                return;
                            }
                        };
                        let turn = session.on_answer(answer);
                        (session, actions) = turn;
                    }
                }
            }
            if !actions.is_empty() {
                continue;
            }
            if session.waiting_for() == Waiting::Nothing {
                return;
            }
            let mut piece = [0; 4096];
            let read = tokio::time::timeout(self.patience, stream.read(&mut piece));
            let length = match read.await {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(length)) => length,
                Err(_) => {
                    (session, actions) = session.on_deadline();
                    continue;
                }
            };
            let mut input = &piece[..length];
            while let Some(frame) = decoder.decode(&mut input).expect("frames") {
                let (next, more) = session.on_frame(frame);
                session = next;
                actions.extend(more);
            }
        }
    }

    fn issue(&self, question: &Question, foreign: bool) -> Answer {
        let Question::Issue { public_key } = question else { panic!("no key in {question:?}") };
        let mut key = PublicKey::from_spki(public_key).expect("a key");
        if foreign {
            let other = capf::phone::PhoneKey::generate(key.kind()).expect("a key");
            key = other.public().clone();
        }
        let subject = LscSubject::default();
        let issued = self.issuer.sign_lsc(&LscRequest {
            device_name: NAME,
            public_key: &key,
            subject: &subject,
            years: 1,
            now: Timestamp::now(),
        });
        Answer::Issued { certificate_der: issued.expect("a certificate").der().to_vec().into() }
    }
}

/// The events of a phone: step, and the whole line.
pub fn events(state: &StateDir) -> Vec<(String, serde_json::Value)> {
    let text = std::fs::read_to_string(state.file("events.log")).expect("events");
    let lines = text.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (event["step"].as_str().expect("a step").to_owned(), event)
    });
    lines.collect()
}

/// The steps alone.
pub fn steps(state: &StateDir) -> Vec<String> {
    events(state).into_iter().map(|(step, _)| step).collect()
}

/// A directory for a phone; gone when the first of the two is dropped.
pub fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let state = StateDir::open(&dir.path().join("phone")).expect("a state");
    (dir, state)
}
