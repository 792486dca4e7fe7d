//! A simulated phone's own account: its directory, read as whoever finds the phone would.

use std::fs;
use std::path::Path;

use capf::phone::StateDir;
use capf::pki::CertificateFacts;
use jiff::Timestamp;
use serde::Deserialize;

/// A line of `events.log`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct PhoneEvent {
    /// When.
    pub time: Timestamp,
    /// Which attempt.
    #[serde(default)]
    pub attempt: u32,
    /// What happened.
    pub step: String,
    /// The session's number.
    pub session: Option<String>,
    /// Serial number of the certificate it is about.
    pub serial: Option<String>,
    /// Its SHA-256.
    pub sha256: Option<String>,
    /// What END_SESSION said.
    pub reason: Option<u8>,
    /// What went wrong.
    pub problem: Option<String>,
}

/// What a phone has.
#[derive(Clone, Debug, Default)]
pub struct PhoneDisk {
    /// Its device name.
    pub device: String,
    /// The LSC, and the SHA-256 of the public half of the key beside it.
    pub lsc: Option<(CertificateFacts, String)>,
    /// Its account of its sessions.
    pub events: Vec<PhoneEvent>,
}

impl PhoneDisk {
    /// Reads the directory of a phone.
    pub fn read(device: &str, folder: &Path) -> Self {
        let state = StateDir::open(folder).unwrap();
        let lsc = state.lsc().unwrap().map(|(der, key)| {
            let key: String = key.public().sha256().iter().map(|octet| format!("{octet:02x}")).collect();
            (CertificateFacts::from_der(&der).unwrap(), key)
        });
        let log = fs::read_to_string(state.file("events.log")).unwrap_or_default();
        // A line that a kill cut short is none.
        let events = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Self { device: device.to_owned(), lsc, events }
    }

    /// The events of this step.
    pub fn step<'a>(&'a self, step: &'a str) -> impl Iterator<Item = &'a PhoneEvent> {
        self.events.iter().filter(move |event| event.step == step)
    }

    /// How its last session ended, in a few words.
    pub fn ending(&self) -> String {
        let last = self.events.iter().rev().find(|event| matches!(event.step.as_str(), "ended" | "broken"));
        match last {
            Some(PhoneEvent { reason: Some(reason), .. }) => format!("END_SESSION {reason}"),
            Some(PhoneEvent { problem: Some(problem), .. }) => problem.clone(),
            _ => "no session".to_owned(),
        }
    }
}
