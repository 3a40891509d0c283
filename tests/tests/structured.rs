//! Structured output through the whole path: real binary, real sockets, real vocabularies.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, Reply, demo_model};
use tests::markov::Markov;

const SMOL: &str = "SmolLM2-135M-Instruct.Q4_1";

/// A model whose vocabulary is SentencePiece's: single characters, and all bytes.
fn markov() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().write(&path).expect("a written model");
    (folder, path)
}

fn request(model: &str, content: &str, extra: &Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 400});
    let members = body.as_object_mut().expect("an object");
    members.extend(extra.as_object().expect("an object").clone());
    body
}

/// Bounded in every direction, so that every answer ends.
fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 30},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 1, "maxItems": 3},
            "home": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/place"}]},
        },
        "required": ["name", "age", "tags", "home"],
        "additionalProperties": false,
        "$defs": {"place": {
            "type": "object",
            "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
            "required": ["zip"],
            "additionalProperties": false,
        }},
    })
}

fn by_schema(schema: &Value) -> Value {
    json!({"response_format": {"type": "json_schema", "json_schema": {"name": "it", "strict": true, "schema": schema}}})
}

fn finish(reply: &Reply) -> String {
    reply.json()["choices"][0]["finish_reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_schema_holds_at_any_temperature_streamed_or_not() {
    let host = Host::serve(&demo_model(), &[]);
    let validator = jsonschema::validator_for(&person()).expect("a schema");
    for seed in 0..8 {
        let mut body = request(SMOL, "Describe a person as JSON.", &by_schema(&person()));
        body["temperature"] = json!(if seed % 2 == 0 { 1.0 } else { 2.0 });
        body["seed"] = seed.into();
        let reply = host.chat(&body);
        assert_eq!(finish(&reply), "stop", "{}", reply.text);
        let (streamed, lines) = host.stream(&body).finish();
        assert_eq!(lines.last().map(String::as_str), Some("[DONE]"), "{lines:?}");
        for text in [reply.content(), streamed] {
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(validator.is_valid(&value), "{text}");
        }
    }
}

#[test]
fn a_json_object_is_one_or_the_answer_was_cut() {
    let host = Host::serve(&demo_model(), &[]);
    let mut ended = 0;
    for seed in 0..6 {
        let mut body =
            request(SMOL, "Say who you are. Answer in JSON.", &json!({"response_format": {"type": "json_object"}}));
        body["seed"] = seed.into();
        let reply = host.chat(&body);
        let text = reply.content();
        assert!(text.starts_with('{'), "{text}");
        if finish(&reply) == "stop" {
            ended += 1;
            assert!(serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object()), "{text}");
        }
    }
    assert!(ended > 0, "none of them ended");
}

#[test]
fn the_other_forms_hold_too() {
    let host = Host::serve(&demo_model(), &[]);
    let gbnf = "root ::= \"(\" root \")\" | word\nword ::= [a-z]{3}";
    for seed in 0..3 {
        let ask = |extra: Value| {
            let mut body = request(SMOL, "What is the capital of France?", &extra);
            body["temperature"] = 1.5.into();
            body["seed"] = seed.into();
            host.chat(&body).content()
        };
        let regex = ask(json!({"structured_outputs": {"regex": "(Paris|London): [0-9]{3}-[0-9]{2}"}}));
        let digits =
            regex.strip_prefix("Paris: ").or(regex.strip_prefix("London: ")).unwrap_or_else(|| panic!("{regex}"));
        assert!(digits.len() == 6 && digits.replace('-', "").bytes().all(|byte| byte.is_ascii_digit()), "{regex}");

        let choice = ask(json!({"structured_outputs": {"choice": ["Paris (France)", "Lyon?"]}}));
        assert!(["Paris (France)", "Lyon?"].contains(&choice.as_str()), "{choice}");

        let nested = ask(json!({"grammar": gbnf, "max_tokens": 60}));
        let inner = nested.trim_start_matches('(').trim_end_matches(')');
        let is_cut = nested.starts_with('(') && !nested.ends_with(')');
        assert!(is_cut || inner.len() == 3 && inner.bytes().all(|byte| byte.is_ascii_lowercase()), "{nested}");

        let lark = ask(json!({"structured_outputs": {"grammar": "start: N (\"+\" N){2}\nN: /[1-9]/"}}));
        assert!(lark.len() == 5 && lark.split('+').all(|digit| digit.len() == 1), "{lark}");
    }
}

#[test]
fn bytes_make_characters_and_streamed_equals_buffered() {
    let (_folder, path) = markov();
    let host = Host::serve(&path, &[]);
    for extra in [
        // Not in the vocabulary but as bytes.
        json!({"structured_outputs": {"regex": "é🙂[0-9]{3}"}}),
        by_schema(
            &json!({"type": "object", "properties": {"ä b": {"enum": ["ß", "日本"]}}, "required": ["ä b"], "additionalProperties": false}),
        ),
        json!({"grammar": "root ::= \"<\" [x-z]+ \">\" \"\\n\" root2\nroot2 ::= \"[\" root2 \"]\" | \"!\"", "max_tokens": 40}),
    ] {
        let mut body = request("tiny", "say it", &extra);
        body["temperature"] = 0.into();
        let buffered = host.chat(&body);
        let (streamed, _) = host.stream(&body).finish();
        assert_eq!(buffered.content(), streamed);
        assert!(!streamed.contains('\u{FFFD}'), "{streamed}");
    }
    let body = request("tiny", "say it", &json!({"structured_outputs": {"regex": "é🙂[0-9]{3}"}, "temperature": 0}));
    let content = host.chat(&body).content();
    assert!(content.starts_with("é🙂") && content.chars().count() == 5, "{content}");
}

#[test]
fn a_cut_answer_says_so() {
    let (_folder, path) = markov();
    let host = Host::serve(&path, &[]);
    let reply =
        host.chat(&request("tiny", "say it", &json!({"structured_outputs": {"regex": "[a-z]{40}"}, "max_tokens": 7})));
    assert_eq!((reply.content().len(), finish(&reply).as_str()), (7, "length"));
}

#[test]
fn what_cannot_be_enforced_is_refused_and_nothing_is_left_behind() {
    let (_folder, path) = markov();
    let host = Host::serve(&path, &[]);
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    for (extra, expected) in [
        (by_schema(&json!({"properties": {"a": {"not": {}}}})), "at `/properties/a/not`"),
        (by_schema(&json!({"$ref": "https://example.com/schema.json"})), "is not in this document"),
        (by_schema(&json!({"type": "nonsense"})), "`type` is one of"),
        (by_schema(&json!(false)), "nothing is valid"),
        (json!({"structured_outputs": {"json": deep}}), "deep"),
        (json!({"structured_outputs": {"regex": "a("}}), "unclosed group at byte 1"),
        (json!({"grammar": "root ::= missing"}), "`missing` is used and not defined"),
        (json!({"grammar": "root ::= \"a\" root"}), "nothing matches it"),
        (json!({"grammar": "(".repeat(60_000)}), "GBNF grammar"),
        (json!({"structured_outputs": {"grammar": "start: ("}}), "Lark grammar"),
        (json!({"guided_json": {}}), "`structured_outputs.json`"),
        (json!({"grammar": "root ::= \"a\"", "json_schema": {}}), "send one of them"),
    ] {
        let reply = host.chat(&request("tiny", "say it", &extra));
        assert_eq!(reply.status, 400, "{extra}: {}", reply.text);
        assert!(reply.error().contains(expected), "{extra}: {}", reply.error());
    }
    assert_eq!(host.metric("outrigger_requests_running", &[]), 0);
    assert_eq!(host.chat(&request("tiny", "say it", &json!({"max_tokens": 3}))).status, 200);
}

#[test]
fn a_catastrophic_regex_costs_its_own_request_little_and_others_nothing() {
    let (_folder, path) = markov();
    let host = Host::serve(&path, &[]);
    for regex in ["((a{1000}){1000}){1000}", "(x+x+)+y", "([ab]*a[ab]{30}){2}"] {
        let reply =
            host.chat(&request("tiny", "say it", &json!({"structured_outputs": {"regex": regex}, "max_tokens": 50})));
        // Enforced, or refused.
        match reply.status {
            200 => assert!(reply.content().bytes().all(|byte| b"abxy".contains(&byte)), "{}", reply.text),
            status => assert_eq!(status, 400, "{}", reply.text),
        }
    }
}

#[test]
fn side_by_side_each_answer_has_its_own_form() {
    let (_folder, path) = markov();
    let host = Host::serve(&path, &["--max-concurrency=3"]);
    std::thread::scope(|scope| {
        for digit in 0..3 {
            let host = &host;
            scope.spawn(move || {
                for _ in 0..4 {
                    let regex = format!("{digit}{{20,24}}");
                    let content = host
                        .chat(&request("tiny", "say it", &json!({"structured_outputs": {"regex": regex}})))
                        .content();
                    assert!((20..=24).contains(&content.len()), "{content}");
                    assert!(content.chars().all(|character| character.to_digit(10) == Some(digit)), "{content}");
                }
            });
        }
    });
}
