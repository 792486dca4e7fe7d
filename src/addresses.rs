//! Listening on all addresses, also where the system has no IPv6.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Listens as [`bind`] says; `backlog` connections wait in the kernel. `[::]` takes IPv4 too, unless the system says otherwise
/// (`net.ipv6.bindv6only`). Call it inside a tokio runtime.
///
/// # Errors
/// When the address cannot be listened on; waiting helps where another process has it.
pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    bind(address, |address| {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // As tokio's own bind does: a restart must not wait for the last connections' TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(backlog)
    })
}

/// Binds `address` by `bind`. Where that means all addresses and the system has no IPv6, those of IPv4 are all there are.
///
/// # Errors
/// Those of `bind`.
pub fn bind<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && is_without_ipv6(&error) => {
            tracing::warn!(%error, %address, "no IPv6 here: listening on IPv4 alone");
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        outcome => outcome,
    }
}

/// Whether listening failed for want of IPv6: for any cause but those that IPv4 would share.
fn is_without_ipv6(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is bound in the end on a system that answers so for IPv6.
    fn bound(address: &str, answer: io::ErrorKind) -> io::Result<String> {
        bind(address.parse().unwrap(), |address| match address {
            SocketAddr::V6(_) => Err(answer.into()),
            SocketAddr::V4(_) => Ok(address.to_string()),
        })
    }

    #[test]
    fn all_addresses_are_those_of_ipv4_where_there_is_no_other() {
        assert_eq!(bound("[::]:3804", io::ErrorKind::AddrNotAvailable).unwrap(), "0.0.0.0:3804");
        assert_eq!(bound("[::]:3804", io::ErrorKind::Unsupported).unwrap(), "0.0.0.0:3804");
        assert!(bound("[::]:3804", io::ErrorKind::AddrInUse).is_err(), "IPv4 would share it");
        assert!(bound("[::1]:3804", io::ErrorKind::AddrNotAvailable).is_err(), "that address was meant, and no other");
    }
}
