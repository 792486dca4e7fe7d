//! The command line of `capf endpoint`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::EndpointOptions;
use crate::telemetry::server::HttpArgs;

/// Serves phones: terminates TLS on the CAPF port, speaks the protocol, and asks the controllers what to do.
#[derive(Clone, Debug, clap::Args)]
pub struct EndpointArgs {
    /// Folder with the endpoint's bundle: tls.crt, tls.key, client.crt, client.key, ca.crt and endpoint.json. Read again when it
    /// changes.
    #[arg(long, value_name = "DIR")]
    pub bundle: PathBuf,

    /// Address and port for phones, instead of all IPv6 and IPv4 addresses and the phone port of the bundle.
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,

    /// Port for phones on all IPv6 and IPv4 addresses, whatever the bundle says: where something else maps the phone port to it,
    /// as a Service does for a pod.
    #[arg(long, value_name = "PORT", conflicts_with = "listen", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// Seconds that open sessions have to finish after a request to stop. The default lets a phone use its 30 minutes for a key,
    /// and one more for the rest.
    #[arg(long, value_name = "SECONDS", default_value_t = 1860)]
    pub drain_seconds: u32,

    /// Probes and metrics.
    #[command(flatten)]
    pub http: HttpArgs,
}

impl From<EndpointArgs> for EndpointOptions {
    fn from(args: EndpointArgs) -> Self {
        let drain = Duration::from_secs(args.drain_seconds.into());
        Self { bundle: args.bundle, listen: args.listen, port: args.port, drain, http: args.http }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: EndpointArgs,
    }

    #[test]
    fn the_bundle_is_all_that_must_be_said() {
        let line = Line::try_parse_from(["capf", "--bundle", "/bundle"]).unwrap();
        let options = EndpointOptions::from(line.args);
        assert_eq!(options.drain, Duration::from_secs(31 * 60));
        assert_eq!(options.listen, None);
        assert!(Line::try_parse_from(["capf"]).is_err());
    }

    #[test]
    fn a_listening_address_has_a_port() {
        let listen = |text| Line::try_parse_from(["capf", "--bundle", "b", "--listen", text]).is_ok();
        assert!(listen("[::1]:3804") && listen("127.0.0.1:3804"));
        assert!(!listen("127.0.0.1"));
    }

    #[test]
    fn a_port_is_for_all_addresses_and_goes_with_no_other_address() {
        let parse = |more: &[&str]| Line::try_parse_from([&["capf", "--bundle", "b"], more].concat());
        assert_eq!(parse(&["--port", "3804"]).unwrap().args.port, Some(3804));
        assert!(parse(&["--port", "3804", "--listen", "[::1]:3804"]).is_err());
        assert!(parse(&["--port", "0"]).is_err());
    }
}
