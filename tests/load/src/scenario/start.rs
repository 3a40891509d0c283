//! Start to ready, and the memory that a server holds, before and after work.

use anyhow::Context as _;
use serde_json::Value;

use super::{Bench, Both, Side};
use crate::chat::{self, Question};
use crate::process;
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

const SHAPE: Shape = Shape { slots: 8, context_length: 1024 };

#[derive(Default)]
struct Life {
    ready_ms: f64,
    idle_bytes: u64,
    loaded_bytes: u64,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let model_bytes = std::fs::metadata(&bench.model)?.len();
    let row = |figure: &str, unit| Row::new(figure, unit, bench.peer);
    let mut ready = row("start to ready", Unit::Milliseconds).aim(Aim::RatioAtMost(1.2));
    let mut idle = row("resident when ready", Unit::Megabytes);
    let mut loaded = row("resident after 8 streams", Unit::Megabytes);
    let mut times = row("resident after 8 streams / model file", Unit::Times);
    let mut beyond = row("resident when ready beyond model and KV", Unit::Megabytes).aim(Aim::AtMost(60.0));
    // The first start reads the model from disk and compiles plugins; a sidecar's restarts do neither.
    let kv_bytes = kv_bytes(&Server::spawn(bench, Contender::Outrigger, SHAPE).await?)?;
    drop(Server::spawn(bench, bench.peer, SHAPE).await?);
    let mut prompts = Prompts::new(8);
    for round in bench.rounds(7, 3) {
        let questions: Vec<Question> = (0..SHAPE.slots).map(|_| prompts.question(32, 32)).collect();
        let mut both = Both::default();
        let mut order = [(Side::Theirs, bench.peer), (Side::Ours, Contender::Outrigger)];
        order.rotate_left(round % 2);
        for (side, contender) in order {
            both.set(side, life(bench, contender, &questions).await?);
        }
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        both.push_to(&mut ready, |of| of.ready_ms);
        both.push_to(&mut idle, |of| megabytes(of.idle_bytes));
        both.push_to(&mut loaded, |of| megabytes(of.loaded_bytes));
        both.push_to(&mut times, |of| of.loaded_bytes as f64 / model_bytes as f64);
        both.push_to(&mut beyond, |of| megabytes(of.idle_bytes) - megabytes(model_bytes + kv_bytes));
    }
    Ok(vec![ready, idle, loaded, times, beyond])
}

async fn life(bench: &Bench, contender: Contender, questions: &[Question]) -> anyhow::Result<Life> {
    let server = Server::spawn(bench, contender, SHAPE).await?;
    let idle_bytes = process::resident_bytes(server.pid())?;
    let asked = questions.iter().map(|question| chat::ask(server.endpoint(), question));
    futures::future::try_join_all(asked).await?;
    let loaded_bytes = process::resident_bytes(server.pid())?;
    Ok(Life { ready_ms: server.ready_after().as_secs_f64() * 1e3, idle_bytes, loaded_bytes })
}

/// What the key-value cache takes in either server: same slots, same context, same type. Ours says it when it starts.
fn kv_bytes(server: &Server) -> anyhow::Result<u64> {
    let log = server.log();
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said = lines.find_map(|line| find(&line, "kv_bytes"));
    said.context("the server's log does not say what the KV cache takes")
}

fn find(value: &Value, key: &str) -> Option<u64> {
    let object = value.as_object()?;
    object.get(key).and_then(Value::as_u64).or_else(|| object.values().find_map(|value| find(value, key)))
}
