//! `capf phone --status`: the LSC setting under Settings > Model Information, and more than a phone shows.

use std::{error::Error, io::Write};

use crate::pki::CertificateFacts;

use super::state::{StateDir, StoredMode};

/// Prints what the phone has.
pub(super) fn print(state: &StateDir, output: &mut impl Write) -> Result<(), Box<dyn Error>> {
    match state.lsc()? {
        Some((der, _)) => {
            writeln!(output, "LSC: Installed")?;
            details(&der, output)?;
        }
        None => writeln!(output, "LSC: Not Installed")?,
    }
    match state.mic()? {
        Some(der) => {
            writeln!(output, "MIC: Installed")?;
            details(&der, output)?;
        }
        None => writeln!(output, "MIC: Not Installed")?,
    }
    match state.ctl()? {
        Some(der) => {
            writeln!(output, "CTL: Installed")?;
            details(&der, output)?;
        }
        None => writeln!(output, "CTL: Not Installed")?,
    }
    if let Some(mode) = state.flash()? {
        let mode = match mode {
            StoredMode::AuthenticationString => "By Authentication String",
            StoredMode::NullString => "By Null String",
            StoredMode::ExistingCertificate => "By Existing Certificate",
        };
        writeln!(output, "An operation is not complete: {mode}")?;
    }
    Ok(())
}

fn details(der: &[u8], output: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let facts = CertificateFacts::from_der(der)?;
    let kind = facts.key_kind.map_or_else(|| "unknown".to_owned(), |kind| kind.to_string());
    for (label, value) in [
        ("Subject", &facts.subject),
        ("Issuer", &facts.issuer),
        ("Serial", &facts.serial),
        ("Valid from", &facts.not_before.to_string()),
        ("Valid to", &facts.not_after.to_string()),
        ("Key", &kind),
        ("SHA-256", &facts.sha256),
    ] {
        writeln!(output, "  {label:<11}{value}")?;
    }
    Ok(())
}
