//! The command line: what people type, each subcommand a file.

pub mod adopt;
pub mod auth_strings;
pub mod client;
pub mod crds;
mod criteria;
pub mod endpoint_bundle;
pub mod explain;
mod file;
pub mod find;
pub mod pause;
pub mod reference;
pub mod remove_keys;
pub mod report;
mod report_args;
pub mod rerun;
pub mod smoke_test;
pub mod table;
pub mod trace;

use std::io;

/// Cisco's Certificate Authority Proxy Function (CAPF) for Kubernetes. Called `kubectl-capf` it is a kubectl plugin.
#[derive(clap::Parser, Debug)]
#[command(name = "capf", version = crate::version::version(), propagate_version = true)]
pub struct Cli {
    /// Logs.
    #[command(flatten)]
    pub log: crate::logging::LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Watch the resources, answer endpoints and run the loops
    Controller(crate::controller::run::ControllerArgs),
    /// Serve phones on the CAPF port
    Endpoint(crate::endpoint::EndpointArgs),
    /// Be a phone: a smoke test, a test peer, a load generator
    Phone(Box<crate::phone::PhoneArgs>),
    /// Show phones with their certificate operations, authentication modes and strings: the CAPF report
    Report(Box<report::ReportArgs>),
    /// Show what a phone showed in its newest Troubleshoot: one trace for each certificate
    Trace(trace::TraceArgs),
    /// Find phones by LSC status and other criteria; or devices that called and are not known
    Find(Box<find::FindArgs>),
    /// Make a Phone of a device that called and was not known: print it, or apply it
    Adopt(adopt::AdoptArgs),
    /// Write a sheet of the authentication strings that wait to be entered
    AuthStrings(auth_strings::AuthStringsArgs),
    /// Lift a lock-out: a new revision, and new digits where the string is given
    Unlock(rerun::RerunArgs),
    /// Give a phone that waits for its authentication string another one
    RenewString(rerun::RerunArgs),
    /// Say how far a phone came, why not further, and what to do; or what ails a proxy
    Explain(explain::ExplainArgs),
    /// Export what an endpoint outside the cluster needs, as files
    EndpointBundle(endpoint_bundle::EndpointBundleArgs),
    /// Enrol a simulated phone through an endpoint, from the Phone's creation to its LSC, and remove its traces
    SmokeTest(smoke_test::SmokeTestArgs),
    /// Delete the Secrets with keys of controllers, issuers and services, for good
    RemoveKeys(remove_keys::RemoveKeysArgs),
    /// Print the CustomResourceDefinitions
    Crds(crds::CrdsArgs),
    /// Print the reference of the command line as Markdown
    #[command(hide = true)]
    CliReference,
    /// Hold a pod's namespaces open and do nothing else, so that a node for tests needs no other image
    #[command(hide = true)]
    Pause,
    /// Print the table of metrics as Markdown
    #[command(hide = true)]
    MetricsReference,
}

/// Takes it as success that nobody reads on: `capf report | head` has shown what was wanted.
pub(crate) fn quiet_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
