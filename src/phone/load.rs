//! Many phones at once: how many enrolments a second a deployment bears, and how long each takes.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rustls::ClientConfig;
use secrecy::SecretString;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::domain::report::unguarded;
use crate::pki::KeyKind;
use crate::wire::DeviceName;

use super::args::{PhoneArgs, key_kind};
use super::key::PhoneKey;
use super::key_pool;
use super::outcome::EnrolOutcome;
use super::prompt;
use super::simulated::{Proof, ServerAddress, SimulatedPhone};
use super::state::StateDir;
pub use super::summary::Summary;

/// Most phones in one run: what twelve digits hold is more, what a machine holds is not.
const MAX_PHONES: u32 = 1_000_000;

/// The largest number twelve hexadecimal digits can say.
const MAX_NUMBER: u64 = 0xffff_ffff_ffff;

/// The options of a load run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Many phones")]
pub struct LoadArgs {
    /// Run so many phones, each with its own name and key, and print one summary: enrolments a second, session times, failures.
    /// Their keys are made before the clock starts. They prove themselves by the null string, or by --authentication-strings.
    /// Exits 1 if any did not finish its operation.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PHONES)),
        conflicts_with_all = ["authentication_string_file", "status"])]
    pub count: Option<u32>,

    /// Phones under way at one time.
    #[arg(long, value_name = "C", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "count")]
    pub concurrency: u32,

    /// What comes before the twelve hexadecimal digits of each name.
    #[arg(long, value_name = "PREFIX", default_value = "SEP", requires = "count")]
    pub device_name_prefix: String,

    /// The number of the first phone, in decimal; the next have the following ones.
    #[arg(long, value_name = "X", default_value = "1", requires = "count")]
    pub first_number: u64,

    /// Keep the keys in this file (PEM, one after another) and take them from there next time; what is missing is made.
    #[arg(long, value_name = "FILE", requires = "count")]
    pub key_pool: Option<PathBuf>,

    /// The kind of key to prepare; it must be what the server asks for.
    #[arg(long, value_name = "KIND", default_value = "RSA-2048", value_parser = key_kind, requires = "count")]
    pub key_kind: KeyKind,

    /// A CSV file of device name and authentication string, one phone a line. An apostrophe before either, by which
    /// `capf auth-strings --format csv` keeps a leading zero, is not part of it.
    #[arg(long, value_name = "FILE", requires = "count", conflicts_with = "null_string")]
    pub authentication_strings: Option<PathBuf>,

    /// Print the summary as one line of JSON, the last line, too.
    #[arg(long, requires = "count")]
    pub json: bool,
}

/// Why a load run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A name does not fit.
    #[error("name phone {number}: {source}; choose another prefix")]
    Name {
        /// Its number.
        number: u64,
        /// What is wrong.
        source: crate::wire::DeviceNameError,
    },
    /// The numbers run out of digits.
    #[error("number phones: twelve hexadecimal digits end at {MAX_NUMBER}; give a smaller --first-number")]
    Number,
    /// The file of strings.
    #[error("read {path}: {problem}")]
    Strings {
        /// Which.
        path: String,
        /// What is wrong, without what stands there.
        problem: String,
    },
    /// A phone that has no string.
    #[error("find authentication string: {path} has none for {device}")]
    NoString {
        /// Which file.
        path: String,
        /// Whose.
        device: DeviceName,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] key_pool::KeyPoolError),
    /// A phone's directory.
    #[error(transparent)]
    State(#[from] super::state::StateError),
    /// A phone's task broke.
    #[error("run phone: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Runs the phones that `args` describe.
///
/// # Errors
/// [`LoadError`] when it cannot begin.
pub async fn run(args: &PhoneArgs, server: &ServerAddress, tls: &Arc<ClientConfig>) -> Result<Summary, LoadError> {
    let names = names(&args.load)?;
    let mut proofs = proofs(&args.load, &names)?;
    let keys = prepare_keys(&args.load, names.len()).await?;
    let mut phones = Vec::with_capacity(names.len());
    for (name, key) in names.into_iter().zip(keys) {
        let directory = args.state.as_ref().map(|dir| dir.join(name.as_str()));
        let proof = proofs.remove(&name).unwrap_or(Proof::NullString);
        let phone = SimulatedPhone::new(server.clone(), name, Arc::clone(tls))
            .version(args.protocol_version)
            .proof(proof)
            .faults(args.fault.iter().copied())
            .retries(args.retries, args.retry_interval)
            .prepared_key(key);
        phones.push(match directory {
            Some(directory) => phone.state(StateDir::open(&directory)?)?,
            None => phone,
        });
    }
    let bar = bar(phones.len(), "phones");
    let start = Instant::now();
    let outcomes = enrol_all(phones, args.load.concurrency as usize, |_| bar.inc(1)).await?;
    bar.finish_and_clear();
    Ok(Summary::of(&outcomes, start.elapsed()))
}

/// Enrols phones, `concurrency` at a time; `done` hears of each.
///
/// # Errors
/// [`LoadError::Task`] when a phone's task broke.
pub async fn enrol_all(
    phones: Vec<SimulatedPhone>,
    concurrency: usize,
    mut done: impl FnMut(&EnrolOutcome),
) -> Result<Vec<EnrolOutcome>, LoadError> {
    let places = Arc::new(Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS)));
    let mut tasks = JoinSet::new();
    let mut outcomes = Vec::with_capacity(phones.len());
    for mut phone in phones {
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            // The semaphore is never closed, so there is always a place some day.
            let _place = places.acquire_owned().await;
            phone.enrol().await
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        let outcome = outcome?;
        done(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn names(args: &LoadArgs) -> Result<Vec<DeviceName>, LoadError> {
    let count = u64::from(args.count.unwrap_or(1));
    let last = args.first_number.checked_add(count - 1);
    let last = last.filter(|last| *last <= MAX_NUMBER);
    let numbers = args.first_number..=last.ok_or(LoadError::Number)?;
    let name = |number| {
        let text = format!("{}{number:012X}", args.device_name_prefix);
        DeviceName::parse(&text).map_err(|source| LoadError::Name { number, source })
    };
    numbers.map(name).collect()
}

/// The strings of the file, all of which must be there before the clock starts.
fn proofs(args: &LoadArgs, names: &[DeviceName]) -> Result<HashMap<DeviceName, Proof>, LoadError> {
    let Some(path) = &args.authentication_strings else {
        return Ok(HashMap::new());
    };
    let mut strings = read_strings(path)?;
    let proof = |name: &DeviceName| match strings.remove(name) {
        Some(digits) => Ok((name.clone(), Proof::AuthenticationString(digits))),
        None => Err(LoadError::NoString { path: path.display().to_string(), device: name.clone() }),
    };
    names.iter().map(proof).collect()
}

/// Device names and digits; a first line that names no device is taken for a heading.
fn read_strings(path: &Path) -> Result<HashMap<DeviceName, SecretString>, LoadError> {
    let broken = |problem: String| LoadError::Strings { path: path.display().to_string(), problem };
    let file = fs::File::open(path).map_err(|error| broken(error.to_string()))?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).flexible(true).from_reader(file);
    let mut strings = HashMap::new();
    for (index, record) in reader.records().enumerate() {
        let line = index + 1;
        // The library's own error may show the line, and the digits with it.
        let record = record.map_err(|_| broken(format!("line {line} is not CSV in UTF-8")))?;
        let (Some(device), Some(digits)) = (record.get(0), record.get(1)) else {
            return Err(broken(format!("line {line} has no two fields, device and digits")));
        };
        let (device, digits) = (unguarded(device), unguarded(digits));
        match (DeviceName::parse(device), prompt::parse(digits)) {
            (Ok(device), Ok(digits)) => {
                strings.insert(device, digits);
            }
            (_, Err(_)) if index == 0 && digits.chars().all(|c| c.is_alphabetic() || c == ' ') => {}
            (Err(error), _) => return Err(broken(format!("line {line}: {error}"))),
            (_, Err(error)) => return Err(broken(format!("line {line}: {error}"))),
        }
    }
    Ok(strings)
}

async fn prepare_keys(args: &LoadArgs, count: usize) -> Result<Vec<PhoneKey>, LoadError> {
    let bar = bar(count, "keys");
    let file = args.key_pool.as_deref();
    let keys = key_pool::prepare(file, args.key_kind, count, |made| {
        bar.set_position(made as u64);
    });
    let keys = keys.await?;
    bar.finish_and_clear();
    Ok(keys)
}

/// A bar on standard error; nothing where that is no terminal.
fn bar(length: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {per_sec}");
    let bar = ProgressBar::new(length as u64).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_with_or_without_a_heading_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("strings.csv");
        for text in ["device,digits\nsep000000000001, 4711\n", "SEP000000000001,4711\n"] {
            fs::write(&file, text).unwrap();
            let strings = read_strings(&file).unwrap();
            assert_eq!(strings.len(), 1);
            assert!(!format!("{strings:?}").contains("4711"));
        }
        for bad in
            ["SEP000000000001,98x76", "SEP000000000001", "x,987654", "SEP000000000001,123", "SEP000000000001,''4711"]
        {
            fs::write(&file, bad).unwrap();
            let error = read_strings(&file).unwrap_err().to_string();
            assert!(error.contains("line 1"), "{error}");
            assert!(!error.contains("98x76") && !error.contains("987654"), "{error}");
        }
    }

    #[test]
    fn strings_are_read_as_the_csv_sheet_marks_them() {
        use secrecy::ExposeSecret;

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("strings.csv");
        for digits in ["0123456789", "1234567890", "0000"] {
            let field = crate::domain::report::guarded(digits.to_owned());
            assert_eq!(field.starts_with('\''), digits.starts_with('0'), "{field}");
            for device in ["SEP000000000001", "'SEP000000000001"] {
                fs::write(&file, format!("{device},{field}\n")).unwrap();
                let strings = read_strings(&file).unwrap();
                let read = strings.get(&DeviceName::parse("SEP000000000001").unwrap());
                assert_eq!(read.map(ExposeSecret::expose_secret), Some(digits));
            }
        }
    }
}
