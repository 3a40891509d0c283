//! More requests than can be answered: each has to end in an answer, a refusal or its deadline, and what is accepted must neither
//! come later nor be less than when there are just enough.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use futures::future::try_join_all;
use tokio::task::JoinSet;

use super::Bench;
use super::hostile::percentile;
use crate::chat::{self, Endpoint, Question, Whole};
use crate::limits;
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

const SLOTS: u32 = 2;
const TOKENS: u32 = 8;
/// Of what the server can do, arriving.
const LOADS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];
/// What a request asks for with `X-Request-Timeout`, in seconds: longer than the line is at the load that fills it.
const DEADLINE_SECONDS: &str = "20";

/// What became of the requests of one load.
#[derive(Default)]
struct Outcome {
    arrived: usize,
    answered: Vec<Duration>,
    refused: usize,
    late: usize,
    seconds: f64,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let server = Server::start(bench, Contender::Outrigger, Shape { slots: SLOTS, context_length: 1024 }).await?;
    let endpoint = server.endpoint();
    let question = Prompts::new(15).question(32, TOKENS);
    let time = if bench.is_quick { limits::OVERLOAD_QUICK } else { limits::OVERLOAD };
    let capacity = capacity(endpoint, &question, time / 4).await?;
    let before = Counted::read(endpoint).await?;
    let mut outcomes = Vec::new();
    for load in LOADS {
        outcomes.push(at(endpoint, &question, load * capacity, time).await?);
        at_rest(endpoint).await?;
    }
    let after = Counted::read(endpoint).await?;
    after.check(&before, &outcomes).with_context(|| format!("the end of the log:\n{}", server.log_tail()))?;

    let full = &outcomes[1];
    let mut rows = Vec::new();
    for (load, outcome) in LOADS.iter().zip(&outcomes) {
        let figure = |what: &str| format!("{load} × {capacity:.1} requests/s: {what}");
        let goodput = |of: &Outcome| of.answered.len() as f64 / of.seconds;
        let mut answered = Row::new(figure("answered a second"), Unit::PerSecond, "1 ×");
        answered.note = Some(format!(
            "{} arrived: {} answered, {} refused, {} past their deadline",
            outcome.arrived,
            outcome.answered.len(),
            outcome.refused,
            outcome.late
        ));
        answered.push(goodput(full), goodput(outcome));
        let late = |of: &Outcome| percentile(&of.answered, 0.99).as_secs_f64() * 1e3;
        let mut latency = Row::new(figure("p99 of the answered"), Unit::Milliseconds, "2 ×");
        latency.push(late(&outcomes[2]), late(outcome));
        if *load > 1.0 {
            // Work that is refused costs next to nothing, and the line is as long as it may be at either.
            answered = answered.aim(Aim::RatioAtLeast(0.9));
            latency = latency.aim(Aim::RatioAtMost(1.2));
        }
        rows.extend([answered, latency]);
    }
    Ok(rows)
}

/// Requests a second that are answered where as many clients as there are slots ask one after the other.
async fn capacity(endpoint: Endpoint, question: &Question, time: Duration) -> anyhow::Result<f64> {
    let (started, answered) = (Instant::now(), Cell::new(0_u32));
    let client = |_| async {
        while started.elapsed() < time {
            ensure!(ask(endpoint, question).await?.status == 200, "an idle server refuses");
            answered.set(answered.get() + 1);
        }
        Ok(())
    };
    try_join_all((0..SLOTS).map(client)).await?;
    Ok(f64::from(answered.get()) / started.elapsed().as_secs_f64())
}

/// Sends requests at times that have nothing to do with what became of those before.
async fn at(endpoint: Endpoint, question: &Question, rate: f64, time: Duration) -> anyhow::Result<Outcome> {
    let mut rng = Rng::with_seed(16);
    let (started, mut due) = (Instant::now(), Duration::ZERO);
    let mut running = JoinSet::new();
    loop {
        // The pauses of arrivals that do not know of each other.
        due += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / rate);
        if due >= time {
            break;
        }
        tokio::time::sleep_until((started + due).into()).await;
        let question = question.clone();
        running.spawn(async move { ask(endpoint, &question).await });
    }
    let mut outcome = Outcome { arrived: running.len(), ..Outcome::default() };
    while let Some(reply) = running.join_next().await {
        let Whole { status, took } = reply??;
        match status {
            200 => outcome.answered.push(took),
            429 | 503 => outcome.refused += 1,
            504 => outcome.late += 1,
            other => anyhow::bail!("a request ended in status {other}"),
        }
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}

async fn ask(endpoint: Endpoint, question: &Question) -> anyhow::Result<Whole> {
    chat::ask_whole(endpoint, question, ("x-request-timeout", DEADLINE_SECONDS)).await
}

/// Waits until nothing runs or waits any more.
async fn at_rest(endpoint: Endpoint) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let text = chat::get(endpoint.address, "/metrics").await?;
        let left =
            chat::metric(&text, "outrigger_requests_running") + chat::metric(&text, "outrigger_requests_waiting");
        if left == 0 {
            return Ok(());
        }
        ensure!(started.elapsed() < limits::SOAK_REST_MAX, "{left} requests are left after all were answered");
        tokio::time::sleep(limits::SOAK_POLL).await;
    }
}

/// What the server counts of requests.
struct Counted {
    ended: u64,
    failed: u64,
    told: u64,
}

impl Counted {
    async fn read(endpoint: Endpoint) -> anyhow::Result<Self> {
        let text = chat::get(endpoint.address, "/metrics").await?;
        let of = |name| chat::metric(&text, name);
        Ok(Self { ended: of("llm_requests"), failed: of("llm_failures"), told: of("outrigger_admissions_total") })
    }

    /// Every request ended once, and in what its client saw.
    fn check(&self, before: &Self, outcomes: &[Outcome]) -> anyhow::Result<()> {
        let arrived: usize = outcomes.iter().map(|outcome| outcome.arrived).sum();
        let answered: usize = outcomes.iter().map(|outcome| outcome.answered.len()).sum();
        let ended = self.ended - before.ended;
        let good = ended - (self.failed - before.failed);
        let told = self.told - before.told;
        ensure!(
            (ended, told, good) == (arrived as u64, arrived as u64, answered as u64),
            "{arrived} requests arrived and {answered} were answered; the server counts {ended} that ended, {told} that were told \
             whether they have a slot, and {good} that were answered"
        );
        Ok(())
    }
}
