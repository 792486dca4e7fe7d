//! A reverse proxy between one process of the product and the API server, that counts, remembers and goes wrong on purpose.
//!
//! HTTP/1.1 on loopback towards the process, HTTPS towards the API server; the process's bearer token goes through. What is
//! streamed (watches) is streamed.
//!
//! # Guarantees
//! A mutating call that was let through is carried through, even if its caller dies meanwhile: "after forwarding" means
//! that the API server has answered.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capf::api::CertificateOperation;
use futures::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use secrecy::ExposeSecret as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{ControlPlane, is_alive, signal};

use super::history::History;
use super::script::{About, Fault, Request, Script};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;
type Upstream = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A call that went through the proxy, or did not.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number among the mutating calls since the script was given, Leases aside.
    pub number: Option<usize>,
    /// What was asked.
    pub request: Request,
    /// What the API server answered; none when it was not asked or did not answer.
    pub status: Option<u16>,
    /// What went wrong on purpose.
    pub fault: Option<Fault>,
    /// When it was dealt with.
    pub at: Timestamp,
}

/// Connections are cut for this reason: hyper closes a connection whose service fails.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
struct Cut;

/// A proxy, until it is dropped.
pub struct ApiProxy {
    inner: Arc<Inner>,
    address: std::net::SocketAddr,
    kubeconfig: PathBuf,
    _stop: DropGuard,
}

struct Inner {
    /// The process that is served: for whoever reads the record.
    process: String,
    server: Uri,
    upstream: Upstream,
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
    held: Mutex<Vec<String>>,
    /// Who is killed by a fault: the process id, 0 for nobody.
    victim: Arc<AtomicU32>,
    history: Option<Arc<History>>,
    /// False while everything is held.
    passes: watch::Sender<bool>,
    /// False while watches are held.
    watches_pass: watch::Sender<bool>,
    /// True while connections are taken and never served.
    swallows: watch::Sender<bool>,
}

impl ApiProxy {
    /// A proxy for the process of this name, which acts as `user`. What it writes about operations is entered into the
    /// history before it hears of it.
    pub async fn start(plane: &ControlPlane, user: Option<&str>, process: &str, history: Option<Arc<History>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            process: process.to_owned(),
            server: plane.server().parse().unwrap(),
            upstream: upstream(plane.ca_file()),
            script: Mutex::default(),
            calls: Mutex::default(),
            held: Mutex::default(),
            victim: Arc::default(),
            history,
            passes: watch::Sender::new(true),
            watches_pass: watch::Sender::new(true),
            swallows: watch::Sender::new(false),
        });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&inner), stop.clone()));
        let kubeconfig = plane.dir().join(format!("proxy-{}.kubeconfig", address.port()));
        let token = plane.config(user).auth_info.token.expect("users of a control plane have tokens");
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "proxy", "user": { "token": token.expose_secret() } }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "proxy" } }],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        Self { inner, address, kubeconfig, _stop: stop.drop_guard() }
    }

    /// The file that leads a process to this proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the id of the process lies that faults kill: whoever starts it enters it here.
    pub fn victim(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.inner.victim)
    }

    /// Does this from now on, and counts from 1 again.
    pub fn play(&self, script: Script) {
        *lock(&self.inner.script) = script;
    }

    /// Mutating calls since the script was given, Leases aside.
    pub fn counted(&self) -> usize {
        lock(&self.inner.script).counted()
    }

    /// Whether every fault of the script has happened.
    pub fn is_through(&self) -> bool {
        lock(&self.inner.script).ahead() == 0
    }

    /// Every call so far, since the last [`ApiProxy::forget`].
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.inner.calls).clone()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        lock(&self.inner.calls).clear();
    }

    /// Holds everything: nothing is forwarded and no answer goes on. Or lets all of it go on.
    pub fn hold(&self, held: bool) {
        self.inner.passes.send_replace(!held);
    }

    /// What has had to wait so far, or fell into a black hole: requests by their method and path, and with a word before it
    /// their answers, changes that a watch tells, and connections.
    pub fn held(&self) -> Vec<String> {
        lock(&self.inner.held).clone()
    }

    /// Takes new connections and never serves them, and answers no request on those that are open, neither then nor
    /// later. Or serves what comes from now on.
    pub fn black_hole(&self, on: bool) {
        self.inner.swallows.send_replace(on);
    }
}

/// A client of the API server alone.
fn upstream(ca_file: &Path) -> Upstream {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file).unwrap()).unwrap();
    // Fails only when one is installed already, and it is the same one then.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)
}

async fn accept(listener: TcpListener, inner: Arc<Inner>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        tokio::spawn(serve(stream, Arc::clone(&inner), stop.clone()));
    }
}

async fn serve(stream: TcpStream, inner: Arc<Inner>, stop: CancellationToken) {
    if *inner.swallows.borrow() {
        lock(&inner.held).push("connection".to_owned());
        // Kept open, never read.
        stop.cancelled().await;
        return;
    }
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let inner = Arc::clone(&inner);
        async move { inner.handle(request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = stop.cancelled() => {}
        // A connection that was cut says so.
        _ = connection => {}
    }
}

impl Inner {
    async fn handle(self: Arc<Self>, request: hyper::Request<Incoming>) -> Result<Response<Body>, Cut> {
        let asked = Request::of(request.method(), request.uri());
        let line = format!("{} {}", asked.method, asked.path);
        self.go_on(&line).await?;
        let (number, fault) = lock(&self.script).next(&asked);
        let mutates = asked.about != About::Nothing;
        let carried = Arc::clone(&self).carry(request, asked, number, fault);
        let answer = if mutates {
            // Of its own: it goes on when the caller is gone.
            tokio::spawn(carried).await.map_err(|_| Cut)??
        } else {
            carried.await?
        };
        self.go_on(&format!("answer to {line}")).await?;
        Ok(answer)
    }

    /// Waits while everything is held; never comes back from a black hole.
    async fn go_on(&self, what: &str) -> Result<(), Cut> {
        if !*self.passes.borrow() || *self.swallows.borrow() {
            lock(&self.held).push(what.to_owned());
        }
        // The senders live as long as `self`.
        let passed = self.passes.subscribe().wait_for(|passes| *passes).await.is_ok();
        if *self.swallows.borrow() {
            std::future::pending::<()>().await;
        }
        if passed { Ok(()) } else { Err(Cut) }
    }

    async fn carry(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        asked: Request,
        number: Option<usize>,
        fault: Option<Fault>,
    ) -> Result<Response<Body>, Cut> {
        let note = |status| {
            let call = Call { number, request: asked.clone(), status, fault, at: Timestamp::now() };
            lock(&self.calls).push(call);
        };
        match fault {
            Some(Fault::KillBefore) => {
                note(None);
                self.kill().await;
                return Err(Cut);
            }
            Some(Fault::Answer(status)) => {
                note(None);
                return Ok(refusal(status));
            }
            Some(Fault::BlackHole) => {
                note(None);
                std::future::pending::<()>().await;
            }
            Some(Fault::HoldWatches(time)) => self.hold_watches(time),
            Some(Fault::KillAfter | Fault::LoseReply) | None => {}
        }
        let answer = match self.forward(request).await {
            Ok(answer) => answer,
            Err(cut) => {
                note(None);
                return Err(cut);
            }
        };
        let status = answer.status().as_u16();
        if asked.watches {
            note(Some(status));
            let change = format!("change of {}", asked.path);
            return if fault == Some(Fault::LoseReply) { Err(Cut) } else { Ok(self.streamed(answer, change)) };
        }
        let (parts, body) = answer.into_parts();
        let Ok(body) = body.collect().await else {
            note(None);
            return Err(Cut);
        };
        let body = body.to_bytes();
        if let Some(history) = &self.history
            && parts.status.is_success()
            && asked.path.contains("/certificateoperations")
            && let Ok(operation) = serde_json::from_slice::<CertificateOperation>(&body)
        {
            history.enter(operation);
        }
        note(Some(status));
        match fault {
            Some(Fault::KillAfter) => {
                self.kill().await;
                Err(Cut)
            }
            Some(Fault::LoseReply) => Err(Cut),
            _ => Ok(Response::from_parts(parts, Full::new(body).map_err(never).boxed_unsync())),
        }
    }

    async fn forward(&self, request: hyper::Request<Incoming>) -> Result<Response<Incoming>, Cut> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
        let mut uri = parts.uri.into_parts();
        uri.scheme = self.server.scheme().cloned();
        uri.authority = self.server.authority().cloned();
        parts.uri = Uri::from_parts(uri).map_err(|_| Cut)?;
        for hop in [HOST, CONNECTION, ACCEPT_ENCODING] {
            parts.headers.remove(hop);
        }
        let answer = self.upstream.request(hyper::Request::from_parts(parts, Full::new(body))).await;
        let mut answer = answer.map_err(|_| Cut)?;
        answer.headers_mut().remove(CONNECTION);
        answer.headers_mut().remove(TRANSFER_ENCODING);
        Ok(answer)
    }

    /// An answer passed on as it comes, except while it is held.
    fn streamed(self: &Arc<Self>, answer: Response<Incoming>, change: String) -> Response<Body> {
        let (parts, body) = answer.into_parts();
        let inner = Arc::clone(self);
        let frames = BodyStream::new(body).then(move |frame| {
            let (inner, change) = (Arc::clone(&inner), change.clone());
            async move {
                if !*inner.watches_pass.borrow() {
                    lock(&inner.held).push(change.clone());
                }
                let _ = inner.watches_pass.subscribe().wait_for(|pass| *pass).await;
                let _ = inner.go_on(&change).await;
                frame
            }
        });
        Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
    }

    fn hold_watches(self: &Arc<Self>, time: Duration) {
        self.watches_pass.send_replace(false);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            inner.watches_pass.send_replace(true);
        });
    }

    /// Kills the victim and returns when it is gone.
    async fn kill(&self) {
        let victim = self.victim.load(Ordering::SeqCst);
        assert!(victim != 0, "nobody has said which process {} is", self.process);
        // A process that has ended meanwhile is as good as killed.
        let killed = tokio::task::spawn_blocking(move || signal(victim, "KILL")).await;
        drop(killed);
        while is_alive(victim) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// An answer of the API server's own form.
fn refusal(status: u16) -> Response<Body> {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = match status {
        409 => "Conflict",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason,
        "message": "said by the proxy, not by the API server",
    });
    let answer = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    let answer = if status == 429 { answer.header(RETRY_AFTER, "1") } else { answer };
    answer.body(Full::new(Bytes::from(body.to_string())).map_err(never).boxed_unsync()).unwrap()
}

fn never(impossible: Infallible) -> hyper::Error {
    match impossible {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
