//! Frames: `55 | command | session id, 4 bytes, big endian | length of the body, 2 bytes, big endian | body`.
//!
//! A frame is written from one buffer, so that it can be one write and one TLS record: a header and a body sent apart stall
//! phones (documented), and Jabber takes what one read of 4096 bytes gives for the whole frame (observed). When receiving, no
//! such luck is assumed: a [`FrameDecoder`] takes the stream in whatever pieces it comes, one byte at a time if it must, and
//! never holds more than one frame within the bounds of [`Side::body_limit`].

use std::fmt;

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use super::codes::Command;
use super::error::{EncodeError, FrameError};

/// The first byte of every frame. Captured.
pub const MAGIC: u8 = 0x55;
/// Bytes before the body.
pub const HEADER_LENGTH: usize = 8;
/// What Jabber reads at once, in bytes, and takes for a whole frame. Observed.
pub const JABBER_READ: usize = 4096;

/// The number the server gives a session and the phone echoes in each frame.
///
/// The known server counts up from 1. Ours must be random, and no two alike open at one time: the signatures of SUDI_DATA are
/// fresh only as far as this number is. In a header it is big endian; inside those signatures it is little endian (captured).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u32);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// One frame. The body is wiped from memory when the frame is dropped, for it may hold an authentication string; `Debug` shows
/// its length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    command: Command,
    session_id: SessionId,
    body: Zeroizing<Vec<u8>>,
}

impl Frame {
    /// A frame around a body that is ready.
    ///
    /// # Errors
    /// When the body is longer than 65,535 bytes. Nothing else is checked, so that tests can make any frame there is.
    pub fn new(
        command: Command,
        session_id: SessionId,
        body: impl Into<Zeroizing<Vec<u8>>>,
    ) -> Result<Self, EncodeError> {
        let body = body.into();
        match u16::try_from(body.len()) {
            Ok(_) => Ok(Self { command, session_id, body }),
            Err(_) => Err(EncodeError::BodyTooLong { command, length: body.len() }),
        }
    }

    /// What the frame is.
    pub fn command(&self) -> Command {
        self.command
    }

    /// The session it belongs to.
    pub fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// Its elements, still in bytes.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes of the whole frame, header included.
    pub fn encoded_length(&self) -> usize {
        HEADER_LENGTH + self.body.len()
    }

    /// Whether Jabber, which reads 4096 bytes at once, would see a part only. Certificates make such frames; they are sent all
    /// the same, and the sender's log should say so.
    pub fn exceeds_jabber_read(&self) -> bool {
        self.encoded_length() > JABBER_READ
    }

    /// The frame in one buffer, for one write. The buffer is wiped when dropped.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.encoded_length()));
        bytes.extend_from_slice(&[MAGIC, self.command.0]);
        bytes.extend_from_slice(&self.session_id.0.to_be_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "`new` and the decoder let no longer body in")]
        let length = self.body.len() as u16;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("command", &self.command)
            .field("session_id", &self.session_id)
            .field("body", &format_args!("[{} bytes]", self.body.len()))
            .finish()
    }
}

/// Who receives: each side takes only as much as the other has reason to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server, which hears phones and whoever else connects.
    Server,
    /// The phone, which hears a server.
    Phone,
}

impl Side {
    /// Most bytes of body this side takes with a command.
    ///
    /// Two RSA-4096 certificates with four signatures are about 6 KiB, so AUTH_RES has 16 KiB. A phone's key or certificate is
    /// under 2 KiB and has 8. What should hold a few numbers, and what nobody knows, has 256 bytes.
    pub const fn body_limit(self, command: Command) -> usize {
        match (self, command) {
            (Self::Server, Command::AUTH_RES) | (Self::Phone, Command::STORE_CERT_REQ) => 16 * 1024,
            (Self::Server, Command::KEY_GENERATE_RES | Command::FETCH_CERT_RES) => 8 * 1024,
            _ => 256,
        }
    }
}

/// Puts frames together from a stream that comes in arbitrary pieces.
///
/// What it holds is bounded by one frame: input beyond the end of a frame stays with the caller. A decoder that gave an error
/// is spent and repeats it.
pub struct FrameDecoder {
    side: Side,
    header: [u8; HEADER_LENGTH],
    header_length: usize,
    body: Zeroizing<Vec<u8>>,
    failed: Option<FrameError>,
}

impl FrameDecoder {
    /// A decoder at the start of a stream, with the bounds of the side that receives.
    pub fn new(side: Side) -> Self {
        Self { side, header: [0; HEADER_LENGTH], header_length: 0, body: Zeroizing::new(Vec::new()), failed: None }
    }

    /// Takes bytes off the front of `input` until a frame is whole (`Some`) or the input is used up (`None`). Call it until it
    /// gives `None`: one read may bring several frames.
    ///
    /// # Errors
    /// [`FrameError::Magic`] at the first byte and [`FrameError::BodyTooLong`] at the eighth, before any body is taken.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.header_length += take(input, &mut self.header[self.header_length..]);
        if self.header_length == 0 {
            return Ok(None);
        }
        if self.header[0] != MAGIC {
            return Err(self.fail(FrameError::Magic { found: self.header[0] }));
        }
        let Some((command, announced)) = self.announced() else {
            return Ok(None);
        };
        let limit = self.side.body_limit(command);
        if announced > limit {
            return Err(self.fail(FrameError::BodyTooLong { command, announced, limit }));
        }
        if self.body.capacity() < announced {
            // All of it at once: a buffer that grows leaves copies behind that are not wiped.
            self.body = Zeroizing::new(Vec::with_capacity(announced));
        }
        let (piece, rest) = input.split_at(input.len().min(announced - self.body.len()));
        self.body.extend_from_slice(piece);
        *input = rest;
        if self.body.len() < announced {
            return Ok(None);
        }
        let [_, _, id @ .., _, _] = self.header;
        self.header_length = 0;
        Ok(Some(Frame { command, session_id: SessionId(u32::from_be_bytes(id)), body: std::mem::take(&mut self.body) }))
    }

    /// The end of the stream: fine between frames.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] when a frame was under way, or the error the decoder gave before.
    pub fn finish(&self) -> Result<(), FrameError> {
        match (self.failed, self.header_length) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(()),
            (None, have) => Err(FrameError::Truncated {
                have: have + self.body.len(),
                wanted: HEADER_LENGTH + self.announced().map_or(0, |(_, length)| length),
            }),
        }
    }

    /// Command and length of the body, once the whole header is there.
    fn announced(&self) -> Option<(Command, usize)> {
        let [_, command, .., high, low] = self.header;
        (self.header_length == HEADER_LENGTH).then(|| (Command(command), usize::from(u16::from_be_bytes([high, low]))))
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.failed = Some(error);
        self.body = Zeroizing::new(Vec::new());
        error
    }
}

/// Shows how far it is; what it holds may be an authentication string.
impl fmt::Debug for FrameDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameDecoder")
            .field("side", &self.side)
            .field("held", &(self.header_length + self.body.len()))
            .field("failed", &self.failed)
            .finish()
    }
}

/// Moves bytes off the front of `input` into `room` and says how many.
fn take(input: &mut &[u8], room: &mut [u8]) -> usize {
    let (piece, rest) = input.split_at(input.len().min(room.len()));
    room[..piece.len()].copy_from_slice(piece);
    *input = rest;
    piece.len()
}
