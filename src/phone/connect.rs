//! From an address to a TLS connection with the server of the CTL.

use std::{io, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::outcome::CommunicationFailure;
use super::simulated::SimulatedPhone;
use super::tls::{NotInCtl, is_not_in_ctl};

/// What the configuration never looks at: a CTL knows certificates, not names.
const ANY_NAME: &str = "capf";

/// Connects and shakes hands, as long as the phone is patient.
pub(super) async fn connect(phone: &SimulatedPhone) -> Result<TlsStream<TcpStream>, CommunicationFailure> {
    let server = || phone.server.to_string();
    let limit = phone.patience.connect;
    let tcp = match timeout(limit, reach(phone)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(source)) => {
            let server = server();
            return Err(CommunicationFailure::Connect { server, source });
        }
        Err(_) => {
            let server = server();
            return Err(CommunicationFailure::ConnectTimeout { server, limit });
        }
    };
    let limit = phone.patience.answer;
    let handshake = async {
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(ANY_NAME).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&phone.tls));
        connector.connect(name, tcp).await
    };
    match timeout(limit, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if is_not_in_ctl(&error) => Err(NotInCtl.into()),
        Ok(Err(source)) => {
            let server = server();
            Err(CommunicationFailure::Handshake { server, source })
        }
        Err(_) => {
            let server = server();
            Err(CommunicationFailure::HandshakeTimeout { server, limit })
        }
    }
}

/// A connection to the first address of the server that answers, from the phone's own address where it has a chosen one.
async fn reach(phone: &SimulatedPhone) -> io::Result<TcpStream> {
    let server = (phone.server.host.as_str(), phone.server.port);
    let Some(own) = phone.own_address else { return TcpStream::connect(server).await };
    let mut last = io::Error::other("the server's name has no address");
    for address in lookup_host(server).await?.filter(|address| address.is_ipv4() == own.is_ipv4()) {
        let socket = if own.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind((own, 0).into())?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
