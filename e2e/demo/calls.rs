//! What phones and their users do: each calls in its turn, at the pace of an office on a Monday morning.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use capf::api::Phone;
use capf::phone::{AttemptOutcome, CommunicationFailure, Fault, Proof, SimulatedPhone, tls_config};
use capf::wire::ClaimedName;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use rustls::ClientConfig;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::Trouble;
use crate::fleet::{Member, NAMESPACE, Story};
use crate::harness::eventually;

/// From one phone's first call to the next one's.
const BETWEEN_CALLS: Duration = Duration::from_millis(450);
/// Until a phone that lost its line calls again, and a user has typed the next string. (Phones take 30 s.)
const BETWEEN_TRIES: Duration = Duration::from_secs(3);
/// How long a phone's operation may take to be there.
const ARMED: Duration = Duration::from_secs(30);

/// What a phone was left with.
#[derive(Debug)]
pub struct Heard {
    /// Its device name.
    pub device: String,
    /// How its sessions ended, in order.
    pub ends: Vec<&'static str>,
    /// The certificates that it stored, in DER, in order. The last is the one it has.
    pub stored: Vec<Vec<u8>>,
    /// Why it did not come as far as it should have.
    pub trouble: Option<String>,
}

/// All that phones need to call.
#[derive(Clone)]
pub struct Calls {
    client: Client,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    notes: UnboundedSender<String>,
}

impl Calls {
    /// Phones that call this address and trust this certificate alone; and where they tell what is worth telling.
    pub fn new(client: Client, address: SocketAddr, ctl: &[u8]) -> Result<(Self, UnboundedReceiver<String>), Trouble> {
        let (notes, receiver) = unbounded_channel();
        Ok((Self { client, address, tls: tls_config(ctl)?, notes }, receiver))
    }

    /// Lets every member call in its turn; returns when all are done.
    pub async fn all(self, members: Vec<Member>) -> Vec<Heard> {
        let mut calls = JoinSet::new();
        let callers = members.into_iter().filter(|m| !matches!(m.story, Story::NeverCalls | Story::HasCalled));
        for (turn, member) in (0..).zip(callers) {
            let calls_of = self.clone();
            calls.spawn(async move {
                tokio::time::sleep(BETWEEN_CALLS * turn).await;
                let mut heard =
                    Heard { device: member.device.clone(), ends: Vec::new(), stored: Vec::new(), trouble: None };
                if let Err(trouble) = calls_of.call(&member, &mut heard).await {
                    heard.trouble = Some(trouble.to_string());
                }
                heard
            });
        }
        calls.join_all().await
    }

    async fn call(&self, member: &Member, heard: &mut Heard) -> Result<(), Trouble> {
        let proof = match &member.story {
            Story::Given(digits) => Proof::AuthenticationString((*digits).to_owned().into()),
            Story::Generated => Proof::AuthenticationString(self.generated(member).await?.into()),
            Story::WrongThrice => Proof::AuthenticationString("0000".to_owned().into()),
            _ => Proof::NullString,
        };
        if member.story != Story::NothingWanted {
            self.armed(member).await?;
        }
        let mut phone = self.phone(member, proof)?;
        let tries = match member.story {
            Story::WrongThrice => 3,
            Story::NullDropping => 2,
            _ => 1,
        };
        for number in 1..=tries {
            let ended = phone.attempt().await;
            heard.ends.push(match &ended {
                Ok(outcome) => outcome.kind(),
                Err(failure) => failure.kind(),
            });
            self.note(member, number, &ended);
            if matches!(ended, Ok(AttemptOutcome::Installed { .. }) | Err(CommunicationFailure::Fault { .. })) {
                heard.stored.extend(phone.lsc().map(<[u8]>::to_vec));
            }
            if number < tries {
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
        }
        Ok(())
    }

    fn phone(&self, member: &Member, proof: Proof) -> Result<SimulatedPhone, Trouble> {
        let name = ClaimedName::parse(&member.device)?;
        let phone = SimulatedPhone::new(self.address, name, Arc::clone(&self.tls)).proof(proof);
        Ok(match member.story {
            Story::NullDropping => phone.faults(["drop@stored:1".parse::<Fault>()?]),
            _ => phone,
        })
    }

    /// Tells what went otherwise than a phone's user would like.
    fn note(&self, member: &Member, number: u32, ended: &Result<AttemptOutcome, CommunicationFailure>) {
        let what = match ended {
            Ok(AttemptOutcome::Installed { .. }) => return,
            Ok(AttemptOutcome::Refused { .. }) => format!("was refused (try {number})"),
            Ok(AttemptOutcome::NothingScheduled) => "called and heard that nothing is scheduled".to_owned(),
            Ok(other) => other.kind().to_owned(),
            Err(CommunicationFailure::Fault { .. }) => {
                "lost its line with the certificate stored and not answered for; it will call again".to_owned()
            }
            Err(failure) => failure.to_string(),
        };
        // Nobody listens any more when the demo has given up.
        let _ = self.notes.send(format!("{} {what}", member.device));
    }

    /// Waits until the phone's operation is there; the Secret of its string, where it has one.
    async fn armed(&self, member: &Member) -> Result<Option<String>, Trouble> {
        let phones: Api<Phone> = Api::namespaced(self.client.clone(), NAMESPACE);
        let look = || async {
            let phone = phones.get(&member.name()).await.map_err(|error| error.to_string())?;
            let operation = phone.status.and_then(|status| status.operation).ok_or("no operation yet".to_owned())?;
            Ok::<_, String>(operation.authentication_string_secret)
        };
        Ok(eventually(&format!("{} has its operation", member.device), ARMED, look).await?)
    }

    /// The string that CAPF has made, which its administrator reads to the phone's user.
    async fn generated(&self, member: &Member) -> Result<String, Trouble> {
        let secret = self.armed(member).await?.ok_or("its operation names no string")?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let data = secrets.get(&secret).await?.data.unwrap_or_default();
        let digits = data.get("authenticationString").ok_or("its Secret holds no string")?;
        Ok(String::from_utf8(digits.0.clone())?)
    }
}
