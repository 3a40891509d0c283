//! What guessing from the prompt brings where an answer quotes it: ours with and without, and the peer as it comes.

use serde_json::{Value, json};

use super::{Bench, Pair};
use crate::chat::{self, Endpoint, Question, Sampling};
use crate::report::{Aim, Row, Unit};
use crate::server::{Contender, Server, Shape};

/// A letter with an order in it, and what the model is shown first: it has 135 million parameters, and copies without a
/// mistake what it has seen copied once.
const EXAMPLE: &str = "\
Order 47990 was placed on 2 March by Mr. Tomas Lindqvist of Uppsala. It contains one box of oil pastels and a sketchbook in \
the format A5. The customer asks that the invoice be sent by e-mail.";
const ORDER: &str = "\
Order 48213 was placed on 14 March by Mrs. Adelheid Brunner of Graz. It contains three boxes of drawing paper in the format \
A3, two sets of watercolours with 24 pans each, and a folding easel of beech wood. The parcel left the warehouse in Linz on \
15 March at 16:40 and was handed to the carrier with the number RX 7730 4418 2 AT. The customer asks that it be left with \
the neighbour, Mr. Okonkwo, if nobody is at home, and that the invoice be sent by post to her office at Herrengasse 9.";

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
    let passage = json!({"messages": [
        {"role": "user", "content": letter(EXAMPLE)},
        {"role": "assistant", "content": EXAMPLE},
        {"role": "user", "content": letter(ORDER)},
    ]});
    let code = format!("Repeat this code, with `amount` renamed to `total`.\n\n```python\n{CODE}```");
    let people = format!("{PEOPLE}\n\nExtract all people as JSON with name, city, email and phone.");
    let questions = [
        (
            "a passage that is extracted",
            Aim::RatioAtLeast(1.5),
            question(String::new(), bench.answer_tokens(), passage),
        ),
        // Where the model writes something of its own, guesses must not cost.
        ("code that is edited", Aim::RatioAtLeast(0.97), question(code, CODE_TOKENS, Value::Null)),
        ("a table that is extracted", Aim::RatioAtLeast(0.97), question(people, bench.answer_tokens(), schema())),
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

fn letter(order: &str) -> String {
    format!(
        "Which passage of the message is about the order?\n\nMessage:\nThank you for writing to us. Opening hours: Monday to \
         Friday from nine to five. Telephone: +43 316 555 0188.\n\n{order}\n\nYours, the shop in Linz."
    )
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
