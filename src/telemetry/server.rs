//! `/livez`, `/readyz` and `/metrics` over plain HTTP: small answers without secrets, to anybody who reaches the port.
//!
//! The server has a thread and a runtime of its own. A process that is busy with a building of phones still tells its
//! kubelet that it lives, a scrape that counts a hundred thousand phones holds up no question, and a runtime that is
//! stuck can be told of.
//!
//! Nobody can hold it: a connection is for one request and has ten seconds in all, and when there are too many, the
//! oldest makes room. So whoever crowds the port crowds out themselves; a probe, which takes milliseconds, gets its
//! answer.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::health::Health;
use crate::addresses::bind;

/// Connections at once; beyond them the oldest makes room.
const CONNECTIONS: usize = 64;
/// Time for one connection: its request, and taking the answer.
const CONNECTION: Duration = Duration::from_secs(10);
/// Time for the head of the request.
const HEAD: Duration = Duration::from_secs(5);
/// Octets of the head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// Pause after an accept that failed, most likely for want of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// What Prometheus takes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The option of the processes that serve it.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct HttpArgs {
    /// Address and port for probes and metrics, plain HTTP: /livez, /readyz and /metrics. Without it they are not served.
    #[arg(long, env = "CAPF_HTTP_LISTEN", value_name = "ADDR:PORT")]
    pub http_listen: Option<SocketAddr>,
}

/// Makes the text of `/metrics`.
pub type Scrape = Arc<dyn Fn() -> String + Send + Sync>;

/// The server cannot begin.
#[derive(Debug, thiserror::Error)]
#[error(
    "serving probes and metrics at {address}: {source}; see what else listens there, or give another --http-listen"
)]
pub struct HttpError {
    address: SocketAddr,
    source: io::Error,
}

/// A running server, until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// Begins to serve. Connections are taken from then on.
///
/// # Errors
/// When the address cannot be listened on, or no thread is to be had.
pub fn begin(address: SocketAddr, health: Health, scrape: Scrape) -> Result<Server, HttpError> {
    let wrong = |source| HttpError { address, source };
    let listener = bind(address, TcpListener::bind).map_err(wrong)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    let local = listener.local_addr().map_err(wrong)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
    let (stop, stopped) = oneshot::channel();
    let routes = routes(health, scrape);
    let served = move || runtime.block_on(serve(listener, routes, stopped));
    std::thread::Builder::new().name("capf-http".into()).spawn(served).map_err(wrong)?;
    tracing::info!(address = %local, "probes and metrics are served");
    Ok(Server { address: local, _stop: stop })
}

fn routes(health: Health, scrape: Scrape) -> Router {
    let (ready, alive) = (health.clone(), health);
    Router::new()
        .route("/readyz", get(move || std::future::ready(verdict(&ready.unready()))))
        .route("/livez", get(move || std::future::ready(verdict(&alive.dead()))))
        .route("/metrics", get(move || std::future::ready(([(CONTENT_TYPE, OPEN_METRICS)], scrape()))))
}

/// 200 and `ok`, or 503 and what is wrong, a line each.
fn verdict(wrong: &[String]) -> (StatusCode, String) {
    if wrong.is_empty() {
        return (StatusCode::OK, "ok\n".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, wrong.join("\n") + "\n")
}

async fn serve(listener: TcpListener, routes: Router, mut stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "probes and metrics cannot be served"),
    };
    let (mut connections, mut open) = (JoinSet::new(), VecDeque::<AbortHandle>::new());
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            Some(_) = connections.join_next() => open.retain(|connection| !connection.is_finished()),
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => {
                    if open.len() >= CONNECTIONS
                        && let Some(oldest) = open.pop_front()
                    {
                        oldest.abort();
                    }
                    let service = TowerToHyperService::new(routes.clone());
                    let mut builder = http1::Builder::new();
                    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD).keep_alive(false);
                    let serving = builder.serve_connection(TokioIo::new(tcp), service);
                    // How it ends is nobody's concern.
                    open.push_back(connections.spawn(async move { drop(tokio::time::timeout(CONNECTION, serving).await) }));
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting a connection for probes and metrics");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    fn server() -> (Server, Health) {
        let health = Health::default();
        health.lacks("lists", "Phones are not listed yet");
        let server =
            begin(([127, 0, 0, 1], 0).into(), health.clone(), Arc::new(|| "capf_x 1\n# EOF\n".into())).unwrap();
        (server, health)
    }

    fn ask(server: &Server, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(server: &Server, path: &str) -> String {
        ask(server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    #[test]
    fn each_path_says_what_it_is_for() {
        let (server, health) = server();
        let unready = get(&server, "/readyz");
        assert!(
            unready.starts_with("HTTP/1.1 503") && unready.ends_with("lists: Phones are not listed yet\n"),
            "{unready}"
        );
        health.has("lists");
        assert!(get(&server, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(get(&server, "/livez").ends_with("ok\n"));
        let metrics = get(&server, "/metrics");
        assert!(metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"), "{metrics}");
        assert!(get(&server, "/").starts_with("HTTP/1.1 404"));
        assert!(ask(&server, "POST /livez HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn a_head_without_an_end_is_cut_off() {
        let (server, _health) = server();
        let answer = ask(&server, &format!("GET /livez HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD)));
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[test]
    fn a_crowd_that_says_nothing_does_not_hold_up_a_probe() {
        let (server, _health) = server();
        let mut crowd: Vec<_> = (0..3 * CONNECTIONS).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        assert!(get(&server, "/livez").ends_with("ok\n"));
        // The first of them made room: it is at its end, long before its time is over.
        assert_eq!(crowd[0].read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
