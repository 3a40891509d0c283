//! Which of two versions is the older one. A signature says whose a plugin is, and not when it was made: a registry, or somebody on
//! the way to it, may answer with one that was signed long ago.

use semver::Version;

/// Whether one comes before the other. Of versions that are no semantic ones nobody knows.
pub(crate) fn is_older(version: &str, than: &str) -> bool {
    parsed(version).zip(parsed(than)).is_some_and(|(version, than)| version.cmp_precedence(&than).is_lt())
}

/// Whether a tag says this version, as far as a tag can: none has a `+`.
pub(crate) fn is_tag_of(tag: &str, version: &str) -> bool {
    let plain = |text: &str| text.strip_prefix('v').unwrap_or(text).replace('+', "-");
    plain(tag) == plain(version)
}

fn parsed(version: &str) -> Option<Version> {
    Version::parse(version.strip_prefix('v').unwrap_or(version)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_where_they_have_an_order() {
        for (version, than) in [("1.9.0", "1.10.0"), ("1.4.0-rc.1", "1.4.0"), ("v1.3.9", "1.4.0")] {
            assert!(is_older(version, than) && !is_older(than, version), "{version} {than}");
        }
        for (version, other) in [("1.4.0", "v1.4.0"), ("1.4.0+a", "1.4.0+b"), ("2", "10"), ("latest", "1.0.0")] {
            assert!(!is_older(version, other) && !is_older(other, version), "{version} {other}");
        }
        assert!(is_tag_of("v1.4.0", "1.4.0") && is_tag_of("1.4.0-a", "1.4.0+a") && !is_tag_of("1.4", "1.4.0"));
    }
}
