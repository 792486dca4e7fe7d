//! Parses, installs the crypto provider, dispatches.

use std::error::Error;
use std::process::ExitCode;

use capf::cli::{self, Cli, Command};
use capf::domain::rerun::Wish;
use clap::{CommandFactory as _, FromArgMatches as _};
use tokio::signal::unix::SignalKind;
use tokio_util::sync::CancellationToken;
use tracing::Level;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = parse();
    // Fails only when one is installed already, and it is the same one then.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let serves = matches!(cli.command, Command::Controller(_) | Command::Endpoint(_));
    capf::logging::init(cli.log, if serves { Level::INFO } else { Level::WARN });
    if serves {
        capf::open_files::raise_limit();
    }
    match dispatch(cli.command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("capf: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Controller(args) => {
            let stop = CancellationToken::new();
            tokio::spawn(cancel_when_told(stop.clone()));
            capf::controller::run::run(args, stop).await?;
        }
        Command::Endpoint(args) => capf::endpoint::run(args.into(), told_to_stop()).await?,
        Command::Phone(args) => return Ok(capf::phone::run(*args).await),
        Command::Report(args) => cli::report::run(&args).await?,
        Command::Trace(args) => cli::trace::run(&args).await?,
        Command::Find(args) => cli::find::run(&args).await?,
        Command::Adopt(args) => cli::adopt::run(&args).await?,
        Command::AuthStrings(args) => cli::auth_strings::run(&args).await?,
        Command::Unlock(args) => cli::rerun::run(Wish::Unlock, &args).await?,
        Command::RenewString(args) => cli::rerun::run(Wish::RenewString, &args).await?,
        Command::Explain(args) => cli::explain::run(&args).await?,
        Command::EndpointBundle(args) => cli::endpoint_bundle::run(&args).await?,
        Command::SmokeTest(args) => {
            let stop = CancellationToken::new();
            tokio::spawn(cancel_when_told(stop.clone()));
            cli::smoke_test::run(&args, stop).await?;
        }
        Command::RemoveKeys(args) => cli::remove_keys::run(&args).await?,
        Command::Crds(args) => cli::crds::run(&args)?,
        Command::CliReference => cli::reference::run()?,
        Command::Pause => cli::pause::run(told_to_stop()).await?,
        Command::MetricsReference => cli::reference::metrics()?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn cancel_when_told(stop: CancellationToken) {
    told_to_stop().await;
    stop.cancel();
}

/// Waits for SIGTERM or SIGINT.
async fn told_to_stop() {
    let signal = |kind| tokio::signal::unix::signal(kind).expect("a handler for a signal that can be handled");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Parses the arguments; a usage error ends the program with code 2. As a kubectl plugin the help says so.
fn parse() -> Cli {
    let called = std::env::args_os().next().unwrap_or_default();
    let plugin = std::path::Path::new(&called).file_stem().is_some_and(|name| name == "kubectl-capf");
    let command = Cli::command();
    let command = if plugin { command.bin_name("kubectl capf") } else { command };
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

/// The error and its causes, without those that an outer one has told already.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        next = cause.source();
    }
    text
}
