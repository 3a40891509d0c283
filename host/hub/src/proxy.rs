//! Which proxy a request goes through, for messages: the client below asks the same [`Matcher`] and does not say.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

/// A proxy that the environment names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Scheme, host and port; never the login.
    address: String,
    /// Who named it.
    variable: &'static str,
}

impl Proxy {
    /// The proxy of requests to `url`.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        Self::from_environment(url, &|name| std::env::var(name).ok())
    }

    fn from_environment(url: &Url, variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        // A request to a CGI program sets HTTP_PROXY by a header.
        if variable("REQUEST_METHOD").is_some() {
            return None;
        }
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, variable(name)?)));
        let no_proxy = first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
        let by_scheme =
            if url.scheme() == "https" { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
        let uri = url.as_str().parse().ok()?;
        [by_scheme, ["ALL_PROXY", "all_proxy"]].into_iter().find_map(|names| {
            let (variable, value) = first(names)?;
            let taken = Matcher::builder().all(value).no(no_proxy.clone()).build().intercept(&uri)?;
            let (scheme, host) = (taken.uri().scheme_str()?, taken.uri().host()?);
            let port = taken.uri().port_u16().map(|port| format!(":{port}")).unwrap_or_default();
            Some(Self { address: format!("{scheme}://{host}{port}"), variable })
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, variable } = self;
        write!(f, "the proxy {address} that {variable} names")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, environment: &[(&str, &str)], expected: Option<&str>) {
        let find = |name: &str| Some(environment.iter().find(|(known, _)| *known == name)?.1.to_owned());
        let proxy = Proxy::from_environment(&Url::parse(url).expect("a URL"), &find);
        assert_eq!(proxy.map(|proxy| proxy.to_string()).as_deref(), expected, "{url} {environment:?}");
    }

    #[test]
    fn a_proxy_is_named_with_its_variable_and_without_its_login() {
        let (http, https) = ("http://hub.example/a?b", "https://hub.example/a?b");
        let all = ("all_proxy", "http://all:8080");
        check(https, &[], None);
        check(https, &[("HTTP_PROXY", "http://p:1")], None);
        check(http, &[("HTTP_PROXY", "http://p:1")], Some("the proxy http://p:1 that HTTP_PROXY names"));
        check(https, &[all, ("https_proxy", "p:1")], Some("the proxy http://p:1 that https_proxy names"));
        check(https, &[all, ("https_proxy", "")], Some("the proxy http://all:8080 that all_proxy names"));
        check(https, &[all, ("NO_PROXY", ".example")], None);
        check(https, &[all, ("REQUEST_METHOD", "GET")], None);
        let login = ("HTTPS_PROXY", "https://me:s3cret@proxy.example");
        check(https, &[login, all], Some("the proxy https://proxy.example that HTTPS_PROXY names"));
    }
}
