//! Whether it all is as it should be: the report, the certificates under openssl, the endings.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use capf::api::{CertificateOperation, LscState, Phase};
use capf::pki::CertificateFacts;
use console::style;
use kube::{Api, Client};

use crate::Trouble;
use crate::calls::Heard;
use crate::fleet::{Ending, Fleet, NAMESPACE, Story};
use crate::screen::Board;
use crate::shell::{Shell, say};

/// What was found out about the certificates.
pub struct Issued {
    /// How many openssl has found good.
    pub verified: usize,
    /// What is not as it should be.
    pub differences: Vec<String>,
}

/// Looks for openssl before anything is begun.
pub fn require_openssl() -> Result<(), Trouble> {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => Ok(()),
        _ => Err("cannot run openssl, which the demo examines the certificates with: install the package openssl \
                  (`apt-get install openssl`, `dnf install openssl`)"
            .into()),
    }
}

/// Saves and shows the report.
pub fn report(shell: &Shell) -> Result<(), Trouble> {
    let folder = report_folder()?;
    fs::create_dir_all(&folder)?;
    let file = folder.join("capf-report.csv");
    let shown = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&file).display();
    shell.run(&format!("capf report -n {NAMESPACE} --format csv --output '{shown}'"))?;
    print!("{}", fs::read_to_string(&file)?);
    say(&format!("saved as {shown}"));
    Ok(())
}

/// `demo` in the folder that cargo builds into: target/debug/examples/demo is this program.
fn report_folder() -> Result<PathBuf, Trouble> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).ok_or("this program lies in no target folder")?;
    Ok(target.join("demo"))
}

/// Lets openssl verify every certificate that was issued, delivered in vain or not, against the published issuer's;
/// and compares those that phones have with those that the cluster knows.
pub async fn certificates(shell: &Shell, client: &Client, heard: &[Heard]) -> Result<Issued, Trouble> {
    let folder = shell.folder().join("lsc");
    fs::create_dir_all(&folder)?;
    shell.run(&format!(
        "kubectl -n {NAMESPACE} get configmap main-certificates -o jsonpath='{{.data.issuer\\.pem}}' > \"$DEMO/issuer.pem\""
    ))?;
    let mut differences = Vec::new();
    let mut files = 0;
    let stored: BTreeMap<String, &[Vec<u8>]> =
        heard.iter().map(|heard| (heard.device.to_lowercase(), &heard.stored[..])).collect();
    let operations: Api<CertificateOperation> = Api::namespaced(client.clone(), NAMESPACE);
    for operation in operations.list(&Default::default()).await? {
        let Some(certificate) = operation.status_or_default().certificate else { continue };
        let name = &operation.spec.phone_ref.name;
        fs::write(folder.join(format!("{}.pem", name.to_uppercase())), &certificate.pem)?;
        files += 1;
        let Some((last, earlier)) = stored.get(name).and_then(|stored| stored.split_last()) else { continue };
        if CertificateFacts::from_der(last)?.sha256 != certificate.summary.sha256_fingerprint {
            differences.push(format!("{name} has another certificate than its operation"));
        }
        let superseded = operation.status_or_default().superseded_serial_numbers;
        for (number, der) in earlier.iter().enumerate() {
            let serial = CertificateFacts::from_der(der)?.serial;
            if !superseded.contains(&serial) {
                differences.push(format!("{name} had {serial}, which its operation does not list as superseded"));
            }
            let pem = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der);
            let pem = pem.map_err(|error| error.to_string())?;
            fs::write(folder.join(format!("{}-superseded-{number}.pem", name.to_uppercase())), pem)?;
            files += 1;
            say(&format!("{name} lost its line: certificate {serial} is superseded, the next one alone is live"));
        }
    }
    let verify = "openssl verify -x509_strict -CAfile \"$DEMO/issuer.pem\" \"$DEMO\"/lsc/*.pem";
    let verified = match shell.run_quietly(verify) {
        Ok(printed) => printed.lines().filter(|line| line.ends_with(": OK")).count(),
        Err(trouble) => {
            differences.push(trouble.to_string());
            0
        }
    };
    say(&format!("{verified} of {files} certificates: OK"));
    if verified != files {
        differences.push(format!("openssl has verified {verified} certificates of {files}"));
    }
    Ok(Issued { verified, differences })
}

/// Shows what openssl reads in one of them.
pub fn show_one(shell: &Shell, device: &str) -> Result<(), Trouble> {
    shell.run(&format!("openssl x509 -in \"$DEMO/lsc/{device}.pem\" -noout -text -certopt no_pubkey,no_sigdump"))?;
    Ok(())
}

/// What ended otherwise than it should.
pub fn differences(fleet: &Fleet, board: &Board, heard: &[Heard]) -> Vec<String> {
    let mut differences = Vec::new();
    if fleet.members.len() != board.0.len() {
        differences.push(format!("{} phones are there instead of {}", board.0.len(), fleet.members.len()));
    }
    for member in &fleet.members {
        let Some(seen) = board.0.get(&member.name()) else {
            differences.push(format!("{} is not there", member.device));
            continue;
        };
        let (phase, reason, status, lsc) = match member.ending() {
            Ending::Successful => (Some(Phase::Successful), None, "Install/Upgrade successful", LscState::Installed),
            Ending::Failed(why) => (Some(Phase::Failed), Some(why), "Install/Upgrade failed", LscState::Unknown),
            Ending::NothingPending => (None, None, "No Pending Operation", LscState::Unknown),
        };
        if (seen.phase, seen.reason, &seen.status[..], seen.lsc) != (phase, reason, status, lsc) {
            differences.push(format!("{} should show {status} {reason:?} and shows {seen:?}", member.device));
        }
        let by_now = matches!(member.story, Story::HasCalled | Story::NothingWanted);
        if !seen.was_pending && !by_now {
            differences.push(format!("{} was never seen Pending", member.device));
        }
        let wanted: &[&str] = match member.story {
            Story::NullDropping => &["fault", "installed"],
            Story::WrongThrice => &["refused"; 3],
            Story::NothingWanted => &["nothing-scheduled"],
            Story::NeverCalls | Story::HasCalled => continue,
            Story::Null | Story::Given(_) | Story::Generated => &["installed"],
        };
        let Some(heard) = heard.iter().find(|heard| heard.device == member.device) else {
            differences.push(format!("{} never came to call", member.device));
            continue;
        };
        if heard.ends != wanted {
            let trouble = heard.trouble.as_deref().unwrap_or_default();
            differences.push(format!("{} should hear {wanted:?} and heard {:?} {trouble}", member.device, heard.ends));
        }
    }
    if differences.is_empty() {
        say(&style("every phone that was to call was seen Pending, and every phone ended as it should")
            .green()
            .to_string());
    }
    differences
}
