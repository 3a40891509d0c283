//! A client leaves half a second into a long prefill: how long does the next short request wait?

use std::time::Duration;

use serde_json::Value;

use super::{Bench, Both, Pair};
use crate::chat::{self, Question, Sampling};
use crate::prompt::Prompts;
use crate::report::{Aim, Row, Unit};
use crate::server::Shape;

const LONG_PROMPT_TOKENS: usize = 3500;
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let pair = Pair::start(bench, Shape { slots: 2, context_length: 4096 }).await?;
    let mut alone = Row::new("short request: first text", Unit::Milliseconds, bench.peer);
    let mut after =
        Row::new("after a client left a prefill: first text", Unit::Milliseconds, bench.peer).aim(Aim::AtMost(100.0));
    // The same every time: what it costs by itself is next to nothing where a slot still holds it.
    let short = Question {
        system: "Short answers.".to_owned(),
        user: "Hello!".to_owned(),
        tokens_max: 8,
        sampling: Sampling::Greedy,
        extra: Value::Null,
    };
    let mut prompts = Prompts::new(3);
    for server in [&pair.theirs, &pair.ours] {
        chat::ask(server.endpoint(), &short).await?;
    }
    for round in bench.rounds(5, 2) {
        let long = prompts.question(LONG_PROMPT_TOKENS, 8);
        let (mut undisturbed, mut disturbed) = (Both::default(), Both::default());
        for (side, server) in pair.in_turns(round) {
            let endpoint = server.endpoint();
            undisturbed.set(side, chat::ask(endpoint, &short).await?.ttft());
            chat::ask_and_leave(endpoint, &long, PATIENCE).await?;
            disturbed.set(side, chat::ask(endpoint, &short).await?.ttft());
        }
        undisturbed.push_to(&mut alone, |ttft| ttft.as_secs_f64() * 1e3);
        disturbed.push_to(&mut after, |ttft| ttft.as_secs_f64() * 1e3);
    }
    Ok(vec![alone, after])
}
