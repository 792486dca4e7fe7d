//! The CAPF report: one row a phone, what selects the rows, and how they become CSV.
//!
//! The source's report shows "the certificate operation status, the authentication strings, or the authentication
//! mode for listed devices". Everything but the strings stands in the Phone's status already.

use std::io;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};

use crate::api::{
    AuthenticationMode, CertificateOperationKind, ConditionStatus, ConditionType, LscState, Phase, Phone, Reason,
    RequestedBy,
};

/// What stands in the column Authentication String. `Debug` shows no digits.
#[derive(Clone, Debug, Default)]
pub enum StringCell {
    /// No string waits to be entered: none is needed, or it was used.
    #[default]
    None,
    /// The digits.
    Digits(SecretString),
    /// The caller may not read the Secret.
    Forbidden,
    /// The Secret that the Phone names is not there.
    Missing,
    /// It is not a Secret for authentication strings, or holds none: nothing of it is shown.
    Unusable,
}

impl StringCell {
    /// The text of the cell. Copies the digits: only for the moment of writing them out.
    fn text(&self) -> &str {
        match self {
            Self::None => "",
            Self::Digits(digits) => digits.expose_secret(),
            Self::Forbidden => "<forbidden>",
            Self::Missing => "<missing>",
            Self::Unusable => "<unusable>",
        }
    }
}

/// A phone in the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// Namespace.
    pub namespace: String,
    /// Device name, in the case in which it was written.
    pub device_name: String,
    /// Name of the CertificateAuthorityProxy.
    pub proxy: String,
    /// Text of the phone window, for example "Install/Upgrade pending".
    pub operation_status: String,
    /// Where the newest operation stands; none before the first.
    pub phase: Option<Phase>,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// Mode of the newest operation, else the one that is written; none where the proxy's default will be taken.
    pub authentication_mode: Option<AuthenticationMode>,
    /// Whether the phone holds an LSC.
    pub lsc: LscState,
    /// Serial number of the LSC, lower-case hexadecimal.
    pub lsc_serial: Option<String>,
    /// End of the LSC's validity.
    pub lsc_expires: Option<Timestamp>,
    /// Operation Completes by.
    pub completes_by: Option<Timestamp>,
    /// Who asked for the newest operation.
    pub requested_by: Option<RequestedBy>,
    /// Condition `Ready`; none while the controller has not looked at the phone.
    pub ready: Option<ConditionStatus>,
    /// Secret with the authentication string, while one waits to be entered.
    pub string_secret: Option<String>,
    /// The string itself, filled in only when it was asked for.
    pub authentication_string: StringCell,
}

impl From<&Phone> for Row {
    fn from(phone: &Phone) -> Self {
        let status = phone.status.as_ref();
        let operation = status.and_then(|s| s.operation.as_ref());
        let lsc = status.and_then(|s| s.lsc.as_ref());
        let ready = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == ConditionType::Ready));
        let unasked = || CertificateOperationKind::NoPendingOperation.words().to_owned();
        Self {
            namespace: phone.metadata.namespace.clone().unwrap_or_default(),
            device_name: phone.spec.device_name.clone(),
            proxy: phone.spec.proxy_ref.name.clone(),
            operation_status: status.and_then(|s| s.operation_status.clone()).unwrap_or_else(unasked),
            phase: operation.map(|o| o.phase),
            reason: operation.and_then(|o| o.reason),
            authentication_mode: operation.map(|o| o.authentication_mode).or(phone.spec.authentication_mode),
            lsc: status.map(|s| s.lsc_state).unwrap_or_default(),
            lsc_serial: lsc.map(|l| l.serial_number.clone()),
            lsc_expires: lsc.map(|l| l.not_after),
            completes_by: operation.and_then(|o| o.operation_completes_by),
            requested_by: operation.map(|o| o.requested_by),
            ready: ready.map(|c| c.status),
            string_secret: operation.and_then(|o| o.authentication_string_secret.clone()),
            authentication_string: StringCell::None,
        }
    }
}

/// A column of the report. The order here is the order of the CSV file; new ones are only ever added before
/// [`Column::AuthenticationString`], which is last because it is there only when asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Column {
    /// Namespace.
    Namespace,
    /// Device Name.
    DeviceName,
    /// CertificateAuthorityProxy.
    Proxy,
    /// Operation Status of the phone window.
    OperationStatus,
    /// Pending, InProgress, Successful or Failed.
    Phase,
    /// Why the operation failed.
    Reason,
    /// Authentication Mode, in the words of the phone window.
    AuthenticationMode,
    /// Installed, Not Installed or Unknown.
    Lsc,
    /// Serial number of the LSC.
    LscSerialNumber,
    /// End of the LSC's validity, RFC 3339.
    LscExpires,
    /// Operation Completes by, RFC 3339.
    CompletesBy,
    /// Phone, Person, Rollout or Renewal.
    RequestedBy,
    /// True, False or Unknown.
    Ready,
    /// Authentication String.
    AuthenticationString,
}

impl Column {
    /// Every column, in the order of the CSV file.
    pub const ALL: &'static [Self] = &[
        Self::Namespace,
        Self::DeviceName,
        Self::Proxy,
        Self::OperationStatus,
        Self::Phase,
        Self::Reason,
        Self::AuthenticationMode,
        Self::Lsc,
        Self::LscSerialNumber,
        Self::LscExpires,
        Self::CompletesBy,
        Self::RequestedBy,
        Self::Ready,
        Self::AuthenticationString,
    ];

    /// All columns, the string's only if it is asked for.
    pub fn all(strings: bool) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |c| strings || *c != Self::AuthenticationString)
    }

    /// The heading, the same in tables and in CSV.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::DeviceName => "Device Name",
            Self::Proxy => "Proxy",
            Self::OperationStatus => "Operation Status",
            Self::Phase => "Phase",
            Self::Reason => "Reason",
            Self::AuthenticationMode => "Authentication Mode",
            Self::Lsc => "LSC",
            Self::LscSerialNumber => "LSC Serial Number",
            Self::LscExpires => "LSC Expires",
            Self::CompletesBy => "Completes By",
            Self::RequestedBy => "Requested By",
            Self::Ready => "Ready",
            Self::AuthenticationString => "Authentication String",
        }
    }

    /// The cell of a row; empty where there is nothing to say.
    #[must_use]
    pub fn cell(self, row: &Row) -> String {
        let time = |t: Option<Timestamp>| t.map(|t| t.to_string()).unwrap_or_default();
        match self {
            Self::Namespace => row.namespace.clone(),
            Self::DeviceName => row.device_name.clone(),
            Self::Proxy => row.proxy.clone(),
            Self::OperationStatus => row.operation_status.clone(),
            Self::Phase => row.phase.map(|p| format!("{p:?}")).unwrap_or_default(),
            Self::Reason => row.reason.map(|r| r.to_string()).unwrap_or_default(),
            Self::AuthenticationMode => row.authentication_mode.map(|m| m.words().to_owned()).unwrap_or_default(),
            Self::Lsc => lsc_words(row.lsc).to_owned(),
            Self::LscSerialNumber => row.lsc_serial.clone().unwrap_or_default(),
            Self::LscExpires => time(row.lsc_expires),
            Self::CompletesBy => time(row.completes_by),
            Self::RequestedBy => row.requested_by.map(|r| format!("{r:?}")).unwrap_or_default(),
            Self::Ready => row.ready.map(|r| format!("{r:?}")).unwrap_or_default(),
            Self::AuthenticationString => row.authentication_string.text().to_owned(),
        }
    }
}

/// The phone's own words for its LSC (Settings > Model Information).
fn lsc_words(state: LscState) -> &'static str {
    match state {
        LscState::Installed => "Installed",
        LscState::NotInstalled => "Not Installed",
        LscState::Unknown => "Unknown",
    }
}

/// How the newest operation of a phone stands, in the source's words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OperationStatus {
    /// It waits for the phone or is under way.
    Pending,
    /// The phone answered that it is done.
    Successful,
    /// It ended otherwise.
    Failed,
    /// Nothing was asked of the phone yet.
    None,
}

impl OperationStatus {
    fn of(phase: Option<Phase>) -> Self {
        match phase {
            Some(Phase::Pending | Phase::InProgress) => Self::Pending,
            Some(Phase::Successful) => Self::Successful,
            Some(Phase::Failed) => Self::Failed,
            None => Self::None,
        }
    }
}

/// Which phones are wanted. Criteria that are left out select all; a phone must meet every one that is given, and
/// of a list any member.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    /// How the newest operation stands.
    pub operation_status: Vec<OperationStatus>,
    /// Why it failed.
    pub reason: Vec<Reason>,
    /// Authentication Mode.
    pub authentication_mode: Vec<AuthenticationMode>,
    /// Whether there is an LSC.
    pub lsc: Vec<LscState>,
    /// Device name.
    pub device_name: Option<DeviceNamePattern>,
    /// The LSC ends before this time, or has ended.
    pub expires_before: Option<Timestamp>,
    /// The LSC ends within so many days of 24 hours, or has ended.
    pub expires_within_days: Option<u32>,
    /// Name of the proxy.
    pub proxy: Option<String>,
}

impl Criteria {
    /// Whether a phone is wanted. A phone whose LSC is not known has no end date and meets no criterion on it.
    #[must_use]
    pub fn matches(&self, row: &Row, now: Timestamp) -> bool {
        fn any<T: PartialEq>(wanted: &[T], is: Option<T>) -> bool {
            wanted.is_empty() || is.is_some_and(|is| wanted.contains(&is))
        }
        let ends_before = |limit: Option<Timestamp>| match (limit, row.lsc_expires) {
            (None, _) => true,
            (Some(limit), Some(end)) => end < limit,
            (Some(_), None) => false,
        };
        let horizon = self
            .expires_within_days
            .map(|days| now.checked_add(SignedDuration::from_hours(i64::from(days) * 24)).unwrap_or(Timestamp::MAX));
        any(&self.operation_status, Some(OperationStatus::of(row.phase)))
            && any(&self.reason, row.reason)
            && any(&self.authentication_mode, row.authentication_mode)
            && any(&self.lsc, Some(row.lsc))
            && self.device_name.as_ref().is_none_or(|pattern| pattern.matches(&row.device_name))
            && self.proxy.as_ref().is_none_or(|proxy| *proxy == row.proxy)
            && ends_before(self.expires_before)
            && ends_before(horizon)
    }
}

/// A device name with wildcards, in any case: `*` stands for any characters, `?` for one.
///
/// The Find/List boxes of the source in this form: begins with `SEP*`, contains `*0A1B*`, is exactly `SEP001122AABBCC`,
/// ends with `*CC`. A device name is never empty, so "is empty" finds nothing and "is not empty" is `*`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceNamePattern(Vec<u8>);

impl DeviceNamePattern {
    /// Takes the pattern.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_uppercase().into_bytes())
    }

    /// Whether a name matches. Takes time in proportion to the product of both lengths at most.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (&self.0, name.to_ascii_uppercase().into_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last star stands, and how far into the name it reaches: only that one is ever stretched.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match star {
                    Some((at, reach)) => {
                        star = Some((at, reach + 1));
                        (p, n) = (at + 1, reach + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

/// Writes rows as CSV (RFC 4180, UTF-8, lines ending in CR LF), the header first and always.
pub struct CsvReport<W: io::Write> {
    out: csv::Writer<W>,
    columns: Vec<Column>,
}

impl<W: io::Write> CsvReport<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn new(out: W, strings: bool) -> io::Result<Self> {
        Self::of(out, Column::all(strings).collect())
    }

    /// The same with these columns only.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn of(out: W, columns: Vec<Column>) -> io::Result<Self> {
        let mut out = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
        out.write_record(columns.iter().map(|c| c.heading())).map_err(into_io)?;
        Ok(Self { out, columns })
    }

    /// Writes one row.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        self.out.write_record(self.columns.iter().map(|c| guarded(c.cell(row)))).map_err(into_io)
    }

    /// Hands everything to `out`.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Marks, with a leading apostrophe, a field that a spreadsheet would run or change.
///
/// It would run what starts with `=`, `+`, `-`, `@`, a tab or a line end; and it would take for a number, and lose
/// something of, digits with a leading zero, more than 15 digits, or hexadecimal like `12e5`. A tenth of all generated
/// authentication strings start with a zero: without it the phone's user would try a wrong one until the lock-out,
/// whereas an apostrophe, in a string known to be digits, is seen. A field that starts with an apostrophe gets one
/// too, so a program gets back every field by taking one leading apostrophe off.
#[must_use]
pub fn guarded(field: String) -> String {
    let runs = field.trim_start_matches(' ').starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\'']);
    if runs || a_number_that_would_change(&field) { format!("'{field}") } else { field }
}

/// What the field was before [`guarded`] marked it.
#[must_use]
pub fn unguarded(field: &str) -> &str {
    field.strip_prefix('\'').unwrap_or(field)
}

fn a_number_that_would_change(field: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if digits(field) {
        return (field.len() > 1 && field.starts_with('0')) || field.len() > 15;
    }
    field.split_once(['e', 'E']).is_some_and(|(mantissa, exponent)| digits(mantissa) && digits(exponent))
}

fn into_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
