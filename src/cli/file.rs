//! Files that appear whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Mode of files that may hold secrets: the owner only.
pub const SECRET: u32 = 0o600;
/// Mode of other files, before the umask.
pub const PUBLIC: u32 = 0o666;

/// A file that is written beside its place and moved there when it is complete. Dropped before, it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    beside: PathBuf,
    place: PathBuf,
    moved: bool,
}

impl NewFile {
    /// Begins a file that is to stand at `place`, with a mode of [`SECRET`] or [`PUBLIC`].
    ///
    /// # Errors
    /// When the folder cannot be written to, or when at `place` stands something else than a file: a device or a
    /// folder is never replaced.
    pub fn create(place: &Path, mode: u32) -> io::Result<Self> {
        if fs::symlink_metadata(place).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a file"));
        }
        let name = place.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "names no file"))?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.{}.new", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let beside = place.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        Ok(Self { file, beside, place: place.to_owned(), moved: false })
    }

    /// Moves the file to its place, after its content is on the disk.
    ///
    /// # Errors
    /// When the disk or the folder says so.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.beside, &self.place)?;
        self.moved = true;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.file.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.moved {
            // Nothing can be done about a file that cannot be removed, and the error that led here is told.
            let _ = fs::remove_file(&self.beside);
        }
    }
}
