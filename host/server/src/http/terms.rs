//! What headers say about how a request is served.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{Extensions, HeaderMap, StatusCode};

use super::status::Failure;
use crate::Priority;
use crate::service::Terms;

const TIMEOUT: &str = "x-request-timeout";
const PRIORITY: &str = "x-request-priority";

/// Who a request is known to be from; in its extensions, where anything is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Whoever has the key of this name.
    Key(Arc<str>),
    /// A user of this machine.
    User(u32),
}

/// The terms of a request with these headers and extensions, and a body of `bytes`.
pub(super) fn of(
    headers: &HeaderMap,
    extensions: &Extensions,
    caller_header: &HeaderName,
    bytes: usize,
) -> Result<Terms, Failure> {
    let text = |name: &str| match headers.get(name) {
        None => Ok(None),
        Some(value) => value.to_str().map(Some).map_err(|_| wrong(name, "is no text")),
    };
    let timeout = text(TIMEOUT)?.map(|value| {
        let seconds = value.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
        let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        timeout.ok_or_else(|| wrong(TIMEOUT, "is a number of seconds above 0, such as `30` or `2.5`"))
    });
    let priority = match text(PRIORITY)?.map(str::trim) {
        None | Some("interactive") => Priority::Interactive,
        Some("batch") => Priority::Batch,
        Some(_) => return Err(wrong(PRIORITY, "is `interactive` or `batch`")),
    };
    // A key tells who asks for sure; a user of this machine may ask for several.
    let caller = match (extensions.get::<Caller>(), text(caller_header.as_str())?) {
        (Some(Caller::Key(name)), _) => Arc::clone(name),
        (_, Some(named)) => named.into(),
        (Some(Caller::User(uid)), None) => format!("uid-{uid}").into(),
        (None, None) => Arc::default(),
    };
    Ok(Terms { caller, priority, timeout: timeout.transpose()?, bytes, ..Terms::default() })
}

fn wrong(name: &str, what: &str) -> Failure {
    Failure::client(StatusCode::BAD_REQUEST, "invalid_header", format!("the header `{name}` {what}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::limits;

    fn terms(pairs: &[(&'static str, &str)]) -> Result<Terms, String> {
        terms_of(None, pairs)
    }

    fn terms_of(known: Option<Caller>, pairs: &[(&'static str, &str)]) -> Result<Terms, String> {
        let mut extensions = Extensions::new();
        if let Some(known) = known {
            extensions.insert(known);
        }
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("a value");
        let pairs = pairs.iter().map(|&(name, text)| (HeaderName::from_static(name), value(text)));
        let caller = HeaderName::from_static(limits::CALLER_HEADER_DEFAULT);
        of(&pairs.collect(), &extensions, &caller, 400).map_err(|failure| failure.body.error.message.clone())
    }

    #[test]
    fn headers_say_who_asks_how_urgently_and_for_how_long() {
        let nothing = terms(&[]).expect("terms");
        assert_eq!((&*nothing.caller, nothing.priority, nothing.timeout), ("", Priority::Interactive, None));
        let all = [(limits::CALLER_HEADER_DEFAULT, "app-1"), (PRIORITY, "batch"), (TIMEOUT, " 2.5 ")];
        let all = terms(&all).expect("terms");
        assert_eq!((&*all.caller, all.priority), ("app-1", Priority::Batch));
        assert_eq!((all.timeout, all.bytes), (Some(Duration::from_millis(2500)), 400));
    }

    #[test]
    fn a_key_says_who_asks_for_sure() {
        let caller = |known, pairs: &[_]| terms_of(known, pairs).expect("terms").caller.to_string();
        let named = [(limits::CALLER_HEADER_DEFAULT, "app-1")];
        assert_eq!(caller(Some(Caller::Key("key-1".into())), &named), "key-1");
        assert_eq!(caller(Some(Caller::User(1000)), &named), "app-1");
        assert_eq!(caller(Some(Caller::User(1000)), &[]), "uid-1000");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for value in ["0", "-1", "NaN", "inf", "1e300", "soon", "", "30s"] {
            let error = terms(&[(TIMEOUT, value)]).expect_err(value);
            assert!(error.contains("`x-request-timeout` is a number of seconds"), "{error}");
        }
        assert!(terms(&[(PRIORITY, "urgent")]).expect_err("urgent").contains("`interactive` or `batch`"));
        assert!(terms(&[(limits::CALLER_HEADER_DEFAULT, "\u{e9}")]).expect_err("bytes").contains("is no text"));
    }
}
