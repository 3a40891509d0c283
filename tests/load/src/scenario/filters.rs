//! Decode speed through three filters, against none. Whole answers: a filter that holds text back moves the first piece and the last.

use super::{Bench, Both, Side};
use crate::chat::{self, Answer, Question, Sampling};
use crate::plugins::Plugins;
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

const WITH: Contender = Contender::OutriggerWith(Plugins::Filters);

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    against_none(bench, "three filters", WITH, 9).await
}

/// Rows of ours with plugins, against ours without.
pub(super) async fn against_none(
    bench: &Bench,
    case: &str,
    contender: Contender,
    seed: u64,
) -> anyhow::Result<Vec<Row>> {
    let shape = Shape { slots: 1, context_length: 1024 };
    let without = Server::start(bench, Contender::Outrigger, shape).await?;
    let with = Server::start(bench, contender, shape).await?;
    let row = |figure: &str, unit| Row::new(format!("{case}: {figure}"), unit, "none");
    let mut rate = row("tokens of whole answers", Unit::TokensPerSecond).aim(Aim::RatioAtLeast(0.99));
    let mut cpu = row("CPU per token, prompt included", Unit::CpuMillisecondsPerToken);
    let mut prompts = Prompts::new(seed);
    for round in bench.rounds(15, 5) {
        // Sampled: a token is a step.
        let question = Question { sampling: Sampling::Chain, ..prompts.question(32, 2 * bench.answer_tokens()) };
        let mut answers = Both::default();
        let mut order = [(Side::Theirs, &without), (Side::Ours, &with)];
        order.rotate_left(round % 2);
        for (side, server) in order {
            answers.set(side, Some(chat::ask(server.endpoint(), &question).await?));
        }
        let (Some(theirs), Some(ours)) = (answers.theirs, answers.ours) else { continue };
        rate.push(theirs.whole_rate(), ours.whole_rate());
        let cpu_ms = |of: &Answer| (of.cpu_first + of.cpu_rest).as_secs_f64() * 1e3 / f64::from(of.tokens());
        cpu.push(cpu_ms(&theirs), cpu_ms(&ours));
    }
    Ok(vec![rate, cpu])
}
