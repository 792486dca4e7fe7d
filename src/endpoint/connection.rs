//! One phone's connection, from the handshake to the close: gives a [`ServerSession`] a socket, a clock and somebody to ask.
//!
//! Thousands of these wait for keys at once, so what a waiting one holds is kept small: bytes are read into the stack and not
//! into a buffer of its own, the handshake and each question live on the heap only while they last.

use std::fmt;
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
use super::sessions::{OpenId, Shared};
use super::tls::PhoneStream;
use super::translate::Dealings;
use crate::authority::questions::Authority;
use crate::wire::{
    Action, CloseReason, Frame, FrameDecoder, FrameError, PhoneTurn, Question, ServerSession, Side, Waiting,
};

/// Octets read at once; on the stack, so more costs nothing but stack.
const READ: usize = 4096;
/// For close_notify to go out and for the phone to hang up in turn.
const GOODBYE: Duration = Duration::from_secs(2);
/// Most octets thrown away while waiting for the phone to hang up.
const MAX_DISCARDED: usize = 64 * 1024;

/// Serves one connection. The log gets one line of level info at its end; it holds nothing the phone said but its name.
pub(super) async fn attend<A: Authority>(tcp: TcpStream, id: OpenId, shared: Arc<Shared<A>>) {
    let began = Instant::now();
    let service = shared.service();
    let limits = service.limits;
    // Without it each frame waits 40 ms for the acknowledgement of the last (observed).
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let source = tcp.peer_addr().ok().map(|peer| peer.ip().to_canonical());
    let handshake = timeout(limits.handshake, service.acceptor.accept(tcp)).await;
    drop(service);
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        // Somebody looked whether the port is open; load balancers do so every few seconds.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return tracing::debug!(%error, "hung up before TLS was there");
        }
        Ok(Err(error)) => {
            return tracing::info!(end = "handshake_failed", "refuse connection: no TLS came about: {error}");
        }
        Err(_) => {
            return tracing::info!(
                end = "handshake_deadline",
                "leave connection: TLS was not there after {} s",
                limits.handshake.as_secs()
            );
        }
    };
    let mut connection =
        Connection { stream, decoder: FrameDecoder::new(Side::Server), limits, dealings: Dealings::of(source), shared };
    let (end, session) = connection.run(ServerSession::start(id.number())).await;
    end.log(connection.dealings.note(), began.elapsed());
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
    shared: Arc<Shared<A>>,
}

/// How a connection came to its end.
#[derive(Debug)]
enum End {
    /// The session ended.
    Closed(CloseReason),
    /// The phone hung up, in the middle of a frame perhaps.
    HungUp(Waiting, Option<FrameError>),
    /// The connection broke.
    Broken(Waiting, io::Error),
    /// The phone does not take what is sent to it.
    Stuck,
    /// The session wants nothing: a fault of this program.
    Idle(Waiting),
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
                    match timeout_at(due, self.hear()).await {
                        Err(_) => session.on_deadline(),
                        Ok(Ok(Heard::Frames(frames, error))) => feed(session, frames, error),
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

    /// Reads once and takes the whole frames out of it.
    async fn hear(&mut self) -> io::Result<Heard> {
        loop {
            match poll_fn(|cx| self.poll_hear(cx)).await? {
                Heard::Frames(frames, None) if frames.is_empty() => {}
                heard => return Ok(heard),
            }
        }
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Heard>> {
        let mut space = [0; READ];
        let mut buffer = ReadBuf::new(&mut space);
        match ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut buffer)) {
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
                match self.decoder.decode(&mut input) {
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

impl End {
    /// Writes the session's line. `because` is what the authority said, where the session itself does not know.
    fn log(&self, because: Option<&str>, took: Duration) {
        let end = self.label();
        let seconds = took.as_secs_f32();
        match because {
            Some(because) => tracing::info!(end, because, seconds, "{self}"),
            None => tracing::info!(end, seconds, "{self}"),
        }
    }

    /// A short fixed name, fit for a metric's label.
    const fn label(&self) -> &'static str {
        match self {
            Self::Closed(reason) => reason.label(),
            Self::HungUp(..) => "hung_up",
            Self::Broken(..) => "broken",
            Self::Stuck => "stuck",
            Self::Idle(_) => "idle",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => reason.fmt(f),
            Self::HungUp(waiting, None) => {
                write!(f, "leave phone: it hung up while {waiting} was awaited; it may come again")
            }
            Self::HungUp(waiting, Some(cut)) => {
                write!(f, "leave phone: it hung up while {waiting} was awaited: {cut}")
            }
            Self::Broken(waiting, error) => {
                write!(f, "leave phone: the connection broke while {waiting} was awaited: {error}; it may come again")
            }
            Self::Stuck => f.write_str("leave phone: it did not take what was sent to it; it may come again"),
            Self::Idle(waiting) => {
                write!(f, "leave phone: its session waits for {waiting} and wants nothing done; report this fault")
            }
        }
    }
}
