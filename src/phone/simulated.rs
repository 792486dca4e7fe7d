//! A phone to be used from code: by `capf phone`, by tests and by benchmarks.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::ClientConfig;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::wire::{CertType, ClaimedName, Evidence, PhoneConfig, SessionId, Version};

use super::driver;
use super::events::{Event, EventLog};
use super::existing;
use super::fault::{Fault, Step};
use super::key::PhoneKey;
use super::outcome::{AttemptOutcome, CommunicationFailure, EnrolOutcome, Retry};
use super::state::{MicAndKey, StateDir, StateError};

/// "The phone will attempt to obtain the certificate three more times in 30-second intervals."
pub const RETRIES: u32 = 3;
/// The interval of the same sentence.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Whereto a phone connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// A name or an address; a v6 address without its brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl From<SocketAddr> for ServerAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Makes the evidence for a session: signatures cover its number.
pub type Prover = dyn Fn(SessionId) -> Evidence + Send + Sync;

/// How a phone proves itself. `Debug` shows nothing of it.
#[derive(Clone)]
pub enum Proof {
    /// By Null String.
    NullString,
    /// By Authentication String, with what its user entered.
    AuthenticationString(SecretString),
    /// By the certificates the phone holds when it is asked.
    ExistingCertificate,
    /// By whatever this makes.
    Made(Arc<Prover>),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NullString => "NullString",
            Self::AuthenticationString(_) => "AuthenticationString([hidden])",
            Self::ExistingCertificate => "ExistingCertificate",
            Self::Made(_) => "Made([hidden])",
        })
    }
}

/// How long a phone waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection. 5 s.
    pub connect: Duration,
    /// For the TLS handshake, and for each answer: known clients wait 8 to 10 s. 10 s.
    pub answer: Duration,
    /// For the server to end a session that the phone stalls: longer than any server gives a phone for its key. 1 h.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), answer: Duration::from_secs(10), stall: Duration::from_secs(3600) }
    }
}

/// A simulated phone: one LSC and its key, one way to prove itself, and what may go wrong on purpose.
///
/// Without a state directory it remembers all of it until it is dropped.
#[derive(Debug)]
pub struct SimulatedPhone {
    pub(super) server: ServerAddress,
    pub(super) own_address: Option<IpAddr>,
    pub(super) config: PhoneConfig,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) proof: Proof,
    pub(super) faults: Vec<Fault>,
    pub(super) pauses: Vec<(Step, Duration)>,
    pub(super) prepared: Option<PhoneKey>,
    pub(super) patience: Patience,
    pub(super) holdings: Holdings,
    pub(super) stop: CancellationToken,
    events: EventLog,
    retries: u32,
    retry_interval: Duration,
    attempts: u32,
}

/// The certificates a phone has.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    pub lsc: Option<(Vec<u8>, PhoneKey)>,
    pub mic: Option<MicAndKey>,
    pub dir: Option<StateDir>,
}

impl SimulatedPhone {
    /// A phone of version 3 with no certificate, that proves itself by the null string and retries as the source says. The TLS
    /// configuration is [`tls_config`](super::tls_config)'s.
    pub fn new(server: impl Into<ServerAddress>, device_name: impl Into<ClaimedName>, tls: Arc<ClientConfig>) -> Self {
        Self {
            server: server.into(),
            own_address: None,
            config: PhoneConfig::new(device_name, Version::THREE),
            tls,
            proof: Proof::NullString,
            faults: Vec::new(),
            pauses: Vec::new(),
            prepared: None,
            patience: Patience::default(),
            holdings: Holdings::default(),
            stop: CancellationToken::new(),
            events: EventLog::default(),
            retries: RETRIES,
            retry_interval: RETRY_INTERVAL,
            attempts: 0,
        }
    }

    /// Speaks this version, 2 or 3.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.config = PhoneConfig::new(self.config.device_name, version);
        self
    }

    /// Connects from this address, one of the machine's: on Linux any of 127.0.0.0/8 is.
    #[must_use]
    pub fn own_address(mut self, address: IpAddr) -> Self {
        self.own_address = Some(address);
        self
    }

    /// Proves itself this way.
    #[must_use]
    pub fn proof(mut self, proof: Proof) -> Self {
        self.proof = proof;
        self
    }

    /// Plays these faults.
    #[must_use]
    pub fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults.extend(faults);
        self
    }

    /// Takes this long at this step, in every attempt: as a slow processor does over a key, or slow storage over a certificate.
    /// Goes on at once where the server hangs up meanwhile, and comes again.
    #[must_use]
    pub fn pausing(mut self, step: Step, time: Duration) -> Self {
        self.pauses.push((step, time));
        self
    }

    /// Uses this key in every attempt instead of making one each time. Asked for another kind, the phone answers that it
    /// cannot.
    #[must_use]
    pub fn prepared_key(mut self, key: PhoneKey) -> Self {
        self.prepared = Some(key);
        self
    }

    /// After a communication failure tries this often again, after this time each.
    #[must_use]
    pub fn retries(mut self, retries: u32, interval: Duration) -> Self {
        self.retries = retries;
        self.retry_interval = interval;
        self
    }

    /// Holds this LSC (DER), whoever made it.
    #[must_use]
    pub fn holding_lsc(mut self, der: Vec<u8>, key: PhoneKey) -> Self {
        self.holdings.lsc = Some((der, key));
        self
    }

    /// Holds this MIC (DER).
    #[must_use]
    pub fn holding_mic(mut self, der: Vec<u8>, key: PhoneKey) -> Self {
        self.holdings.mic = Some((der, Some(key)));
        self
    }

    /// Waits this long.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Gives up when this is cancelled: the Stop key. With a session it sends ABORT_REQ; it makes no further attempt.
    #[must_use]
    pub fn stop(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// Keeps its certificates in this directory, has those that are there, and writes `events.log`.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn state(mut self, dir: StateDir) -> Result<Self, StateError> {
        self.events = dir.event_log()?;
        self.holdings = Holdings { lsc: dir.lsc()?, mic: dir.mic_and_key()?, dir: Some(dir) };
        Ok(self)
    }

    /// The LSC in DER, if it has one.
    pub fn lsc(&self) -> Option<&[u8]> {
        self.holdings.lsc.as_ref().map(|(der, _)| &der[..])
    }

    /// The key of the LSC.
    pub fn lsc_key(&self) -> Option<&PhoneKey> {
        self.holdings.lsc.as_ref().map(|(_, key)| key)
    }

    /// Attempts made so far.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// One session.
    ///
    /// # Errors
    /// [`CommunicationFailure`] when it ended otherwise than by the server's END_SESSION.
    pub async fn attempt(&mut self) -> Result<AttemptOutcome, CommunicationFailure> {
        self.attempts += 1;
        let ended = driver::session(self).await;
        if let Err(failure) = &ended {
            self.log(Event { step: "broken", problem: Some(failure.to_string()), ..Event::default() });
        }
        ended
    }

    /// A session, and after each communication failure another, as often as the phone retries.
    pub async fn enrol(&mut self) -> EnrolOutcome {
        self.enrol_telling(|_| {}).await
    }

    /// The same, and says when it is going to try again.
    pub async fn enrol_telling(&mut self, mut tell: impl FnMut(Retry<'_>)) -> EnrolOutcome {
        let mut number = 0;
        loop {
            let start = Instant::now();
            let last = self.attempt().await;
            let session_time = start.elapsed();
            match &last {
                Err(failure) if failure.may_pass() && number < self.retries && !self.stop.is_cancelled() => {
                    number += 1;
                    tell(Retry { failure, number, of: self.retries, after: self.retry_interval });
                }
                _ => {
                    return EnrolOutcome { last, attempts: number + 1, session_time };
                }
            }
            // Stopped while it waits: no further attempt, and what there is to tell is that.
            tokio::select! {
                () = tokio::time::sleep(self.retry_interval) => {}
                () = self.stop.cancelled() => {
                    let last = Err(CommunicationFailure::Stopped);
                    return EnrolOutcome { last, attempts: number, session_time };
                }
            }
        }
    }

    /// The proof for a session.
    pub(super) fn evidence(&self, session: SessionId) -> Evidence {
        match &self.proof {
            Proof::NullString => Evidence::Null,
            Proof::AuthenticationString(digits) => Evidence::String(digits.clone()),
            Proof::Made(prover) => prover(session),
            Proof::ExistingCertificate => {
                let lsc = self.holdings.lsc.as_ref().map(|(der, key)| (&der[..], key));
                let mic = self.holdings.mic.as_ref().and_then(|(der, key)| Some((&der[..], key.as_ref()?)));
                existing::evidence(self.config.device_name.as_sent(), session, lsc, mic)
            }
        }
    }

    pub(super) fn log(&self, event: Event) {
        self.events.write(Event {
            device: self.config.device_name.as_sent().to_owned(),
            attempt: self.attempts,
            ..event
        });
    }
}

impl Holdings {
    /// Replaces the LSC and its key.
    pub async fn keep(&mut self, der: Vec<u8>, key: PhoneKey) -> Result<(), String> {
        if let Some(dir) = self.dir.clone() {
            let (der, key) = (der.clone(), key.clone());
            blocking(move || dir.keep_lsc(&der, &key)).await?;
        }
        self.lsc = Some((der, key));
        Ok(())
    }

    /// Deletes the LSC and its key; says whether there was one.
    pub async fn delete(&mut self) -> Result<bool, String> {
        if let Some(dir) = self.dir.clone() {
            blocking(move || dir.delete_lsc()).await?;
        }
        Ok(self.lsc.take().is_some())
    }

    /// The certificate of this type in DER.
    pub fn show(&self, which: CertType) -> Option<Vec<u8>> {
        match which {
            CertType::LSC => self.lsc.as_ref().map(|(der, _)| der.clone()),
            CertType::MIC => self.mic.as_ref().map(|(der, _)| der.clone()),
            _ => None,
        }
    }
}

/// Runs what blocks where blocking is allowed, its error as text.
pub(super) async fn blocking<T: Send + 'static, E: fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
