//! CAPF on the wire: the ring that speaks the protocol and knows nothing else.
//!
//! No socket, no clock, no key and no cluster: bytes come in, frames and questions come out. The layers, each on the one before:
//!
//! | Layer | Files |
//! |---|---|
//! | numbers | [`codes`]: commands, tags, reasons; unknown ones survive a round trip |
//! | frames | `frame`: header and body from a stream in any pieces, with bounds |
//! | elements | `reader`, `element`: the tag-length-value rows of a body |
//! | messages | `message`, `auth`, `key`, `proof`: what each command says |
//! | sessions | `server`, `phone`: both sides, as states that consume themselves |
//!
//! The protocol has no public specification. What is known comes from captured sessions (`tests/vectors/sessions.txt`), from
//! running and reading existing peers, and from public documents; each number and rule says which of these it has, or that it
//! is a guess. No real phone was seen.
//!
//! # Liberal in what is accepted, strict in what is believed
//! Versions 2 and 3, elements in any order, elements nobody knows, an AUTH_RES without PASSWORD or REASON, frames in any number of
//! pieces: all taken. Lengths that do not add up, text without its NUL, an element twice, a frame nobody waited for, more bytes
//! than a phone has reason to send: all refused, each with its own reason in the log and END_SESSION 7 to the phone.
//!
//! # A driver of the server's side
//! 1. [`ServerSession::start`] with a random number no other open session has; do the [`Action`]s in order.
//! 2. While [`ServerSession::waiting_for`] says `Phone`: read, feed a [`FrameDecoder`], give each frame to
//!    [`ServerSession::on_frame`], a decoder's error to [`ServerSession::on_frame_error`]. While it says `Authority`: leave the
//!    connection unread and give the answer to [`ServerSession::on_answer`]. At a deadline of its own choice for that waiting:
//!    [`ServerSession::on_deadline`]. REQUEST_IN_PROGRESS changes what is awaited as little as it moves the deadline.
//! 3. After [`Action::Close`] close, also when something waits to be read. If the phone hangs up, drop the session.

mod auth;
mod close;
pub mod codes;
mod device_name;
mod element;
mod error;
mod frame;
pub mod fuzz;
mod key;
mod message;
mod octets;
mod phone;
mod phone_action;
mod proof;
mod question;
mod reader;
mod server;

pub use auth::{AuthReq, AuthRes, CertificateEvidence, Evidence, Opening};
pub use close::{AuthorityTurn, CloseReason, PhoneTurn, Waiting};
pub use codes::{AuthType, CertType, Command, Curve, ElementTag, HashId, KeyType, Reason, Version};
pub use device_name::{ClaimedName, DeviceName, DeviceNameError};
pub use element::Skipped;
pub use error::{EncodeError, FrameError, KeyError, ParseError, Problem};
pub use frame::{Frame, FrameDecoder, HEADER_LENGTH, JABBER_READ, MAGIC, SessionId, Side};
pub use key::{KeyGenerateReq, KeyRequest};
pub use message::{FetchCertRes, KeyGenerateRes, Message, Other, Parsed, StoreCertReq};
pub use octets::Octets;
pub use phone::{PhoneConfig, PhoneSession};
pub use phone_action::{PhoneAction, PhoneFailure, PhoneState};
pub use proof::{Certificate, Signature, SudiData};
pub use question::{Answer, Outcome, OutcomeKind, Question};
pub use server::{Action, ServerSession};
