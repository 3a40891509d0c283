//! Where the hub is: its origin, and how the addresses of its answers are written.

use std::fmt;

use url::{Host, Url};

use crate::address::is_loopback;
use crate::error::HubError;
use crate::limits::ENDPOINT_BYTES_MAX;

/// The hub that is asked: `https://huggingface.co`, or a mirror of it with or without a path before its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Without query, fragment or credentials; its path does not end in `/`, or is `/`.
    url: Url,
}

impl Endpoint {
    /// Parses what a person wrote, as in `HF_ENDPOINT`.
    pub fn parse(given: &str) -> Result<Self, HubError> {
        let given = given.trim();
        // A mistyped endpoint may well hold a credential: what is wrong is said without repeating it.
        let wrong = |why| HubError::Endpoint { why };
        if given.len() > ENDPOINT_BYTES_MAX {
            return Err(wrong("it is longer than 2,048 bytes"));
        }
        let mut url = Url::parse(given).map_err(|_| wrong("it is not a URL; write https://huggingface.co"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("its scheme is neither https nor http"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it holds a user name or password; give the token as hf_token or in HF_TOKEN"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self { url })
    }

    /// A path of the hub, its segments percent-encoded one by one: `#`, `?`, `%`, `[`, spaces and `/` are letters of a
    /// name here, never syntax.
    #[must_use]
    pub fn at<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.url.clone();
        let mut path = self.url.path().trim_end_matches('/').to_owned();
        for segment in segments {
            path.push('/');
            path.extend(percent_encoded(segment));
        }
        url.set_path(&path);
        url
    }

    /// Whether a request to `url` reaches this hub and may carry its token.
    #[must_use]
    pub fn is_origin_of(&self, url: &Url) -> bool {
        same_origin(&self.url, url)
    }

    /// Whether a token sent here could be read on the way.
    #[must_use]
    pub fn is_open_to_eavesdroppers(&self) -> bool {
        self.url.scheme() == "http" && !self.is_loopback()
    }

    /// Whether it is this machine, by its name or number.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.url.host().is_some_and(|host| is_loopback(&host))
    }

    pub(crate) fn host(&self) -> Option<Host<&str>> {
        self.url.host()
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.url.port_or_known_default()
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant, parsed in a test")]
        Self::parse("https://huggingface.co").expect("a constant")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Scheme, host and port, with the port that the scheme implies.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Everything but RFC 3986's unreserved characters. A segment `.` or `..` keeps its dots (a URL parser reads `%2E` as a
/// dot too), so no caller may pass one: `RepositoryPath`, `RepositoryId` and `Revision` hold none.
fn percent_encoded(segment: &str) -> impl Iterator<Item = char> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    segment.bytes().flat_map(|byte| {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let escape = [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        let written = if is_plain { [byte, 0, 0] } else { escape };
        written.into_iter().take(if is_plain { 1 } else { 3 }).map(char::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: Result<&str, &str>) {
        let parsed = Endpoint::parse(given).map(|it| it.to_string()).map_err(|error| error.to_string());
        assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{given}");
    }

    #[test]
    fn an_endpoint_is_an_origin_and_perhaps_a_path() {
        check("https://huggingface.co", Ok("https://huggingface.co"));
        check(" https://HuggingFace.co:443/ ", Ok("https://huggingface.co"));
        check("http://127.0.0.1:8080//", Ok("http://127.0.0.1:8080"));
        check("https://corp.example/artifactory/api/hf/", Ok("https://corp.example/artifactory/api/hf"));
        assert_eq!(Endpoint::default().to_string(), "https://huggingface.co");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_without_repeating_it() {
        let refusal = |why: &str| format!("cannot use the hub's address: {why}");
        let no_url = refusal("it is not a URL; write https://huggingface.co");
        check("", Err(&no_url));
        check("huggingface.co", Err(&no_url));
        check("https://", Err(&no_url));
        let scheme = refusal("its scheme is neither https nor http");
        check("file:///etc/passwd", Err(&scheme));
        check("huggingface.co:443", Err(&scheme));
        let credentials = refusal("it holds a user name or password; give the token as hf_token or in HF_TOKEN");
        check("https://me:hf_secret@huggingface.co", Err(&credentials));
        check("https://hf_secret@huggingface.co", Err(&credentials));
        let query = refusal("it has a query or a fragment");
        check("https://huggingface.co/?token=hf_secret", Err(&query));
        check("https://huggingface.co/#x", Err(&query));
        check(&format!("https://a/{}", "x".repeat(3000)), Err(&refusal("it is longer than 2,048 bytes")));
    }

    #[test]
    fn every_segment_is_encoded_by_itself() {
        let endpoint = Endpoint::parse("https://corp.example/hf").expect("an endpoint");
        let url = endpoint.at(["acme", "tiny", "resolve", "refs/pr/1", "a b", "100%#?[1].gguf", "é"]);
        let written = "https://corp.example/hf/acme/tiny/resolve/refs%2Fpr%2F1/a%20b/100%25%23%3F%5B1%5D.gguf/%C3%A9";
        assert_eq!(url.as_str(), written);
        let root = Endpoint::default().at(["acme", "tiny"]);
        assert_eq!(root.as_str(), "https://huggingface.co/acme/tiny");
    }

    // R8
    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let endpoint = Endpoint::parse("https://hub.example/prefix").expect("an endpoint");
        let is_origin = |url| endpoint.is_origin_of(&Url::parse(url).expect("a URL"));
        assert!(is_origin("https://hub.example/other"));
        assert!(is_origin("https://HUB.example:443/"));
        for other in
            ["http://hub.example/", "https://hub.example:8443/", "https://cdn.hub.example/", "https://hub.example./"]
        {
            assert!(!is_origin(other), "{other}");
        }
    }

    #[test]
    fn only_loopback_may_be_asked_in_plain_text_with_a_token() {
        let is_open = |given| Endpoint::parse(given).expect("an endpoint").is_open_to_eavesdroppers();
        for private in [
            "https://hub.example",
            "http://127.0.0.1:80",
            "http://127.9.9.9",
            "http://[::1]:9",
            "http://localhost:1",
            "http://hub.localhost",
        ] {
            assert!(!is_open(private), "{private}");
        }
        for open in ["http://hub.example", "http://10.0.0.1", "http://localhost.example", "http://0.0.0.0"] {
            assert!(is_open(open), "{open}");
        }
    }
}
