//! `make demo`: a real API server, the product beside it, and forty phones that get their certificates, or do not.
//!
//! Everything that is shown as a command is run as that command. What is told of phones comes from the API server.
//! Ends with 0 when every phone ended as it should and every certificate passed, else with 1 and what differs.
//! Nothing remains but the report, below the build's target folder.

#[path = "harness/mod.rs"]
mod harness;

#[path = "demo/calls.rs"]
mod calls;
#[path = "demo/fleet.rs"]
mod fleet;
#[path = "demo/install.rs"]
mod install;
#[path = "demo/screen.rs"]
mod screen;
#[path = "demo/shell.rs"]
mod shell;
#[path = "demo/verdict.rs"]
mod verdict;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser as _;
use console::style;
use jiff::{SignedDuration, Timestamp};

use crate::calls::Calls;
use crate::fleet::{Fleet, NAMESPACE};
use crate::harness::ControlPlane;
use crate::screen::Screen;
use crate::shell::{Shell, heading, say};

/// What goes wrong in the demo is told to a person, never handled.
type Trouble = Box<dyn Error + Send + Sync>;

/// When the phone that never calls expires: late enough to be seen waiting, early enough to be waited for.
const PATIENCE_WITH_THE_SILENT: SignedDuration = SignedDuration::from_secs(20);
/// How long the whole fleet may take; a quiet machine needs a third of it.
const ENROLMENT: Duration = Duration::from_secs(75);

/// Shows the product at work on a control plane of its own. The cluster of your kubeconfig is not touched.
#[derive(clap::Parser)]
struct Args {
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long, env = "CAPF_DEMO_STAY", value_parser = clap::builder::FalseyValueParser::new())]
    stay: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match show(&args).await {
        Ok(differences) if differences.is_empty() => ExitCode::SUCCESS,
        Ok(differences) => {
            eprintln!("\nnot as it should be:");
            differences.iter().for_each(|difference| eprintln!("  - {difference}"));
            ExitCode::FAILURE
        }
        Err(trouble) => {
            eprintln!("\ndemo: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the story from beginning to end; returns what was not as it should be.
async fn show(args: &Args) -> Result<Vec<String>, Trouble> {
    verdict::require_openssl()?;
    let start = Instant::now();
    heading("A control plane: etcd, kube-apiserver, kube-controller-manager");
    let plane = ControlPlane::start()?;
    say(&format!("Kubernetes {} at {} after {:.1} s", plane.version(), plane.server(), start.elapsed().as_secs_f64()));
    let shell = Shell::new(&plane)?;

    let controller = install::controller(&plane, &shell)?;
    install::examples(&shell)?;
    let endpoint = install::endpoint(&plane, &shell)?;
    let mut processes = [controller, endpoint.process];
    let told = enrol_and_judge(&plane, &shell, &endpoint.address, start).await;
    if args.stay {
        if let Ok(differences) = &told {
            differences.iter().for_each(|difference| eprintln!("not as it should be: {difference}"));
        }
        stay(&shell, &endpoint.address).await?;
    } else if !matches!(&told, Ok(differences) if differences.is_empty()) {
        processes.iter().for_each(shell::show_end_of_log);
    }
    // In order, as on a shutdown: first whoever asks, then whoever answers.
    for process in processes.iter_mut().rev() {
        process.terminate()?;
    }
    told
}

async fn enrol_and_judge(
    plane: &ControlPlane,
    shell: &Shell,
    address: &str,
    start: Instant,
) -> Result<Vec<String>, Trouble> {
    let client = plane.client(None);
    install::first_phone(shell, address)?;

    heading("The rest of the fleet");
    let fleet = Fleet::new(Timestamp::now() + PATIENCE_WITH_THE_SILENT);
    std::fs::write(shell.folder().join("fleet.yaml"), fleet.manifest())?;
    let applied = shell.run_quietly("kubectl apply -f \"$DEMO/fleet.yaml\"")?;
    say(&format!("{} objects, among them phones: {}", applied.lines().count(), fleet.described()));

    heading("Phones call");
    let ctl = std::fs::read(shell.folder().join("CAPF.cer"))?;
    let (calls, notes) = Calls::new(client.clone(), address.parse()?, &ctl)?;
    let screen = Screen::open(client.clone(), fleet.members.len()).await?;
    let calling = tokio::spawn(calls.all(fleet.members.clone()));
    let board = screen.follow(notes, ENROLMENT).await?;
    let heard = calling.await?;
    let mut differences = verdict::differences(&fleet, &board, &heard);

    heading("What Kubernetes knows");
    shell.run(&format!("kubectl -n {NAMESPACE} get capf,ph"))?;
    shell.run(&format!("kubectl -n {NAMESPACE} get certop"))?;
    shell.run(&format!(
        "kubectl -n {NAMESPACE} get events --field-selector type=Warning -o custom-columns=\
         PHONE:.involvedObject.name,REASON:.reason,MESSAGE:.message"
    ))?;
    verdict::report(shell)?;

    heading("The certificates, examined by openssl");
    let issued = verdict::certificates(shell, &client, &heard).await?;
    differences.extend(issued.differences);
    verdict::show_one(shell, "SEP00A1B2C30001")?;
    println!("\n{}", style(board.summary(issued.verified, start.elapsed())).bold());
    Ok(differences)
}

/// Says how to go on by hand, and waits for Ctrl-C.
async fn stay(shell: &Shell, address: &str) -> Result<(), Trouble> {
    heading("All of it keeps running until Ctrl-C. In another terminal:");
    println!("{}\n\n{}", shell.exports(), install::by_hand(address));
    tokio::signal::ctrl_c().await?;
    println!();
    Ok(())
}
