//! A stream runs, and a long prompt arrives: the longest silence that the running stream's reader sees, and what the
//! other one pays for it.

use std::cell::Cell;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::Notify;

use super::{Bench, Both, Pair};
use crate::chat::{self, Answer, Endpoint};
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::Shape;

const LONG_PROMPT_TOKENS: usize = 3500;
/// More than are made while the long prompt is computed.
const RUNNING_TOKENS_MAX: u32 = 2000;
/// Pieces of the running stream before the long prompt is sent.
const PIECES_BEFORE: usize = 16;

#[derive(Default)]
struct Beside {
    gap: Duration,
    ttft: Duration,
    pieces: usize,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let pair = Pair::start(bench, Shape { slots: 2, context_length: 4096 }).await?;
    let row = |figure, unit| Row { note: pair.note(), ..Row::new(figure, unit, bench.peer) };
    let mut gap = row("longest gap beside a prefill", Unit::Milliseconds).aim(Aim::AtMost(600.0));
    let mut pieces = row("pieces of text beside a prefill", Unit::Tokens);
    let mut ttft = row("the prefill's own first text", Unit::Milliseconds);
    let mut prompts = Prompts::new(4);
    for round in bench.rounds(5, 2) {
        let mut both = Both::default();
        for (side, server) in pair.in_turns(round) {
            both.set(side, beside(server.endpoint(), &mut prompts).await?);
        }
        both.push_to(&mut gap, |of| of.gap.as_secs_f64() * 1e3);
        both.push_to(&mut pieces, |of| of.pieces as f64);
        both.push_to(&mut ttft, |of| of.ttft.as_secs_f64() * 1e3);
    }
    Ok(vec![gap, pieces, ttft])
}

async fn beside(endpoint: Endpoint, prompts: &mut Prompts) -> anyhow::Result<Beside> {
    let running = prompts.question(32, RUNNING_TOKENS_MAX);
    let long = prompts.question(LONG_PROMPT_TOKENS, 8);
    let (is_running, is_over) = (Notify::new(), Cell::new(false));
    // Read until a few pieces after the other one's first text, so that the last gap is a whole one.
    let runs = chat::ask_until(endpoint, &running, |pieces| {
        if pieces.len() == PIECES_BEFORE {
            is_running.notify_one();
        }
        is_over.get()
    });
    let prefills = async {
        is_running.notified().await;
        let answer = chat::ask_until(endpoint, &long, |_| true).await;
        is_over.set(true);
        answer
    };
    let (runs, prefills): (Answer, Answer) = futures::try_join!(runs.boxed_local(), prefills.boxed_local())?;
    anyhow::ensure!(
        runs.ended_at >= prefills.pieces_at[0],
        "the running stream ended before the prefill did; its figures say nothing"
    );
    let during = runs.pieces_at.iter().filter(|at| **at > prefills.sent_at && **at < prefills.pieces_at[0]);
    Ok(Beside { gap: runs.gap_max(prefills.sent_at), ttft: prefills.ttft(), pieces: during.count() })
}
