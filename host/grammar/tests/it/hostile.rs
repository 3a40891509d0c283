//! Grammars made to hurt: each ends in an error that says what is wrong with it, or is enforced, in bounded time and memory.

use grammar::Author;
use inference::OutputFormat;
use serde_json::{Value, json};

use crate::writer::{House, Random};

fn refused(format: &OutputFormat, expected: &str) {
    let error = House::new().refusal(format);
    assert!(error.contains(expected), "{:.80}: {error}", format.text());
}

fn schema(schema: &Value) -> OutputFormat {
    OutputFormat::JsonSchema(schema.to_string())
}

/// Compiles it, or not; what is compiled is followed for a while.
fn survives(format: &OutputFormat) {
    let house = House::new();
    match house.compiler.compile(format, Author::Client) {
        Err(error) => assert!(error.to_string().len() < 2_000, "{error}"),
        Ok(grammar) => {
            let mut constraint = grammar.begin();
            let mut random = Random(1);
            for _ in 0..50 {
                let Ok(mask) = constraint.allowed() else { return };
                let allowed: Vec<u32> = (0..300).filter(|&token| mask.contains(inference::Token(token))).collect();
                let token = allowed[random.below(allowed.len())];
                if constraint.accept(inference::Token(token)).is_err() || constraint.is_complete() {
                    return;
                }
            }
        }
    }
}

#[test]
fn what_is_no_grammar_is_refused() {
    refused(&OutputFormat::JsonSchema("{\"type\":".to_owned()), "it is not JSON");
    refused(&schema(&json!([1])), "a schema is an object");
    refused(&schema(&json!({"type": "string", "pattern": "("})), "the JSON schema cannot be enforced");
    refused(&schema(&json!({"properties": {"a": {"not": {}}}})), "at `/properties/a/not`");
    refused(&schema(&json!({"$ref": "https://example.com/schema"})), "is not in this document");
    refused(&schema(&json!({"$ref": "#/$defs/nowhere"})), "nowhere");
    refused(&schema(&json!({"type": "string", "format": "no-such-format"})), "no-such-format");
    refused(&schema(&json!({"oneOf": [{"type": "integer"}, {"type": "number"}]})), "oneOf");
    refused(&OutputFormat::Regex("(".to_owned()), "unclosed group");
    refused(&OutputFormat::Lark("start: nowhere".to_owned()), "nowhere");
    refused(&OutputFormat::Gbnf("root ::= nowhere".to_owned()), "`nowhere` is used and not defined");
}

#[test]
fn what_nothing_matches_is_refused() {
    refused(&OutputFormat::JsonSchema("false".to_owned()), "nothing is valid");
    refused(&schema(&json!({"type": "integer", "minimum": 3, "maximum": 2})), "the JSON schema cannot be enforced");
    refused(&schema(&json!({"type": "string", "enum": [1]})), "the JSON schema cannot be enforced");
    refused(&OutputFormat::Regex(r"[^\s\S]".to_owned()), "the regular expression cannot be enforced");
    refused(&OutputFormat::Gbnf("root ::= \"a\" root".to_owned()), "nothing matches it");
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
    refused(&OutputFormat::JsonSchema(deep), "nests 60000 deep");
    refused(&OutputFormat::JsonSchema(" ".repeat(1 << 20)), "1048576 bytes");
    refused(&OutputFormat::Regex(format!("{}a{}", "(".repeat(8_000), ")".repeat(8_000))), "nested");
    refused(&OutputFormat::Regex("a".repeat(1 << 20)), "1048576 bytes");
    refused(&OutputFormat::Lark(format!("start: {}", "(".repeat(60_000))), "nests more than");
    refused(&OutputFormat::Gbnf(format!("root ::= {}", "(".repeat(60_000))), "nest more than");
    refused(&OutputFormat::Lark(format!("start: {}\"a\"", "~".repeat(60_000))), "the Lark grammar cannot be enforced");
}

#[test]
fn long_chains_do_not_exhaust_the_stack() {
    let definitions: serde_json::Map<String, Value> = (0..2_400)
        .map(|number| (format!("d{number}"), json!({"items": {"$ref": format!("#/$defs/d{}", number + 1)}})))
        .chain([("d2400".to_owned(), json!({"type": "null"}))])
        .collect();
    survives(&schema(&json!({"$ref": "#/$defs/d0", "$defs": definitions})));
    let rules = (0..999).map(|number| format!("r{number}: r{} \"a\"\n", number + 1)).collect::<Vec<_>>().concat();
    survives(&OutputFormat::Lark(format!("start: r0\n{rules}r999: \"b\"")));
    let tokens = (0..990).map(|number| format!("T{number}: T{} \"a\"\n", number + 1)).collect::<Vec<_>>().concat();
    survives(&OutputFormat::Lark(format!("start: T0\n{tokens}T990: \"b\"")));
    let rules = (0..998).map(|number| format!("r{number} ::= r{} \"a\"\n", number + 1)).collect::<Vec<_>>().concat();
    survives(&OutputFormat::Gbnf(format!("root ::= r0\n{rules}r998 ::= \"b\"")));
    survives(&OutputFormat::Gbnf(format!("root ::= r0\n{rules}r998 ::= \"b\" | root")));
}

#[test]
fn explosions_are_put_out() {
    for pattern in [
        "(a{1000}){1000}",
        "(((a?){100}){100}){100}",
        "(a|a?)+b",
        "(.*a){20}",
        "(?:a*)*(?:b*)*",
        r"(\w+\s?){1,200}\pL{5,500}",
        "((((a{0,50}){0,50}){0,50}){0,50}){0,50}",
        ".{0,100000}x.{0,100000}",
        "[ab]*a[ab]{40}",
    ] {
        survives(&OutputFormat::Regex(pattern.to_owned()));
        survives(&schema(&json!({"type": "string", "pattern": pattern})));
    }
    survives(&schema(&json!({"type": "array", "minItems": 1_000_000_000})));
    survives(&schema(&json!({"type": "string", "minLength": 1_000_000_000})));
    survives(&schema(&json!({"type": "integer", "multipleOf": 1e-300})));
    survives(&schema(&json!({"type": "object", "patternProperties": {"(a|b)*c{3,300}": {}, "(b|a)+": {}}})));
    let names: Vec<String> = (0..5_000).map(|number| format!("name {number}")).collect();
    survives(&schema(&json!({"enum": names})));
    let any = json!({"anyOf": (0..20).map(|number| json!({"const": number})).collect::<Vec<_>>()});
    survives(&schema(&json!({"allOf": vec![any; 8]})));
    let doubling = (0..60).map(|number| format!("r{number} ::= r{0} r{0}\n", number + 1)).collect::<Vec<_>>().concat();
    survives(&OutputFormat::Gbnf(format!("root ::= r0\n{doubling}r60 ::= \"a\"")));
    survives(&OutputFormat::Gbnf("root ::= (([a-z]{0,2000}){0,2000} \"x\" | \"(\" root \")\")".to_owned()));
    survives(&OutputFormat::Lark("start: a a a a a a\na: | \"a\" a | a a a".to_owned()));
    survives(&OutputFormat::Gbnf("root ::= root root root | \"a\" | \"\"".to_owned()));
}

#[test]
fn recursion_without_an_end_is_followed_and_never_stuck() {
    survives(&schema(&json!({"$ref": "#"})));
    survives(&schema(&json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})));
    survives(&schema(&json!({"allOf": [{"$ref": "#"}]})));
}
