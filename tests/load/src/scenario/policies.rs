//! What policies add to the time to the first text. The model costs nothing here: what is looked for is a tenth of a millisecond.

use std::time::Duration;

use super::Bench;
use crate::chat;
use crate::plugins::Plugins;
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

/// What one policy may add, in milliseconds.
const ONE_MS: f64 = 0.2;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let (_folder, bench) = bench.with_tiny_model()?;
    let shape = Shape { slots: 1, context_length: 4096 };
    let none = Server::start(&bench, Contender::Outrigger, shape).await?;
    let cases = [("a policy", Plugins::Policy, 1.0), ("three policies", Plugins::Policies, 3.0)];
    let mut rows = Vec::new();
    for (case, plugins, count) in cases {
        let some = Server::start(&bench, Contender::OutriggerWith(plugins), shape).await?;
        let mut row = Row::new(format!("{case}: first text"), Unit::Milliseconds, "none");
        row.note = Some(plugins.to_string());
        let mut row = row.aim(Aim::AddsAtMost(count * ONE_MS));
        // Always the same, so that next to nothing of the prompt has to be computed.
        let question = Prompts::new(11).question(64, 2);
        for server in [&none, &some] {
            chat::ask(server.endpoint(), &question).await?;
        }
        for round in bench.rounds(400, 100) {
            let mut servers = [&none, &some];
            servers.rotate_left(round % 2);
            let mut ttft = [Duration::ZERO; 2];
            for (place, server) in servers.into_iter().enumerate() {
                ttft[(place + round) % 2] = chat::ask(server.endpoint(), &question).await?.ttft();
            }
            let [theirs, ours] = ttft.map(|ttft| ttft.as_secs_f64() * 1e3);
            row.push(theirs, ours);
        }
        rows.push(row);
    }
    Ok(rows)
}
