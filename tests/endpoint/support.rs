//! Credentials, a fake authority whose answers go by the phone's name, and an endpoint around it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capf::api::Reason;
use capf::authority::bundle::{Bundle, EndpointConfig, files};
use capf::authority::questions::{
    Authority, CompleteAnswer, CompleteOutcome, CompleteRequest, IssueAnswer, IssueRequest, OpenAnswer, OpenReply,
    OpenRequest, Unavailable,
};
use capf::endpoint::{Endpoint, Handle, Limits, Service};
use capf::pki::control::{generate_controller_ca, proxy_uri};
use capf::pki::{ControllerCa, Curve, KeyKind, LscSubject, OwnKey, OwnPair, RsaBits, ServiceRequest, generate_service};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What an endpoint presents to phones.
pub fn service_pair() -> OwnPair {
    generate_service(&ServiceRequest {
        subject: &LscSubject::default(),
        key: OwnKey::EC_P256,
        years: 1,
        issuer_not_after: Timestamp::MAX,
        now: Timestamp::now(),
    })
    .unwrap()
}

pub fn controller_ca() -> ControllerCa {
    let pair = generate_controller_ca(Timestamp::now()).unwrap();
    ControllerCa::from_pem(pair.certificate.pem(), &pair.private_key).unwrap()
}

/// The bundle of an endpoint that trusts this authority and knows these controllers.
pub fn bundle(ca: &ControllerCa, controllers: &[SocketAddr]) -> Bundle {
    let service = service_pair();
    let client = ca.client_credential(&proxy_uri("phones", "hq"), Timestamp::now(), 1).unwrap();
    Bundle {
        service_certificate: service.certificate.pem().to_owned(),
        service_key: service.private_key,
        client_certificate: client.certificate.pem().to_owned(),
        client_key: client.private_key,
        controller_ca: ca.certificate().pem().to_owned(),
        config: EndpointConfig {
            namespace: "phones".into(),
            proxy: "hq".into(),
            controllers: controllers.iter().map(SocketAddr::to_string).collect(),
            phone_port: 3804,
            connections: 100,
            handshake_seconds: 10,
            answer_seconds: 10,
        },
    }
}

/// Writes a bundle as it is mounted.
pub fn write(bundle: &Bundle, folder: &Path) {
    let write = |file, text: &str| std::fs::write(folder.join(file), text).unwrap();
    write(files::SERVICE_CERTIFICATE, &bundle.service_certificate);
    write(files::SERVICE_KEY, bundle.service_key.expose_secret());
    write(files::CLIENT_CERTIFICATE, &bundle.client_certificate);
    write(files::CLIENT_KEY, bundle.client_key.expose_secret());
    write(files::CONTROLLER_CA, &bundle.controller_ca);
    write(files::CONFIG, &serde_json::to_string(&bundle.config).unwrap());
}

/// A certificate that nobody looks into.
pub const CERTIFICATE: [u8; 900] = [0x30; 900];

/// An authority that keeps what it was asked and answers by the device name. Clones are one.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Vec<String>>>);

impl Fake {
    pub fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, question: String) {
        self.0.lock().unwrap().push(question);
    }
}

impl Authority for Fake {
    async fn open(&self, request: OpenRequest) -> Result<OpenReply, Unavailable> {
        let OpenRequest { device_name, version, certificate, digits, .. } = request;
        let digits = digits.map(|digits| digits.0.expose_secret().len());
        self.note(format!("open {device_name} version {version} digits {digits:?} certificate {certificate}"));
        let install = |key, key_generation_seconds| OpenAnswer::Install {
            ticket: format!("ticket of {device_name}"),
            key,
            key_generation_seconds,
        };
        let answer = match &*device_name {
            "NOBODY" => OpenAnswer::UnknownDevice,
            "IDLE" => OpenAnswer::NothingScheduled,
            "WRONG" => OpenAnswer::Refused { reason: Reason::InvalidAuthenticationString },
            "DOWN" => return Err(Unavailable("it is being moved".into())),
            "HANGS" => std::future::pending().await,
            "SLOW" => install(KeyKind::Ec(Curve::P256), 1),
            "CURVED" => install(KeyKind::Ec(Curve::P256), 60),
            _ => install(KeyKind::Rsa(RsaBits::B2048), 60),
        };
        Ok(OpenReply::from(answer))
    }

    async fn issue(&self, request: IssueRequest) -> Result<IssueAnswer, Unavailable> {
        let IssueRequest { ticket, public_key, .. } = request;
        self.note(format!("issue {} octets, {ticket}", public_key.len()));
        Ok(match &*ticket {
            "ticket of NOISSUE" => return Err(Unavailable("no replica is ready".into())),
            "ticket of BADKEY" => IssueAnswer::Refused { reason: Reason::KeyRejected },
            _ => IssueAnswer::Issued { certificate: CERTIFICATE.into(), receipt: ticket.replace("ticket", "receipt") },
        })
    }

    async fn complete(&self, request: CompleteRequest) -> Result<CompleteAnswer, Unavailable> {
        let CompleteRequest { ticket, outcome, .. } = request;
        self.note(format!("complete {outcome:?}, {ticket}"));
        Ok(match (&*ticket, outcome) {
            ("receipt of NORECORD", CompleteOutcome::Stored) => CompleteAnswer::Refused { reason: Reason::Superseded },
            ("receipt of LOST", _) => return Err(Unavailable("the API does not answer".into())),
            _ => CompleteAnswer::Recorded,
        })
    }
}

/// Times that do not pass by chance. Whoever waits for one to pass takes a shorter one.
pub const LIMITS: Limits = Limits {
    connections: 100,
    handshake: Duration::from_secs(5),
    answer: Duration::from_secs(5),
    question: Duration::from_secs(5),
};

/// A running endpoint.
pub struct Running {
    pub address: SocketAddr,
    pub authority: Fake,
    pub handle: Handle<Fake>,
    /// The bundle it began with.
    pub bundle: Bundle,
    stop: oneshot::Sender<()>,
    served: JoinHandle<usize>,
}

impl Running {
    pub fn begin() -> Self {
        Self::with(LIMITS, Duration::from_secs(30))
    }

    pub fn with(limits: Limits, drain: Duration) -> Self {
        let bundle = bundle(&controller_ca(), &[([127, 0, 0, 1], 1).into()]);
        let authority = Fake::default();
        let mut service = Service::new(&bundle, authority.clone()).unwrap();
        service.limits = limits;
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into(), service).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (address, handle) = (endpoint.local_addr(), endpoint.handle());
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(endpoint.serve(shutdown, drain));
        Self { address, authority, handle, bundle, stop, served }
    }

    /// Asks it to stop; the task ends when it has, with the number of sessions cut off.
    pub fn stop(self) -> JoinHandle<usize> {
        let _ = self.stop.send(());
        self.served
    }
}
