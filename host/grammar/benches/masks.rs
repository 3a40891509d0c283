//! What following a grammar costs per token on SmolLM2's vocabulary of 49,152: `cargo bench -p grammar`.
//!
//! Times are wall-clock, over the tokens of answers that are known beforehand. On a busy machine the median holds and the
//! percentile shows the neighbours.

use std::sync::Arc;
use std::time::{Duration, Instant};

use grammar::{Author, Compiler};
use inference::{Grammar, OutputFormat, SpecialTokens, Token};

const SCHEMA: &str = r##"{
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
        "notes": {"type": "array", "items": {"$ref": "#/$defs/note"}}
    },
    "required": ["name", "age", "email", "tags", "notes"],
    "additionalProperties": false,
    "$defs": {"note": {
        "type": "object",
        "properties": {"at": {"type": "string", "format": "date"}, "text": {"type": "string"}},
        "required": ["at", "text"],
        "additionalProperties": false
    }}
}"##;

const ANSWER: &str = r#"{"name": "Ada Lovelace", "age": 36, "email": "ada@example.org", "tags": ["red", "blue"], "notes": [
  {"at": "1843-09-01", "text": "The engine might compose elaborate and scientific pieces of music of any degree of complexity."},
  {"at": "1852-11-27", "text": "Sie sprach auch Französisch, und manchmal \"zitierte\" sie."}]}"#;

/// llama.cpp's `grammars/json.gbnf`.
const JSON_GBNF: &str = r#"root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;

const ROUNDS: usize = 20;

fn main() {
    let model =
        llama::Model::load(&llama::LoadOptions::new(tests::host::demo_model(), "smol")).expect("the demo model");
    let vocabulary = model.vocabulary();
    let tokens = vocabulary.tokenize(ANSWER, SpecialTokens::Literal);
    println!("{} tokens of SmolLM2; an answer of {} tokens", vocabulary.size(), tokens.len());

    let compiler = Compiler::new(Arc::clone(&vocabulary));
    let started = Instant::now();
    compiler.compile(&OutputFormat::Regex("a".to_owned()), Author::Client).expect("a grammar");
    println!("{:<44} {:>9.1} ms", "the vocabulary's trie, once per model", millis(started.elapsed()));

    println!("{:<44} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "compile", "first", "median", "p99", "accept");
    for (name, format) in [
        ("JSON schema", OutputFormat::JsonSchema(SCHEMA.to_owned())),
        ("any JSON object", OutputFormat::JsonObject),
        ("json.gbnf", OutputFormat::Gbnf(JSON_GBNF.to_owned())),
        ("regular expression of any text", OutputFormat::Regex("(?s:.)*".to_owned())),
    ] {
        let started = Instant::now();
        let grammar = compiler.compile(&format, Author::Client).expect("a grammar");
        let compile = started.elapsed();
        let (mut first, _) = follow(&grammar, &tokens);
        let (mut masks, mut accepts) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (mask, accept) = follow(&grammar, &tokens);
            masks.extend(mask);
            accepts.extend(accept);
        }
        println!(
            "{name:<44} {:>6.1} ms {:>6.1} µs {:>6.1} µs {:>6.1} µs {:>6.1} µs",
            millis(compile),
            micros(percentile(&mut first, 50)),
            micros(percentile(&mut masks, 50)),
            micros(percentile(&mut masks, 99)),
            micros(percentile(&mut accepts, 50)),
        );
    }
}

/// The times of each mask and of each token taken.
fn follow(grammar: &Grammar, tokens: &[Token]) -> (Vec<Duration>, Vec<Duration>) {
    let mut constraint = grammar.begin();
    let (mut masks, mut accepts) = (Vec::with_capacity(tokens.len()), Vec::with_capacity(tokens.len()));
    for &token in tokens {
        let started = Instant::now();
        let mask = constraint.allowed().expect("it goes on");
        let computed = Instant::now();
        assert!(mask.contains(token), "the answer is one that the grammar describes");
        let accepting = Instant::now();
        constraint.accept(token).expect("it is allowed");
        accepts.push(accepting.elapsed());
        masks.push(computed - started);
    }
    (masks, accepts)
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
