//! Messages: what the frames of each command say.

use secrecy::zeroize::Zeroizing;

use super::auth::{AuthReq, AuthRes};
use super::codes::{CertType, Command, ElementTag, Reason};
use super::element::{BodyWriter, Elements, Skipped, octets};
use super::error::{EncodeError, ParseError};
use super::frame::{Frame, JABBER_READ, SessionId};
use super::key::KeyGenerateReq;
use super::octets::Octets;
use super::proof::Certificate;

/// One message. Which side sends it is said at its [`Command`]; its elements may come in any order.
#[derive(Clone, Debug)]
pub enum Message {
    /// The server's greeting.
    AuthReq(AuthReq),
    /// Who the phone is.
    AuthRes(Box<AuthRes>),
    /// Make a key.
    KeyGenerateReq(KeyGenerateReq),
    /// The key, or why there is none.
    KeyGenerateRes(KeyGenerateRes),
    /// Keep this certificate.
    StoreCertReq(StoreCertReq),
    /// Kept (1) or not.
    StoreCertRes(Reason),
    /// Show a certificate; without a type the LSC is meant (captured).
    FetchCertReq(Option<CertType>),
    /// The certificate, or that there is none.
    FetchCertRes(FetchCertRes),
    /// Delete a certificate; without a type the LSC is meant (captured).
    DeleteCertReq(Option<CertType>),
    /// Deleted (1), or there was none (7), or it was not deleted.
    DeleteCertRes(Reason),
    /// How the session ended.
    EndSession(Reason),
    /// The key is being made.
    RequestInProgress,
    /// A command whose body nobody has explained; ABORT_REQ is one.
    Other(Other),
}

/// KEY_GENERATE_RES. The known phone sends the key alone (captured), or a REASON alone when it failed (observed).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyGenerateRes {
    /// Why there is no key.
    pub reason: Option<Reason>,
    /// The public key, a SubjectPublicKeyInfo in DER.
    pub public_key: Option<Octets>,
}

/// STORE_CERT_REQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreCertReq {
    /// 1, an LSC, in all captures.
    pub cert_type: Option<CertType>,
    /// The certificate.
    pub certificate: Certificate,
}

/// FETCH_CERT_RES. Captured with REASON 1 and a certificate, and with REASON 7 alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchCertRes {
    /// 1 with a certificate, 7 for "I have none".
    pub reason: Option<Reason>,
    /// The certificate.
    pub certificate: Option<Certificate>,
}

/// A frame of a command that is known by its number at most. The body is kept as it came and is wiped when dropped.
#[derive(Clone)]
pub struct Other {
    /// The command.
    pub command: Command,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Other({}, [{} bytes])", self.command, self.body.len())
    }
}

/// A message and what was passed over in reading it.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The message.
    pub message: Message,
    /// Elements it has no use for; none for [`Message::Other`], which is kept whole.
    pub skipped: Skipped,
}

impl Message {
    /// Reads the body of a frame.
    ///
    /// # Errors
    /// When lengths do not add up, an element the message needs is missing, or one it uses stands twice or has a wrong value.
    pub fn parse(frame: &Frame) -> Result<Parsed, ParseError> {
        let (message, skipped) = match frame.command() {
            Command::AUTH_REQ => AuthReq::read(frame).map(|(body, skipped)| (Self::AuthReq(body), skipped))?,
            Command::AUTH_RES => {
                let (body, skipped) = AuthRes::read(frame)?;
                (Self::AuthRes(Box::new(body)), skipped)
            }
            Command::KEY_GENERATE_REQ => {
                let (body, skipped) = KeyGenerateReq::read(frame)?;
                (Self::KeyGenerateReq(body), skipped)
            }
            Command::KEY_GENERATE_RES => Self::read_key(frame)?,
            Command::STORE_CERT_REQ => Self::read_store(frame)?,
            Command::FETCH_CERT_RES => Self::read_fetched(frame)?,
            Command::STORE_CERT_RES => reason(frame, Self::StoreCertRes)?,
            Command::DELETE_CERT_RES => reason(frame, Self::DeleteCertRes)?,
            Command::END_SESSION => reason(frame, Self::EndSession)?,
            Command::FETCH_CERT_REQ => cert_type(frame, Self::FetchCertReq)?,
            Command::DELETE_CERT_REQ => cert_type(frame, Self::DeleteCertReq)?,
            Command::REQUEST_IN_PROGRESS => (Self::RequestInProgress, Elements::of(frame, &[])?.skipped()),
            command => {
                let body = Zeroizing::new(frame.body().to_vec());
                (Self::Other(Other { command, body }), Skipped::default())
            }
        };
        Ok(Parsed { message, skipped })
    }

    /// The command the message goes under.
    pub fn command(&self) -> Command {
        match self {
            Self::AuthReq(_) => Command::AUTH_REQ,
            Self::AuthRes(_) => Command::AUTH_RES,
            Self::KeyGenerateReq(_) => Command::KEY_GENERATE_REQ,
            Self::KeyGenerateRes(_) => Command::KEY_GENERATE_RES,
            Self::StoreCertReq(_) => Command::STORE_CERT_REQ,
            Self::StoreCertRes(_) => Command::STORE_CERT_RES,
            Self::FetchCertReq(_) => Command::FETCH_CERT_REQ,
            Self::FetchCertRes(_) => Command::FETCH_CERT_RES,
            Self::DeleteCertReq(_) => Command::DELETE_CERT_REQ,
            Self::DeleteCertRes(_) => Command::DELETE_CERT_RES,
            Self::EndSession(_) => Command::END_SESSION,
            Self::RequestInProgress => Command::REQUEST_IN_PROGRESS,
            Self::Other(other) => other.command,
        }
    }

    /// Writes the message, its elements in the order of the captures.
    ///
    /// # Errors
    /// When a value does not fit the format, or when a frame for a phone is longer than [`JABBER_READ`] without a certificate
    /// being the cause. With a certificate it is made all the same; [`Frame::exceeds_jabber_read`] tells.
    pub fn to_frame(&self, session_id: SessionId) -> Result<Frame, EncodeError> {
        let command = self.command();
        let frame = match self {
            Self::AuthReq(body) => body.write(session_id)?,
            Self::AuthRes(body) => body.write(session_id)?,
            Self::KeyGenerateReq(body) => body.write(session_id)?,
            Self::Other(other) => Frame::new(command, session_id, other.body.clone())?,
            Self::KeyGenerateRes(response) => {
                let mut body = BodyWriter::new(command, &[]);
                body.number(ElementTag::REASON, response.reason.map(|code| code.0))?;
                if let Some(key) = &response.public_key {
                    body.element(ElementTag::PUBLIC_KEY, &[key])?;
                }
                body.frame(session_id)?
            }
            Self::StoreCertReq(request) => {
                let mut body = BodyWriter::new(command, &[]);
                body.number(ElementTag::CERT_TYPE, request.cert_type.map(|code| code.0))?;
                request.certificate.write(&mut body)?;
                body.frame(session_id)?
            }
            Self::FetchCertRes(response) => {
                let mut body = BodyWriter::new(command, &[]);
                body.number(ElementTag::REASON, response.reason.map(|code| code.0))?;
                if let Some(certificate) = &response.certificate {
                    certificate.write(&mut body)?;
                }
                body.frame(session_id)?
            }
            Self::StoreCertRes(reason) | Self::DeleteCertRes(reason) | Self::EndSession(reason) => {
                number(command, ElementTag::REASON, Some(reason.0), session_id)?
            }
            Self::FetchCertReq(kind) | Self::DeleteCertReq(kind) => {
                number(command, ElementTag::CERT_TYPE, kind.map(|code| code.0), session_id)?
            }
            Self::RequestInProgress => BodyWriter::new(command, &[]).frame(session_id)?,
        };
        let length = frame.encoded_length();
        let certificate = matches!(self, Self::StoreCertReq(_));
        if length > JABBER_READ && command.is_from_server() && !certificate {
            return Err(EncodeError::TooLongForPhone { command, length });
        }
        Ok(frame)
    }

    /// At least one of REASON and PUBLIC_KEY must stand: without both it says nothing.
    fn read_key(frame: &Frame) -> Result<(Self, Skipped), ParseError> {
        let mut elements = Elements::of(frame, &[ElementTag::REASON, ElementTag::PUBLIC_KEY])?;
        let reason = elements.optional(ElementTag::REASON, |value| value.u8().map(Reason))?;
        let public_key = elements.optional(ElementTag::PUBLIC_KEY, octets)?;
        if reason.is_none() && public_key.is_none() {
            return Err(elements.missing(ElementTag::PUBLIC_KEY));
        }
        Ok((Self::KeyGenerateRes(KeyGenerateRes { reason, public_key }), elements.skipped()))
    }

    fn read_store(frame: &Frame) -> Result<(Self, Skipped), ParseError> {
        let mut elements = Elements::of(frame, &[ElementTag::CERT_TYPE, ElementTag::CERTIFICATE])?;
        let cert_type = elements.optional(ElementTag::CERT_TYPE, |value| value.u8().map(CertType))?;
        let certificate = elements.required(ElementTag::CERTIFICATE, Certificate::read)?;
        Ok((Self::StoreCertReq(StoreCertReq { cert_type, certificate }), elements.skipped()))
    }

    /// A certificate must stand, unless the reason says that something went wrong.
    fn read_fetched(frame: &Frame) -> Result<(Self, Skipped), ParseError> {
        let mut elements = Elements::of(frame, &[ElementTag::REASON, ElementTag::CERTIFICATE])?;
        let reason = elements.optional(ElementTag::REASON, |value| value.u8().map(Reason))?;
        let certificate = elements.optional(ElementTag::CERTIFICATE, Certificate::read)?;
        if certificate.is_none() && matches!(reason, None | Some(Reason::OK)) {
            return Err(elements.missing(ElementTag::CERTIFICATE));
        }
        Ok((Self::FetchCertRes(FetchCertRes { reason, certificate }), elements.skipped()))
    }
}

/// Reads a body that is one REASON.
fn reason(frame: &Frame, message: fn(Reason) -> Message) -> Result<(Message, Skipped), ParseError> {
    let mut elements = Elements::of(frame, &[ElementTag::REASON])?;
    let reason = elements.required(ElementTag::REASON, |value| value.u8().map(Reason))?;
    Ok((message(reason), elements.skipped()))
}

/// Reads a body that is a CERT_TYPE at most.
fn cert_type(frame: &Frame, message: fn(Option<CertType>) -> Message) -> Result<(Message, Skipped), ParseError> {
    let mut elements = Elements::of(frame, &[ElementTag::CERT_TYPE])?;
    let kind = elements.optional(ElementTag::CERT_TYPE, |value| value.u8().map(CertType))?;
    Ok((message(kind), elements.skipped()))
}

/// Writes a body that is one number at most.
fn number(command: Command, tag: ElementTag, value: Option<u8>, session_id: SessionId) -> Result<Frame, EncodeError> {
    let mut body = BodyWriter::new(command, &[1]);
    body.number(tag, value)?;
    body.frame(session_id)
}
