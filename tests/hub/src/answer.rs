//! What the hub means to say. How it comes out on the wire, and how a fault spoils it, is in `wire`.

use std::ops::Range;

use serde_json::Value;

use crate::content::Content;

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    pub framing: Framing,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Bytes(Vec<u8>),
    Part { content: Content, range: Range<u64> },
}

/// How the client learns where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part { range, .. } => range.end - range.start,
        }
    }
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let answer = Self { status, headers: Vec::new(), body: Body::Bytes(body.into()), framing: Framing::Length };
        answer.with("Content-Type", content_type)
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(Vec::new()), framing: Framing::Length }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", value.to_string())
    }

    pub(crate) fn redirect(status: u16, reason: &str, location: &str) -> Self {
        // The body is what makes Content-Length a trap for clients that take it for the file's.
        let body = format!("{reason}. Redirecting to {location}");
        Self::new(status, "text/plain; charset=utf-8", body).with("Location", location)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A file's bytes: 200, or 206 and 416 as `range` asks.
    pub(crate) fn content(content: &Content, content_type: &str, range: Option<&str>) -> Self {
        let size = content.size_bytes();
        let (status, part) = match range.and_then(|range| asked_range(range, size)) {
            None => (200, 0..size),
            Some(part) if part.is_empty() => {
                return Self::new(416, "text/plain", "Range Not Satisfiable")
                    .with("Content-Range", format!("bytes */{size}"));
            }
            Some(part) => (206, part),
        };
        let mut answer = Self::empty(status).with("Content-Type", content_type).with("Accept-Ranges", "bytes");
        if status == 206 {
            answer = answer.with("Content-Range", format!("bytes {}-{}/{size}", part.start, part.end - 1));
        }
        answer.body = Body::Part { content: content.clone(), range: part };
        answer
    }
}

/// The part that one `bytes=` range asks for, empty when it lies outside; `None` when this is no such range.
fn asked_range(range: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some(match (first.trim(), last.trim()) {
        ("", suffix) => {
            let length: u64 = suffix.parse().ok()?;
            size.saturating_sub(length)..size
        }
        (first, "") => first.parse().ok()?..size,
        (first, last) => first.parse().ok()?..last.parse::<u64>().ok()?.saturating_add(1).min(size),
    })
}

#[cfg(test)]
mod tests {
    use super::asked_range;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let check = |range, expected: Option<(u64, u64)>| {
            let read = asked_range(range, 10).map(|part| (part.start, part.end));
            assert_eq!(read, expected, "{range}");
        };
        check("bytes=0-3", Some((0, 4)));
        check("bytes=4-", Some((4, 10)));
        check("bytes=-3", Some((7, 10)));
        check("bytes=-30", Some((0, 10)));
        check("bytes=8-99", Some((8, 10)));
        check("bytes=0-1,4-5", None);
        check("lines=1-2", None);
        for (outside, size) in [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=99-120", 10)] {
            assert!(asked_range(outside, size).is_some_and(|part| part.is_empty()), "{outside} of {size}");
        }
    }
}
