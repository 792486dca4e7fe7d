//! A phone, and a hand that can say anything a phone should not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use capf::tls::crypto_provider;
use capf::wire::{
    Certificate, CertificateEvidence, ClaimedName, Command, Evidence, Frame, FrameDecoder, Message, PhoneAction,
    PhoneConfig, PhoneFailure, PhoneSession, Reason, SessionId, Side, Version,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Something for a public key.
pub const KEY: [u8; 294] = [0x30; 294];
/// Longer than anything should take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A TLS connection as a phone has it.
pub struct Line {
    stream: TlsStream<TcpStream>,
    decoder: FrameDecoder,
    input: Vec<u8>,
}

impl Line {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with(address, rustls::ALL_VERSIONS).await
    }

    pub async fn connect_with(address: SocketAddr, versions: &[&'static SupportedProtocolVersion]) -> io::Result<Self> {
        let config = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_no_client_auth();
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::from(address.ip());
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let stream = timeout(PATIENCE, connecting).await??;
        let decoder = FrameDecoder::new(Side::Phone);
        Ok(Self { stream, decoder, input: Vec::new() })
    }

    /// The own address, by which the endpoint's log knows the phone.
    pub fn address(&self) -> SocketAddr {
        self.stream.get_ref().0.local_addr().unwrap()
    }

    /// The certificate that was presented.
    pub fn certificate(&self) -> Vec<u8> {
        self.stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next frame, or the end. A connection that breaks is an error: phones must get what was sent to them.
    pub async fn hear(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let mut rest = &self.input[..];
            let frame = self.decoder.decode(&mut rest).expect("a server sends frames");
            self.input = rest.to_vec();
            if frame.is_some() {
                return Ok(frame);
            }
            let mut space = [0; 4096];
            match timeout(PATIENCE, self.stream.read(&mut space)).await?? {
                0 => return Ok(None),
                length => self.input.extend_from_slice(&space[..length]),
            }
        }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Frame {
        self.hear().await.unwrap().expect("a frame")
    }

    /// How it ends from here: the END_SESSION, if one comes, and then a proper close.
    pub async fn end(&mut self) -> Option<Reason> {
        let frame = self.hear().await.unwrap()?;
        let Message::EndSession(reason) = Message::parse(&frame).unwrap().message else {
            panic!("{frame:?}");
        };
        assert_eq!(self.hear().await.unwrap(), None, "nothing after the end");
        Some(reason)
    }

    /// Hears the greeting, claims a name with no proof, and gives the number of the session.
    pub async fn present(&mut self, name: &str) -> SessionId {
        let id = self.frame().await.session_id();
        self.send(&auth_res(id, 3, name)).await;
        id
    }

    /// Presents itself and makes a key; the certificate is on its way then.
    pub async fn present_with_key(&mut self, name: &str) -> SessionId {
        let id = self.present(name).await;
        assert_eq!(self.frame().await.command(), Command::KEY_GENERATE_REQ);
        self.send(&key_response(id)).await;
        id
    }

    /// Plays a phone to the end: what the server said at the end, and the certificate it gave.
    pub async fn play(
        &mut self,
        name: &str,
        version: Version,
        evidence: Evidence,
    ) -> Result<(Reason, Option<Vec<u8>>), PhoneFailure> {
        let config = PhoneConfig::new(ClaimedName::parse(name).unwrap(), version);
        let mut session = PhoneSession::start(config);
        let mut stored = None;
        loop {
            let mut actions;
            (session, actions) = match self.hear().await {
                Ok(Some(frame)) => session.on_frame(frame),
                _ => session.on_closed(),
            };
            while !actions.is_empty() {
                let next;
                (session, next) = match actions.remove(0) {
                    PhoneAction::Send(frame) => {
                        self.send(&frame.encode()).await;
                        continue;
                    }
                    PhoneAction::Prove { .. } => session.on_proof(evidence.clone()),
                    PhoneAction::MakeKey(_) => session.on_key(&KEY[..]),
                    PhoneAction::Store { certificate_der, .. } => {
                        stored = Some(certificate_der.into_vec());
                        session.on_stored(true)
                    }
                    PhoneAction::Delete { .. } => session.on_deleted(true),
                    PhoneAction::Fetch { .. } => session.on_fetched(None),
                    PhoneAction::Ended { reason } => {
                        assert_eq!(self.hear().await.unwrap(), None, "nothing after the end");
                        return Ok((reason, stored));
                    }
                    PhoneAction::Failed(failure) => return Err(failure),
                };
                actions.extend(next);
            }
        }
    }
}

/// Evidence of an authentication string.
pub fn digits(text: &str) -> Evidence {
    Evidence::String(text.into())
}

/// Evidence of a certificate that proves nothing.
pub fn certificate() -> Evidence {
    let certificate = Certificate::new(capf::wire::CertType::LSC, vec![0x30, 0]);
    Evidence::Certificate(Box::new(CertificateEvidence { certificate: Some(certificate), ..Default::default() }))
}

pub fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[tag][..], &length, value].concat()
}

/// A frame with whatever body.
pub fn frame(command: u8, id: SessionId, body: &[u8]) -> Vec<u8> {
    Frame::new(Command(command), id, body.to_vec()).unwrap().encode().to_vec()
}

pub fn auth_res(id: SessionId, version: u8, name: &str) -> Vec<u8> {
    let name = element(13, &[name.as_bytes(), b"\0"].concat());
    frame(2, id, &[element(7, &[version]), name].concat())
}

pub fn key_response(id: SessionId) -> Vec<u8> {
    frame(4, id, &element(9, &KEY))
}

/// Takes any certificate: which one came is what tests ask.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &crypto_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &crypto_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto_provider().signature_verification_algorithms.supported_schemes()
    }
}
