//! The endpoint: what phones connect to. It terminates TLS, speaks the protocol, and asks the controllers three questions.
//!
//! | File | Is |
//! |---|---|
//! | `args` | the command line |
//! | `tls` | TLS as phones get it, and the seam for another |
//! | `connection` | one phone's connection from handshake to close: drives [`wire::ServerSession`](crate::wire::ServerSession) |
//! | `keepalive` | whether a silent phone is slow or gone |
//! | `ending` | how a connection ended, and its line in the log |
//! | `sessions` | the accept loop: session ids, the limit, the drain |
//! | `blocks` | who makes room when the limit is reached |
//! | `translate` | the words of the wire and of the authority |
//! | `reload` | follows the bundle |
//! | `observed` | whether it is ready, and what of the bundle is in use |
//!
//! An endpoint holds nothing worth stealing: no credentials for the API, no key that signs, no waiting string. What it knows of
//! an operation is a ticket it cannot read, for as long as the session lasts.

mod args;
mod blocks;
mod connection;
mod ending;
mod keepalive;
mod observed;
pub mod reload;
mod sessions;
pub mod tls;
mod translate;

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use args::EndpointArgs;
pub use sessions::{Endpoint, Handle};
use tokio_util::sync::CancellationToken;

use crate::authority::bundle::{Bundle, BundleError, EndpointConfig};
use crate::authority::client::{ClientError, RemoteAuthority};
use crate::authority::questions::Authority;
use crate::open_files::warn_if_few;
use crate::telemetry::health::Health;
use crate::telemetry::server::{HttpArgs, HttpError};
use crate::tls::TlsError;
use observed::{InUse, PHONES};
use reload::{Fingerprint, RELOAD_EVERY};
use tls::{Acceptor, ModernTls};

/// The setting that [`Limits::connections`] comes from, for people.
const LIMIT_OF_CONNECTIONS: &str = "the proxy's limits.connections";

/// What an endpoint needs to know.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// Address for phones; without it all addresses and the bundle's phone port.
    pub listen: Option<SocketAddr>,
    /// Port for phones on all addresses instead of the bundle's.
    pub port: Option<u16>,
    /// How long open sessions may go on after a request to stop.
    pub drain: Duration,
    /// Where probes and metrics are served, if anywhere.
    pub http: HttpArgs,
}

/// An endpoint cannot begin, or a new bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Certificate and key for phones cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The controllers cannot be asked with what the bundle says.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The port cannot be had.
    #[error("listening on {address}: {source}; see what else listens there, or give another address with --listen")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Probes and metrics cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// What a connection gets: one set for all that come until the next is made.
pub struct Service<A> {
    /// TLS.
    pub acceptor: Box<dyn Acceptor>,
    /// Who answers the three questions.
    pub authority: A,
    /// Numbers.
    pub limits: Limits,
}

/// Bounds of connections and their waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections open at once; further ones are closed unanswered.
    pub connections: usize,
    /// For the TLS handshake; less where many of one block of addresses are waiting for theirs.
    pub handshake: Duration,
    /// For an answer of the phone, its key excepted, and for the phone to take a frame.
    pub answer: Duration,
    /// For an answer of the authority; when it is over the connection closes.
    pub question: Duration,
}

impl Limits {
    /// After 7 s without an answer of the authority the connection closes: known phones give up after 8 s, and one that is left
    /// by us retries while one that leaves us shows an error.
    pub const QUESTION: Duration = Duration::from_secs(7);
}

impl From<&EndpointConfig> for Limits {
    fn from(config: &EndpointConfig) -> Self {
        Self {
            connections: usize::try_from(config.connections).unwrap_or(usize::MAX),
            handshake: Duration::from_secs(config.handshake_seconds.into()),
            answer: Duration::from_secs(config.answer_seconds.into()),
            question: Self::QUESTION,
        }
    }
}

impl<A: Authority> Service<A> {
    /// The service of a bundle, with this authority to ask.
    ///
    /// # Errors
    /// When service certificate and key cannot be used.
    pub fn new(bundle: &Bundle, authority: A) -> Result<Self, TlsError> {
        Ok(Self { acceptor: Box::new(ModernTls::new(bundle)?), authority, limits: Limits::from(&bundle.config) })
    }
}

/// Serves phones until `shutdown`, then drains.
///
/// # Errors
/// When the bundle cannot be used or the port not be had. Once it serves, nothing ends it but `shutdown`.
pub async fn run(options: EndpointOptions, shutdown: impl Future<Output = ()>) -> Result<(), EndpointError> {
    let (stop, in_use) = (CancellationToken::new(), InUse::default());
    let health = Health::until(stop.clone());
    let _http = observed::serve(options.http, &health, &in_use)?;
    let bundle = Bundle::read(&options.bundle)?;
    let seen = Fingerprint::of(&bundle);
    let port = bundle.config.phone_port;
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, options.port.unwrap_or(port)));
    let endpoint = Endpoint::bind(options.listen.unwrap_or(everywhere), service(&bundle)?)?;
    // Where it was told a port, the phone port is somebody else's affair.
    let told = options.listen.is_some() || options.port.is_some();
    tracing::info!(
        address = %endpoint.local_addr(),
        namespace = bundle.config.namespace,
        proxy = bundle.config.proxy,
        "phones are awaited"
    );
    in_use.take(&bundle);
    health.has(PHONES);
    let handle = endpoint.handle();
    warn_if_few(LIMIT_OF_CONNECTIONS, Limits::from(&bundle.config).connections);
    let apply = move |bundle: &Bundle| {
        handle.replace(service(bundle)?);
        in_use.take(bundle);
        warn_if_few(LIMIT_OF_CONNECTIONS, Limits::from(&bundle.config).connections);
        if bundle.config.phone_port != port && !told {
            let now = bundle.config.phone_port;
            tracing::warn!(port, now, "the phone port changed; it takes effect at the next start");
        }
        Ok(())
    };
    let age = reload::tell_of_age(options.bundle.clone(), reload::LOOK_AT_AGE_EVERY);
    let follow = reload::follow(options.bundle, RELOAD_EVERY, seen, apply);
    let shutdown = async {
        shutdown.await;
        stop.cancel();
    };
    tokio::select! {
        _cut_off = endpoint.serve(shutdown, options.drain) => {}
        () = follow => {}
        () = age => {}
        // In the task that takes connections, so that it tells of that one.
        () = health.beat() => {}
    }
    Ok(())
}

fn service(bundle: &Bundle) -> Result<Service<RemoteAuthority>, EndpointError> {
    Ok(Service::new(bundle, RemoteAuthority::new(bundle)?)?)
}
