//! What a form of the answer costs: tokens per second with one over tokens per second without.
//!
//! A JSON schema makes another text of an answer, and another text takes another time. What following a grammar costs by
//! itself shows where the grammar allows any text: the answers are the same.

use serde_json::{Value, json};

use super::{Bench, Both, Pair};
use crate::chat::{self, Answer, Endpoint, Question, Sampling};
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::Shape;

#[derive(Default)]
struct Rates {
    free: f64,
    any_text: f64,
    schema: f64,
    cpu_schema: f64,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let pair = Pair::start(bench, Shape { slots: 1, context_length: 1024 }).await?;
    let row = |figure: &str, unit| Row::new(figure, unit, bench.peer);
    let mut any_text = row("under a grammar of any text / without", Unit::Times).aim(Aim::AtLeast(0.97));
    let mut schema = row("under a JSON schema: decode", Unit::TokensPerSecond);
    let mut other_text = row("under a JSON schema / without, another text", Unit::Times);
    let mut cpu = row("under a JSON schema: CPU per token", Unit::CpuMillisecondsPerToken);
    let mut prompts = Prompts::new(7);
    for round in bench.rounds(9, 3) {
        // Sampled: a greedy text and a list are guessed ahead to different parts, and that is not what is asked here.
        let free = Question { sampling: Sampling::Chain, ..prompts.question(32, bench.answer_tokens()) };
        let with_any_text = Question { extra: json!({"grammar": "root ::= [^\\x00]*"}), ..free.clone() };
        let with_schema = Question { extra: people(), ..free.clone() };
        let mut both = Both::default();
        for (side, server) in pair.in_turns(round) {
            let mut rates = Rates::default();
            // Whoever comes first finds the prompt new and the caches cold, and that is not always the same.
            let mut questions = [(&free, 0), (&with_any_text, 1), (&with_schema, 2)];
            questions.rotate_left(round % 3);
            for (question, which) in questions {
                let answer = ask(server.endpoint(), question).await?;
                match which {
                    0 => rates.free = answer.decode_rate()?,
                    1 => rates.any_text = answer.decode_rate()?,
                    _ => (rates.schema, rates.cpu_schema) = (answer.decode_rate()?, answer.cpu_ms_per_token()),
                }
            }
            both.set(side, rates);
        }
        both.push_to(&mut any_text, |of| of.any_text / of.free);
        both.push_to(&mut schema, |of| of.schema);
        both.push_to(&mut other_text, |of| of.schema / of.free);
        both.push_to(&mut cpu, |of| of.cpu_schema);
    }
    Ok(vec![any_text, schema, other_text, cpu])
}

async fn ask(endpoint: Endpoint, question: &Question) -> anyhow::Result<Answer> {
    // A grammar decides itself when the answer may end.
    chat::ask(Endpoint { ignores_end: false, ..endpoint }, question).await
}

/// A list that has to be long: the answer does not end before its tokens do.
fn people() -> Value {
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
