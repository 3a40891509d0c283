//! One stream: time to the first text and tokens per second at several lengths of prompt, and against the bare loop.

use std::process::Command;

use anyhow::Context as _;

use super::{Bench, Both, Pair};
use crate::chat::{self, Sampling};
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::Shape;

const PROMPT_TOKENS: [usize; 3] = [32, 512, 2048];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let pair = Pair::start(bench, Shape { slots: 1, context_length: 4096 }).await?;
    let mut rows = Vec::new();
    let mut prompts = Prompts::new(1);
    for tokens in PROMPT_TOKENS {
        rows.extend(at_length(bench, &pair, &mut prompts, tokens).await?);
    }
    rows.extend(sampled(bench, &pair, &mut prompts).await?);
    Ok(rows)
}

async fn at_length(bench: &Bench, pair: &Pair, prompts: &mut Prompts, tokens: usize) -> anyhow::Result<[Row; 5]> {
    let row = |figure: String, unit| Row { note: pair.note(), ..Row::new(figure, unit, bench.peer) };
    let mut ttft = row(format!("prompt of {tokens}: first text"), Unit::Milliseconds);
    let mut prefill_cpu = row(format!("prompt of {tokens}: CPU up to the first text"), Unit::Milliseconds);
    let mut rate = row(format!("prompt of {tokens}: decode"), Unit::TokensPerSecond);
    let mut cpu = row(format!("prompt of {tokens}: CPU per token"), Unit::CpuMillisecondsPerToken);
    let mut together = row(format!("prompt of {tokens}: tokens per piece"), Unit::Times);
    let rounds = if tokens > 1000 { bench.rounds(3, 1) } else { bench.rounds(7, 3) };
    for round in rounds {
        let question = prompts.question(tokens, bench.answer_tokens());
        let mut answers = Both::default();
        for (side, server) in pair.in_turns(round) {
            answers.set(side, Some(chat::ask(server.endpoint(), &question).await?));
        }
        let (Some(theirs), Some(ours)) = (answers.theirs, answers.ours) else { continue };
        let counted = |answer: &chat::Answer| answer.usage.map(|usage| usage.prompt_tokens);
        anyhow::ensure!(
            counted(&theirs) == counted(&ours),
            "the servers made prompts of {:?} and {:?} tokens of the same messages",
            counted(&theirs),
            counted(&ours)
        );
        ttft.push(theirs.ttft().as_secs_f64() * 1e3, ours.ttft().as_secs_f64() * 1e3);
        prefill_cpu.push(theirs.cpu_first.as_secs_f64() * 1e3, ours.cpu_first.as_secs_f64() * 1e3);
        rate.push(theirs.decode_rate()?, ours.decode_rate()?);
        cpu.push(theirs.cpu_ms_per_token(), ours.cpu_ms_per_token());
        together.push(theirs.tokens_per_piece(), ours.tokens_per_piece());
    }
    Ok([ttft, prefill_cpu, rate, cpu, together])
}

/// With the sampling of the bare loop, and its length of prompt. Sampled text hardly repeats itself, so there is next to
/// nothing for speculation to win: every token costs a step in all three.
async fn sampled(bench: &Bench, pair: &Pair, prompts: &mut Prompts) -> anyhow::Result<[Row; 4]> {
    let figure = "prompt of 32, sampled: decode";
    let mut peer = Row::new(figure, Unit::TokensPerSecond, bench.peer).aim(Aim::RatioAtLeast(1.10));
    let mut bare = Row::new(figure, Unit::TokensPerSecond, "bare loop").aim(Aim::RatioAtLeast(0.97));
    let mut cpu = Row::new("prompt of 32, sampled: CPU per token", Unit::CpuMillisecondsPerToken, bench.peer);
    let mut together = Row::new("prompt of 32, sampled: tokens per piece", Unit::Times, bench.peer);
    for round in bench.rounds(7, 3) {
        let question = chat::Question { sampling: Sampling::Chain, ..prompts.question(32, bench.answer_tokens()) };
        let mut answers = Both::default();
        for (side, server) in pair.in_turns(round) {
            answers.set(side, Some(chat::ask(server.endpoint(), &question).await?));
        }
        let bare_loop = bare_rate(bench)?;
        let (Some(theirs), Some(ours)) = (answers.theirs, answers.ours) else { continue };
        peer.push(theirs.decode_rate()?, ours.decode_rate()?);
        bare.push(bare_loop, ours.decode_rate()?);
        cpu.push(theirs.cpu_ms_per_token(), ours.cpu_ms_per_token());
        together.push(theirs.tokens_per_piece(), ours.tokens_per_piece());
    }
    Ok([peer, bare, cpu, together])
}

/// Tokens per second of a process that does nothing but decode and sample, with libgomp's spin bounded as ours is.
fn bare_rate(bench: &Bench) -> anyhow::Result<f64> {
    let mut command = Command::new(&bench.bare_loop);
    command.arg("bare").arg(&bench.model).args([bench.answer_tokens().to_string(), "1".to_owned()]);
    let output = command.env("GOMP_SPINCOUNT", "1000").output().context("the bare loop does not start")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let rate = printed.split_whitespace().next().and_then(|word| word.parse().ok());
    rate.with_context(|| format!("no rate in: {printed}{}", String::from_utf8_lossy(&output.stderr)))
}
