//! Many requests through plugins, some of which misbehave, some of whose clients leave: nothing of them may be left. Unlike the other
//! scenarios this one fails.

use std::cell::Cell;
use std::time::Instant;

use anyhow::Context as _;
use fastrand::Rng;
use futures::future::try_join_all;

use super::{Bench, hostile};
use crate::chat::{self, Endpoint, Question};
use crate::limits;
use crate::plugins::{BEHAVIOURS, Plugins};
use crate::process;
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

/// At once. One more than there are slots: one waits.
const CLIENTS: usize = 9;
const SLOTS: u32 = 8;
/// Of a hundred requests.
const MISBEHAVE: u32 = 10;
const LEAVE: u32 = 5;
const TOKENS: u32 = 12;

/// What a server holds.
struct Held {
    instances: u64,
    running: u64,
    generations: u64,
    threads: u64,
    files: usize,
    resident_bytes: u64,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let (_folder, bench) = bench.with_tiny_model()?;
    let shape = Shape { slots: SLOTS, context_length: 1024 };
    let server = Server::start(&bench, Contender::OutriggerWith(Plugins::All), shape).await?;
    let endpoint = server.endpoint();
    // Threads, buffers, the pool's places: what is made once and kept is made by these.
    requests(endpoint, limits::SOAK_WARM_UP, 13).await?;
    tokio::time::sleep(limits::SOAK_REST).await;
    let before = held(endpoint).await?;
    let started = Instant::now();
    requests(endpoint, bench.requests, 14).await?;
    let rate = f64::from(bench.requests) / started.elapsed().as_secs_f64();
    let after = settled(endpoint, &before).await?;

    let row = |figure: &str, unit| Row::new(format!("{} requests: {figure}", bench.requests), unit, "before them");
    let count = |figure: &str, of: fn(&Held) -> f64| {
        let mut row = row(figure, Unit::Count).aim(Aim::AddsAtMost(0.0));
        row.push(of(&before), of(&after));
        row
    };
    let mut memory = row("memory", Unit::Megabytes).aim(Aim::AddsAtMost(limits::SOAK_GROWTH_BYTES as f64 / 1e6));
    memory.note = Some(format!("{rate:.0} requests/s"));
    memory.push(before.resident_bytes as f64 / 1e6, after.resident_bytes as f64 / 1e6);
    let rows = vec![
        count("instances", |held| held.instances as f64),
        count("requests running", |held| held.running as f64),
        count("generations of plugins", |held| held.generations as f64),
        count("threads", |held| held.threads as f64),
        count("open files", |held| held.files as f64),
        memory,
    ];
    let left: Vec<_> = rows.iter().filter(|row| row.is_met() == Some(false)).map(|row| row.figure.as_str()).collect();
    if !left.is_empty() {
        crate::report::print_rows(&rows)?;
        anyhow::bail!("something is left: {}; the end of the server's log:\n{}", left.join(", "), server.log_tail());
    }
    Ok(rows)
}

/// Sends so many requests of all kinds; each has to end as its kind does.
async fn requests(endpoint: Endpoint, count: u32, seed: u64) -> anyhow::Result<()> {
    let left = Cell::new(count);
    let client = |number: u64| {
        let left = &left;
        async move {
            let mut rng = Rng::with_seed(seed << 32 | number);
            let question = Prompts::new(number).question(32, TOKENS);
            while left.get() > 0 {
                left.set(left.get() - 1);
                request(endpoint, &question, &mut rng).await?;
            }
            anyhow::Ok(())
        }
    };
    try_join_all((0..).take(CLIENTS).map(client)).await?;
    Ok(())
}

async fn request(endpoint: Endpoint, question: &Question, rng: &mut Rng) -> anyhow::Result<()> {
    match rng.u32(..100) {
        kind if kind < MISBEHAVE => {
            let behaviour = BEHAVIOURS[rng.usize(..BEHAVIOURS.len())];
            hostile::other(endpoint, question.clone(), Some(behaviour)).await
        }
        kind if kind < MISBEHAVE + LEAVE => {
            let (endless, most) = (Question { tokens_max: 500, ..question.clone() }, rng.usize(1..20));
            chat::ask_until(endpoint, &endless, |pieces| pieces.len() >= most).await.context("one that leaves")?;
            Ok(())
        }
        _ => {
            let answer = chat::ask(endpoint, question).await.context("a good request")?;
            anyhow::ensure!(answer.tokens() == TOKENS, "a good answer has {} tokens", answer.tokens());
            Ok(())
        }
    }
}

/// What it holds when it has come to rest, or after a while in which it has not.
async fn settled(endpoint: Endpoint, before: &Held) -> anyhow::Result<Held> {
    let started = Instant::now();
    loop {
        tokio::time::sleep(limits::SOAK_POLL).await;
        let held = held(endpoint).await?;
        let is_at_rest = held.instances <= before.instances
            && held.running <= before.running
            && held.generations <= before.generations
            && held.threads <= before.threads
            && held.files <= before.files;
        if is_at_rest || started.elapsed() > limits::SOAK_REST_MAX {
            return Ok(held);
        }
    }
}

async fn held(endpoint: Endpoint) -> anyhow::Result<Held> {
    let text = chat::get(endpoint.address, "/metrics").await?;
    let sum = |name: &str| chat::metric(&text, name);
    Ok(Held {
        instances: sum("outrigger_plugin_instances"),
        running: sum("outrigger_requests_running"),
        generations: sum("outrigger_plugin_generations"),
        threads: process::threads(endpoint.pid)?,
        files: process::open_files(endpoint.pid)?,
        resident_bytes: process::resident_bytes(endpoint.pid)?,
    })
}
