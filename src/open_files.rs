//! Open files: each connection is one. Raises this process's limit as far as the system lets it, and tells where that is too few.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files beside those of the connections that a limit counts: connections to controllers or to the API server, the
/// listening socket, the log, files being read, and what the runtime has for itself.
pub const BESIDE_CONNECTIONS: u64 = 256;

/// Raises the soft limit (RLIMIT_NOFILE) to the hard one, which takes no right. The soft one is often 1024: by it programs that
/// still use `select` are kept from numbers it cannot hold, and nothing here does.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised to {:?}", limit.maximum);
    }
}

/// Writes a line when this process may not open as many files as these `connections` need; `setting` is what counts them.
pub fn warn_if_few(setting: &str, connections: usize) {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    if let Some(fit) = too_few(limit, connections) {
        tracing::warn!(
            limit,
            connections,
            "the limit of open files (RLIMIT_NOFILE) does not allow {setting}: about {fit} fit, further ones wait or fail; \
             raise the hard limit (ulimit -Hn, LimitNOFILE=), or lower the connections where they are a setting"
        );
    }
}

/// How many connections fit below a limit of open files, if fewer than wanted.
fn too_few(limit: u64, connections: usize) -> Option<u64> {
    let fit = limit.saturating_sub(BESIDE_CONNECTIONS);
    (u64::try_from(connections).unwrap_or(u64::MAX) > fit).then_some(fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_beside_the_connections_are_counted_too() {
        assert_eq!(too_few(1024, 12_000), Some(1024 - BESIDE_CONNECTIONS));
        assert_eq!(too_few(12_000 + BESIDE_CONNECTIONS, 12_000), None);
        assert_eq!(too_few(12_000, 12_000), Some(12_000 - BESIDE_CONNECTIONS));
        assert_eq!(too_few(10, 1), Some(0));
    }
}
