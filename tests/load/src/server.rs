//! A server that is measured: started on a port of its own, asked until it is ready, ended by its pid.

use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::NamedTempFile;

use crate::chat::{self, Endpoint};
use crate::limits;
use crate::plugins::Plugins;
use crate::scenario::Bench;

/// Connections beside those that are idle: those that a scenario asks over.
const CONNECTIONS_MORE: usize = 8;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Ours, as it comes: it bounds libgomp's spin itself, and renders prompts in its sandbox.
    Outrigger,
    /// Ours, with nothing guessed ahead.
    OutriggerWithoutDrafts,
    /// Ours, for as many connections as `idle` opens, and those that it asks over.
    OutriggerWithConnections,
    /// Ours with plugins.
    OutriggerWith(Plugins),
    /// llama-server as it comes.
    LlamaServer,
    /// llama-server in an environment that bounds libgomp's spin as ours does.
    LlamaServerBounded,
}

/// What both serve with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Requests at once.
    pub(crate) slots: u32,
    /// Tokens that each may hold.
    pub(crate) context_length: u32,
}

/// A running server. Dropping it ends the process.
pub(crate) struct Server {
    child: Child,
    log: NamedTempFile,
    _config: NamedTempFile,
    endpoint: Endpoint,
    ready_after: Duration,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outrigger => "outrigger",
            Self::OutriggerWithoutDrafts => "outrigger, draft_max = 0",
            Self::OutriggerWithConnections => "outrigger for many connections",
            Self::OutriggerWith(plugins) => return write!(f, "outrigger with {plugins}"),
            Self::LlamaServer => "llama-server",
            Self::LlamaServerBounded => "llama-server, GOMP_SPINCOUNT=1000",
        })
    }
}

impl Server {
    /// Starts it and waits until it is ready and has answered a first request.
    pub(crate) async fn start(bench: &Bench, contender: Contender, shape: Shape) -> anyhow::Result<Self> {
        let mut server = Self::spawn(bench, contender, shape).await?;
        let Endpoint { address, pid, .. } = server.endpoint;
        server.endpoint.ignores_end =
            chat::ignores_end(address, pid).await.with_context(|| format!("{contender}: first request"))?;
        Ok(server)
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn spawn(bench: &Bench, contender: Contender, shape: Shape) -> anyhow::Result<Self> {
        let log = NamedTempFile::new()?;
        let config = NamedTempFile::with_suffix(".toml")?;
        let port = free_port()?;
        let mut command = command(bench, contender, shape, port);
        if let Contender::OutriggerWith(plugins) = contender {
            std::fs::write(config.path(), plugins.configuration(&bench.misbehaving))?;
            command.arg("--config").arg(config.path());
        }
        command.env_remove("OMP_WAIT_POLICY").env_remove("GOMP_SPINCOUNT");
        if contender == Contender::LlamaServerBounded {
            command.env("GOMP_SPINCOUNT", "1000");
        }
        command.stdin(Stdio::null()).stdout(File::create(log.path())?).stderr(log.reopen()?);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("{contender} does not start"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let endpoint = Endpoint { address, pid: child.id(), ignores_end: false };
        let mut server = Self { child, log, _config: config, endpoint, ready_after: Duration::ZERO };
        while !chat::is_ready(address).await {
            if let Some(status) = server.child.try_wait()? {
                bail!("{contender} ended with {status}; its log:\n{}", server.log());
            }
            if started.elapsed() > limits::START {
                bail!("{contender} is not ready within {:?}; its log:\n{}", limits::START, server.log());
            }
            tokio::time::sleep(limits::READY_POLL).await;
        }
        server.ready_after = started.elapsed();
        Ok(server)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// From its start to the first 200 of `/health`.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// What it has written.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// The end of that.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(limits::LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(bench: &Bench, contender: Contender, shape: Shape, port: u16) -> Command {
    let Shape { slots, context_length } = shape;
    let threads = bench.threads.to_string();
    if !matches!(contender, Contender::LlamaServer | Contender::LlamaServerBounded) {
        let mut command = Command::new(&bench.outrigger);
        command
            .arg("serve")
            .arg(format!("--model=file:{}", bench.model.display()))
            .arg("--model-id=model")
            .arg(format!("--max-concurrency={slots}"))
            .arg(format!("--context-length={context_length}"))
            .arg(format!("--threads={threads}"))
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg("--log-format=json");
        if contender == Contender::OutriggerWithoutDrafts {
            command.arg("--draft-max=0");
        }
        if contender == Contender::OutriggerWithConnections {
            command.arg(format!("--connections-max={}", limits::IDLE_CONNECTIONS + CONNECTIONS_MORE));
        }
        return command;
    }
    let mut command = Command::new(&bench.llama_server);
    command.arg("--model").arg(&bench.model).args(["--host", "127.0.0.1", "--no-webui"]);
    // Its context is shared by its slots, in equal parts.
    command.args(["--ctx-size", &(slots * context_length).to_string(), "--parallel", &slots.to_string()]);
    command.args(["--threads", &threads, "--threads-batch", &threads, "--port", &port.to_string()]);
    command
}

/// A port that was free a moment ago. Both servers are given theirs, so that both can be asked from the start on.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
