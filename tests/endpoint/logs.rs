//! What was logged in a test.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;

/// All lines of all levels that this thread logs while it lives; a test's tasks run on the test's thread.
pub struct Logs {
    lines: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Logs {
    pub fn begin() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || Writer(writer.clone()))
            .finish();
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.lines.lock().unwrap().clone()).unwrap()
    }

    /// The line with all of these, once it is there.
    pub async fn line(&self, parts: &[&str]) -> String {
        for _ in 0..500 {
            let text = self.text();
            let found = text.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            if let Some(line) = found {
                return line.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no line with {parts:?} in\n{}", self.text());
    }

    /// The line at the end of the session of the phone that spoke from this address.
    pub async fn end_of(&self, peer: SocketAddr) -> String {
        let peer = format!("peer={peer} ");
        let peer_last = peer.replace(' ', "}");
        for _ in 0..500 {
            let text = self.text();
            let ends: Vec<&str> = text
                .lines()
                .filter(|line| line.contains(&peer) || line.contains(&peer_last))
                .filter(|line| line.contains(" INFO ") && line.contains(" end=\""))
                .collect();
            if let [end] = ends[..] {
                return end.to_owned();
            }
            assert!(ends.is_empty(), "one line a session: {ends:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no end of {peer}in\n{}", self.text());
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
