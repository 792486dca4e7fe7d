//! `capf report`: the source's CAPF Report, from resource state.
//!
//! # Guarantees
//! - Phones are read page by page and written as they come: a fleet of any size needs the memory of one page.
//! - No Secret is read unless `--show-authentication-strings` asks for it, and then with the caller's own rights. One
//!   that may not be read, is not there, or is no authentication string, shows as `<forbidden>`, `<missing>` or
//!   `<unusable>` in its cell; a line on standard error counts them and names the right that is needed, and the exit
//!   code stays 0: the report itself is complete. Any other failure ends the report with exit code 1.
//! - A list that expires while it is read is gone on with where it broke off. No phone is shown twice; later rows are
//!   newer than earlier ones, and a line on standard error says so.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::client::{CallError, Cause, Cluster, ConnectError, GET_CALL, LIST_CALL, call};
use super::file::{NewFile, SECRET};
pub use super::report_args::{Format, ReportArgs};
use super::table::{Lines, PagedTable};
use crate::api::{AUTHENTICATION_STRING_KEY, AUTHENTICATION_STRING_TYPE, Phase, Phone};
use crate::domain::report::{Column, Criteria, CsvReport, OperationStatus, Row, StringCell};
use crate::domain::string::AuthenticationString;

/// Phones in a page, kubectl's number too.
const PAGE: u32 = 500;
/// Secrets that are read at the same time.
const SECRETS_AT_ONCE: usize = 16;
/// Times in a row that a list may expire without another page of it having come.
const MOST_RESTARTS: u32 = 5;

/// There is no report, or only the beginning of one.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The cluster does not know what a Phone is.
    #[error(
        "listing Phones: this cluster has no capf.dev CustomResourceDefinitions; `capf crds | kubectl apply -f -` installs them"
    )]
    NotInstalled,
    /// The report cannot be written.
    #[error("writing {place}: {source}")]
    Write {
        /// Where to.
        place: String,
        /// What the system says.
        source: io::Error,
    },
    /// Ctrl-C.
    #[error("interrupted; {0}")]
    Interrupted(&'static str),
}

/// What is wanted of the report.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Which phones.
    pub criteria: Criteria,
    /// Label selector, evaluated by the API server.
    pub labels: Option<String>,
    /// Whether authentication strings are read and shown.
    pub strings: bool,
    /// Whether only phones are wanted whose string waits to be entered.
    pub waiting: bool,
}

/// The form of a list of phones, and its place.
#[derive(Clone, Debug)]
pub struct Form {
    /// Table or CSV.
    pub format: Format,
    /// The columns.
    pub columns: Vec<Column>,
    /// What stands above a table.
    pub heading: String,
    /// A file; standard output when absent.
    pub output: Option<PathBuf>,
}

/// Where rows go.
pub enum Sink<W: Write> {
    /// As CSV.
    Csv(Box<CsvReport<W>>),
    /// As a table of these columns.
    Table(PagedTable<W>, Vec<Column>),
}

/// What happened besides the rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Phones that met the criteria.
    pub rows: u64,
    /// Strings whose Secret may not be read.
    pub forbidden: u64,
    /// Strings whose Secret is not there.
    pub missing: u64,
    /// Strings whose Secret is of another type, or holds something else than 4 to 10 digits.
    pub unusable: u64,
    /// Times that the list expired and was gone on with.
    pub expired: u64,
}

/// Writes the report that the arguments ask for.
///
/// # Errors
/// [`ReportError`]. A file named by `--output` is then as it was before.
pub async fn run(args: &ReportArgs) -> Result<(), ReportError> {
    print(&args.cluster.connect().await?, &args.query(), &args.form()).await
}

/// Writes a list of phones to its place, and what happened besides to standard error.
///
/// # Errors
/// [`ReportError`]. A file is then as it was before.
pub(super) async fn print(cluster: &Cluster, query: &Query, form: &Form) -> Result<(), ReportError> {
    let now = crate::clock::now();
    let summary = tokio::select! {
        summary = to_its_place(cluster, query, form, now) => summary?,
        _ = tokio::signal::ctrl_c() => {
            let kept = if form.output.is_some() { "no file was written" } else { "the report is not complete" };
            return Err(ReportError::Interrupted(kept));
        }
    };
    for note in summary.notes() {
        eprintln!("{note}");
    }
    Ok(())
}

async fn to_its_place(cluster: &Cluster, query: &Query, form: &Form, now: Timestamp) -> Result<Summary, ReportError> {
    let place = form.output.clone().unwrap_or_else(|| PathBuf::from("standard output")).display().to_string();
    let failed = |source| ReportError::Write { place: place.clone(), source };
    let Some(path) = &form.output else {
        let out = BufWriter::new(io::stdout());
        let written = match Sink::new(out, form, Lines::of_stdout()) {
            Ok(mut sink) => write(cluster, query, now, &mut sink, &place).await,
            Err(source) => Err(failed(source)),
        };
        return match written {
            // Nobody reads on, as with `| head`: what was wanted has been shown.
            Err(ReportError::Write { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
                Ok(Summary { rows: 1, ..Summary::default() })
            }
            other => other,
        };
    };
    let mut file = NewFile::create(path, SECRET).map_err(failed)?;
    let out = BufWriter::new(&mut file);
    let mut sink = Sink::new(out, form, Lines::Unbounded).map_err(failed)?;
    let summary = write(cluster, query, now, &mut sink, &place).await?;
    drop(sink);
    file.finish().map_err(failed)?;
    Ok(summary)
}

/// Writes the rows of all phones that meet the criteria; `place` names the sink in errors.
///
/// # Errors
/// [`ReportError`]; rows of earlier pages have been written then.
pub async fn write<W: Write>(
    cluster: &Cluster,
    query: &Query,
    now: Timestamp,
    sink: &mut Sink<W>,
    place: &str,
) -> Result<Summary, ReportError> {
    let failed = |source| ReportError::Write { place: place.to_owned(), source };
    let mut pages = Pages::new(cluster, query);
    let mut summary = Summary::default();
    while let Some(phones) = pages.next().await? {
        let wanted = |row: &Row| query.criteria.matches(row, now) && (!query.waiting || row.string_secret.is_some());
        let rows = phones.iter().map(Row::from).filter(wanted);
        let rows = match query.strings {
            true => with_strings(cluster, rows.collect()).await?,
            false => rows.collect(),
        };
        summary.count(&rows);
        sink.page(&rows).map_err(failed)?;
    }
    sink.flush().map_err(failed)?;
    summary.expired = pages.expired;
    Ok(summary)
}

impl<W: Write> Sink<W> {
    /// A sink for a form, whatever its place; its heading is written.
    ///
    /// # Errors
    /// When the header of a CSV file or the heading of a table cannot be written.
    pub fn new(mut out: W, form: &Form, lines: Lines) -> io::Result<Self> {
        Ok(match form.format {
            Format::Csv => Self::Csv(Box::new(CsvReport::of(out, form.columns.clone())?)),
            Format::Table => {
                out.write_all(form.heading.as_bytes())?;
                let header = form.columns.iter().map(|column| column.heading()).collect();
                Self::Table(PagedTable::new(out, lines, header), form.columns.clone())
            }
        })
    }

    fn page(&mut self, rows: &[Row]) -> io::Result<()> {
        match self {
            Self::Csv(csv) => rows.iter().try_for_each(|row| csv.row(row))?,
            Self::Table(table, columns) => {
                table.page(rows.iter().map(|row| columns.iter().map(|column| column.cell(row)).collect()))?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Csv(csv) => csv.flush(),
            Self::Table(table, _) => table.flush(),
        }
    }
}

/// The list of phones, page after page.
struct Pages {
    api: Api<Phone>,
    params: ListParams,
    /// The last phone that was handed out, in the API server's order: namespace, then name.
    last: Option<(String, String)>,
    over: bool,
    restarts: u32,
    expired: u64,
}

impl Pages {
    fn new(cluster: &Cluster, query: &Query) -> Self {
        let params = ListParams {
            label_selector: query.labels.clone(),
            field_selector: field_selector(&query.criteria),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        Self { api: cluster.api(), params, last: None, over: false, restarts: 0, expired: 0 }
    }

    async fn next(&mut self) -> Result<Option<Vec<Phone>>, ReportError> {
        while !self.over {
            let error = match call("listing Phones", LIST_CALL, || self.api.list(&self.params)).await {
                Ok(page) => {
                    self.restarts = 0;
                    self.params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
                    self.over = self.params.continue_token.is_none();
                    return Ok(Some(self.not_handed_out_yet(page.items)));
                }
                Err(error) => error,
            };
            match &error.cause {
                Cause::Expired(token) if self.restarts < MOST_RESTARTS => {
                    // With its token the API server goes on where the list broke off; without one the list begins
                    // anew, and what has been handed out is left out.
                    self.params.continue_token.clone_from(token);
                    self.restarts += 1;
                    self.expired += 1;
                }
                Cause::NotFound(_) => return Err(ReportError::NotInstalled),
                _ => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn not_handed_out_yet(&mut self, mut phones: Vec<Phone>) -> Vec<Phone> {
        let key = |phone: &Phone| (phone.namespace().unwrap_or_default(), phone.name_any());
        if let (Some(last), true) = (&self.last, self.expired > 0) {
            phones.retain(|phone| path(&key(phone)) > path(last));
        }
        self.last = phones.last().map(key).or(self.last.take());
        phones
    }
}

/// The key under which the API server keeps, and by which it orders, an object.
fn path((namespace, name): &(String, String)) -> String {
    format!("{namespace}/{name}")
}

/// What the API server can select by itself, so that it need not be sent: one proxy, one phase.
fn field_selector(criteria: &Criteria) -> Option<String> {
    let proxy = criteria.proxy.as_ref().map(|proxy| format!("spec.proxyRef.name={proxy}"));
    let phase = match criteria.operation_status.as_slice() {
        // A Phone's status says Pending for InProgress too.
        [OperationStatus::Pending] => Some(Phase::Pending),
        [OperationStatus::Successful] => Some(Phase::Successful),
        [OperationStatus::Failed] => Some(Phase::Failed),
        _ => None,
    };
    let phase = phase.map(|phase| format!("status.operation.phase={phase:?}"));
    let both: Vec<_> = proxy.into_iter().chain(phase).collect();
    (!both.is_empty()).then(|| both.join(","))
}

/// Fills in the strings that wait to be entered, a few Secrets at a time, in the order of the rows.
async fn with_strings(cluster: &Cluster, rows: Vec<Row>) -> Result<Vec<Row>, CallError> {
    let filled = rows.into_iter().map(|mut row| async move {
        if let Some(name) = &row.string_secret {
            row.authentication_string = authentication_string(cluster, &row.namespace, name).await?;
        }
        Ok(row)
    });
    stream::iter(filled).buffered(SECRETS_AT_ONCE).try_collect().await
}

async fn authentication_string(cluster: &Cluster, namespace: &str, name: &str) -> Result<StringCell, CallError> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    match call(&format!("reading Secret {namespace}/{name}"), GET_CALL, || secrets.get(name)).await {
        Ok(secret) => Ok(usable_digits(&secret).map_or(StringCell::Unusable, StringCell::Digits)),
        Err(CallError { cause: Cause::Forbidden(_), .. }) => Ok(StringCell::Forbidden),
        Err(CallError { cause: Cause::NotFound(_), .. }) => Ok(StringCell::Missing),
        Err(other) => Err(other),
    }
}

/// The digits in a Secret for authentication strings; nothing of any other Secret is ever shown.
pub(super) fn usable_digits(secret: &Secret) -> Option<secrecy::SecretString> {
    if secret.type_.as_deref() != Some(AUTHENTICATION_STRING_TYPE) {
        return None;
    }
    let octets = secret.data.as_ref()?.get(AUTHENTICATION_STRING_KEY)?;
    let text = std::str::from_utf8(&octets.0).ok()?;
    Some(AuthenticationString::parse(text).ok()?.digits().clone())
}

impl Summary {
    fn count(&mut self, rows: &[Row]) {
        for row in rows {
            self.rows += 1;
            match row.authentication_string {
                StringCell::Forbidden => self.forbidden += 1,
                StringCell::Missing => self.missing += 1,
                StringCell::Unusable => self.unusable += 1,
                StringCell::None | StringCell::Digits(_) => {}
            }
        }
    }

    /// Lines for standard error.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.rows == 0 {
            notes.push("No phones found.".to_owned());
        }
        if self.expired > 0 {
            notes.push(format!(
                "The list expired {} times while it was read; later rows are newer than earlier ones.",
                self.expired
            ));
        }
        if self.forbidden > 0 {
            notes.push(format!(
                "{} authentication strings are <forbidden>: reading them needs a Role with the rule \
                 {{apiGroups: [\"\"], resources: [secrets], verbs: [get]}} in the phone's namespace.",
                self.forbidden
            ));
        }
        if self.missing > 0 {
            notes.push(format!(
                "{} authentication strings are <missing>: the Secret was deleted, or used up in the meantime.",
                self.missing
            ));
        }
        if self.unusable > 0 {
            notes.push(format!(
                "{} authentication strings are <unusable>: the Secret is not of type {AUTHENTICATION_STRING_TYPE}, or \
                 its key {AUTHENTICATION_STRING_KEY} does not hold 4 to 10 digits.",
                self.unusable
            ));
        }
        notes
    }
}
