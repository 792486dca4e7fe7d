//! A crowd that never becomes phones: silent connections, halves of handshakes, senders of one byte a second, all from one
//! address block, while honest phones of another block enrol.
//!
//! The blocks are parts of 127.0.0.0/8, all of which is this machine's own: the endpoint sees the addresses as they are, and
//! neither network namespaces nor root are needed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use capf::wire::{AuthRes, ClaimedName, Evidence, FrameDecoder, Message, Side, Version};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::fleet::{self, Line, Times};
use crate::product::{Options, Product};
use crate::verdict::{Verdict, round};
use crate::{Args, proc};

/// How often an honest phone comes, whether those before it are done or not.
const EVERY: Duration = Duration::from_millis(33);
/// A crowd is in full swing when each of its members was closed once: an endpoint leaves none longer than that without TLS.
const SWING: Duration = Duration::from_secs(12);
/// Longest that a silent connection may be left open.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// Between the bytes of those that send one at a time.
const TRICKLE: Duration = Duration::from_secs(1);
/// How long a member waits for the endpoint to close; longer than any of its deadlines.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs it.
pub async fn run(args: &Args, verdict: &mut Verdict) {
    let proxy = "  permitNullString: true\n  phoneDefaults: {keyType: EC}";
    let product = Product::start_with("crowd", Options { log_level: "info", proxy, ..Options::default() }).await;
    let endpoint = product.endpoint.as_ref().unwrap().pid();
    let each = args.honest;
    fleet::arm(&product, 0..4 * each).await;
    let line = Line::to(&product).await;
    // The first phones of a new installation pay for what is made once.
    honest(&line, 0..each).await;
    let before = honest(&line, each..2 * each).await;
    let (cpu, log) = (proc::cpu(endpoint), product.endpoint.as_ref().unwrap().log().len());
    let (crowd, began) = (Crowd::gather(&line, args), Instant::now());
    tokio::time::sleep(SWING).await;
    let beside = honest(&line, 2 * each..3 * each).await;
    let seen = crowd.disperse().await;
    let lasted = began.elapsed().as_secs_f64();
    let share = (proc::cpu(endpoint) - cpu).as_secs_f64() / lasted;
    let written = product.endpoint.as_ref().unwrap().log().len() - log;
    let after = honest(&line, 3 * each..4 * each).await;

    verdict.figure("honest_phones_before", before.json());
    verdict.figure("honest_phones_beside_the_crowd", beside.json());
    verdict.figure("honest_phones_after", after.json());
    verdict.figure("crowd", [args.silent, args.half, args.trickling]);
    verdict.figure("crowd_seconds", lasted.round());
    verdict.figure("crowd_connections", seen.connections);
    verdict.figure("crowd_connections_refused", seen.refused);
    verdict.figure("silent_closed_after_at_most_s", round(seen.slowest_ms as f64 / 1e3));
    verdict.figure("endpoint_cores_beside_the_crowd", round(share));
    verdict.figure("endpoint_log_bytes_a_second", (written as f64 / lasted).round());
    let alone = Times { ms: [before.ms.clone(), after.ms.clone()].concat(), retries: 0, failures: Vec::new() };
    let ratio = beside.percentile(99) / alone.percentile(99);
    verdict.figure("p99_ratio", round(ratio));
    verdict.require(format!("honest p99 grows at most 1.5 times: {ratio:.2}"), ratio <= 1.5);
    verdict.goal(format!("honest p99 grows at most 1.2 times: {ratio:.2}"), ratio <= 1.2);
    let failures = [&before, &beside, &after].map(|times| times.failures.len());
    verdict.require(format!("every honest phone enrols: {failures:?} do not"), failures == [0, 0, 0]);
    let slowest = Duration::from_millis(seen.slowest_ms);
    verdict.require(format!("those that say nothing are closed within 10 s: {slowest:?}"), slowest <= CLOSED_WITHIN);
    verdict.require("the crowd was there", seen.connections as usize >= args.silent + args.half + args.trickling);
    product.namespace.delete().await.ok();
}

async fn honest(line: &Line, numbers: Range<usize>) -> Times {
    let retry = Duration::from_secs(1);
    Times::of(&fleet::arrive(line, numbers, EVERY, |phone| phone.retries(3, retry), |_| {}).await)
}

/// What one of the crowd does, again and again.
#[derive(Clone, Copy)]
enum Habit {
    /// Connects and says nothing.
    Silent,
    /// Sends the first bytes of a ClientHello and no more.
    Half,
    /// Sends a ClientHello byte by byte.
    SlowHello,
    /// Shakes hands and sends AUTH_RES byte by byte.
    SlowFrame,
}

/// Members that go on until they are sent home.
struct Crowd {
    members: JoinSet<()>,
    seen: Arc<Seen>,
}

/// What the members saw.
#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    refused: AtomicU64,
    slowest_ms: AtomicU64,
}

struct Counted {
    connections: u64,
    refused: u64,
    slowest_ms: u64,
}

impl Crowd {
    fn gather(line: &Line, args: &Args) -> Self {
        let seen = Arc::new(Seen::default());
        let habits = std::iter::repeat_n(Habit::Silent, args.silent)
            .chain(std::iter::repeat_n(Habit::Half, args.half))
            .chain(std::iter::repeat_n(Habit::SlowHello, args.trickling / 2))
            .chain(std::iter::repeat_n(Habit::SlowFrame, args.trickling - args.trickling / 2));
        let mut members = JoinSet::new();
        for (number, habit) in habits.enumerate() {
            let (line, seen) = (line.clone(), seen.clone());
            // Of one block, 127.66.0.0/24, as many addresses as it has.
            let own = [127, 66, 0, u8::try_from(number % 250).unwrap() + 1];
            members.spawn(async move {
                // Ten thousand steps of a second are longer than any run: it is sent home before.
                loop {
                    seen.connections.fetch_add(1, Ordering::Relaxed);
                    if Box::pin(visit(&line, own, habit, &seen)).await.is_err() {
                        seen.refused.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            });
        }
        Self { members, seen }
    }

    /// Sends all home, which closes their connections.
    async fn disperse(mut self) -> Counted {
        self.members.shutdown().await;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            connections: of(&self.seen.connections),
            refused: of(&self.seen.refused),
            slowest_ms: of(&self.seen.slowest_ms),
        }
    }
}

/// One connection, until the endpoint closes it.
async fn visit(line: &Line, own: [u8; 4], habit: Habit, seen: &Seen) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((own, 0).into())?;
    let mut tcp = socket.connect(line.address).await?;
    tcp.set_nodelay(true)?;
    let connected = Instant::now();
    match habit {
        Habit::Silent => until_closed(&mut tcp).await?,
        Habit::Half => {
            let hello = hello(line);
            tcp.write_all(&hello[..hello.len() / 2]).await?;
            until_closed(&mut tcp).await?;
        }
        Habit::SlowHello => {
            let (mut reader, mut writer) = tcp.split();
            trickle(&mut writer, &hello(line), reader.read(&mut [0])).await;
            return Ok(());
        }
        Habit::SlowFrame => return slow_frame(line, tcp).await,
    }
    let milliseconds = u64::try_from(connected.elapsed().as_millis()).unwrap();
    seen.slowest_ms.fetch_max(milliseconds, Ordering::Relaxed);
    Ok(())
}

/// Waits until the endpoint has closed, in whichever way.
async fn until_closed(tcp: &mut TcpStream) -> std::io::Result<()> {
    let mut space = [0; 256];
    let closed = async { while tcp.read(&mut space).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, closed).await.map_err(|_| std::io::ErrorKind::TimedOut.into())
}

/// A valid ClientHello.
fn hello(line: &Line) -> Vec<u8> {
    let name = ServerName::try_from("capf").unwrap();
    let mut client = rustls::ClientConnection::new(line.tls.clone(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Sends byte after byte, each in a write of its own, until all are sent or `closed` is.
async fn trickle<T>(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8], closed: impl Future<Output = T>) {
    let sending = async {
        for byte in bytes {
            if writer.write_all(&[*byte]).await.is_err() || writer.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(TRICKLE).await;
        }
    };
    tokio::select! {
        () = sending => {}
        _ = closed => {}
    }
}

/// Shakes hands as a phone does, hears AUTH_REQ, and answers a byte a second, each in a record of its own.
async fn slow_frame(line: &Line, tcp: TcpStream) -> std::io::Result<()> {
    let name = ServerName::try_from("capf").unwrap();
    let connector = TlsConnector::from(line.tls.clone());
    let mut stream = timeout(PATIENCE, connector.connect(name, tcp)).await??;
    let (mut decoder, mut greeting) = (FrameDecoder::new(Side::Phone), [0; 256]);
    let read = timeout(PATIENCE, stream.read(&mut greeting)).await??;
    let frame = decoder.decode(&mut &greeting[..read]).ok().flatten().ok_or(std::io::ErrorKind::InvalidData)?;
    let nobody = ClaimedName::parse("SEP00000000BAD0").unwrap();
    let answer = Message::AuthRes(Box::new(AuthRes::new(Version::THREE, nobody, Evidence::Null)));
    let bytes = answer.to_frame(frame.session_id()).unwrap().encode();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut space = [0; 256];
    let closed = async { while reader.read(&mut space).await.is_ok_and(|read| read > 0) {} };
    trickle(&mut writer, &bytes, closed).await;
    Ok(())
}
