//! The command line of `capf phone`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgGroup, Args};

use crate::pki::KeyKind;
use crate::wire::{DeviceName, Version};

use super::fault::Fault;
use super::load::LoadArgs;
use super::simulated::{RETRIES, ServerAddress};

/// The port CAPF listens on.
pub const DEFAULT_PORT: u16 = 3804;

/// A simulated phone: updates its LSC as a phone does when its user presses Update, and shows what a phone shows.
/// Ctrl-C is the Stop key.
///
/// Exit codes: 0 done, or nothing was to be done (the text says which); 1 the server or the phone said no; 2 wrong usage;
/// 3 no complete session after all retries.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("proof").args(["authentication_string_file", "null_string", "certificate"]))]
pub struct PhoneArgs {
    /// The CAPF server; the port is 3804 where none is given.
    #[arg(long, value_name = "HOST[:PORT]", required_unless_present = "status")]
    pub server: Option<ServerAddress>,

    /// The phone's name: SEP and the twelve hexadecimal digits of its MAC address, or another device name.
    #[arg(long, value_name = "NAME", required_unless_present_any = ["status", "count"], conflicts_with = "count")]
    pub device_name: Option<DeviceName>,

    /// Directory for what the phone keeps: lsc.pem (the LSC and its private key), mic.pem if you put one there (with its private
    /// key, if it shall prove something), the CTL, the
    /// authentication mode of an operation that is not complete, and events.log. Without it nothing outlives the program.
    /// With --count, one directory a phone below it.
    #[arg(long, value_name = "DIR", required_if_eq("status", "true"))]
    pub state: Option<PathBuf>,

    /// The server's certificate: CAPF.cer, or the .0 file. The server must present exactly this one. Needed the first time; a
    /// phone with --state remembers it.
    #[arg(long, value_name = "FILE")]
    pub ctl: Option<PathBuf>,

    /// Read the authentication string (4 to 10 digits) from this file instead of asking for it. There is no option that takes
    /// the digits themselves: every user of the machine could read them in the list of processes.
    #[arg(long, value_name = "FILE")]
    pub authentication_string_file: Option<PathBuf>,

    /// Prove nothing, for operations By Null String.
    #[arg(long)]
    pub null_string: bool,

    /// Prove it by the certificates in --state, for operations By Existing Certificate: lsc.pem and mic.pem, each with its
    /// private key in the same file. What is not there is not offered.
    #[arg(long, requires = "state", conflicts_with = "count")]
    pub certificate: bool,

    /// The version the phone speaks. Version 2 is Jabber's: RSA keys only.
    #[arg(long, value_name = "2|3", default_value = "3", value_parser = version)]
    pub protocol_version: Version,

    /// Seconds between attempts after a communication failure; 30 is what phones do.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub retry_interval: Duration,

    /// Attempts after the first one fails for lack of communication; 3 is what phones do. A refusal is never retried.
    #[arg(long, value_name = "N", default_value_t = RETRIES)]
    pub retries: u32,

    /// Show whether an LSC is installed, and its details, and exit.
    #[arg(long)]
    pub status: bool,

    /// Go wrong on purpose: KIND@STEP, or KIND@STEP:N for the first N attempts only. KIND: drop (close without a word), stall
    /// (say nothing more), fail (answer with a failure), abort (as when the user presses Stop). STEP: connected, auth,
    /// auth-sent, key, progress, key-made, key-sent, certificate (received, not answered), stored, answered, delete, deleted,
    /// delete-answered, fetch, fetch-answered. May be repeated.
    #[arg(long, value_name = "KIND@STEP[:N]")]
    pub fault: Vec<Fault>,

    /// Use this private key (PEM, PKCS#8) instead of making one.
    #[arg(long, value_name = "FILE", conflicts_with = "count")]
    pub key: Option<PathBuf>,

    /// Many phones at once.
    #[command(flatten)]
    pub load: LoadArgs,
}

impl FromStr for ServerAddress {
    type Err = String;

    /// `host`, `host:port`, `[v6]`, `[v6]:port`, or a bare v6 address.
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("write [address]:port")?)),
                None => return Err("the bracket is not closed".to_owned()),
            },
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port.map(str::parse) {
            None => DEFAULT_PORT,
            Some(Ok(port)) if port != 0 => port,
            Some(_) => return Err("the port is a number from 1 to 65535".to_owned()),
        };
        if host.is_empty() {
            return Err("write HOST or HOST:PORT".to_owned());
        }
        let host = host.to_owned();
        Ok(Self { host, port })
    }
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "2" => Ok(Version::TWO),
        "3" => Ok(Version::THREE),
        _ => Err("phones speak 2 or 3".to_owned()),
    }
}

/// Seconds, with a fraction if need be; at most a day.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give seconds, from 0 to 86400".to_owned()),
    }
}

/// A kind of key on the command line.
pub(super) fn key_kind(text: &str) -> Result<KeyKind, String> {
    text.parse::<KeyKind>().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser, Debug)]
    struct Command {
        #[command(flatten)]
        phone: PhoneArgs,
    }

    fn parse(arguments: &str) -> Result<PhoneArgs, String> {
        let arguments = std::iter::once("phone").chain(arguments.split_whitespace());
        let parsed = <Command as clap::Parser>::try_parse_from(arguments);
        parsed.map(|command| command.phone).map_err(|error| error.to_string())
    }

    #[test]
    fn the_port_is_3804_unless_said_otherwise() {
        let of = |text: &str| text.parse::<ServerAddress>().unwrap().to_string();
        assert_eq!(of("capf.example"), "capf.example:3804");
        assert_eq!(of("10.0.0.1:4000"), "10.0.0.1:4000");
        assert_eq!(of("[::1]:4000"), "[::1]:4000");
        assert_eq!(of("[::1]"), "[::1]:3804");
        assert_eq!(of("fe80::1"), "[fe80::1]:3804");
        for bad in ["", ":3804", "host:", "host:0", "host:99999", "[::1", "[::1]x"] {
            assert!(bad.parse::<ServerAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_phone_needs_a_name_and_a_server_and_retries_as_phones_do() {
        let args = parse("--server host --device-name sep001122334455").unwrap();
        assert_eq!(args.retries, 3);
        assert_eq!(args.retry_interval, Duration::from_secs(30));
        assert_eq!(args.device_name.unwrap().as_str(), "SEP001122334455");
        assert!(parse("--server host").is_err());
        assert!(parse("--device-name SEP001122334455").is_err());
        assert!(parse("--status").is_err());
        assert!(parse("--status --state dir").is_ok());
        assert!(parse("--server host --count 5").is_ok());
    }

    #[test]
    fn certificates_prove_something_only_where_they_are_kept() {
        let base = "--server host --device-name SEP001122334455 --certificate";
        assert!(parse(base).is_err());
        assert!(parse(&format!("{base} --state dir")).unwrap().certificate);
        assert!(parse(&format!("{base} --state dir --null-string")).is_err());
        assert!(parse("--server host --count 5 --state dir --certificate").is_err());
    }

    #[test]
    fn the_digits_cannot_be_given_on_the_command_line() {
        let base = "--server host --device-name SEP001122334455";
        assert!(parse(&format!("{base} --authentication-string 12345")).is_err());
        assert!(parse(&format!("{base} 12345")).is_err());
        assert!(parse(&format!("{base} --null-string --authentication-string-file f")).is_err());
    }
}
