//! A phone by hand: it says one thing at a time, so that a test can change the world between two of them.

use capf::phone::{PhoneKey, tls_config};
use capf::wire::{
    AuthRes, ClaimedName, Evidence, Frame, FrameDecoder, KeyGenerateRes, Message, Reason, SessionId, Side, Version,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::product::{PATIENCE, Product};

/// A session of such a phone, By Null String.
pub struct Scripted {
    stream: TlsStream<TcpStream>,
    decoder: FrameDecoder,
    input: Vec<u8>,
    session: SessionId,
}

impl Scripted {
    /// Connects, presents itself, and hears what it is to do.
    pub async fn open(product: &Product, device: &str) -> (Self, Message) {
        let tcp = TcpStream::connect(&product.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let connector = tokio_rustls::TlsConnector::from(tls_config(&product.ctl().await).unwrap());
        let stream = connector.connect(ServerName::try_from("capf").unwrap(), tcp).await.unwrap();
        let mut phone =
            Self { stream, decoder: FrameDecoder::new(Side::Phone), input: Vec::new(), session: SessionId(0) };
        let greeting = phone.frame().await.expect("a greeting");
        phone.session = greeting.session_id();
        let name = ClaimedName::parse(device).unwrap();
        phone.say(&Message::AuthRes(Box::new(AuthRes::new(Version::THREE, name, Evidence::Null)))).await;
        let request = phone.hear().await.expect("something to do");
        (phone, request)
    }

    /// Says something.
    pub async fn say(&mut self, message: &Message) {
        let frame = message.to_frame(self.session).unwrap();
        self.stream.write_all(&frame.encode()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a new key of this kind.
    pub async fn send_key(&mut self, kind: &str) {
        let key = PhoneKey::generate(kind.parse().unwrap()).unwrap();
        let public_key = Some(key.public().spki().to_vec().into());
        self.say(&Message::KeyGenerateRes(KeyGenerateRes { reason: None, public_key })).await;
    }

    /// What comes next; none when the connection ends.
    pub async fn hear(&mut self) -> Option<Message> {
        let frame = self.frame().await?;
        Some(Message::parse(&frame).unwrap().message)
    }

    /// The reason of the END_SESSION that comes next; none when the connection ends without one.
    pub async fn end(mut self) -> Option<Reason> {
        match self.hear().await {
            Some(Message::EndSession(reason)) => Some(reason),
            Some(other) => panic!("{other:?} where the end was awaited"),
            None => None,
        }
    }

    async fn frame(&mut self) -> Option<Frame> {
        let mut piece = [0; 4096];
        loop {
            let mut rest = &self.input[..];
            let frame = self.decoder.decode(&mut rest).unwrap();
            self.input = rest.to_vec();
            if frame.is_some() {
                return frame;
            }
            match timeout(PATIENCE * 2, self.stream.read(&mut piece)).await.expect("an answer in two minutes") {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.input.extend_from_slice(&piece[..length]),
            }
        }
    }
}
