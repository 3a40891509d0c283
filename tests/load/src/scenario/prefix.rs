//! A system prompt of 1,000 tokens that many requests share: time to the first text when it is new, and when it is not.

use serde_json::Value;

use super::{Bench, Both, Pair};
use crate::chat::{self, Endpoint, Question, Sampling};
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit, median};
use crate::server::Shape;

const SYSTEM_TOKENS: usize = 1000;
const WARM_REQUESTS: usize = 3;

#[derive(Default)]
struct Times {
    cold_ms: f64,
    warm_ms: f64,
    /// The slower of two that arrive together: one of them finds the prompt in a slot that is not its own.
    warm_pair_ms: f64,
    cached_tokens: f64,
}

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let pair = Pair::start(bench, Shape { slots: 2, context_length: 2048 }).await?;
    let row = |figure, unit| Row::new(format!("system prompt of {SYSTEM_TOKENS}: {figure}"), unit, bench.peer);
    let mut cold = row("first text, new", Unit::Milliseconds);
    let mut warm = row("first text, seen before", Unit::Milliseconds);
    let mut ratio = row("seen before / new", Unit::Times).aim(Aim::AtMostAndNotWorse(0.1));
    let mut warm_pair = row("seen before, two at once: slower first text", Unit::Milliseconds);
    let mut cached = row("cached tokens of one seen before", Unit::Tokens);
    let mut prompts = Prompts::new(6);
    for round in bench.rounds(5, 2) {
        let system = prompts.words(SYSTEM_TOKENS);
        let questions: Vec<Question> = (0..WARM_REQUESTS + 3)
            .map(|_| Question {
                system: system.clone(),
                user: format!("What of the {}?", prompts.words(5)),
                tokens_max: 8,
                sampling: Sampling::Greedy,
                extra: Value::Null,
            })
            .collect();
        let mut both = Both::default();
        for (side, server) in pair.in_turns(round) {
            both.set(side, times(server.endpoint(), &questions).await?);
        }
        both.push_to(&mut cold, |of| of.cold_ms);
        both.push_to(&mut warm, |of| of.warm_ms);
        both.push_to(&mut ratio, |of| of.warm_ms / of.cold_ms);
        both.push_to(&mut warm_pair, |of| of.warm_pair_ms);
        both.push_to(&mut cached, |of| of.cached_tokens);
    }
    Ok(vec![cold, warm, ratio, warm_pair, cached])
}

async fn times(endpoint: Endpoint, questions: &[Question]) -> anyhow::Result<Times> {
    let millis = |answer: &chat::Answer| answer.ttft().as_secs_f64() * 1e3;
    let cold = chat::ask(endpoint, &questions[0]).await?;
    let mut warm = Vec::new();
    for question in &questions[1..=WARM_REQUESTS] {
        warm.push(chat::ask(endpoint, question).await?);
    }
    let two = questions[WARM_REQUESTS + 1..].iter().map(|question| chat::ask(endpoint, question));
    let two = futures::future::try_join_all(two).await?;
    let cached =
        |answer: &chat::Answer| f64::from(answer.usage.unwrap_or_default().prompt_tokens_details.cached_tokens);
    Ok(Times {
        cold_ms: millis(&cold),
        warm_ms: median(warm.iter().map(millis)).unwrap_or(f64::NAN),
        warm_pair_ms: two.iter().map(millis).fold(0.0, f64::max),
        cached_tokens: median(warm.iter().map(cached)).unwrap_or_default(),
    })
}
