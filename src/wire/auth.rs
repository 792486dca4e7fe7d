//! How a session opens: AUTH_REQ, AUTH_RES, and the evidence in the latter.

use secrecy::{ExposeSecret, SecretString};

use super::codes::{AuthType, Command, ElementTag, Reason, Version};
use super::device_name::{ClaimedName, DeviceName};
use super::element::{BodyWriter, Elements, Skipped, octets, secret_text, text};
use super::error::{EncodeError, ParseError, Problem};
use super::frame::{Frame, SessionId};
use super::octets::Octets;
use super::proof::{Certificate, Signature, SudiData};

/// Most bytes of an authentication string. Known phones take 16 digits at most (observed), ours have 4 to 10.
const PASSWORD_LIMIT: usize = 64;

/// AUTH_REQ: the server's greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthReq {
    /// The server's version, 3. Captured.
    pub version: Version,
    /// Which proof is wanted: always [`AuthType::NONE`] from the known server (captured); a real call manager leaves it out for
    /// Jabber (documented).
    pub auth_type: Option<AuthType>,
}

impl AuthReq {
    pub(super) fn read(frame: &Frame) -> Result<(Self, Skipped), ParseError> {
        let mut elements = Elements::of(frame, &[ElementTag::VERSION, ElementTag::AUTH_TYPE])?;
        let skipped = elements.skipped();
        let version = elements.required(ElementTag::VERSION, |value| value.u8().map(Version))?;
        let auth_type = elements.optional(ElementTag::AUTH_TYPE, |value| value.u8().map(AuthType))?;
        Ok((Self { version, auth_type }, skipped))
    }

    pub(super) fn write(&self, session_id: SessionId) -> Result<Frame, EncodeError> {
        let mut body = BodyWriter::new(Command::AUTH_REQ, &[1, 1]);
        body.number(ElementTag::VERSION, Some(self.version.0))?;
        body.number(ElementTag::AUTH_TYPE, self.auth_type.map(|code| code.0))?;
        body.frame(session_id)
    }
}

/// AUTH_RES: who the phone is and what proves it. `Debug` shows neither the string nor a signature.
#[derive(Clone, Debug)]
pub struct AuthRes {
    /// 1 in all captures; nobody looks at it.
    pub reason: Option<Reason>,
    /// The phone's version.
    pub version: Version,
    /// The name it claims.
    pub device_name: ClaimedName,
    /// The authentication string. Empty and absent mean the same, but are different bytes.
    pub password: Option<SecretString>,
    /// The certificate the next two belong to; an LSC, or a MIC where there is no LSC (captured).
    pub certificate: Option<Certificate>,
    /// The signature with SHA-1.
    pub signed_data: Option<Octets>,
    /// The signature with SHA-512.
    pub sha2_signed_data: Option<Signature>,
    /// A certificate of the hardware; the MIC in the captures.
    pub sudi: Option<SudiData>,
}

impl AuthRes {
    const USED: [ElementTag; 8] = [
        ElementTag::REASON,
        ElementTag::VERSION,
        ElementTag::DEVICE_NAME,
        ElementTag::PASSWORD,
        ElementTag::CERTIFICATE,
        ElementTag::SIGNED_DATA,
        ElementTag::SHA2_SIGNED_DATA,
        ElementTag::SUDI_DATA,
    ];

    /// What a phone of this version sends: a phone of version 3 has a PASSWORD element always, empty where it has no string
    /// (captured); one of version 2 only where it has one (documented).
    pub fn new(version: Version, device_name: ClaimedName, evidence: Evidence) -> Self {
        let CertificateEvidence { password, certificate, signed_data, sha2_signed_data, sudi } = match evidence {
            Evidence::Null => CertificateEvidence::default(),
            Evidence::String(password) => CertificateEvidence { password: Some(password), ..Default::default() },
            Evidence::Certificate(evidence) => *evidence,
        };
        let empty = || (version != Version::TWO).then(|| SecretString::from(""));
        let password = password.or_else(empty);
        let reason = Some(Reason::OK);
        Self { reason, version, device_name, password, certificate, signed_data, sha2_signed_data, sudi }
    }

    pub(super) fn read(frame: &Frame) -> Result<(Self, Skipped), ParseError> {
        let mut elements = Elements::of(frame, &Self::USED)?;
        let skipped = elements.skipped();
        let response = Self {
            reason: elements.optional(ElementTag::REASON, |value| value.u8().map(Reason))?,
            version: elements.required(ElementTag::VERSION, |value| value.u8().map(Version))?,
            device_name: elements.required(ElementTag::DEVICE_NAME, |value| {
                let place = value.clone();
                // The bound is the pattern's affair; its error says how long the name is.
                ClaimedName::parse(text(value, usize::MAX)?).map_err(|error| place.error(Problem::Name(error)))
            })?,
            password: elements.optional(ElementTag::PASSWORD, |value| secret_text(value, PASSWORD_LIMIT))?,
            certificate: elements.optional(ElementTag::CERTIFICATE, Certificate::read)?,
            signed_data: elements.optional(ElementTag::SIGNED_DATA, octets)?,
            sha2_signed_data: elements.optional(ElementTag::SHA2_SIGNED_DATA, Signature::read)?,
            sudi: elements.optional(ElementTag::SUDI_DATA, SudiData::read)?,
        };
        Ok((response, skipped))
    }

    /// The elements in ascending order, as captured; for version 2 VERSION, DEVICE_NAME, REASON and then the rest, which is
    /// Jabber's order (documented).
    pub(super) fn write(&self, session_id: SessionId) -> Result<Frame, EncodeError> {
        let mut body = BodyWriter::new(Command::AUTH_RES, &self.value_lengths());
        if self.version == Version::TWO {
            body.number(ElementTag::VERSION, Some(self.version.0))?;
            body.text(ElementTag::DEVICE_NAME, self.device_name.as_sent())?;
            body.number(ElementTag::REASON, self.reason.map(|code| code.0))?;
            self.write_certificate(&mut body)?;
            self.write_password(&mut body)?;
        } else {
            body.number(ElementTag::REASON, self.reason.map(|code| code.0))?;
            self.write_certificate(&mut body)?;
            body.number(ElementTag::VERSION, Some(self.version.0))?;
            self.write_password(&mut body)?;
            body.text(ElementTag::DEVICE_NAME, self.device_name.as_sent())?;
        }
        if let Some(sudi) = &self.sudi {
            sudi.write(&mut body)?;
        }
        if let Some(signature) = &self.sha2_signed_data {
            signature.write(&mut body, ElementTag::SHA2_SIGNED_DATA)?;
        }
        body.frame(session_id)
    }

    fn write_certificate(&self, body: &mut BodyWriter) -> Result<(), EncodeError> {
        if let Some(certificate) = &self.certificate {
            certificate.write(body)?;
        }
        match &self.signed_data {
            Some(signature) => body.element(ElementTag::SIGNED_DATA, &[signature]),
            None => Ok(()),
        }
    }

    fn write_password(&self, body: &mut BodyWriter) -> Result<(), EncodeError> {
        match &self.password {
            Some(password) => body.text(ElementTag::PASSWORD, password.expose_secret()),
            None => Ok(()),
        }
    }

    /// Lengths of the values to be written, absent ones counted as empty: never too few, so that the buffer with the string
    /// in it does not move.
    fn value_lengths(&self) -> [usize; 8] {
        [
            1,
            1,
            self.device_name.as_sent().len() + 1,
            self.password.as_ref().map_or(0, |password| password.expose_secret().len() + 1),
            self.certificate.as_ref().map_or(0, Certificate::value_length),
            self.signed_data.as_ref().map_or(0, |signature| signature.len()),
            self.sha2_signed_data.as_ref().map_or(0, Signature::value_length),
            self.sudi.as_ref().map_or(0, SudiData::value_length),
        ]
    }

    /// The same as the question a server asks its authority.
    pub(super) fn into_opening(self, session_id: SessionId) -> Opening {
        let password = self.password.filter(|password| !password.expose_secret().is_empty());
        let certificate = self.certificate.is_some()
            || self.signed_data.is_some()
            || self.sha2_signed_data.is_some()
            || self.sudi.is_some();
        let evidence = match (certificate, password) {
            (false, None) => Evidence::Null,
            (false, Some(password)) => Evidence::String(password),
            (true, password) => Evidence::Certificate(Box::new(CertificateEvidence {
                password,
                certificate: self.certificate,
                signed_data: self.signed_data,
                sha2_signed_data: self.sha2_signed_data,
                sudi: self.sudi,
            })),
        };
        Opening {
            device_name: self.device_name.name().clone(),
            name_as_sent: self.device_name.as_sent().to_owned(),
            version: self.version,
            session_id,
            evidence,
        }
    }
}

/// What a phone presents, and all its authority needs to judge it.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The name to look up.
    pub device_name: DeviceName,
    /// The name in the case it was sent in: SIGNED_DATA and SHA2_SIGNED_DATA cover these bytes.
    pub name_as_sent: String,
    /// Version 2 or 3. A phone of version 2 can be asked for RSA keys only.
    pub version: Version,
    /// The session: the signatures of SUDI_DATA cover it.
    pub session_id: SessionId,
    /// The proof.
    pub evidence: Evidence,
}

/// What a phone proves itself with. The phone goes by its own settings, so this need not be what the server wants of it.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// Nothing: no PASSWORD or an empty one, and no certificate.
    Null,
    /// An authentication string, not empty.
    String(SecretString),
    /// At least one of the elements that belong to a certificate.
    Certificate(Box<CertificateEvidence>),
}

/// The elements of a proof by certificate. Each may be missing: that judgement belongs to the verifier, which has words for it.
#[derive(Clone, Debug, Default)]
pub struct CertificateEvidence {
    /// A string that came along, not empty.
    pub password: Option<SecretString>,
    /// The LSC, or the MIC where there is no LSC.
    pub certificate: Option<Certificate>,
    /// Its signature with SHA-1.
    pub signed_data: Option<Octets>,
    /// Its signature with SHA-512.
    pub sha2_signed_data: Option<Signature>,
    /// The MIC with its signatures.
    pub sudi: Option<SudiData>,
}
