//! Latency of good requests while a tenth of all runs a plugin that misbehaves, against the same with that tenth behaving.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use tokio::task::JoinSet;

use super::{Bench, Both, Side};
use crate::chat::{self, Endpoint, Question};
use crate::plugins::{BEHAVIOUR, BEHAVIOURS, Plugins};
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

/// Clients that ask one good question after the other.
const CLIENTS: usize = 4;
/// One more request comes with so many good ones.
const GOOD_PER_OTHER: usize = 9;

/// What is asked of which model.
struct Case {
    name: &'static str,
    tokens_max: u32,
    /// Good requests of a round, of each side.
    requests: usize,
    /// Between two of one client, so that the tenth has no more than its share of the processors.
    pause: Duration,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    // A short answer, so that the plugins' part of it is a large one.
    let real = Case { name: "the model", tokens_max: 16, requests: 300, pause: Duration::ZERO };
    // Nothing but the way through the host: 100 requests a second.
    let tiny = Case { name: "no model", tokens_max: 4, requests: 1_000, pause: Duration::from_millis(40) };
    let mut rows = beside_hostile(bench, &real).await?;
    let (_folder, bench) = bench.with_tiny_model()?;
    rows.extend(beside_hostile(&bench, &tiny).await?);
    Ok(rows)
}

async fn beside_hostile(bench: &Bench, case: &Case) -> anyhow::Result<Vec<Row>> {
    let shape = Shape { slots: 8, context_length: 1024 };
    let server = Server::start(bench, Contender::OutriggerWith(Plugins::Hostile), shape).await?;
    // Always the same: what it takes to compute it is not what is measured.
    let question = Prompts::new(12).question(32, case.tokens_max);
    let row = |figure: &str| {
        let figure = format!("a tenth misbehaves, {}: {figure} of the others", case.name);
        Row::new(figure, Unit::Milliseconds, "it behaves")
    };
    let mut half = row("median");
    let mut most = row("p99").aim(Aim::RatioAtMost(1.2));
    for round in bench.rounds(5, 1) {
        let mut both = Both::default();
        let mut order = [(Side::Theirs, false), (Side::Ours, true)];
        order.rotate_left(round % 2);
        for (side, misbehaves) in order {
            both.set(side, latencies(server.endpoint(), &question, case, misbehaves).await?);
        }
        let at = |part: f64| move |of: &Vec<Duration>| percentile(of, part).as_secs_f64() * 1e3;
        both.push_to(&mut half, at(0.5));
        both.push_to(&mut most, at(0.99));
    }
    Ok(vec![half, most])
}

/// How long good requests took, from sent to read.
async fn latencies(
    endpoint: Endpoint,
    question: &Question,
    case: &Case,
    misbehaves: bool,
) -> anyhow::Result<Vec<Duration>> {
    let (sent, others) = (Cell::new(0_usize), Cell::new(JoinSet::new()));
    let client = |number: u32| {
        let (sent, others) = (&sent, &others);
        async move {
            // Clients have nothing to do with each other.
            tokio::time::sleep(case.pause / 4 * number).await;
            let mut times = Vec::new();
            while sent.get() < case.requests {
                sent.set(sent.get() + 1);
                if sent.get() % GOOD_PER_OTHER == 0 {
                    let behaviour = misbehaves.then(|| BEHAVIOURS[sent.get() / GOOD_PER_OTHER % BEHAVIOURS.len()]);
                    let mut running = others.take();
                    running.spawn(other(endpoint, question.clone(), behaviour));
                    others.set(running);
                }
                let started = Instant::now();
                chat::ask(endpoint, question).await.context("a good request")?;
                times.push(started.elapsed());
                tokio::time::sleep(case.pause).await;
            }
            anyhow::Ok(times)
        }
    };
    let times = try_join_all((0..).take(CLIENTS).map(client)).await?;
    for ended in others.into_inner().join_all().await {
        ended?;
    }
    Ok(times.concat())
}

/// A request that is not measured. Where it is to misbehave it has to end with a fault of the plugin.
pub(super) async fn other(
    endpoint: Endpoint,
    question: Question,
    behaviour: Option<&'static str>,
) -> anyhow::Result<()> {
    let answer = chat::ask_with(endpoint, &question, behaviour.map(|behaviour| (BEHAVIOUR, behaviour))).await;
    match (answer, behaviour) {
        (Ok(_), None) => Ok(()),
        (Err(error), Some(_)) if format!("{error:#}").contains("plugin_failed") => Ok(()),
        (Err(error), _) => Err(error.context(format!("a request told to {behaviour:?}"))),
        (Ok(_), Some(behaviour)) => anyhow::bail!("a request told to {behaviour} was answered"),
    }
}

pub(super) fn percentile(times: &[Duration], part: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let place = (times.len().saturating_sub(1) as f64 * part).round() as usize;
    times.get(place).copied().unwrap_or_default()
}
