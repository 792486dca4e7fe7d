//! Criteria of the source's Find/List boxes, as arguments: shared by the commands that list phones.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::report::Query;
use crate::api::{AuthenticationMode, LscState, Reason};
use crate::domain::report::{Criteria, DeviceNamePattern, OperationStatus};

/// Which phones. Criteria are combined: a phone must meet all of them, of a list any member.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct CriteriaArgs {
    /// Status of the newest operation; several with commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',', ignore_case = true, value_parser = one_of(OPERATION_STATUS))]
    operation_status: Vec<OperationStatus>,
    /// Why the newest operation failed; several with commas
    #[arg(long, value_name = "REASON", value_delimiter = ',', ignore_case = true, value_parser = one_of(reasons()))]
    reason: Vec<Reason>,
    /// Authentication mode; several with commas
    #[arg(long, value_name = "MODE", value_delimiter = ',', ignore_case = true, value_parser = one_of(MODES))]
    authentication_mode: Vec<AuthenticationMode>,
    /// Whether the phone holds a locally significant certificate; several with commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',', ignore_case = true, value_parser = one_of(LSC_STATUS))]
    lsc_status: Vec<LscState>,
    /// Device name with wildcards, in any case: SEP* begins with, *0A1B* contains, *CC ends with; ? is one character
    #[arg(long, value_name = "PATTERN", value_parser = |p: &str| Ok::<_, std::convert::Infallible>(DeviceNamePattern::new(p)))]
    device_name: Option<DeviceNamePattern>,
    /// LSCs that end before this date (2027-01-31, midnight UTC) or time (RFC 3339), or have ended
    #[arg(long, value_name = "DATE", value_parser = date_or_time)]
    expires_before: Option<Timestamp>,
    /// LSCs that end within so many days from now, or have ended
    #[arg(long, value_name = "DAYS")]
    expires_within_days: Option<u32>,
    /// Phones of one CertificateAuthorityProxy
    #[arg(long, value_name = "NAME")]
    proxy: Option<String>,
    /// Phones with these labels (a label selector)
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
}

impl CriteriaArgs {
    /// What is asked for, without strings.
    #[must_use]
    pub fn query(&self) -> Query {
        let criteria = Criteria {
            operation_status: self.operation_status.clone(),
            reason: self.reason.clone(),
            authentication_mode: self.authentication_mode.clone(),
            lsc: self.lsc_status.clone(),
            device_name: self.device_name.clone(),
            expires_before: self.expires_before,
            expires_within_days: self.expires_within_days,
            proxy: self.proxy.clone(),
        };
        Query { criteria, labels: self.selector.clone(), ..Query::default() }
    }
}

const OPERATION_STATUS: [(&str, OperationStatus); 4] = [
    ("pending", OperationStatus::Pending),
    ("successful", OperationStatus::Successful),
    ("failed", OperationStatus::Failed),
    ("none", OperationStatus::None),
];

const MODES: [(&str, AuthenticationMode); 4] = [
    ("ByAuthenticationString", AuthenticationMode::ByAuthenticationString),
    ("ByNullString", AuthenticationMode::ByNullString),
    ("ByExistingCertificatePrecedenceToLSC", AuthenticationMode::ByExistingCertificatePrecedenceToLSC),
    ("ByExistingCertificatePrecedenceToMIC", AuthenticationMode::ByExistingCertificatePrecedenceToMIC),
];

const LSC_STATUS: [(&str, LscState); 3] =
    [("Installed", LscState::Installed), ("NotInstalled", LscState::NotInstalled), ("Unknown", LscState::Unknown)];

fn reasons() -> Vec<(&'static str, Reason)> {
    Reason::ALL.iter().map(|reason| (reason.as_str(), *reason)).collect()
}

/// Parses one of the given names, in any case, into its value. The names are those of manifests and of status, so
/// that what is read there can be typed here.
fn one_of<T, I>(values: I) -> impl TypedValueParser<Value = T>
where
    T: Clone + Send + Sync + 'static,
    I: IntoIterator<Item = (&'static str, T)>,
{
    let values: Vec<_> = values.into_iter().collect();
    let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
    PossibleValuesParser::new(names).try_map(move |given| {
        let found = values.iter().find(|(name, _)| name.eq_ignore_ascii_case(&given));
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("{given} is not one of the possible values"))
    })
}

fn date_or_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let date: Date = text
        .parse()
        .map_err(|_| "write a date like 2027-01-31 (midnight UTC) or a time like 2027-01-31T18:00:00Z".to_owned())?;
    date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()).map_err(|error| error.to_string())
}
