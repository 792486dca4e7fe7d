//! One phone's connection, from the handshake to the close: gives a [`ServerSession`] a socket, a clock and somebody to ask.
//!
//! Thousands of these wait for keys at once, so what a waiting one holds is kept small: bytes are read into the stack and not
//! into a buffer of its own, the handshake and each question live on the heap only while they last.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use secrecy::zeroize::Zeroize as _;
use tokio::io::{AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Limits;
use super::ending::End;
use super::keepalive::{self, LAST_LOOK};
use super::sessions::{OpenId, Shared, Stranger};
use super::tls::PhoneStream;
use super::translate::Dealings;
use crate::authority::questions::Authority;
use crate::telemetry::endpoint::{OpenSession, metrics};

use crate::wire::{
    Action, AuthorityTurn, Frame, FrameDecoder, FrameError, PhoneTurn, Question, ServerSession, Side, Waiting,
};

/// Octets read at once; on the stack, so more costs nothing but stack.
const READ: usize = 4096;
/// For close_notify to go out and for the phone to hang up in turn.
const GOODBYE: Duration = Duration::from_secs(2);
/// Most octets thrown away while waiting for the phone to hang up.
const MAX_DISCARDED: usize = 64 * 1024;

/// Serves one connection. The log gets one line of level info at its end; it holds nothing the phone said but its name.
pub(super) async fn attend<A: Authority>(tcp: TcpStream, id: OpenId, stranger: Stranger, shared: Arc<Shared<A>>) {
    let began = Instant::now();
    let service = shared.service();
    let limits = service.limits;
    // Without it each frame waits 40 ms for the acknowledgement of the last (observed).
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    if let Err(error) = keepalive::watch(&tcp) {
        tracing::debug!(%error, "TCP keepalive could not be set");
    }
    let source = tcp.peer_addr().ok().map(|peer| peer.ip().to_canonical());
    let accepting = async {
        // Whoever says nothing costs no TLS.
        tcp.readable().await?;
        service.acceptor.accept(tcp).await
    };
    let handshake = timeout(stranger.patience, accepting).await;
    drop(service);
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        // Somebody looked whether the port is open; load balancers do so every few seconds.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            metrics().without_tls.with(["hung_up"]).inc();
            return tracing::debug!(%error, "hung up before TLS was there");
        }
        Ok(Err(error)) => {
            metrics().without_tls.with(["handshake_failed"]).inc();
            let Some(before) = shared.tell_of_no_tls() else { return };
            return tracing::info!(end = "handshake_failed", before, "refuse connection: no TLS came about: {error}");
        }
        Err(_) => {
            metrics().without_tls.with(["handshake_deadline"]).inc();
            let Some(before) = shared.tell_of_no_tls() else { return };
            return tracing::info!(
                end = "handshake_deadline",
                before,
                "leave connection: TLS was not there after {:.1} s",
                stranger.patience.as_secs_f32()
            );
        }
    };
    let open = OpenSession::begin();
    let mut connection = Connection {
        stream,
        decoder: FrameDecoder::new(Side::Server),
        limits,
        dealings: Dealings::of(source),
        stranger: Some(stranger),
        shared,
    };
    let (end, session) = connection.run(ServerSession::start(id.number())).await;
    end.log(connection.dealings.note(), began.elapsed());
    open.end(end.label(), began.elapsed().as_secs_f64());
    let skipped = session.skipped();
    if skipped.count > 0 {
        tracing::debug!(?skipped, "elements were passed over");
    }
    if let End::Closed(_) = end {
        connection.say_goodbye().await;
    }
}

struct Connection<A> {
    stream: Box<dyn PhoneStream>,
    decoder: FrameDecoder,
    limits: Limits,
    dealings: Dealings,
    /// Until the phone has presented itself.
    stranger: Option<Stranger>,
    shared: Arc<Shared<A>>,
}

/// What one read brought.
enum Heard {
    /// Whole frames, and why there will be none after them if so.
    Frames(Vec<Frame>, Option<FrameError>),
    /// The end of the stream.
    End,
}

impl<A: Authority> Connection<A> {
    async fn run(&mut self, begun: (ServerSession, Vec<Action>)) -> (End, ServerSession) {
        let (mut session, mut actions) = begun;
        let mut awaited: Option<(PhoneTurn, Instant)> = None;
        loop {
            let question = match self.act(actions, session.waiting_for()).await {
                Ok(question) => question,
                Err(end) => return (end, session),
            };
            (session, actions) = match (session.waiting_for(), question) {
                (_, Some(question)) => {
                    awaited = None;
                    self.consult(session, question).await
                }
                (Waiting::Phone(turn), None) => {
                    // The deadline is the turn's: neither REQUEST_IN_PROGRESS nor a trickle of bytes moves it.
                    let due = match awaited {
                        Some((same, due)) if same == turn => due,
                        _ => Instant::now() + self.time_for(turn),
                    };
                    awaited = Some((turn, due));
                    match timeout_at(due, hear(&mut *self.stream, &mut self.decoder)).await {
                        Err(_) if turn == PhoneTurn::Key => {
                            match is_gone(&mut *self.stream, &mut self.decoder, session.waiting_for()).await {
                                Some(end) => return (end, session),
                                None => session.on_deadline(),
                            }
                        }
                        Err(_) => session.on_deadline(),
                        Ok(Ok(Heard::Frames(frames, error))) => {
                            let (session, actions) = feed(session, frames, error);
                            if turn == PhoneTurn::Key
                                && session.waiting_for() == Waiting::Authority(AuthorityTurn::Issue)
                            {
                                let left = due.saturating_duration_since(Instant::now());
                                let took = self.time_for(turn).saturating_sub(left);
                                metrics().key_seconds.value().observe(took.as_secs_f64());
                            }
                            (session, actions)
                        }
                        Ok(Ok(Heard::End)) => {
                            let cut = self.decoder.finish().err();
                            return (End::HungUp(session.waiting_for(), cut), session);
                        }
                        Ok(Err(error)) => {
                            return (End::Broken(session.waiting_for(), error), session);
                        }
                    }
                }
                (waiting, None) => return (End::Idle(waiting), session),
            };
        }
    }

    /// Sends what is to be sent. Gives back the question to ask; none when the session ends with the same actions, because a
    /// phone that is refused anyhow needs no answer.
    async fn act(&mut self, actions: Vec<Action>, waiting: Waiting) -> Result<Option<Question>, End> {
        let mut asked = None;
        for action in actions {
            match action {
                Action::Send(frame) => match timeout(self.limits.answer, self.send(&frame)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(End::Broken(waiting, error)),
                    Err(_) => return Err(End::Stuck),
                },
                Action::Ask(question) => asked = Some(question),
                Action::Close(reason) => return Err(End::Closed(reason)),
            }
        }
        Ok(asked)
    }

    /// Sends a frame in one write, which is one record.
    async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        if frame.exceeds_jabber_read() {
            let length = frame.encoded_length();
            tracing::debug!(command = %frame.command(), length, "Jabber reads 4096 bytes at once, this frame is longer");
        }
        self.stream.write_all(&frame.encode()).await?;
        self.stream.flush().await?;
        tracing::debug!(command = %frame.command(), "sent");
        Ok(())
    }

    /// Asks the authority that is in service now. The connection stays unread meanwhile.
    async fn consult(&mut self, session: ServerSession, question: Question) -> (ServerSession, Vec<Action>) {
        if let Question::Open(opening) = &question {
            tracing::Span::current().record("device", opening.device_name.as_str());
            self.stranger = None;
        }
        let service = self.shared.service();
        let asking = self.dealings.ask(&service.authority, session.id(), question);
        // On the heap, and only as long as the question takes.
        match timeout(self.limits.question, Box::pin(asking)).await {
            Ok(answer) => session.on_answer(answer),
            Err(_) => session.on_deadline(),
        }
    }

    fn time_for(&self, turn: PhoneTurn) -> Duration {
        match turn {
            PhoneTurn::Key => self.dealings.key_time(),
            PhoneTurn::Auth | PhoneTurn::Store | PhoneTurn::Delete | PhoneTurn::Fetch => self.limits.answer,
        }
    }

    /// Closes so that END_SESSION arrives: a socket closed with something unread in it resets the connection, and the reset may
    /// overtake what was sent. So what still comes is thrown away until the phone hangs up too, for a while.
    async fn say_goodbye(mut self) {
        let farewell = async {
            self.stream.shutdown().await?;
            let mut discarded = 0;
            while discarded < MAX_DISCARDED {
                match self.discard().await? {
                    0 => break,
                    read => discarded += read,
                }
            }
            Ok::<_, io::Error>(())
        };
        match timeout(GOODBYE, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection broke at its end"),
            Err(_) => tracing::debug!("the phone did not hang up; the connection is cut"),
        }
    }

    async fn discard(&mut self) -> io::Result<usize> {
        let socket = self.stream.socket();
        socket.readable().await?;
        let mut space = [0; 512];
        match socket.try_read(&mut space) {
            // Readiness may be a false alarm. Counted as something, so that alarms are bounded like bytes.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(1),
            outcome => outcome,
        }
    }
}

/// A last look at a phone whose time for its key is over: one that is gone has not failed to make a key. What a phone that is
/// there says now comes too late.
async fn is_gone(stream: &mut dyn PhoneStream, decoder: &mut FrameDecoder, waiting: Waiting) -> Option<End> {
    if let Err(error) = keepalive::look_closely(stream.socket()) {
        tracing::debug!(%error, "TCP keepalive could not be set");
    }
    match timeout(LAST_LOOK, hear(stream, decoder)).await {
        Ok(Ok(Heard::End)) => Some(End::HungUp(waiting, decoder.finish().err())),
        Ok(Err(error)) => Some(End::Broken(waiting, error)),
        Ok(Ok(Heard::Frames(..))) | Err(_) => None,
    }
}

/// Reads once and takes the whole frames out of it.
async fn hear(stream: &mut dyn PhoneStream, decoder: &mut FrameDecoder) -> io::Result<Heard> {
    loop {
        match poll_fn(|cx| poll_hear(stream, decoder, cx)).await? {
            Heard::Frames(frames, None) if frames.is_empty() => {}
            heard => return Ok(heard),
        }
    }
}

fn poll_hear(
    stream: &mut dyn PhoneStream,
    decoder: &mut FrameDecoder,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Heard>> {
    let mut space = [0; READ];
    let mut buffer = ReadBuf::new(&mut space);
    match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
        // TCP ended without close_notify. What was cut off, if anything was, the frames tell.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        outcome => outcome?,
    }
    let mut input = buffer.filled();
    let heard = if input.is_empty() {
        Heard::End
    } else {
        let mut frames = Vec::new();
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break Heard::Frames(frames, None),
                Err(error) => break Heard::Frames(frames, Some(error)),
            }
        }
    };
    // Digits may have come by.
    space.zeroize();
    Poll::Ready(Ok(heard))
}

/// Gives a session what one read brought.
fn feed(mut session: ServerSession, frames: Vec<Frame>, error: Option<FrameError>) -> (ServerSession, Vec<Action>) {
    let mut actions = Vec::new();
    for frame in frames {
        // Not its length: that of an AUTH_RES tells how many digits were entered.
        tracing::debug!(command = %frame.command(), "received");
        let more;
        (session, more) = session.on_frame(frame);
        actions.extend(more);
    }
    if let Some(error) = error {
        let more;
        (session, more) = session.on_frame_error(error);
        actions.extend(more);
    }
    (session, actions)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncRead, AsyncWrite};
    use tokio::net::TcpListener;

    use super::*;
    use crate::wire::{Message, SessionId};

    /// What the kernel says of a phone when it is asked.
    #[derive(Clone, Copy)]
    enum Kernel {
        /// It answers keepalive.
        Alive,
        /// It does not.
        Gone,
        /// It sends something, too late.
        Late,
    }

    /// A phone's connection whose kernel answers so.
    struct Silent(TcpStream, Kernel);

    impl AsyncRead for Silent {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            match self.1 {
                Kernel::Alive => Poll::Pending,
                Kernel::Gone => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Kernel::Late => {
                    let frame = Message::RequestInProgress.to_frame(SessionId(7)).unwrap();
                    buffer.put_slice(&frame.encode());
                    Poll::Ready(Ok(()))
                }
            }
        }
    }

    impl AsyncWrite for Silent {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(octets.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl PhoneStream for Silent {
        fn socket(&mut self) -> &mut TcpStream {
            &mut self.0
        }
    }

    #[tokio::test]
    async fn a_phone_that_is_gone_when_its_time_is_over_has_not_failed_to_make_a_key() {
        for (kernel, gone) in [(Kernel::Alive, false), (Kernel::Late, false), (Kernel::Gone, true)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut stream: Box<dyn PhoneStream> = Box::new(Silent(tcp, kernel));
            let mut decoder = FrameDecoder::new(Side::Server);
            let end = is_gone(&mut *stream, &mut decoder, Waiting::Phone(PhoneTurn::Key)).await;
            assert_eq!(end.is_some(), gone);
            assert!(end.is_none_or(|end| matches!(end, End::Broken(..))));
        }
    }
}
