//! The grammars that `chat-template` writes for calls, as `tests/golden/calls.json` has them: they compile, and hold answers to
//! what the requests ask for.

use std::path::Path;

use grammar::Author;
use inference::{Constraint, OutputFormat, Token};
use serde_json::Value;

use crate::writer::{CONTROL, House, Words, takes_tokens};

/// Control tokens that a form of calls has at most.
const CONTROLS: usize = 8;

/// The tokens of an answer: a byte each, and control tokens where it has their numbers, as in `⟦257⟧`.
fn tokens(answer: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, part) in answer.split('⟦').enumerate() {
        let text = match part.split_once('⟧') {
            Some((token, text)) if number > 0 => {
                tokens.push(Token(token.parse().expect("a number")));
                text
            }
            _ => part,
        };
        tokens.extend(text.bytes().map(|byte| Token(u32::from(byte))));
    }
    tokens
}

fn texts(answers: &Value) -> Vec<&str> {
    answers.as_array().expect("answers").iter().map(|answer| answer.as_str().expect("a text")).collect()
}

#[test]
fn the_grammars_of_calls_take_calls_and_nothing_else() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/calls.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).expect("the fixtures")).expect("JSON");
    let house = House::of(Words::with_controls(CONTROLS));
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let format = OutputFormat::Lark(case["grammar"].as_str().expect("a grammar").to_owned());
        let grammar = match house.compiler.compile(&format, Author::Prompt) {
            Ok(grammar) => grammar,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (answers, expected) in [(&case["taken"], true), (&case["refused"], false)] {
            for answer in texts(answers) {
                if takes_tokens(&grammar, tokens(answer)) != expected {
                    wrong.push(format!("{name}: {answer:?} is {}taken", if expected { "not " } else { "" }));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 30, "only {} grammars", cases.len());
}

#[test]
fn only_the_prompts_grammar_reaches_control_tokens() {
    let house = House::of(Words::with_controls(CONTROLS));
    let format = OutputFormat::Lark(format!("start: <[{}]> /[ab]+/", CONTROL.0));
    let grammar = house.compiler.compile(&format, Author::Prompt).expect("a grammar");
    let mut constraint: Box<dyn Constraint> = grammar.begin();
    let mask = constraint.allowed().expect("something follows");
    let allowed: Vec<u32> = (0..300).filter(|&token| mask.contains(Token(token))).collect();
    assert_eq!(allowed, [CONTROL.0]);
    assert!(house.refusal(&format).contains("names tokens"), "the same text of a client is refused");
    assert!(house.compiler.cached(&format, Author::Client).is_none(), "and not found as the prompt's");
}
