//! What a JSON schema costs: tokens per second with one over tokens per second without.

use serde_json::{Value, json};

use super::{Bench, Both, Pair};
use crate::chat::{self, Answer, Endpoint, Question, Sampling};
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::Shape;

#[derive(Default)]
struct OnOff {
    on: f64,
    off: f64,
    cpu_on: f64,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let pair = Pair::start(bench, Shape { slots: 1, context_length: 1024 }).await?;
    let mut on = Row::new("under a JSON schema: decode", Unit::TokensPerSecond, bench.peer);
    let mut ratio = Row::new("under a JSON schema / without", Unit::Times, bench.peer).aim(Aim::AtLeast(0.97));
    let mut cpu = Row::new("under a JSON schema: CPU per token", Unit::CpuMillisecondsPerToken, bench.peer);
    let mut prompts = Prompts::new(7);
    for round in bench.rounds(7, 3) {
        // Sampled: a greedy text and a list are guessed ahead to different parts, and that is not what is asked here.
        let off = Question { sampling: Sampling::Chain, ..prompts.question(32, bench.answer_tokens()) };
        let with_schema = Question { extra: schema(), ..off.clone() };
        let mut both = Both::default();
        for (side, server) in pair.in_turns(round) {
            let measured = |answer: Answer| Ok::<_, anyhow::Error>((answer.decode_rate()?, answer.cpu_ms_per_token()));
            let (off, _) = measured(ask(server.endpoint(), &off).await?)?;
            let (on, cpu_on) = measured(ask(server.endpoint(), &with_schema).await?)?;
            both.set(side, OnOff { on, off, cpu_on });
        }
        both.push_to(&mut on, |of| of.on);
        both.push_to(&mut ratio, |of| of.on / of.off);
        both.push_to(&mut cpu, |of| of.cpu_on);
    }
    Ok(vec![on, ratio, cpu])
}

async fn ask(endpoint: Endpoint, question: &Question) -> anyhow::Result<Answer> {
    // A grammar decides itself when the answer may end.
    chat::ask(Endpoint { ignores_end: false, ..endpoint }, question).await
}

/// A list that has to be long: the answer does not end before its tokens do.
fn schema() -> Value {
    json!({"response_format": {"type": "json_schema", "json_schema": {"name": "people", "strict": true, "schema": {
        "type": "object",
        "properties": {"people": {"type": "array", "minItems": 30, "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 20},
                "age": {"type": "integer", "minimum": 0, "maximum": 120},
                "likes": {"type": "string", "enum": ["tea", "coffee", "water"]},
            },
            "required": ["name", "age", "likes"],
            "additionalProperties": false,
        }}},
        "required": ["people"],
        "additionalProperties": false,
    }}}})
}
