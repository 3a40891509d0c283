//! `ghcr.io/acme/mask:1.4.0@sha256:…`: where a plugin is.

use std::fmt;
use std::str::FromStr;

use hub::Endpoint;

use crate::digest::Digest;
use crate::error::{RegistryError, shown};
use crate::limits::REFERENCE_BYTES_MAX;
use crate::version::{is_older, is_tag_of};

/// Where a plugin is, and perhaps which one exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry. https, unless it is this machine or `http://` was written.
    pub registry: Endpoint,
    /// Its host and port, as written, and the scheme where it is not the usual one.
    written: String,
    /// The path of the repository, such as `acme/mask`.
    pub repository: String,
    /// The tag, or none where a digest says it all.
    pub tag: Option<String>,
    /// The digest of the manifest that is meant, whatever the tag names.
    pub digest: Option<Digest>,
}

impl Reference {
    /// The same plugin by digest.
    #[must_use]
    pub fn pinned(&self, digest: &Digest) -> Self {
        Self { digest: Some(digest.clone()), ..self.clone() }
    }

    /// Whether it says that this version is meant: by a digest, whatever the version, or by a tag.
    #[must_use]
    pub fn names(&self, version: &str) -> bool {
        self.digest.is_some() || self.tag.as_ref().is_some_and(|tag| is_tag_of(tag, version))
    }

    /// Refuses a version that is older than the tag says. A digest says which bytes are meant, so with one any version is right.
    pub fn check_version(&self, version: &str, digest: &Digest) -> Result<(), RegistryError> {
        match &self.tag {
            Some(tag) if self.digest.is_none() && is_older(version, tag) => Err(RegistryError::Older {
                what: self.to_string(),
                version: shown(version),
                pinned: self.pinned(digest).to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// The registry and the repository: whose plugins these are, whatever their version.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}", self.written, self.repository)
    }
}

impl FromStr for Reference {
    type Err = RegistryError;

    fn from_str(given: &str) -> Result<Self, RegistryError> {
        let wrong = |why: String| RegistryError::Reference { given: shown(given), why };
        if given.len() > REFERENCE_BYTES_MAX {
            return Err(wrong(format!("it is longer than {REFERENCE_BYTES_MAX} bytes")));
        }
        let (scheme, rest) = match given.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some(_) => return Err(wrong("its scheme is neither https nor http".to_owned())),
            None => (None, given),
        };
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(wrong)?)),
            None => (rest, None),
        };
        let Some((host, path)) = rest.split_once('/') else {
            return Err(wrong("it names no registry and repository".to_owned()));
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        if !is_repository(repository) {
            return Err(wrong("a repository is lower-case letters, digits, `.`, `_`, `-` and `/`".to_owned()));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("a tag is up to 128 letters, digits, `.`, `_` and `-`".to_owned()));
        }
        if tag.is_none() && digest.is_none() {
            return Err(wrong("it names neither a tag nor a digest".to_owned()));
        }
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(wrong("what stands before the first `/` is no host".to_owned()));
        }
        let parsed = |scheme| Endpoint::parse(&format!("{scheme}://{host}"));
        let by_default = parsed("https").map_err(|_| wrong("its host is none".to_owned()))?;
        let usual = if by_default.is_loopback() { "http" } else { "https" };
        let registry = parsed(scheme.unwrap_or(usual))?;
        let written = match scheme {
            Some(scheme) if scheme != usual => format!("{scheme}://{host}"),
            _ => host.to_owned(),
        };
        Ok(Self { registry, written, repository: repository.to_owned(), tag, digest })
    }
}

/// As the distribution specification has it: components that begin and end with a letter or digit.
fn is_repository(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    path.split('/').all(|part| {
        part.bytes().all(|byte| is_plain(byte) || matches!(byte, b'.' | b'_' | b'-'))
            && part.bytes().next().is_some_and(is_plain)
            && part.bytes().last().is_some_and(is_plain)
            && !part.contains("..")
    })
}

/// Whether an artifact may have this version: as tags are, and `+` for what was built. It becomes a part of a file's name.
#[must_use]
pub fn is_version(version: &str) -> bool {
    !version.starts_with('_') && is_tag(&version.replace('+', "-")) && !version.starts_with('+')
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, digest, .. } = self;
        f.write_str(&self.place())?;
        tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, registry: &str, repository: &str, tag: Option<&str>) {
        let parsed: Reference = given.parse().expect("a reference");
        assert_eq!(
            (parsed.registry.to_string().as_str(), parsed.repository.as_str(), parsed.tag.as_deref()),
            (registry, repository, tag)
        );
    }

    #[test]
    fn a_reference_names_registry_repository_and_version() {
        let digest = Digest::of(b"x");
        check("ghcr.io/acme/mask:1.4.0", "https://ghcr.io", "acme/mask", Some("1.4.0"));
        check("127.0.0.1:5000/mask:v1", "http://127.0.0.1:5000", "mask", Some("v1"));
        check("localhost/a/b/c:x", "http://localhost", "a/b/c", Some("x"));
        check("http://registry.corp:8080/mask:1", "http://registry.corp:8080", "mask", Some("1"));
        check("https://127.0.0.1/mask:1", "https://127.0.0.1", "mask", Some("1"));
        check(&format!("ghcr.io/acme/mask@{digest}"), "https://ghcr.io", "acme/mask", None);
    }

    #[test]
    fn a_reference_is_shown_as_it_can_be_given_again() {
        let shown = |given: &str| given.parse::<Reference>().expect("a reference").to_string();
        for same in [
            format!("ghcr.io/acme/mask:1@{}", Digest::of(b"x")),
            "http://registry.corp:8080/mask:1".to_owned(),
            "https://127.0.0.1:5000/mask:1".to_owned(),
        ] {
            assert_eq!(shown(&same), same);
        }
        assert_eq!(shown("https://ghcr.io/mask:1"), "ghcr.io/mask:1");
        assert_eq!(shown("http://127.0.0.1:5000/mask:1"), "127.0.0.1:5000/mask:1");
    }

    #[test]
    fn a_tag_is_not_answered_with_an_older_version() {
        let digest = Digest::of(b"x");
        let check = |tag: &str, version: &str, names: bool, is_taken: bool| {
            let reference: Reference = format!("ghcr.io/acme/mask:{tag}").parse().expect("a reference");
            assert_eq!(reference.names(version), names, "{tag} {version}");
            let checked = reference.check_version(version, &digest);
            assert_eq!(checked.is_ok(), is_taken, "{tag} {version}");
            let said = checked.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(is_taken || said.contains(&reference.pinned(&digest).to_string()), "{said}");
            let pinned = reference.pinned(&digest);
            assert!(pinned.names(version) && pinned.check_version(version, &digest).is_ok());
        };
        check("1.4.0", "1.4.0", true, true);
        check("v1.4.0", "1.4.0", true, true);
        check("1.4.1", "1.3.9", false, false);
        check("1.4.0-rc.1", "1.4.0", false, true);
        check("latest", "1.3.9", false, true);
        check("1", "0.9.0", false, true);
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_reference() {
        for wrong in [
            "mask",
            "ghcr.io/mask",
            "ghcr.io/../mask:1",
            "ghcr.io/a//b:1",
            "ghcr.io/a/.:1",
            "ghcr.io/Mask:1",
            "ghcr.io/mask:",
            "ghcr.io/mask:1/../../x",
            "ghcr.io/mask:1?x",
            "ghcr.io/mask@sha256:12",
            "user:password@ghcr.io/mask:1",
            "ftp://ghcr.io/mask:1",
            "/mask:1",
            "gh cr.io/mask:1",
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
        assert!(format!("ghcr.io/{}:1", "a".repeat(2000)).parse::<Reference>().is_err());
    }
}
