//! One stream beside processes that keep every processor busy: what a sidecar's life is like.

use super::Bench;
use crate::chat::{self, Question, Sampling};
use crate::hog::Hogs;
use crate::limits;
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let shape = Shape { slots: 1, context_length: 1024 };
    let ours = Server::start(bench, Contender::Outrigger, shape).await?;
    let plain = Server::start(bench, Contender::LlamaServer, shape).await?;
    let bounded = Server::start(bench, Contender::LlamaServerBounded, shape).await?;
    let busy = bench.threads.get();
    let row = |figure: &str, unit, against| Row::new(format!("beside {busy} busy processes: {figure}"), unit, against);
    let mut rate = row("decode", Unit::TokensPerSecond, Contender::LlamaServer).aim(Aim::AtLeast(15.0));
    let mut rate_bounded = row("decode", Unit::TokensPerSecond, Contender::LlamaServerBounded);
    let mut cpu = row("CPU per token", Unit::CpuMillisecondsPerToken, Contender::LlamaServer);
    let mut cpu_bounded = row("CPU per token", Unit::CpuMillisecondsPerToken, Contender::LlamaServerBounded);
    let mut prompts = Prompts::new(5);
    for round in bench.rounds(5, 2) {
        // Sampled text: a piece is a token, also where the server speculates. The client leaves before anybody counts.
        let question = Question { sampling: Sampling::Chain, ..prompts.question(32, 256) };
        let mut servers = [&plain, &bounded, &ours];
        servers.rotate_left(round % 3);
        let hogs = Hogs::start(busy)?;
        let mut answers = Vec::new();
        for server in servers {
            let answer =
                chat::ask_until(server.endpoint(), &question, |pieces| pieces[0].elapsed() > limits::BUSY_WINDOW)
                    .await?;
            answers.push((server.pid(), answer.decode_rate()?, answer.cpu_ms_per_token()));
        }
        drop(hogs);
        let of = |server: &Server| answers.iter().find(|(pid, ..)| *pid == server.pid()).copied().unwrap_or_default();
        let (ours, plain, bounded) = (of(&ours), of(&plain), of(&bounded));
        rate.push(plain.1, ours.1);
        rate_bounded.push(bounded.1, ours.1);
        cpu.push(plain.2, ours.2);
        cpu_bounded.push(bounded.2, ours.2);
    }
    Ok(vec![rate, rate_bounded, cpu, cpu_bounded])
}
