//! Which program this is: the version of the crate, and the commit it was built from where the build says so.

use std::sync::LazyLock;

/// The version, such as `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, with `-dirty` behind it if files differed from it: what `CAPF_REVISION` was when this was compiled, which
/// `image/build` sets. `None` of a build that has not been told, such as one by `cargo build`.
pub const REVISION: Option<&str> = option_env!("CAPF_REVISION");

/// What `capf --version` says: the version, and the revision in brackets where it is known.
#[must_use]
pub fn version() -> &'static str {
    static SAID: LazyLock<String> = LazyLock::new(|| said(REVISION));
    &SAID
}

fn said(revision: Option<&str>) -> String {
    revision.map_or_else(|| VERSION.to_owned(), |revision| format!("{VERSION} ({revision})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_said_where_it_is_known() {
        assert_eq!(said(None), VERSION);
        assert_eq!(said(Some("0123abc-dirty")), format!("{VERSION} (0123abc-dirty)"));
    }
}
