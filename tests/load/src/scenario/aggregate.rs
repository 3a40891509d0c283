//! Several streams at once: tokens per second of all together, prompts included, and against llama.cpp's own loop.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::{Bench, Both, Pair};
use crate::chat::{self, Endpoint, Question, Sampling};
use crate::process;
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit, median};
use crate::server::Shape;

/// The likeliest text soon repeats itself, which a server that speculates makes much of; sampled text does not.
const CASES: [(u32, Sampling); 5] =
    [(1, Sampling::Greedy), (4, Sampling::Greedy), (8, Sampling::Greedy), (8, Sampling::Chain), (16, Sampling::Greedy)];
const PROMPT_TOKENS: usize = 32;

#[derive(Default)]
struct Together {
    tokens_per_second: f64,
    /// The median of the streams.
    ttft: Duration,
    cpu_ms_per_token: f64,
    tokens_per_piece: f64,
    shortest_tokens: u32,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut prompts = Prompts::new(2);
    for (streams, sampling) in CASES {
        rows.extend(with(bench, &mut prompts, streams, sampling).await?);
    }
    Ok(rows)
}

async fn with(bench: &Bench, prompts: &mut Prompts, streams: u32, sampling: Sampling) -> anyhow::Result<Vec<Row>> {
    let pair = Pair::start(bench, Shape { slots: streams, context_length: 1024 }).await?;
    let case = match sampling {
        Sampling::Greedy => format!("{streams} streams"),
        Sampling::Chain => format!("{streams} streams, sampled"),
    };
    let row = |figure: &str, unit| Row { note: pair.note(), ..Row::new(format!("{case}: {figure}"), unit, bench.peer) };
    let mut rate = row("all together", Unit::TokensPerSecond);
    if (streams, sampling) == (8, Sampling::Chain) {
        rate = rate.aim(Aim::RatioAtLeast(1.25));
    }
    let mut ttft = row("first text, median", Unit::Milliseconds);
    let mut cpu = row("CPU per token", Unit::CpuMillisecondsPerToken);
    let mut bare = Row::new(format!("{case}: all together"), Unit::TokensPerSecond, "llama-batched-bench");
    let mut pieces = row("tokens per piece", Unit::Times);
    for round in bench.rounds(5, 2) {
        let questions: Vec<Question> = (0..streams)
            .map(|_| Question { sampling, ..prompts.question(PROMPT_TOKENS, bench.answer_tokens()) })
            .collect();
        let mut both = Both::default();
        for (side, server) in pair.in_turns(round) {
            both.set(side, together(server.endpoint(), &questions).await?);
        }
        both.push_to(&mut rate, |of| of.tokens_per_second);
        both.push_to(&mut ttft, |of| of.ttft.as_secs_f64() * 1e3);
        both.push_to(&mut cpu, |of| of.cpu_ms_per_token);
        both.push_to(&mut pieces, |of| of.tokens_per_piece);
        bare.push(batched_rate(bench, streams)?, both.ours.tokens_per_second);
        let shortest = both.theirs.shortest_tokens.min(both.ours.shortest_tokens);
        if shortest < bench.answer_tokens() {
            rate.note = Some(format!("an answer of {shortest} tokens only"));
        }
    }
    Ok(vec![rate, bare, ttft, cpu, pieces])
}

async fn together(endpoint: Endpoint, questions: &[Question]) -> anyhow::Result<Together> {
    let cpu_before = process::cpu_time(endpoint.pid)?;
    let asked = questions.iter().map(|question| chat::ask(endpoint, question));
    let answers = futures::future::try_join_all(asked).await?;
    let cpu = process::cpu_time(endpoint.pid)?.saturating_sub(cpu_before);
    let first = answers.iter().map(|answer| answer.sent_at).min().context("no streams")?;
    let last = answers.iter().map(|answer| answer.ended_at).max().context("no streams")?;
    let tokens: u32 = answers.iter().map(chat::Answer::tokens).sum();
    Ok(Together {
        tokens_per_second: f64::from(tokens) / last.duration_since(first).as_secs_f64(),
        ttft: Duration::from_secs_f64(
            median(answers.iter().map(|answer| answer.ttft().as_secs_f64())).unwrap_or_default(),
        ),
        cpu_ms_per_token: cpu.as_secs_f64() * 1e3 / f64::from(tokens),
        tokens_per_piece: median(answers.iter().map(chat::Answer::tokens_per_piece)).unwrap_or(f64::NAN),
        shortest_tokens: answers.iter().map(chat::Answer::tokens).min().unwrap_or_default(),
    })
}

/// The same prompts' and answers' lengths in llama.cpp's own benchmark of its batches, which neither samples nor serves.
fn batched_rate(bench: &Bench, streams: u32) -> anyhow::Result<f64> {
    let threads = bench.threads.to_string();
    let mut command = Command::new(&bench.bare_batches);
    command.arg("--model").arg(&bench.model).args(["--threads", &threads, "--threads-batch", &threads]);
    command.args(["--ctx-size", &(streams * 1024).to_string(), "--no-kv-unified"]);
    command.args(["-npp", &PROMPT_TOKENS.to_string(), "-ntg", &bench.answer_tokens().to_string()]);
    command.args(["-npl", &streams.to_string(), "--output-format", "jsonl"]);
    let output = command.env("GOMP_SPINCOUNT", "1000").output().context("llama-batched-bench does not start")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let line = printed.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let seconds = line.and_then(|line| line["t"].as_f64());
    let seconds = seconds.with_context(|| {
        format!("no result of llama-batched-bench: {printed}{}", String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(f64::from(streams * bench.answer_tokens()) / seconds)
}
