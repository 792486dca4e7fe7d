//! A phone that takes its time over its key: as little of one as can be, so that ten thousand fit beside what they wait for.

use std::collections::VecDeque;

use capf::phone::PhoneKey;
use capf::wire::{ClaimedName, Evidence, FrameDecoder, PhoneAction, PhoneConfig, PhoneSession, Reason, Side, Version};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fleet::{Line, device};

/// Opens a session By Null String. Announces through `asked` that it was asked for its key, and goes on when `word` is given;
/// gives up when that is dropped. What END_SESSION said.
///
/// # Errors
/// How the session failed; also when the server ends it before the word.
pub async fn enrol(
    line: &Line,
    number: usize,
    asked: impl FnOnce(),
    word: oneshot::Receiver<()>,
) -> Result<Reason, String> {
    let tcp = TcpStream::connect(line.address).await.map_err(|e| format!("connect: {e}"))?;
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    let name = ServerName::try_from("capf").unwrap();
    let stream = TlsConnector::from(line.tls.clone()).connect(name, tcp).await;
    let stream = stream.map_err(|e| format!("shake hands: {e}"))?;
    let config = PhoneConfig::new(ClaimedName::parse(&device(number)).unwrap(), Version::THREE);
    let mut talk = Talk { stream, decoder: FrameDecoder::new(Side::Phone), input: Vec::new() };
    let (mut session, mut actions) = (PhoneSession::start(config), VecDeque::new());
    let mut waits = Some((asked, word));
    loop {
        let more;
        (session, more) = match actions.pop_front() {
            None => talk.listen(session).await?,
            Some(PhoneAction::Send(frame)) => {
                talk.stream.write_all(&frame.encode()).await.map_err(|e| format!("send: {e}"))?;
                continue;
            }
            Some(PhoneAction::Prove { .. }) => session.on_proof(Evidence::Null),
            Some(PhoneAction::MakeKey(_)) => {
                let (asked, word) = waits.take().ok_or("asked for a key twice")?;
                asked();
                talk.silence_until(word).await?;
                let key = PhoneKey::generate("EC-P256".parse().unwrap()).unwrap();
                session.on_key(key.public().spki())
            }
            Some(PhoneAction::Store { .. }) => session.on_stored(true),
            Some(PhoneAction::Ended { reason }) => return Ok(reason),
            Some(other) => return Err(format!("{other:?}")),
        };
        actions.extend(more);
    }
}

struct Talk {
    stream: TlsStream<TcpStream>,
    decoder: FrameDecoder,
    input: Vec<u8>,
}

impl Talk {
    async fn listen(&mut self, session: PhoneSession) -> Result<(PhoneSession, Vec<PhoneAction>), String> {
        loop {
            let mut rest = &self.input[..];
            let frame = self.decoder.decode(&mut rest).map_err(|e| e.to_string())?;
            self.input = rest.to_vec();
            if let Some(frame) = frame {
                return Ok(session.on_frame(frame));
            }
            // As much as a frame of this session can be, and nothing kept for it.
            let mut piece = vec![0; 4096];
            match self.stream.read(&mut piece).await {
                Ok(0) => return Err(format!("the server hung up on a phone {}", session.state())),
                Ok(read) => self.input.extend_from_slice(&piece[..read]),
                Err(error) => return Err(format!("hear: {error}")),
            }
        }
    }

    /// Waits for the word; the server has nothing to say meanwhile.
    async fn silence_until(&mut self, word: oneshot::Receiver<()>) -> Result<(), String> {
        let mut octet = [0];
        tokio::select! {
            given = word => given.map_err(|_| "told to give up".to_owned()),
            heard = self.stream.read(&mut octet) => Err(format!("the server did not wait: {heard:?}")),
        }
    }
}
