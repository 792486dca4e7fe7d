//! The arguments of `capf report`: which phones, and the form of the result.

use std::path::PathBuf;

use clap::ValueEnum;

use super::client::ClientArgs;
use super::criteria::CriteriaArgs;
use super::report::{Form, Query};
use crate::domain::report::Column;

/// Form of the report.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For spreadsheets and programs
    Csv,
}

/// Arguments of `capf report`. Criteria are combined: a phone must meet all of them, of a list any member.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_line_help = true)]
pub struct ReportArgs {
    #[command(flatten)]
    pub(super) cluster: ClientArgs,
    #[command(flatten)]
    criteria: CriteriaArgs,
    /// Read and show the authentication strings that wait to be entered, with your own right to get those Secrets
    #[arg(long)]
    show_authentication_strings: bool,
    /// Form of the report; when absent a table, or CSV with --output
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// All columns in a table too
    #[arg(long)]
    wide: bool,
    /// File for the report, readable by its owner only and replaced when the report is complete
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ReportArgs {
    /// What is asked for.
    #[must_use]
    pub fn query(&self) -> Query {
        Query { strings: self.show_authentication_strings, ..self.criteria.query() }
    }

    /// In which form: the source views the report in a window, and as a file in CSV.
    #[must_use]
    pub fn form(&self) -> Form {
        let format = self.format.unwrap_or(if self.output.is_some() { Format::Csv } else { Format::Table });
        let columns = match format {
            Format::Csv => Column::all(self.show_authentication_strings).collect(),
            Format::Table => self.columns(),
        };
        Form { format, columns, heading: String::new(), output: self.output.clone() }
    }

    fn columns(&self) -> Vec<Column> {
        const NARROW: [Column; 7] = [
            Column::DeviceName,
            Column::OperationStatus,
            Column::Reason,
            Column::AuthenticationMode,
            Column::Lsc,
            Column::LscExpires,
            Column::CompletesBy,
        ];
        Column::all(self.show_authentication_strings)
            .filter(|column| {
                self.wide
                    || NARROW.contains(column)
                    || *column == Column::AuthenticationString
                    || (*column == Column::Namespace && self.cluster.all_namespaces)
            })
            .collect()
    }
}
