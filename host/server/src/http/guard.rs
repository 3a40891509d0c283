//! Who may talk to this server: programs on this machine that know it by name, and no web page.
//!
//! A page in a browser can reach a loopback port too, by a form, a script or a domain that resolves to 127.0.0.1 (DNS
//! rebinding). It cannot choose the `Host` it sends, and it cannot leave out `Origin` where a request could do
//! anything, so these two tell it from a program. An IP address as `Host` cannot be rebound; it is accepted when it is
//! the one that the connection arrived at, which is what probes of an orchestrator send. Over a Unix socket, which no page
//! reaches by itself, any name will do; a proxy that passes pages on there is told by `Origin`.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};

use super::routes::ArrivedAt;
use super::status::Failure;
use crate::keys::Keys;

/// Refuses what a web page may have sent, and what two readers could take for different hosts.
pub(super) fn check_sender(
    uri: &Uri,
    headers: &HeaderMap,
    arrived_at: ArrivedAt,
    hosts_allowed: &[String],
) -> Result<(), Failure> {
    let refuse = |status, code, message: String| Err(Failure::client(status, code, message));

    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_host", "exactly one Host header is needed".to_owned());
    };
    let Some(host) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()).filter(is_plain) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_host", "the Host header is not a host and port".to_owned());
    };
    if uri.authority().is_some_and(|target| *target != host) {
        let message = "the request target names another host than the Host header".to_owned();
        return refuse(StatusCode::BAD_REQUEST, "invalid_host", message);
    }
    if !is_host_allowed(host.host(), arrived_at, hosts_allowed) {
        let message = format!(
            "this server does not answer to the host `{}`; add it to the allowed hosts if that is its name",
            host.host()
        );
        return refuse(StatusCode::FORBIDDEN, "host_not_allowed", message);
    }

    let is_cross_site = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
    if headers.contains_key(ORIGIN) || is_cross_site {
        let message = "requests from web pages are not allowed: this server is for programs".to_owned();
        return refuse(StatusCode::FORBIDDEN, "origin_not_allowed", message);
    }
    Ok(())
}

/// Whose key the request has, where one is needed.
pub(super) fn check_key(headers: &HeaderMap, keys: &Keys) -> Result<Arc<str>, Failure> {
    // Clients of Anthropic's form send the one, all others the other; some libraries send both.
    let presented = [
        headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())),
        headers.get(API_KEY).map(http::HeaderValue::as_bytes),
    ];
    if presented.iter().all(Option::is_none) {
        let message = "an API key is needed; send the header `Authorization: Bearer KEY` or `x-api-key: KEY`";
        return Err(Failure::client(StatusCode::UNAUTHORIZED, "missing_api_key", message));
    }
    let holder = presented.into_iter().flatten().find_map(|key| keys.holder(key));
    holder.cloned().ok_or_else(|| {
        let message = "the API key is not one of this server's; ask its operator for one";
        Failure::client(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    })
}

const API_KEY: &str = "x-api-key";

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A form can post text without asking; JSON it cannot.
pub(super) fn check_is_json(headers: &HeaderMap) -> Result<(), Failure> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim());
    if media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let message = "the body must be JSON; send the header `Content-Type: application/json`";
    Err(Failure::client(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

/// What is for programs on this machine, whatever else is listened on. `what` completes "… only to connections over".
pub(super) fn check_is_local(arrived_at: Option<ArrivedAt>, what: &str) -> Result<(), Failure> {
    let is_local = |at: ArrivedAt| match at {
        ArrivedAt::Address(address) => address.to_canonical().is_loopback(),
        ArrivedAt::Socket { .. } => true,
    };
    if arrived_at.is_some_and(is_local) {
        return Ok(());
    }
    let message = format!("{what} only to connections over a loopback address, such as 127.0.0.1");
    Err(Failure::client(StatusCode::FORBIDDEN, "not_local", message))
}

/// `Authority` allows `user@`, which no Host header has.
fn is_plain(authority: &Authority) -> bool {
    !authority.as_str().contains('@') && !authority.host().is_empty()
}

fn is_host_allowed(host: &str, arrived_at: ArrivedAt, hosts_allowed: &[String]) -> bool {
    let ArrivedAt::Address(arrived_at) = arrived_at else { return true };
    // A name may be written with the dot of the root.
    let name = host.strip_suffix('.').unwrap_or(host);
    let address = without_brackets(host).parse::<std::net::IpAddr>().ok();
    match address {
        Some(address) => {
            address == arrived_at.to_canonical()
                || matches!(host, "127.0.0.1" | "[::1]")
                || hosts_allowed.iter().any(|allowed| without_brackets(allowed).parse() == Ok(address))
        }
        None => {
            name.eq_ignore_ascii_case("localhost")
                || hosts_allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
        }
    }
}

/// An address of IPv6 has brackets in a URL and none elsewhere.
fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::{HeaderName, HeaderValue};

    use super::*;

    fn check(target: &str, headers: &[(&'static str, &str)], expected: Result<(), &str>) {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.append(name, HeaderValue::from_str(value).expect("a header value"));
        }
        let uri = target.parse().expect("a request target");
        let allowed = ["models.internal", "fd00::1", "[fd00::2]", "10.5.5.5"].map(str::to_owned);
        let checked = check_sender(&uri, &map, ArrivedAt::Address(IpAddr::from([10, 1, 2, 3])), &allowed);
        assert_eq!(
            checked.as_ref().map_err(|failure| failure.body.error.code.as_str()).copied(),
            expected,
            "{headers:?}"
        );
    }

    #[test]
    fn names_of_this_machine_are_answered() {
        for host in ["localhost", "LocalHost:8484", "localhost.", "127.0.0.1:8484", "[::1]:8484", "10.1.2.3:8484"] {
            check("/livez", &[("host", host)], Ok(()));
        }
        for host in ["models.internal:80", "[fd00::1]:8484", "[fd00:0::2]", "10.5.5.5"] {
            check("/livez", &[("host", host)], Ok(()));
        }
    }

    #[test]
    fn a_rebound_name_is_not() {
        for host in ["evil.example", "evil.example:8484", "127.0.0.1.evil.example", "localhost.evil.example"] {
            check("/livez", &[("host", host)], Err("host_not_allowed"));
        }
        // The "0.0.0.0 day": a browser that takes it for this machine.
        check("/livez", &[("host", "0.0.0.0:8484")], Err("host_not_allowed"));
        check("/livez", &[("host", "10.9.9.9")], Err("host_not_allowed"));
    }

    #[test]
    fn one_host_and_only_one() {
        check("/livez", &[], Err("invalid_host"));
        check("/livez", &[("host", "localhost"), ("host", "localhost")], Err("invalid_host"));
        check("/livez", &[("host", "user@localhost")], Err("invalid_host"));
        check("/livez", &[("host", "")], Err("invalid_host"));
        check("http://localhost/livez", &[("host", "localhost")], Ok(()));
        check("http://evil.example/livez", &[("host", "localhost")], Err("invalid_host"));
    }

    #[test]
    fn pages_are_refused() {
        for origin in ["http://evil.example", "null", "http://localhost:8484"] {
            check("/livez", &[("host", "localhost"), ("origin", origin)], Err("origin_not_allowed"));
        }
        check("/livez", &[("host", "localhost"), ("sec-fetch-site", "cross-site")], Err("origin_not_allowed"));
        check("/livez", &[("host", "localhost"), ("sec-fetch-site", "none")], Ok(()));
    }

    #[test]
    fn over_a_socket_any_name_will_do_and_pages_are_refused_all_the_same() {
        let check = |headers: &[(&'static str, &'static str)]| {
            let map =
                headers.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            check_sender(&Uri::from_static("/livez"), &map.collect(), ArrivedAt::Socket { uid: 0 }, &[])
        };
        assert!(check(&[("host", "anything")]).is_ok());
        assert!(check(&[]).is_err());
        assert!(check(&[("host", "localhost"), ("origin", "http://evil.example")]).is_err());
    }

    #[test]
    fn a_key_is_read_from_either_header() {
        let keys = Keys::of("app 0123456789abcdef");
        let check = |headers: &[(&'static str, &'static str)], expected: Result<&str, &str>| {
            let map =
                headers.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let found = check_key(&map.collect(), &keys);
            let found = found.as_deref().map_err(|failure| failure.body.error.code.as_str());
            assert_eq!(found, expected, "{headers:?}");
        };
        check(&[("authorization", "Bearer 0123456789abcdef")], Ok("app"));
        check(&[("authorization", "bearer  0123456789abcdef ")], Ok("app"));
        check(&[("x-api-key", "0123456789abcdef")], Ok("app"));
        check(&[("x-api-key", "0123456789abcdef"), ("authorization", "Bearer unused")], Ok("app"));
        check(&[], Err("missing_api_key"));
        check(&[("authorization", "Basic 0123456789abcdef")], Err("missing_api_key"));
        check(&[("authorization", "Bearer")], Err("missing_api_key"));
        check(&[("authorization", "Bearer ")], Err("invalid_api_key"));
        check(&[("authorization", "Bearer 0123456789abcdeF")], Err("invalid_api_key"));
        check(&[("x-api-key", "app")], Err("invalid_api_key"));
    }

    #[test]
    fn only_json_is_taken() {
        for (sent, is_taken) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("application/jsonp", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(sent))]);
            assert_eq!(check_is_json(&headers).is_ok(), is_taken, "{sent}");
        }
        assert!(check_is_json(&HeaderMap::new()).is_err());
    }
}
