//! TLS as phones get it, behind a seam for what rustls will never speak.
//!
//! rustls does TLS 1.2 and 1.3. Phones of the 7900 series speak TLS 1.0 only, with RSA key exchange: whoever serves them one
//! day implements [`Acceptor`] with another library and gives that to [`Service`](super::Service); nothing else has to know.
//!
//! No client certificate is asked for: a phone proves itself inside the protocol. Sessions are never resumed, neither by
//! ticket nor by id: a phone comes once in months, so a cache would only cost memory, and a ticket would outlive the
//! certificate it was made under.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::bundle::Bundle;
use crate::tls::{TlsError, certificates, crypto_provider, private_key};

/// A phone's connection after the handshake. Shutting it down sends close_notify and closes the sending half.
pub trait PhoneStream: AsyncRead + AsyncWrite + Send + Unpin {
    /// The connection underneath, for throwing away what a phone still sends to a closed session.
    fn socket(&mut self) -> &mut TcpStream;
}

/// A connection that is to become a [`PhoneStream`]. Dropping it gives up.
pub type Handshake = Pin<Box<dyn Future<Output = io::Result<Box<dyn PhoneStream>>> + Send>>;

/// Makes TLS of TCP: the seam for a listener that speaks an older TLS.
///
/// One write to the stream must become one record, or several phones read half a frame; the deadline of a handshake is the
/// caller's affair.
pub trait Acceptor: Send + Sync {
    /// Begins a handshake.
    fn accept(&self, tcp: TcpStream) -> Handshake;
}

/// TLS 1.2 and 1.3 by rustls, presenting the service certificate.
#[derive(Clone)]
pub struct ModernTls(TlsAcceptor);

impl ModernTls {
    /// Takes service certificate and key from the bundle.
    ///
    /// # Errors
    /// When either cannot be read, or they do not belong together.
    pub fn new(bundle: &Bundle) -> Result<Self, TlsError> {
        let object = "service certificate of the endpoint bundle";
        let chain = certificates(&bundle.service_certificate, object)?;
        let key = private_key(&bundle.service_key, "service key of the endpoint bundle")?;
        let mut config = rustls::ServerConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::unusable("crypto provider"))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::unusable(object))?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

impl Acceptor for ModernTls {
    fn accept(&self, tcp: TcpStream) -> Handshake {
        let handshake = self.0.accept(tcp);
        Box::pin(async move { Ok(Box::new(handshake.await?) as Box<dyn PhoneStream>) })
    }
}

impl PhoneStream for TlsStream<TcpStream> {
    fn socket(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
}
