//! What a simulated phone keeps in its directory.
//!
//! ```text
//! lsc.pem       the LSC, then its private key: in one file, so that one rename replaces both
//! mic.pem       the MIC and its private key, if somebody put them there; never written here
//! ctl.der       the server's certificate, as last given
//! flash.json    how the phone proves itself, while an operation is not complete
//! events.log    what happened, one JSON object a line (see `events`)
//! ```
//!
//! The directory is made with mode 0700, files with 0600.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use secrecy::{SecretString, zeroize::Zeroizing};
use serde::{Deserialize, Serialize};

use crate::pki::certificate::{from_pem, to_pem};

use super::events::EventLog;
use super::key::{PhoneKey, PhoneKeyError};

/// A MIC in DER, and its key if that is known.
pub(super) type MicAndKey = (Vec<u8>, Option<PhoneKey>);

/// The directory of one phone.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// A state that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {}: {problem}", path.display())]
pub struct StateError {
    verb: &'static str,
    path: PathBuf,
    problem: String,
}

/// The mode of authentication that survives a power failure ("the authentication mode that is stored in flash"). The string
/// itself does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StoredMode {
    /// By Authentication String: its user types it again.
    AuthenticationString,
    /// By Null String.
    NullString,
    /// By the certificates the phone holds.
    ExistingCertificate,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flash {
    authentication_mode: StoredMode,
}

impl StateDir {
    /// Opens the directory, and makes it where it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let dir = Self { path: path.to_owned() };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| dir.error("make", "", &error))?;
        Ok(dir)
    }

    /// Where a file of this name is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The LSC in DER and its key, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn lsc(&self) -> Result<Option<(Vec<u8>, PhoneKey)>, StateError> {
        let Some(text) = self.text("lsc.pem")? else {
            return Ok(None);
        };
        let broken = |error: &dyn std::fmt::Display| self.error("read", "lsc.pem", error);
        let der = from_pem(&text).map_err(|error| broken(&error))?;
        let key = PhoneKey::from_pem(&SecretString::from(text.as_str()));
        Ok(Some((der, key.map_err(|error| broken(&error))?)))
    }

    /// The MIC in DER, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn mic(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.mic_and_key()?.map(|(der, _)| der))
    }

    /// The MIC in DER, if there is one, and its key, if that is there, too.
    pub(super) fn mic_and_key(&self) -> Result<Option<MicAndKey>, StateError> {
        let Some(text) = self.text("mic.pem")? else {
            return Ok(None);
        };
        let broken = |error: &dyn std::fmt::Display| self.error("read", "mic.pem", error);
        let der = from_pem(&text).map_err(|error| broken(&error))?;
        match PhoneKey::from_pem(&SecretString::from(text.as_str())) {
            Ok(key) => Ok(Some((der, Some(key)))),
            Err(PhoneKeyError::NoKey) => Ok(Some((der, None))),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Replaces the LSC and its key, both or neither, and returns when they are on disk.
    ///
    /// # Errors
    /// When they cannot be written; the old ones are still there.
    pub fn keep_lsc(&self, der: &[u8], key: &PhoneKey) -> Result<(), StateError> {
        let pem = to_pem(der).map_err(|error| self.error("write", "lsc.pem", &error))?;
        self.write("lsc.pem", key.pem_after(&pem).as_bytes())
    }

    /// Deletes the LSC and its key; says whether there was one.
    ///
    /// # Errors
    /// When they cannot be deleted.
    pub fn delete_lsc(&self) -> Result<bool, StateError> {
        self.delete("lsc.pem")
    }

    /// The server's certificate in DER, as last given.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn ctl(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.bytes("ctl.der")?.map(|bytes| bytes.to_vec()))
    }

    /// Keeps the server's certificate.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_ctl(&self, der: &[u8]) -> Result<(), StateError> {
        self.write("ctl.der", der)
    }

    /// The mode an operation that is not complete was begun with.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn flash(&self) -> Result<Option<StoredMode>, StateError> {
        let Some(bytes) = self.bytes("flash.json")? else {
            return Ok(None);
        };
        match serde_json::from_slice::<Flash>(&bytes) {
            Ok(flash) => Ok(Some(flash.authentication_mode)),
            Err(error) => Err(self.error("read", "flash.json", &error)),
        }
    }

    /// Keeps the mode until the operation is complete.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_flash(&self, authentication_mode: StoredMode) -> Result<(), StateError> {
        let flash = serde_json::to_vec(&Flash { authentication_mode });
        let flash = flash.map_err(|error| self.error("write", "flash.json", &error))?;
        self.write("flash.json", &flash)
    }

    /// The operation is complete: forgets the mode.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn clear_flash(&self) -> Result<(), StateError> {
        self.delete("flash.json").map(drop)
    }

    /// Opens `events.log` for appending.
    pub(super) fn event_log(&self) -> Result<EventLog, StateError> {
        let opened = EventLog::open(&self.file("events.log"));
        opened.map_err(|error| self.error("open", "events.log", &error))
    }

    fn text(&self, name: &str) -> Result<Option<Zeroizing<String>>, StateError> {
        let Some(bytes) = self.bytes(name)? else {
            return Ok(None);
        };
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
            Err(error) => Err(self.error("read", name, &error)),
        }
    }

    fn bytes(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        match fs::read(self.file(name)) {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("read", name, &error)),
        }
    }

    /// Writes beside, flushes, renames, flushes the directory: after a power failure there is the old file or the new one.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let beside = self.file(&format!(".{name}.new"));
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&beside)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, self.file(name))?;
            self.sync()
        };
        write().map_err(|error: io::Error| self.error("write", name, &error))
    }

    fn delete(&self, name: &str) -> Result<bool, StateError> {
        match fs::remove_file(self.file(name)).and_then(|()| self.sync()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.error("delete", name, &error)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn error(&self, verb: &'static str, name: &str, problem: &(impl std::fmt::Display + ?Sized)) -> StateError {
        StateError { verb, path: self.file(name), problem: problem.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_mode_in_flash_is_kept_until_the_operation_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("phone")).unwrap();
        assert_eq!(state.flash().unwrap(), None);
        state.keep_flash(StoredMode::NullString).unwrap();
        assert_eq!(state.flash().unwrap(), Some(StoredMode::NullString));
        state.clear_flash().unwrap();
        assert_eq!(state.flash().unwrap(), None);
        state.clear_flash().unwrap();
    }

    #[test]
    fn files_are_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("phone")).unwrap();
        state.keep_flash(StoredMode::NullString).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state.file("flash.json")), 0o600);
        assert_eq!(mode(&dir.path().join("phone")), 0o700);
    }

    #[test]
    fn a_broken_file_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::write(state.file("lsc.pem"), "no certificate").unwrap();
        let error = state.lsc().unwrap_err().to_string();
        assert!(error.contains("read") && error.contains("lsc.pem"), "{error}");
    }
}
