//! The phone's own account of its sessions, for whoever plays faults and checks afterwards what must never happen.
//!
//! One JSON object a line, appended and never rewritten: `time`, `device`, `attempt`, `step`, and where they apply `session`,
//! `serial` and `sha256` of a certificate (at `delete` and `fetch` the phone's own, if it has one), `reason` of END_SESSION,
//! `problem`, `fault`. Nothing secret is in it. The steps are those of [`Step`](super::fault::Step), and `refused` (the phone
//! answers that it cannot), `stopped` (ABORT_REQ goes out), `ended` (END_SESSION came) and `broken` (communication failure).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use serde::Serialize;

/// One line.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Event {
    /// When; set by [`EventLog::write`].
    pub time: Timestamp,
    /// Which phone.
    pub device: String,
    /// Which attempt of this run of the program, the first being 1.
    pub attempt: u32,
    /// What happened.
    pub step: &'static str,
    /// The session's number as the server's log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Serial number of the certificate, lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// SHA-256 of the certificate, lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What END_SESSION said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<u8>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The fault that happens now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<&'static str>,
}

/// The file, if there is one.
#[derive(Clone, Debug, Default)]
pub(super) struct EventLog(Option<Arc<Mutex<File>>>);

impl EventLog {
    /// Opens a file for appending, mode 0600.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path)?;
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }

    /// Appends a line in one write. A log that cannot be written is said once a line, and hinders no session.
    pub fn write(&self, mut event: Event) {
        let Some(file) = &self.0 else { return };
        event.time = crate::clock::now();
        let Ok(mut line) = serde_json::to_vec(&event) else {
            return;
        };
        line.push(b'\n');
        let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = file.write_all(&line) {
            tracing::warn!(%error, step = event.step, "write event log");
        }
    }
}
