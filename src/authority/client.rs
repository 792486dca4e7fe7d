//! The authority as an endpoint sees it: the three questions over HTTPS to whichever controller replica answers.
//!
//! A phone gives up after 8 s, so a question has 6 s in all and a try 2 s. The first try may use a connection that is
//! open already. Every further try opens a fresh one to the next address, because what made the first try fail may be
//! the connection itself, or the replica behind it. The address that answered last is asked first next time.
//!
//! One address may be that of several replicas, a Service's. A connection stays with one of them, a fresh one leads to any. So
//! when one that was kept does not answer in time, all that were kept are given up: the others may lead to the same dead node, and
//! each would cost a question its first try.
//!
//! A question may so be heard twice, the answer to the first being lost. Controllers must make that harmless: one key of one
//! operation gets one certificate, an outcome on record is answered as recorded, and one session's wrong string counts once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;
use secrecy::zeroize::Zeroizing;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use super::bundle::Bundle;
use super::questions::{
    Authority, COMPLETE, CompleteAnswer, CompleteRequest, ISSUE, IssueAnswer, IssueRequest, MAX_BODY, OPEN, OpenReply,
    OpenRequest, SERVER_NAME, Unavailable,
};
use crate::tls::{OwnClock, TlsError, certificates, crypto_provider, private_key, roots};

/// Pause after the first try that failed; doubles with each further one. A refused connection fails at once, and six
/// seconds of tries without a pause would be an attack on whoever restarts there.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// How long an unused connection is kept.
const KEEP_IDLE: Duration = Duration::from_secs(30);
/// Octets reserved for a request, so that a buffer with digits in it does not move and leave copies behind.
const REQUEST_ROOM: usize = 4096;

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// How long a question may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// All tries and the pauses between them.
    pub question: Duration,
    /// One try: connecting, asking and reading the answer.
    pub attempt: Duration,
}

impl Default for Patience {
    /// 6 s and 2 s: what fits into the 8 s that known phones wait.
    fn default() -> Self {
        Self { question: Duration::from_secs(6), attempt: Duration::from_secs(2) }
    }
}

/// The bundle does not make a client. Waiting does not help; the bundle must change.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The bundle names no controller.
    #[error("reading the controllers of endpoint.json: there are none; export the bundle anew")]
    NoController,
    /// An address is not `host:port`.
    #[error("reading the controller address {address:?} of endpoint.json: it is not host:port; export the bundle anew")]
    Address {
        /// The address.
        address: String,
    },
}

/// The controllers, asked over HTTPS with the endpoint's client certificate.
///
/// Holds no task of its own: dropping it closes what is idle, questions under way end by themselves.
pub struct RemoteAuthority {
    controllers: Vec<Controller>,
    /// Index of the controller that answered last.
    favourite: AtomicUsize,
    /// Keeps connections; replaced when one of them turns out to be dead.
    pooled: RwLock<Arc<HttpClient>>,
    /// Makes the above.
    builder: Builder,
    connector: HttpsConnector<HttpConnector>,
    /// The same without a pool: each request connects anew.
    fresh: HttpClient,
    patience: Patience,
}

/// One address, and where its questions go.
struct Controller {
    address: String,
    open: Uri,
    issue: Uri,
    complete: Uri,
}

/// Which of the three.
#[derive(Clone, Copy)]
enum Path {
    Open,
    Issue,
    Complete,
}

/// Why one try failed.
struct Failure {
    cause: String,
    /// Whether another try may end differently.
    passing: bool,
}

impl RemoteAuthority {
    /// A client for what the bundle says. Connects to nothing yet.
    ///
    /// # Errors
    /// When a certificate or key of the bundle cannot be used, or no address of a controller.
    pub fn new(bundle: &Bundle) -> Result<Self, ClientError> {
        Self::with_patience(bundle, Patience::default())
    }

    /// As [`new`](Self::new), with other times; for tests.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_patience(bundle: &Bundle, patience: Patience) -> Result<Self, ClientError> {
        let controllers = bundle
            .config
            .controllers
            .iter()
            .map(|address| Controller::parse(address))
            .collect::<Result<Vec<_>, _>>()?;
        if controllers.is_empty() {
            return Err(ClientError::NoController);
        }
        let connector = connector(bundle, patience)?;
        let mut builder = Client::builder(TokioExecutor::new());
        // Retries are ours: hyper's own would go to the same address.
        builder.retry_canceled_requests(false).pool_timer(TokioTimer::new()).pool_idle_timeout(KEEP_IDLE);
        let pooled = RwLock::new(Arc::new(builder.build(connector.clone())));
        let fresh = builder.clone().pool_max_idle_per_host(0).build(connector.clone());
        Ok(Self { controllers, favourite: AtomicUsize::new(0), pooled, builder, connector, fresh, patience })
    }

    /// Gives up the connections that are kept, unless somebody has since. Questions under way on them go on.
    fn give_up(&self, pool: &Arc<HttpClient>) {
        let mut current = self.pooled.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, pool) {
            *current = Arc::new(self.builder.build(self.connector.clone()));
        }
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(&self, path: Path, question: &Q) -> Result<A, Unavailable> {
        let mut body = Zeroizing::new(Vec::with_capacity(REQUEST_ROOM));
        serde_json::to_writer(&mut *body, question)
            .map_err(|error| Unavailable(format!("writing the question: {error}")))?;
        // The digits may be in there: the buffer is wiped when the last try lets go of it.
        let body = Bytes::from_owner(body);
        // On the heap: this is a long future, and thousands of sessions hold one at a time.
        Box::pin(self.try_in_turn(path, body)).await
    }

    async fn try_in_turn<A: DeserializeOwned>(&self, path: Path, body: Bytes) -> Result<A, Unavailable> {
        let deadline = Instant::now() + self.patience.question;
        let first = self.favourite.load(Ordering::Relaxed);
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0;
        loop {
            let index = first.wrapping_add(attempt) % self.controllers.len();
            let controller = &self.controllers[index];
            let pool = (attempt == 0).then(|| self.pooled.read().unwrap_or_else(PoisonError::into_inner).clone());
            let client = pool.as_deref().unwrap_or(&self.fresh);
            let end = deadline.min(Instant::now() + self.patience.attempt);
            let outcome = timeout_at(end, exchange(client, controller.uri(path), body.clone())).await;
            if let (Err(_), Some(pool)) = (&outcome, &pool) {
                self.give_up(pool);
            }
            let failure = match outcome {
                Ok(Ok(answer)) => {
                    self.favourite.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::passing("no answer in time"),
            };
            attempt += 1;
            let cause = format!("{}: {} (try {attempt})", controller.address, failure.cause);
            tracing::debug!(path = path.text(), %cause, "a try to ask the controller failed");
            if !failure.passing || Instant::now() + pause >= deadline {
                return Err(Unavailable(cause));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Authority for RemoteAuthority {
    async fn open(&self, request: OpenRequest) -> Result<OpenReply, Unavailable> {
        self.ask(Path::Open, &request).await
    }

    async fn issue(&self, request: IssueRequest) -> Result<IssueAnswer, Unavailable> {
        self.ask(Path::Issue, &request).await
    }

    async fn complete(&self, request: CompleteRequest) -> Result<CompleteAnswer, Unavailable> {
        self.ask(Path::Complete, &request).await
    }
}

impl Controller {
    fn parse(address: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address { address: address.to_owned() };
        let authority: hyper::http::uri::Authority = address.parse().map_err(|_| wrong())?;
        if authority.port().is_none() || address.contains('@') {
            return Err(wrong());
        }
        let uri = |path: &'static str| {
            Uri::builder()
                .scheme("https")
                .authority(authority.clone())
                .path_and_query(path)
                .build()
                .map_err(|_| wrong())
        };
        Ok(Self { address: address.to_owned(), open: uri(OPEN)?, issue: uri(ISSUE)?, complete: uri(COMPLETE)? })
    }

    fn uri(&self, path: Path) -> Uri {
        match path {
            Path::Open => self.open.clone(),
            Path::Issue => self.issue.clone(),
            Path::Complete => self.complete.clone(),
        }
    }
}

impl Path {
    const fn text(self) -> &'static str {
        match self {
            Self::Open => OPEN,
            Self::Issue => ISSUE,
            Self::Complete => COMPLETE,
        }
    }
}

impl Failure {
    fn passing(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), passing: true }
    }
}

/// TLS 1.3 only: both ends are ours. The name is fixed, whatever the address, so that controllers may be reached through any
/// name, address or forwarder without a certificate that lists it.
fn connector(bundle: &Bundle, patience: Patience) -> Result<HttpsConnector<HttpConnector>, ClientError> {
    let unusable = TlsError::unusable;
    let trusted = roots(&bundle.controller_ca, "controller CA of the endpoint bundle")?;
    let object = "client certificate of the endpoint bundle";
    let chain = certificates(&bundle.client_certificate, object)?;
    let key = private_key(&bundle.client_key, "client key of the endpoint bundle")?;
    let config = rustls::ClientConfig::builder_with_details(crypto_provider(), Arc::new(OwnClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable("crypto provider"))?
        .with_root_certificates(trusted)
        .with_client_auth_cert(chain, key)
        .map_err(unusable(object))?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // A connection to a node that has gone is never refused. Half a try is enough for any network that answers within one, and
    // leaves time for more tries: behind a Service each leads to a replica by chance.
    tcp.set_connect_timeout(Some(patience.attempt / 2));
    let name = ServerName::try_from(SERVER_NAME)
        .map_err(|_| unusable("name of the controllers")(rustls::Error::UnsupportedNameType))?;
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .with_server_name_resolver(FixedServerNameResolver::new(name))
        .enable_http1()
        .wrap_connector(tcp))
}

/// One try: one request and its answer.
async fn exchange<A: DeserializeOwned>(client: &HttpClient, uri: Uri, body: Bytes) -> Result<A, Failure> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| Failure::passing(chain(&error)))?;
    let response = client.request(request).await.map_err(|error| Failure::passing(chain(&error)))?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(Failure { cause: format!("it answered {status}"), passing: is_passing(status) });
    }
    let body = read(response).await?;
    // The error of serde_json may quote what it read, and an answer holds tickets: only the place is told.
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::passing(format!("its answer is not understood from line {line}, column {column} on"))
    })
}

async fn read(response: Response<Incoming>) -> Result<Bytes, Failure> {
    match Limited::new(response.into_body(), MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => {
            Err(Failure::passing(format!("reading its answer of {MAX_BODY} octets at most: {}", chain(error.as_ref()))))
        }
    }
}

/// Whether a status other than 200 may be another one soon: not when it is about the question itself.
fn is_passing(status: StatusCode) -> bool {
    !status.is_client_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// An error with its causes; those of the HTTP client say nothing without.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_refused() {
        assert!(Controller::parse("controller.capf.svc:8443").is_ok());
        assert!(Controller::parse("[2001:db8::1]:8443").is_ok());
        for wrong in ["controller", "", "a b:1", "https://controller:1", "u@controller:1"] {
            assert!(Controller::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let again = |code| is_passing(StatusCode::from_u16(code).unwrap());
        assert!([503, 500, 429, 408, 302].into_iter().all(again));
        assert!(![400, 401, 403, 404, 413].into_iter().any(again));
    }
}
