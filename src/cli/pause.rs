//! `capf pause`: the process that a pod's namespaces belong to while its containers come and go. A node names it as its
//! sandbox image, and the image of this program will do for that.

use std::future::Future;
use std::io;

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Waits for `stop`. As process 1 of a pod that shares its process namespace it inherits every process whose parent is
/// gone, and takes note of their ends, or they would stay as zombies.
///
/// # Errors
/// When the system lets it handle no signals, or it cannot wait for its children.
pub async fn run(stop: impl Future<Output = ()>) -> io::Result<()> {
    let mut child_ended = signal(SignalKind::child())?;
    tokio::pin!(stop);
    loop {
        // First, because children may have ended before the signal was listened to.
        reap()?;
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = child_ended.recv() => {}
        }
    }
}

/// Takes note of all children that have ended: one signal may stand for several.
fn reap() -> io::Result<()> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            // None has ended; there is none.
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
