//! `outrigger probe`: what a container's health check runs where the prober cannot reach loopback.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::Failure;

/// Below the timeouts that orchestrators give their probes, so that our words are what they report.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Enough for the status line and a reason.
const REPLY_BYTES_MAX: u64 = 4096;

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// What to ask
    #[arg(value_enum)]
    probe: ProbeKind,

    /// Where the server listens
    #[arg(long, env = "OUTRIGGER_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8484")]
    listen: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProbeKind {
    /// Does it answer at all?
    Livez,
    /// Does it take requests?
    Readyz,
}

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

impl ProbeKind {
    /// The path that answers.
    fn path(self) -> &'static str {
        match self {
            Self::Livez => "/livez",
            Self::Readyz => "/readyz",
        }
    }
}
