//! Asks a running host to load its plugins anew.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// A component compiles for seconds, and a host may be busy.
const TIMEOUT: Duration = Duration::from_mins(1);
/// What a host says of its plugins is a few pages.
const REPLY_BYTES_MAX: u64 = 1 << 20;

/// `POST /admin/plugins/reload` at `host`, an address or an `http://` URL of one; says which generation runs then.
pub(super) fn reload(host: &str) -> anyhow::Result<u64> {
    let address = host.strip_prefix("http://").unwrap_or(host).trim_end_matches('/');
    let resolved = address.to_socket_addrs().with_context(|| format!("`{host}` is no http://ADDRESS:PORT"))?.next();
    let resolved = resolved.with_context(|| format!("`{host}` resolves to no address"))?;
    let mut socket =
        TcpStream::connect_timeout(&resolved, TIMEOUT).with_context(|| format!("nothing answers on {address}"))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    write!(
        socket,
        "POST /admin/plugins/reload HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
         connection: close\r\n\r\n{{}}"
    )?;
    let mut reply = String::new();
    let read = socket.take(REPLY_BYTES_MAX).read_to_string(&mut reply);
    read.with_context(|| format!("{address} did not answer within {} s", TIMEOUT.as_secs()))?;
    judge(address, &reply)
}

fn judge(address: &str, reply: &str) -> anyhow::Result<u64> {
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((reply, ""));
    let status = head.lines().next().unwrap_or_default();
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    if status.starts_with("HTTP/1.1 200 ") {
        return body["generation"].as_u64().with_context(|| format!("{address} does not say which plugins run"));
    }
    match body["error"]["message"].as_str() {
        Some(message) => bail!("{message}"),
        None => bail!("{address} answered `{status}`; is it an outrigger with `admin = true`?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_host_s_words() {
        let judge = |reply: &str| judge("a", reply).map_err(|error| error.to_string());
        assert_eq!(judge("HTTP/1.1 200 OK\r\n\r\n{\"generation\":3}"), Ok(3));
        let refused = "HTTP/1.1 422 X\r\n\r\n{\"error\":{\"message\":\"no stage\"}}";
        assert_eq!(judge(refused), Err("no stage".to_owned()));
        assert!(judge("HTTP/1.1 404 Not Found\r\n\r\n").expect_err("no route").contains("`HTTP/1.1 404 Not Found`"));
    }
}
