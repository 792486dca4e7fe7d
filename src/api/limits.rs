//! Bounds on what callers may cost, as far as operators set them: the fields below `spec.limits` of a proxy.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Bounds on what callers may cost. The table in ARCHITECTURE.md lists them with those that are fixed.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::fields::absent_not_null)]
pub struct EndpointLimits {
    /// Connections open at once at one endpoint; further ones are closed unanswered.
    #[serde(default = "connections")]
    #[schemars(range(min = 16, max = 60_000))]
    pub connections: u32,
    /// Seconds within which the TLS handshake must be done.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 10))]
    pub handshake_seconds: u16,
    /// Seconds within which the phone must answer, key generation excepted.
    #[serde(default = "thirty")]
    #[schemars(range(min = 5, max = 120))]
    pub answer_seconds: u16,
    /// Wrong authentication strings that one controller replica checks and writes down a second, all phones together. Beyond
    /// it, strings from source blocks (IPv4 /24, IPv6 /56) that have failed are answered without a check.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 100))]
    pub wrong_strings_per_second: u16,
    /// The same, an hour: what a slow attack from many places may cost.
    #[serde(default = "thousand")]
    #[schemars(range(min = 10, max = 100_000))]
    pub wrong_strings_per_hour: u32,
    /// Wrong authentication strings from one source block after which it is penalised: what comes from it is answered
    /// without a check, and costs the phone it names no try. Raise it where all phones come from one address.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 10_000))]
    pub wrong_strings_per_block: u16,
    /// Seconds of a block's first penalty; each further one is twice as long, up to an hour.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 3600))]
    pub block_penalty_seconds: u16,
}

fn connections() -> u32 {
    12_000
}

fn thousand() -> u32 {
    1_000
}

fn sixty() -> u16 {
    60
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            connections: connections(),
            handshake_seconds: five(),
            answer_seconds: thirty(),
            wrong_strings_per_second: ten(),
            wrong_strings_per_hour: thousand(),
            wrong_strings_per_block: ten(),
            block_penalty_seconds: sixty(),
        }
    }
}

pub(super) fn five() -> u16 {
    5
}
pub(super) fn ten() -> u16 {
    10
}
pub(super) fn thirty() -> u16 {
    30
}
