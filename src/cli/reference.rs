//! `capf cli-reference`: the reference of the command line as Markdown, made from the same definitions that parse it.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

/// Prints the reference.
///
/// # Errors
/// When standard output cannot be written to.
pub fn run() -> io::Result<()> {
    super::quiet_pipe(io::stdout().write_all(markdown().as_bytes()))
}

/// Prints the table of metrics.
///
/// # Errors
/// When standard output cannot be written to.
pub fn metrics() -> io::Result<()> {
    super::quiet_pipe(io::stdout().write_all(crate::telemetry::reference::markdown().as_bytes()))
}

/// The reference, as committed in `docs/cli.md`.
#[must_use]
pub fn markdown() -> String {
    let mut command = Cli::command();
    command.build();
    let mut text = String::from("# Command line\n\nMade by `make generate` from the program itself.\n");
    section(&mut text, &command, command.get_name(), 2);
    text
}

fn section(text: &mut String, command: &Command, path: &str, level: usize) {
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    // Writing to a String does not fail.
    let _ = write!(text, "\n{} `{path}`\n\n{about}\n\n```\n{usage}\n```\n", "#".repeat(level));
    let subcommands: Vec<_> =
        command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").collect();
    if !subcommands.is_empty() {
        text.push_str("\n| Command | Does |\n|---|---|\n");
        for sub in &subcommands {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "| [`{path} {0}`](#{1}-{0}) | {2} |", sub.get_name(), anchor(path), cell(&about));
        }
    }
    let arguments: Vec<_> = command
        .get_arguments()
        .filter(|a| !a.is_hide_set() && !matches!(a.get_id().as_str(), "help" | "version"))
        .collect();
    if !arguments.is_empty() {
        text.push_str("\n| Option | Means |\n|---|---|\n");
        for argument in arguments {
            let _ = writeln!(text, "| {} | {} |", names(argument), meaning(argument));
        }
    }
    for sub in subcommands {
        section(text, sub, &format!("{path} {}", sub.get_name()), level + 1);
    }
}

fn names(argument: &Arg) -> String {
    let value = if argument.get_action().takes_values() {
        let names = argument.get_value_names().unwrap_or_default();
        names.iter().map(|name| format!(" <{name}>")).collect()
    } else {
        String::new()
    };
    let long = argument.get_long().map(|long| format!("--{long}"));
    let short = argument.get_short().map(|short| format!("-{short}"));
    let all: Vec<_> = short.into_iter().chain(long).collect();
    if all.is_empty() { format!("`{}`", value.trim_start()) } else { format!("`{}{value}`", all.join("`, `")) }
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut text = cell(&help);
    if !text.ends_with('.') {
        text.push('.');
    }
    if argument.is_required_set() {
        text.push_str(" Required.");
    }
    let values: Vec<_> = argument.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
    if !values.is_empty() && argument.get_action().takes_values() {
        let _ = write!(text, " One of {}.", values.join(", "));
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|v| format!("`{}`", v.to_string_lossy())).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        let _ = write!(text, " Default {}.", defaults.join(", "));
    }
    if let Some(name) = argument.get_env() {
        let _ = write!(text, " Environment variable `{}`.", name.to_string_lossy());
    }
    text
}

/// Text as it may stand in a cell of a Markdown table.
fn cell(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}

fn anchor(path: &str) -> String {
    path.replace(' ', "-")
}
