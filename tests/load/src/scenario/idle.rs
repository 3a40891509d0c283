//! Memory of connections that clients keep and nobody uses.

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::Bench;
use crate::chat;
use crate::limits::{IDLE_BYTES, IDLE_CONNECTIONS};
use crate::process;
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let (_folder, bench) = bench.with_tiny_model()?;
    let shape = Shape { slots: 1, context_length: 1024 };
    let server = Server::start(&bench, Contender::OutriggerWithConnections, shape).await?;
    let endpoint = server.endpoint();
    let question = Prompts::new(17).question(32, 8);
    chat::ask(endpoint, &question).await?;
    let before = process::resident_bytes(endpoint.pid)?;
    let (mut kept, mut connections) = (Vec::new(), JoinSet::new());
    for _ in 0..IDLE_CONNECTIONS {
        // Each has been used once: what a connection allocates at its first request is there.
        kept.push(chat::connect_and_get(endpoint.address, "/livez", &mut connections).await?);
    }
    let open = process::open_files(endpoint.pid)?;
    anyhow::ensure!(open > IDLE_CONNECTIONS, "only {open} files are open: the server has closed connections");
    chat::ask(endpoint, &question).await.context("beside idle connections")?;
    let after = process::resident_bytes(endpoint.pid)?;
    let figure = format!("{IDLE_CONNECTIONS} idle connections: memory");
    let mut row = Row::new(figure, Unit::Megabytes, "none").aim(Aim::AddsAtMost(IDLE_BYTES as f64 / 1e6));
    row.push(before as f64 / 1e6, after as f64 / 1e6);
    Ok(vec![row])
}
