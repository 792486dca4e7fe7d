//! Logs: our own lines at the level that was asked for, other people's code at errors only.
//!
//! What a library would say at trace level may hold a Secret's content (an HTTP body, say), so no option and no
//! environment variable lets it speak. kube's client says nothing at all: an answer that it does not understand it
//! logs as a whole, at any level.

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Form of the lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Options of every subcommand.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct LogArgs {
    /// Lines up to this level: error, warn, info, debug or trace. Secrets are in none of them. Default: info for
    /// `controller` and `endpoint`, warn for the rest
    #[arg(long, global = true, env = "CAPF_LOG_LEVEL")]
    pub log_level: Option<Level>,
    /// Form of the lines
    #[arg(long, global = true, env = "CAPF_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
}

/// Starts logging to standard error, at `default` where no level was asked for. A second call changes nothing.
pub fn init(args: LogArgs, default: Level) {
    let targets = Targets::new()
        .with_default(LevelFilter::ERROR)
        .with_target("kube_client", LevelFilter::OFF)
        .with_target("capf", args.log_level.unwrap_or(default));
    let registry = tracing_subscriber::registry().with(targets);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // A second call finds a subscriber in place and leaves it.
    let _ = match args.log_format {
        Format::Text => registry.with(lines.with_ansi(false)).try_init(),
        Format::Json => registry.with(lines.json()).try_init(),
    };
}
