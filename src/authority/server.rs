//! The questions over mTLS: who asks is the proxy named in the client's certificate, and nobody else is heard.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use secrecy::ExposeSecret as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use super::credentials::Credentials;
use super::questions::{
    Answered, COMPLETE, CompleteAnswer, CompleteRequest, ISSUE, IssueAnswer, IssueRequest, MAX_BODY, OPEN, OpenReply,
    OpenRequest, SERVER_NAME, Unavailable,
};
use super::service::Service;
use crate::controller::world::ObjectKey;
use crate::pki::IssueError;
use crate::pki::certificate::CertificateFacts;
use crate::pki::control::{proxy_of, renew_at, uri_san};
use crate::telemetry::controller::metrics;
use crate::tls::OwnClock;
use crate::wire::SessionId;

/// Days that a replica's own certificate is good for; renewed after two thirds of them.
const CERTIFICATE_DAYS: u16 = 30;
const HANDSHAKE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 4096;
/// How long an endpoint's connection may be idle.
const IDLE: Duration = Duration::from_secs(60);
/// Longest work on one question; its endpoint has given it up long before.
const QUESTION: Duration = Duration::from_secs(20);

/// The questions cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The replica's certificate cannot be made.
    #[error("making this replica's certificate: {0}")]
    Certificate(#[from] IssueError),
    /// rustls does not take it.
    #[error("using this replica's certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// The CA does not serve to verify clients.
    #[error("trusting the controllers' CA: {0}")]
    Trust(String),
}

/// This replica's certificate, made by the controllers' CA and renewed in memory.
#[derive(Debug)]
struct OwnCertificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }
}

fn certified(credentials: &Credentials) -> Result<(CertifiedKey, CertificateFacts), ServerError> {
    let pair = credentials.ca.server_credential(SERVER_NAME, crate::clock::now(), CERTIFICATE_DAYS)?;
    let key = PrivateKeyDer::from_pem_slice(pair.private_key.expose_secret().as_bytes())
        .map_err(|e| ServerError::Trust(e.to_string()))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    let chain = vec![CertificateDer::from(pair.certificate.der().to_vec())];
    Ok((CertifiedKey::new(chain, key), pair.certificate.facts().clone()))
}

fn note_end(certificate: &'static str, facts: &CertificateFacts) {
    metrics().certificate_end.with([certificate]).set(facts.not_after.as_duration().as_secs_f64());
}

/// Serves the questions until `stop`, then lets those under way finish.
///
/// # Errors
/// [`ServerError`] when serving cannot begin.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    credentials: Arc<Credentials>,
    stop: CancellationToken,
) -> Result<(), ServerError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (key, mut facts) = certified(&credentials)?;
    note_end("ca", credentials.ca.certificate().facts());
    note_end("replica", &facts);
    let own = Arc::new(OwnCertificate { current: RwLock::new(Arc::new(key)) });
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(credentials.ca_pem.as_bytes()) {
        let ca = ca.map_err(|e| ServerError::Trust(e.to_string()))?;
        roots.add(ca)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|e| ServerError::Trust(e.to_string()))?;
    let config = ServerConfig::builder_with_details(provider, Arc::new(OwnClock))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&own) as Arc<dyn ResolvesServerCert>);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let routes = Router::new()
        .route(OPEN, post(open))
        .route(ISSUE, post(issue))
        .route(COMPLETE, post(complete))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(service);
    crate::open_files::warn_if_few("connections of endpoints", CONNECTIONS);
    let (tracker, places) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let until_renewal = renew_at(&facts).duration_since(crate::clock::now());
        let until_renewal = Duration::try_from(until_renewal)
            .unwrap_or_default()
            .clamp(Duration::from_secs(1), Duration::from_secs(3600));
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(until_renewal) => None,
            accepted = listener.accept() => Some(accepted),
        };
        // Also before a connection: a machine that slept has slept through the renewal.
        if renew_at(&facts) <= crate::clock::now() {
            let (key, renewed) = certified(&credentials)?;
            *own.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(key);
            facts = renewed;
            note_end("replica", &facts);
        }
        match accepted {
            Some(Ok((stream, peer))) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let connection = connection(stream, peer, acceptor.clone(), routes.clone(), stop.clone());
                tracker.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "accepting an endpoint's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            None => {}
        }
    }
    // Closed before the questions under way are over: whoever comes now is refused, and asks another replica at once.
    drop(listener);
    tracker.close();
    tracker.wait().await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    routes: Router,
    stop: CancellationToken,
) {
    // A question and its answer are one small write each; waiting for more costs 40 ms.
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::info!(%peer, %error, "an endpoint's connection was not let in"),
        Err(_) => return tracing::info!(%peer, "an endpoint's connection did not finish its handshake"),
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let uri = certificate.and_then(|certificate| uri_san(certificate));
    let Some((namespace, proxy)) = uri.as_deref().and_then(proxy_of) else {
        return tracing::warn!(%peer, "an endpoint's certificate names no proxy");
    };
    let routes = routes.layer(Extension(ObjectKey::new(namespace, proxy)));
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    // Counts from the end of the answer before it: an idle connection is given up.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    let serving = builder.serve_connection(TokioIo::new(tls), TowerToHyperService::new(routes));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "an endpoint's connection ended");
    }
}

type Answer<T> = Result<Json<T>, (StatusCode, String)>;

/// The span of a question. Its id is that of the session at the endpoint, so that one search finds the lines of both.
fn span(question: &'static str, proxy: &ObjectKey, session_id: u32) -> Span {
    // At every level of the log: what is written at all is to be found.
    tracing::error_span!("question", id = %SessionId(session_id), question, %proxy, device = tracing::field::Empty)
}

/// Answers a question in a task of its own: an endpoint that gave up waiting does not cut off a write half way, and
/// when it asks again it finds the work done or joins the wait for it.
async fn answer<T: Answered + Send + 'static>(
    question: &'static str,
    span: Span,
    answering: impl Future<Output = Result<T, Unavailable>> + Send + 'static,
) -> Answer<T> {
    let began = Instant::now();
    let bounded = tokio::time::timeout(QUESTION, answering);
    let answered = match tokio::spawn(bounded.instrument(span.clone())).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Err(Unavailable(format!("no answer within {QUESTION:?}"))),
        Err(broken) => Err(Unavailable(broken.to_string())),
    };
    let (said, reason) = answered.labels();
    metrics().questions.with([question, said, reason]).inc();
    metrics().question_seconds.with([question]).observe(began.elapsed().as_secs_f64());
    let _within = span.enter();
    tracing::debug!(answer = said, reason, "answered");
    answered.map(Json).map_err(|unavailable| {
        tracing::warn!(%unavailable, "a question was not answered");
        (StatusCode::SERVICE_UNAVAILABLE, unavailable.to_string())
    })
}

async fn open(
    State(service): State<Arc<Service>>,
    Extension(proxy): Extension<ObjectKey>,
    Json(request): Json<OpenRequest>,
) -> Answer<OpenReply> {
    let span = span("open", &proxy, request.session_id);
    answer("open", span, async move { service.open_reply(&proxy, request).await }).await
}

async fn issue(
    State(service): State<Arc<Service>>,
    Extension(proxy): Extension<ObjectKey>,
    Json(request): Json<IssueRequest>,
) -> Answer<IssueAnswer> {
    let span = span("issue", &proxy, request.session_id);
    answer("issue", span, async move { service.issue(&proxy, request).await }).await
}

async fn complete(
    State(service): State<Arc<Service>>,
    Extension(proxy): Extension<ObjectKey>,
    Json(request): Json<CompleteRequest>,
) -> Answer<CompleteAnswer> {
    let span = span("complete", &proxy, request.session_id);
    answer("complete", span, async move { service.complete(&proxy, request).await }).await
}
