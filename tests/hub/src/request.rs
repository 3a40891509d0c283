//! A request as it came in, and the record that is kept of it.

use std::fmt::Write as _;
use std::io::{self, Read};

/// A head larger than this is no request of a downloading client.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The only bodies are lists of paths.
const BODY_BYTES_MAX: usize = 4 << 20;
const HEADERS_MAX: usize = 100;

/// Which of the hub's listeners a request reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The hub itself.
    Hub,
    /// Where signed addresses lead.
    Cdn,
    /// A third one on the hub's host, another port, always plain HTTP: where no client should carry a token.
    Stranger,
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The listener that it reached.
    pub origin: Origin,
    /// `GET`, `HEAD` or `POST`.
    pub method: String,
    /// The path as it was sent, percent-encoded.
    pub path: String,
    /// The query as it was sent; empty when there was none.
    pub query: String,
    /// Every header, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The repository's file that it asked for, by `/resolve/` or by a signed address.
    pub file: Option<String>,
    /// Whether that file is in large file storage.
    pub is_weight: bool,
    /// The status sent; 0 when the connection ended without one.
    pub status: u16,
    /// Bytes of the body that went out (without chunk framing).
    pub bytes_sent: u64,
    /// Whether a fault was applied.
    pub is_faulty: bool,
}

impl Seen {
    /// The first header of this name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Whether `secret` stands anywhere in the request, percent-encoded or not.
    #[must_use]
    pub fn contains(&self, secret: &str) -> bool {
        let in_headers = self.headers.iter().any(|(_, value)| value.contains(secret));
        in_headers || percent_decode(&self.path).contains(secret) || percent_decode(&self.query).contains(secret)
    }

    /// One line for a test's message.
    #[must_use]
    pub fn line(&self) -> String {
        let range = self.range.as_ref().map(|range| format!(" [{range}]")).unwrap_or_default();
        let fault = if self.is_faulty { " (fault)" } else { "" };
        let query = if self.query.is_empty() { String::new() } else { format!("?{:.40}", self.query) };
        format!(
            "{:?} {} {}{query}{range} -> {} ({} bytes){fault}",
            self.origin, self.method, self.path, self.status, self.bytes_sent
        )
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub wants_close: bool,
}

impl Request {
    /// Reads one request; `None` when the peer closed the connection between two.
    pub(crate) fn read(stream: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let (mut request, head_bytes) = loop {
            if let Some(read) = parse(rest)? {
                break read;
            }
            if rest.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("the head of the request is too long"));
            }
            if !fill(stream, rest)? {
                return if rest.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        rest.drain(..head_bytes);
        let length = request.header("content-length").map_or(Ok(0), str::parse::<usize>).unwrap_or(usize::MAX);
        if length > BODY_BYTES_MAX || request.header("transfer-encoding").is_some() {
            return Err(io::Error::other("the body of the request is too long, or its length unknown"));
        }
        while rest.len() < length {
            if !fill(stream, rest)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        request.body = rest.drain(..length).collect();
        Ok(Some(request))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The decoded values of a query parameter.
    pub(crate) fn parameters(&self, name: &str) -> Vec<String> {
        form(&self.query).into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.parameters(name).iter().any(|value| ["true", "1", "True"].contains(&value.as_str()))
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        self.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::trim)
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Whether anything more came.
fn fill(stream: &mut impl Read, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 8 << 10];
    let read = stream.read(&mut chunk)?;
    into.extend_from_slice(&chunk[..read]);
    Ok(read > 0)
}

/// The request at the start of `bytes` and how long its head is, once it is whole.
fn parse(bytes: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let target = head.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
        .collect();
    let wants_close = headers.iter().any(|(name, value)| name == "connection" && value.eq_ignore_ascii_case("close"));
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        wants_close: wants_close || head.version == Some(0),
        headers,
        body: Vec::new(),
    };
    Ok(Some((request, length)))
}

/// The pairs of a query or of a form, decoded.
pub(crate) fn form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (percent_decode(&key.replace('+', " ")), percent_decode(&value.replace('+', " "))))
        .collect()
}

/// Decodes `%41`; what is no valid escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
            .flatten();
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Encodes everything but unreserved characters; `/` too unless it is in `keep`.
pub(crate) fn percent_encode(text: &str, keep: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let character = char::from(byte);
        if character.is_ascii_alphanumeric() || "-_.~".contains(character) || keep.contains(character) {
            encoded.push(character);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
