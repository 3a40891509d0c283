//! `outrigger probe`: what a container's health check runs where the prober cannot reach loopback.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::Failure;
use crate::cli::Probe;

/// Below the timeouts that orchestrators give their probes, so that our words are what they report.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Enough for the status line and a reason.
const REPLY_BYTES_MAX: u64 = 4096;

pub(crate) fn probe(arguments: &Probe) -> Result<(), Failure> {
    Ok(ask(arguments)?)
}

fn ask(Probe { probe, listen }: &Probe) -> anyhow::Result<()> {
    let path = probe.path();
    let address = listen
        .to_socket_addrs()
        .with_context(|| format!("`{listen}` is no ADDRESS:PORT"))?
        .next()
        .with_context(|| format!("`{listen}` resolves to no address"))?;
    let mut socket =
        TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("nothing answers on {listen}"))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    socket
        .take(REPLY_BYTES_MAX)
        .read_to_end(&mut reply)
        .with_context(|| format!("{listen}{path} did not answer within {TIMEOUT:?}"))?;
    let reply = String::from_utf8_lossy(&reply);
    if reply.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let status = reply.lines().next().unwrap_or_default();
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    bail!("{listen}{path} answered `{status}`: {body}")
}
