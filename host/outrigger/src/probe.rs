//! `outrigger probe`: what a container's health check runs where the prober cannot reach loopback.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::Failure;

/// Below the timeouts that orchestrators give their probes, so that our words are what they report.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Enough for the status line and a reason.
const REPLY_BYTES_MAX: u64 = 4096;

#[derive(Debug, Args)]
#[command(after_help = "\
Speaks no TLS: where the server does, name its --probe-listen, or a Unix socket.")]
pub(crate) struct Probe {
    /// What to ask
    #[arg(value_enum, value_name = "PROBE")]
    kind: ProbeKind,

    /// Where the server listens; of several places the first
    #[arg(long, env = "OUTRIGGER_LISTEN", value_name = "ADDRESS|unix:PATH", default_value = "127.0.0.1:8484")]
    listen: String,

    /// Where it listens for probes, if anywhere; asked instead of --listen
    #[arg(long = "probe-listen", env = "OUTRIGGER_PROBE_LISTEN", value_name = "ADDRESS")]
    listen_for_probes: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProbeKind {
    /// Does it get on?
    Livez,
    /// Does it take requests?
    Readyz,
    /// Has the model been loaded?
    Startupz,
}

/// A connection to the server.
trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

pub(crate) fn probe(arguments: &Probe) -> Result<(), Failure> {
    Ok(ask(arguments)?)
}

fn ask(Probe { kind, listen, listen_for_probes }: &Probe) -> anyhow::Result<()> {
    let listen = listen_for_probes.as_deref().filter(|place| !place.is_empty()).unwrap_or(listen);
    let listen = listen.split(',').next().unwrap_or(listen);
    let path = kind.path();
    let mut socket = connect(listen)?;
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
    if !reply.starts_with("HTTP/") {
        bail!("{listen}{path} answered no HTTP; where the server speaks TLS, probe its --probe-listen");
    }
    let status = reply.lines().next().unwrap_or_default();
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    bail!("{listen}{path} answered `{status}`: {body}")
}

fn connect(listen: &str) -> anyhow::Result<Box<dyn Connection>> {
    let nobody = || format!("nothing answers on {listen}");
    if let Some(path) = listen.strip_prefix("unix:") {
        let socket = UnixStream::connect(path).with_context(nobody)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        return Ok(Box::new(socket));
    }
    let address = listen
        .to_socket_addrs()
        .with_context(|| format!("`{listen}` is no ADDRESS:PORT"))?
        .next()
        .with_context(|| format!("`{listen}` resolves to no address"))?;
    let socket = TcpStream::connect_timeout(&address, TIMEOUT).with_context(nobody)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(Box::new(socket))
}

impl ProbeKind {
    /// The path that answers.
    fn path(self) -> &'static str {
        match self {
            Self::Livez => "/livez",
            Self::Readyz => "/readyz",
            Self::Startupz => "/startupz",
        }
    }
}
