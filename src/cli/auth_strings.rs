//! `capf auth-strings`: the authentication strings that wait to be entered, as a sheet to print for whoever goes from phone to
//! phone, or as CSV. With the caller's own right to read those Secrets, as `capf report --show-authentication-strings`.

use std::path::PathBuf;

use super::client::{ClientArgs, Cluster};
use super::report::{Form, Format, Query, ReportError, print};
use crate::domain::report::{Column, Criteria, DeviceNamePattern};

/// Arguments of `capf auth-strings`.
#[derive(clap::Args, Clone, Debug)]
pub struct AuthStringsArgs {
    #[command(flatten)]
    cluster: ClientArgs,
    /// Phones of one site: those with these labels (a label selector)
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Phones of one CertificateAuthorityProxy
    #[arg(long, value_name = "NAME")]
    proxy: Option<String>,
    /// Device name with wildcards, in any case: * for any characters, ? for one
    #[arg(long, value_name = "PATTERN")]
    device_name: Option<String>,
    /// Form of the sheet
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: SheetFormat,
    /// File for the sheet, readable by its owner only and replaced when the sheet is complete
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Form of the sheet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum SheetFormat {
    /// To print, with how it is done on the phone
    Text,
    /// For spreadsheets and programs
    Csv,
}

/// Writes the sheet.
///
/// # Errors
/// [`ReportError`]. A file named by `--output` is then as it was before.
pub async fn run(args: &AuthStringsArgs) -> Result<(), ReportError> {
    let cluster = args.cluster.connect().await?;
    let query = Query {
        criteria: Criteria {
            device_name: args.device_name.as_deref().map(DeviceNamePattern::new),
            proxy: args.proxy.clone(),
            ..Criteria::default()
        },
        labels: args.selector.clone(),
        strings: true,
        waiting: true,
    };
    let mut columns =
        vec![Column::DeviceName, Column::AuthenticationString, Column::OperationStatus, Column::CompletesBy];
    if cluster.namespace.is_none() || args.format == SheetFormat::Csv {
        columns.insert(0, Column::Namespace);
    }
    let (format, heading) = match args.format {
        SheetFormat::Text => (Format::Table, heading(args, &cluster)),
        SheetFormat::Csv => (Format::Csv, String::new()),
    };
    print(&cluster, &query, &Form { format, columns, heading, output: args.output.clone() }).await
}

fn heading(args: &AuthStringsArgs, cluster: &Cluster) -> String {
    let namespace = cluster.namespace.as_ref().map_or("all namespaces".into(), |name| format!("namespace {name}"));
    let with = args.selector.as_ref().map(|labels| format!(", phones with {labels}")).unwrap_or_default();
    format!(
        "Authentication strings: {namespace}{with}. {}\n\nOn the phone: Settings > Security Configuration (**# if it is \
         locked) > LSC > Update. Enter the string and press Submit.\nEach string serves one phone, once, until its date; \
         a few wrong ones lock it out. Destroy this sheet afterwards.\n\n",
        crate::clock::now().strftime("%Y-%m-%d %H:%M UTC")
    )
}
