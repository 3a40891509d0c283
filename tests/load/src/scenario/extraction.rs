//! What guessing from the prompt brings where an answer quotes it: ours with and without, and the peer as it comes.

use serde_json::{Value, json};

use super::{Bench, Pair};
use crate::chat::{self, Endpoint, Question, Sampling};
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

const CODE: &str = r#"def read_orders(path):
    orders = []
    with open(path) as file:
        for line in file:
            number, name, amount = line.strip().split(",")
            orders.append({"number": int(number), "name": name, "amount": float(amount)})
    return orders
"#;
/// What a model of 135 million parameters repeats without a mistake.
const CODE_TOKENS: u32 = 80;

const PEOPLE: &str = "\
Ada Byrne lives in Dublin; write to ada.byrne@mail.example or call +353 1 555 0101.
Jonas Keller lives in Bremen; write to jonas.keller@post.example or call +49 421 555 0102.
Mei Tanaka lives in Osaka; write to mei.tanaka@mail.example or call +81 6 5550 103.
Luis Ortega lives in Bilbao; write to luis.ortega@correo.example or call +34 94 555 0104.
Nadia Rahman lives in Leeds; write to nadia.rahman@mail.example or call +44 113 555 0105.";

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let shape = Shape { slots: 1, context_length: 1024 };
    let pair = Pair::start(bench, shape).await?;
    let plain = Server::start(bench, Contender::OutriggerWithoutDrafts, shape).await?;
    let code = format!("Repeat this code, with `amount` renamed to `total`.\n\n```python\n{CODE}```");
    let people = format!("{PEOPLE}\n\nExtract all people as JSON with name, city, email and phone.");
    let questions = [
        ("code that is edited", Aim::RatioAtLeast(1.5), question(code, CODE_TOKENS, Value::Null)),
        ("a table that is extracted", Aim::RatioAtLeast(1.0), question(people, bench.answer_tokens(), schema())),
    ];
    let mut rows = Vec::new();
    for (what, aim, question) in questions {
        let row = |figure: &str, unit, against| Row::new(format!("{what}: {figure}"), unit, against);
        let without = Contender::OutriggerWithoutDrafts;
        let mut peer = row("decode", Unit::TokensPerSecond, bench.peer);
        let mut ratio = row("decode", Unit::TokensPerSecond, without).aim(aim);
        let mut cpu = row("CPU per token", Unit::CpuMillisecondsPerToken, without);
        for round in bench.rounds(7, 3) {
            let mut servers = [&pair.theirs, &plain, &pair.ours];
            servers.rotate_left(round % 3);
            let mut answers = Vec::new();
            for server in servers {
                let endpoint = Endpoint { ignores_end: false, ..server.endpoint() };
                let answer = chat::ask(endpoint, &question).await?;
                answers.push((server.pid(), (answer.decode_rate()?, answer.cpu_ms_per_token())));
            }
            let of = |server: &Server| answers.iter().find(|(pid, _)| *pid == server.pid()).map(|answer| answer.1);
            let (Some(theirs), Some(plain), Some(ours)) = (of(&pair.theirs), of(&plain), of(&pair.ours)) else {
                continue;
            };
            peer.push(theirs.0, ours.0);
            ratio.push(plain.0, ours.0);
            cpu.push(plain.1, ours.1);
        }
        rows.extend([peer, ratio, cpu]);
    }
    Ok(rows)
}

fn question(user: String, tokens_max: u32, extra: Value) -> Question {
    Question { system: String::new(), user, tokens_max, sampling: Sampling::Greedy, extra }
}

fn schema() -> Value {
    let text = || json!({"type": "string"});
    json!({"response_format": {"type": "json_schema", "json_schema": {"name": "people", "strict": true, "schema": {
        "type": "array",
        "minItems": 5,
        "items": {
            "type": "object",
            "properties": {"name": text(), "city": text(), "email": text(), "phone": text()},
            "required": ["name", "city", "email", "phone"],
            "additionalProperties": false,
        },
    }}}})
}
