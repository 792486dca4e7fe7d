//! `capf crds`: the CRDs, for `kubectl apply -f -` or as files.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::file::{NewFile, PUBLIC};
use crate::crds;

/// Arguments of `capf crds`.
#[derive(clap::Args, Clone, Debug)]
pub struct CrdsArgs {
    /// Folder for one file a CRD; when absent all are printed
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// The CRDs could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing {place}: {source}")]
pub struct CrdsError {
    place: String,
    source: io::Error,
}

/// Prints the CRDs or writes their files.
///
/// # Errors
/// When they cannot be written.
pub fn run(args: &CrdsArgs) -> Result<(), CrdsError> {
    match &args.output {
        None => super::quiet_pipe(print())
            .map_err(|source| CrdsError { place: "the CRDs to standard output".into(), source }),
        Some(folder) => files(folder),
    }
}

fn print() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for crd in crds::all() {
        writeln!(out, "---\n{}", crds::yaml(&crd).trim_end())?;
    }
    out.flush()
}

fn files(folder: &Path) -> Result<(), CrdsError> {
    let failed = |path: &Path| {
        let place = path.display().to_string();
        move |source| CrdsError { place, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    for crd in crds::all() {
        let path = folder.join(crds::file_name(&crd));
        let mut file = NewFile::create(&path, PUBLIC).map_err(failed(&path))?;
        writeln!(file, "{}", crds::yaml(&crd).trim_end()).map_err(failed(&path))?;
        file.finish().map_err(failed(&path))?;
    }
    Ok(())
}
