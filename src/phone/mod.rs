//! The simulated phone behind `capf phone`: a peer to test against, a smoke test, and a load generator.
//!
//! It does what the source says of phones: makes its key itself, shows Pending and then success or failure, tries three more
//! times in 30-second intervals after a communication failure, remembers in "flash" how it proves itself until the operation
//! is complete, and goes by its CTL when it decides whom to talk to. It is not a model of any one device: no real phone was seen.
//!
//! From code: [`SimulatedPhone`] with a [`tls_config`] shared between phones, [`SimulatedPhone::attempt`] for one session and
//! [`SimulatedPhone::enrol`] for one with retries, [`load::enrol_all`] for many.

pub mod args;
mod connect;
mod driver;
mod events;
pub mod existing;
pub mod fault;
pub mod key;
pub mod key_pool;
pub mod load;
mod outcome;
pub mod prompt;
mod simulated;
pub mod state;
mod status;
mod summary;
mod tls;
mod words;

use std::{
    fs,
    io::{self, BufRead, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use rustls::ClientConfig;
use secrecy::{SecretString, zeroize::Zeroizing};
use tokio_util::sync::CancellationToken;

pub use args::PhoneArgs;
pub use fault::{Fault, FaultKind, Step};
pub use key::PhoneKey;
pub use outcome::{AttemptOutcome, CommunicationFailure, EnrolOutcome, PhoneTrouble, Retry};
pub use simulated::{Patience, Proof, Prover, RETRIES, RETRY_INTERVAL, ServerAddress, SimulatedPhone};
pub use state::{StateDir, StoredMode};
pub use tls::{NotInCtl, TlsError, read_ctl, tls_config};

/// How `capf phone` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneExit {
    /// Done, or nothing was to be done. 0.
    Fine,
    /// The server or the phone said no. 1.
    Refused,
    /// Wrong usage. 2, as clap has it.
    Usage,
    /// No complete session after all retries. 3.
    NoCommunication,
}

impl From<PhoneExit> for ExitCode {
    fn from(exit: PhoneExit) -> Self {
        Self::from(match exit {
            PhoneExit::Fine => 0,
            PhoneExit::Refused => 1,
            PhoneExit::Usage => 2,
            PhoneExit::NoCommunication => 3,
        })
    }
}

/// What went wrong before anything was sent.
type Trouble = Box<dyn std::error::Error>;

/// Runs `capf phone`. Ctrl-C while the LSC is pending is the Stop key: ABORT_REQ goes out if there is a session.
pub async fn run(args: PhoneArgs) -> ExitCode {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout());
    run_with(&args, &mut input, &mut output).await.into()
}

/// The same with another terminal: the string is read from `input`, what the phone shows goes to `output`, usage errors to
/// standard error.
pub async fn run_with(args: &PhoneArgs, input: &mut impl BufRead, output: &mut impl Write) -> PhoneExit {
    match go(args, input, output).await {
        Ok(exit) => exit,
        Err(trouble) => {
            eprintln!("capf phone: {trouble}");
            PhoneExit::Usage
        }
    }
}

async fn go(args: &PhoneArgs, input: &mut impl BufRead, output: &mut impl Write) -> Result<PhoneExit, Trouble> {
    let single = args.load.count.is_none();
    let state = match &args.state {
        Some(path) if single => Some(StateDir::open(path)?),
        _ => None,
    };
    if args.status {
        let state = state.ok_or("--status needs --state")?;
        status::print(&state, output)?;
        return Ok(PhoneExit::Fine);
    }
    let server = args.server.as_ref().ok_or("--server is missing")?;
    let tls = tls(args, state.as_ref())?;
    if !single {
        return load(args, server, &tls, output).await;
    }
    let name = args.device_name.clone().ok_or("--device-name is missing")?;
    let proof = proof(args, state.as_ref(), input, output)?;
    let mut phone = SimulatedPhone::new(server.clone(), name, tls)
        .version(args.protocol_version)
        .proof(proof)
        .faults(args.fault.iter().copied())
        .retries(args.retries, args.retry_interval);
    if let Some(path) = &args.key {
        phone = phone.prepared_key(PhoneKey::from_pem(&read_secret(path)?)?);
    }
    if let Some(state) = &state {
        phone = phone.state(state.clone())?;
    }
    let stop = CancellationToken::new();
    phone = phone.stop(stop.clone());
    let stopping = tokio::spawn(async move {
        // Without signals there is no Stop key, and Ctrl-C ends the program as ever.
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    let ended = enrol(&mut phone, output).await?;
    stopping.abort();
    if let (Ok(_), Some(state)) = (&ended, &state) {
        // "After the certificate operation completes, the system clears the value in flash."
        state.clear_flash()?;
    }
    let exit = match &ended {
        Ok(outcome) if outcome.is_fine() => PhoneExit::Fine,
        Ok(_) => PhoneExit::Refused,
        Err(CommunicationFailure::Stopped) => PhoneExit::Refused,
        Err(_) => PhoneExit::NoCommunication,
    };
    match ended {
        Ok(outcome) => writeln!(output, "LSC: {}", words::shown(&outcome, args.protocol_version))?,
        Err(failure) => writeln!(output, "LSC: Failure: {failure}")?,
    }
    Ok(exit)
}

async fn enrol(
    phone: &mut SimulatedPhone,
    output: &mut impl Write,
) -> io::Result<Result<AttemptOutcome, CommunicationFailure>> {
    writeln!(output, "LSC: Pending")?;
    output.flush()?;
    let tell = |retry: Retry<'_>| {
        let Retry { failure, number, of, after } = retry;
        let after = after.as_secs_f64();
        // What cannot be shown must not stop the phone.
        let _ = writeln!(output, "LSC: Pending: {failure}; retry {number} of {of} in {after} s");
        let _ = output.flush();
    };
    Ok(phone.enrol_telling(tell).await.last)
}

async fn load(
    args: &PhoneArgs,
    server: &ServerAddress,
    tls: &Arc<ClientConfig>,
    output: &mut impl Write,
) -> Result<PhoneExit, Trouble> {
    let summary = load::run(args, server, tls).await?;
    summary.print(output)?;
    if args.load.json {
        writeln!(output, "{}", serde_json::to_string(&summary)?)?;
    }
    Ok(match summary.failed {
        0 => PhoneExit::Fine,
        _ => PhoneExit::Refused,
    })
}

/// The certificate given now, which the phone keeps, or the one it kept.
fn tls(args: &PhoneArgs, state: Option<&StateDir>) -> Result<Arc<ClientConfig>, Trouble> {
    let given = match &args.ctl {
        Some(path) => {
            let content = fs::read(path);
            let content = content.map_err(|error| format!("read {}: {error}", path.display()))?;
            Some(read_ctl(&content)?)
        }
        None => None,
    };
    let der = match (given, state) {
        (Some(der), Some(state)) => {
            state.keep_ctl(&der)?;
            der
        }
        (Some(der), None) => der,
        (None, Some(state)) => state.ctl()?.ok_or("this phone has no CTL yet; give CAPF.cer with --ctl")?,
        (None, None) => return Err("give the server's certificate, CAPF.cer, with --ctl".into()),
    };
    Ok(tls_config(&der)?)
}

/// As the command line says; else as flash says; else as its user types.
fn proof(
    args: &PhoneArgs,
    state: Option<&StateDir>,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<Proof, Trouble> {
    let stored = match state {
        Some(state) => state.flash()?,
        None => None,
    };
    let proof = match (&args.authentication_string_file, args.null_string, stored) {
        (Some(path), _, _) => {
            use secrecy::ExposeSecret as _;
            let content = read_secret(path)?;
            Proof::AuthenticationString(prompt::parse(content.expose_secret())?)
        }
        _ if args.certificate => Proof::ExistingCertificate,
        (None, true, _) | (None, false, Some(StoredMode::NullString)) => Proof::NullString,
        (None, false, Some(StoredMode::ExistingCertificate)) => Proof::ExistingCertificate,
        (None, false, _) => Proof::AuthenticationString(prompt::ask(input, output)?),
    };
    if let Some(state) = state {
        state.keep_flash(match &proof {
            Proof::AuthenticationString(_) => StoredMode::AuthenticationString,
            Proof::ExistingCertificate => StoredMode::ExistingCertificate,
            Proof::NullString | Proof::Made(_) => StoredMode::NullString,
        })?;
    }
    Ok(proof)
}

fn read_secret(path: &Path) -> Result<SecretString, Trouble> {
    match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => Ok(SecretString::from(text.as_str())),
        Err(error) => Err(format!("read {}: {error}", path.display()).into()),
    }
}
