//! A client that hides nothing: what came over the socket, and how the connection ended.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Nothing here takes long; what takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Everything behind the head until the connection ended.
    pub(crate) body: Vec<u8>,
    pub(crate) was_reset: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn location(&self) -> &str {
        self.header("Location").unwrap_or_else(|| panic!("no Location in {self:?}"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn announced(&self) -> usize {
        self.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or_default()
    }
}

pub(crate) fn get(url: &str) -> Reply {
    ask("GET", url, &[], b"")
}

pub(crate) fn ask(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let (address, target) = parts(url);
    let mut stream = TcpStream::connect(address).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &[name, ": ", value, "\r\n"].concat();
    }
    request += &["Content-Length: ", &body.len().to_string(), "\r\n\r\n"].concat();
    stream.write_all(&[request.as_bytes(), body].concat()).expect("a hub that reads");
    let (mut bytes, mut chunk, mut was_reset) = (Vec::new(), vec![0; 1 << 16], false);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                was_reset = true;
                break;
            }
            Err(error) => panic!("{method} {url}: {error}"),
        }
    }
    reply(&bytes, was_reset)
}

/// `http://host:port` and what stands behind it.
pub(crate) fn parts(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} is no plain HTTP"));
    let slash = rest.find('/').unwrap_or(rest.len());
    (&rest[..slash], if slash == rest.len() { "/" } else { &rest[slash..] })
}

fn reply(bytes: &[u8], was_reset: bool) -> Reply {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Reply { status: 0, headers: Vec::new(), body: bytes.to_vec(), was_reset };
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Reply { status: status.unwrap_or(0), headers, body: bytes[end + 4..].to_vec(), was_reset }
}
