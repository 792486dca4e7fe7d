//! The sessions that are open: their numbers, their limit, and the patience that lets them finish.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument as _;

use super::blocks::Strangers;
use super::connection::attend;
use super::{EndpointError, Service};
use crate::addresses::listen;
use crate::authority::questions::Authority;
use crate::domain::blocks::SourceBlock;
use crate::telemetry::endpoint::metrics;
use crate::wire::SessionId;

/// Connections the kernel keeps for us before they are accepted. After a power cut a building of phones comes at once; the
/// system's own limit (`net.core.somaxconn`) cuts it down where it is lower.
const BACKLOG: u32 = 4096;
/// Pause after an accept that failed for want of something, most likely open files: sessions that end give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// The time in which only so many lines about the same trouble are written.
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// So many about connections without a handshake: enough to find a phone by, and no more than a crowd of strangers deserves.
const LINES_WITHOUT_TLS: u32 = 50;

/// A bound endpoint: [`run`](super::run) makes one of the command line, tests make one of a fake authority.
pub struct Endpoint<A> {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared<A>>,
}

/// What new connections get, to be replaced from outside while the endpoint serves.
pub struct Handle<A>(Arc<Shared<A>>);

/// What the sessions of an endpoint share.
pub(super) struct Shared<A> {
    service: RwLock<Arc<Service<A>>>,
    ids: Arc<SessionIds>,
    strangers: Arc<Mutex<Strangers<AbortHandle>>>,
    without_tls: Mutex<Occasionally>,
}

impl<A> Shared<A> {
    /// What holds now.
    pub(super) fn service(&self) -> Arc<Service<A>> {
        let guard = self.service.read().unwrap_or_else(PoisonError::into_inner);
        guard.clone()
    }

    /// Whether to write a line about a connection that came to no TLS, and how many were withheld since the last.
    pub(super) fn tell_of_no_tls(&self) -> Option<u64> {
        self.without_tls.lock().unwrap_or_else(PoisonError::into_inner).now()
    }
}

impl<A> Handle<A> {
    /// Gives this to connections that come from now on. Sessions under way keep their connection and their limits; their next
    /// question goes to the new authority, because the old one's certificate may be about to end.
    pub fn replace(&self, service: Service<A>) {
        let service = Arc::new(service);
        *self.0.service.write().unwrap_or_else(PoisonError::into_inner) = service;
    }
}

impl<A> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Authority> Endpoint<A> {
    /// Listens; connections wait in the kernel until [`serve`](Self::serve). Port 0 takes any free one, and `[::]` all addresses
    /// there are. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on; waiting helps where another process has it.
    pub fn bind(address: SocketAddr, service: Service<A>) -> Result<Self, EndpointError> {
        let wrong = |source| EndpointError::Bind { address, source };
        let listener = listen(address, BACKLOG).map_err(wrong)?;
        let local_addr = listener.local_addr().map_err(wrong)?;
        let shared = Arc::new(Shared {
            service: RwLock::new(Arc::new(service)),
            ids: Arc::default(),
            strangers: Arc::default(),
            without_tls: Mutex::new(Occasionally::new(LINES_WITHOUT_TLS)),
        });
        Ok(Self { listener, local_addr, shared })
    }

    /// Where phones are awaited.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The handle to replace what new connections get.
    #[must_use]
    pub fn handle(&self) -> Handle<A> {
        Handle(self.shared.clone())
    }

    /// Serves phones until `shutdown`; then accepts none, and gives open sessions the time `drain` to finish. Says how many had
    /// to be cut off; their phones come again by themselves.
    pub async fn serve(self, shutdown: impl Future<Output = ()>, drain: Duration) -> usize {
        let mut sessions = JoinSet::new();
        let (mut full, mut failing) = (Occasionally::new(1), Occasionally::new(1));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = sessions.join_next() => report_panic(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, peer)) => self.admit(&mut sessions, &mut full, tcp, peer),
                    Err(error) if is_of_one_connection(&error) => {
                        tracing::debug!(%error, "a connection was gone before it was accepted");
                    }
                    Err(error) => {
                        if let Some(before) = failing.now() {
                            tracing::warn!(
                                %error, before, open = sessions.len(),
                                "accepting connections failed and is tried again; if open files ran out, raise their limit \
                                 or lower the proxy's connections"
                            );
                        }
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        finish(sessions, drain).await
    }

    /// Begins a session. When there are enough, a stranger of the block with most of them makes room, or else the connection is
    /// closed unanswered.
    fn admit(&self, sessions: &mut JoinSet<()>, full: &mut Occasionally, tcp: TcpStream, peer: SocketAddr) {
        let limits = self.shared.service().limits;
        let limit = limits.connections;
        // An IPv4 phone on the IPv6 socket is to be found under its own address.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let block = SourceBlock::of(peer.ip());
        // Held until the session is among the strangers: it may be over before.
        let mut strangers = self.shared.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= limit {
            let room = strangers.make_room_for(block);
            if let Some(before) = full.now() {
                let closed = if room.is_some() { "another's, whose phone has not presented itself" } else { "this" };
                tracing::warn!(
                    %peer, before, limit, closed,
                    "connection closed unanswered: as many are open as the proxy's connections allow; the phone comes again \
                     by itself"
                );
            }
            metrics().no_place.with([if room.is_some() { "made_room" } else { "full" }]).inc();
            match room {
                Some(stranger) => stranger.abort(),
                None => return,
            }
        }
        let id = match self.shared.ids.claim() {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(%peer, "connection closed unanswered: {error}");
                return;
            }
        };
        // At every level of the log: what is written at all is to be found.
        let span = tracing::error_span!(
            "session",
            id = %id.number(),
            %peer,
            device = tracing::field::Empty
        );
        // A session's number is as good a draw as any.
        let patience = strangers.patience_with(block, limits.handshake, id.number().0);
        let number = strangers.next_number();
        let stranger = Stranger { number, block, patience, strangers: self.shared.strangers.clone() };
        let session = sessions.spawn(attend(tcp, id, stranger, self.shared.clone()).instrument(span));
        strangers.enter(block, session);
    }
}

/// A connection whose phone has not presented itself, until this is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    number: u64,
    block: SourceBlock,
    /// For its handshake.
    pub(super) patience: Duration,
    strangers: Arc<Mutex<Strangers<AbortHandle>>>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.leave(self.block, self.number);
    }
}

/// Lets sessions end by themselves for a while, and then ends them.
async fn finish(mut sessions: JoinSet<()>, drain: Duration) -> usize {
    while let Some(ended) = sessions.try_join_next() {
        report_panic(ended);
    }
    tracing::info!(
        open = sessions.len(),
        seconds = drain.as_secs(),
        "no phones are taken any more; open sessions may finish"
    );
    let all = async {
        while let Some(ended) = sessions.join_next().await {
            report_panic(ended);
        }
    };
    if timeout(drain, all).await.is_err() {
        tracing::warn!(
            open = sessions.len(),
            "the time to finish is over; the phones of the sessions still open come again by themselves"
        );
    }
    let cut_off = sessions.len();
    sessions.shutdown().await;
    cut_off
}

fn report_panic(ended: Result<(), JoinError>) {
    // One that had to make room was cancelled.
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a session broke off; report this fault");
    }
}

/// Whether an accept failed for that one connection only, and the next may be taken at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// The numbers of open sessions. A signature in SUDI_DATA is fresh only as far as its session's number is, so numbers are
/// random, and no two alike are open at once.
#[derive(Debug, Default)]
pub(super) struct SessionIds(Mutex<HashSet<u32>>);

/// A number that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct OpenId {
    number: u32,
    ids: Arc<SessionIds>,
}

/// The system gave no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("drawing a session id: the system gave no random numbers; try again, or see what ails it")]
pub(super) struct NoRandomness;

impl SessionIds {
    /// Takes a random number that no open session has.
    pub(super) fn claim(self: &Arc<Self>) -> Result<OpenId, NoRandomness> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Never endless: connections are limited far below the 2^32 numbers there are.
        loop {
            let mut octets = [0; 4];
            aws_lc_rs::rand::fill(&mut octets).map_err(|_| NoRandomness)?;
            let number = u32::from_be_bytes(octets);
            if taken.insert(number) {
                let ids = self.clone();
                return Ok(OpenId { number, ids });
            }
        }
    }
}

impl OpenId {
    /// The number.
    pub(super) fn number(&self) -> SessionId {
        SessionId(self.number)
    }
}

impl Drop for OpenId {
    fn drop(&mut self) {
        let mut taken = self.ids.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.number);
    }
}

/// Lets so many lines into the log in any [`LOG_PAUSE`].
struct Occasionally {
    lines: u32,
    since: Option<Instant>,
    written: u32,
    withheld: u64,
}

impl Occasionally {
    const fn new(lines: u32) -> Self {
        Self { lines, since: None, written: 0, withheld: 0 }
    }

    /// Whether to write the line now, and how many were withheld since the last.
    fn now(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.since.is_none_or(|since| now.duration_since(since) >= LOG_PAUSE) {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written == self.lines {
            self.withheld += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_numbers_are_unlike_and_are_given_back() {
        let ids = Arc::new(SessionIds::default());
        let open: Vec<OpenId> = (0..1000).map(|_| ids.claim().unwrap()).collect();
        assert_eq!(ids.0.lock().unwrap().len(), 1000);
        drop(open);
        assert!(ids.0.lock().unwrap().is_empty());
    }

    #[test]
    fn running_out_of_open_files_is_not_the_fault_of_one_connection() {
        // EMFILE and ENFILE of Linux.
        for number in [24, 23] {
            assert!(!is_of_one_connection(&io::Error::from_raw_os_error(number)));
        }
        assert!(is_of_one_connection(&io::ErrorKind::ConnectionAborted.into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_about_the_same_trouble_comes_every_ten_seconds() {
        let (mut lines, mut pairs) = (Occasionally::new(1), Occasionally::new(2));
        assert_eq!(lines.now(), Some(0));
        assert_eq!((lines.now(), lines.now()), (None, None));
        assert_eq!([pairs.now(), pairs.now(), pairs.now()], [Some(0), Some(0), None]);
        sleep(LOG_PAUSE).await;
        assert_eq!(lines.now(), Some(2));
        assert_eq!([pairs.now(), pairs.now(), pairs.now()], [Some(1), Some(0), None]);
    }
}
