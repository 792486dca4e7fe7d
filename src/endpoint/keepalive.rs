//! Whether a silent phone is slow or gone. A phone that makes a key says nothing for minutes, and one that lost its power says
//! nothing ever again: its side of the connection is left half open. The kernel asks in between (TCP keepalive), and a phone
//! that is there answers without its program taking part.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Silence after which the kernel asks the first time.
const IDLE: Duration = Duration::from_secs(20);
/// Pause between further questions.
const INTERVAL: Duration = Duration::from_secs(10);
/// Questions without an answer after which the connection is broken: 50 s from the last sign of life.
const PROBES: u32 = 3;

/// The same for the last look at the deadline of a key: a phone that lost its power shortly before is found out in 3 s.
const LAST_LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Questions of the last look.
const LAST_LOOK_PROBES: u32 = 2;
/// How long the last look takes where the phone is there.
pub(super) const LAST_LOOK: Duration = Duration::from_secs(4);

/// Has the kernel find out about phones that are gone.
pub(super) fn watch(tcp: &TcpStream) -> io::Result<()> {
    set(tcp, IDLE, INTERVAL, PROBES)
}

/// Has the kernel find out within [`LAST_LOOK`].
pub(super) fn look_closely(tcp: &TcpStream) -> io::Result<()> {
    set(tcp, LAST_LOOK_PAUSE, LAST_LOOK_PAUSE, LAST_LOOK_PROBES)
}

fn set(tcp: &TcpStream, idle: Duration, interval: Duration, probes: u32) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_kernel_is_told_and_finds_out_before_the_look_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let told = || {
            let socket = SockRef::from(&tcp);
            let (idle, interval) = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
            (socket.keepalive().unwrap(), idle, interval, socket.tcp_keepalive_retries().unwrap())
        };
        assert!(!told().0);
        watch(&tcp).unwrap();
        assert_eq!(told(), (true, IDLE, INTERVAL, PROBES));
        // The shortest time for a key is a minute.
        assert!(IDLE + INTERVAL * PROBES < Duration::from_secs(60));
        look_closely(&tcp).unwrap();
        assert_eq!(told(), (true, LAST_LOOK_PAUSE, LAST_LOOK_PAUSE, LAST_LOOK_PROBES));
        assert!(LAST_LOOK_PAUSE * (1 + LAST_LOOK_PROBES) < LAST_LOOK);
    }
}
