//! `/tokenize`, `/detokenize`, `/render` and `/v1/messages/count_tokens` over real sockets.

mod support;

use inference::{Finish, Segment, Token};
use serde_json::{Value, json};
use support::encoder::FakeEncoder;
use support::fakes::{CONTEXT_LENGTH, FakePipeline};
use support::{Server, Setup};

const LABELS: &str = r#"model="fake/model",stream="false",endpoint="render""#;

async fn refused(server: &Server, path: &str, body: &Value) -> (String, Value) {
    let reply = server.post(path, body).await;
    assert_eq!(reply.status, 400, "{}", reply.body);
    (reply.error().0, reply.json()["error"]["param"].clone())
}

#[tokio::test]
async fn text_to_tokens_and_back() {
    let server = Setup::default().start().await;
    let expected = json!({"count": 2, "max_model_len": CONTEXT_LENGTH, "tokens": [72, 105]});
    for body in [json!({"prompt": "Hi"}), json!({"content": "Hi", "model": "fake/model", "add_special": false})] {
        let reply = server.post("/tokenize", &body).await;
        assert_eq!((reply.status, reply.json()), (200, expected.clone()), "{}", reply.body);
    }
    let spelled = server.post("/tokenize", &json!({"prompt": "é", "return_token_strs": true})).await.json();
    assert_eq!(spelled["token_strs"], json!(["\\xc3", "\\xa9"]));
    // Long enough to take a slot.
    let long = "é".repeat(30_000);
    let tokens = server.post("/tokenize", &json!({"prompt": long})).await.json()["tokens"].take();
    assert_eq!(tokens.as_array().map(Vec::len), Some(60_000));
    let back = server.post("/detokenize", &json!({"tokens": tokens})).await.json();
    assert_eq!(back, json!({"prompt": long}));
    assert_eq!(server.post("/detokenize", &json!({"tokens": [0xC3]})).await.json(), json!({"prompt": "\u{fffd}"}));
    server.until_idle().await;
    // Nobody was asked for an answer.
    assert!(server.engine.taken.lock().unwrap().is_empty());
    assert!(!server.metrics().contains("endpoint=\"tokenize\""));
}

#[tokio::test]
async fn a_model_that_encodes_has_tokens_too() {
    let server = Setup { is_ready: false, ..Setup::default() }.start().await;
    assert_eq!(server.post("/tokenize", &json!({"prompt": "a"})).await.status, 503);
    server.service.ready_to_encode(FakeEncoder::embedder());
    let tokens = async |body: Value| server.post("/tokenize", &body).await.json()["tokens"].take();
    assert_eq!(tokens(json!({"prompt": "a"})).await, json!([0, 97, 0]));
    assert_eq!(tokens(json!({"prompt": "a", "add_special_tokens": false})).await, json!([97]));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let server = Setup::default().start().await;
    for (path, body, code, param) in [
        ("/tokenize", json!({}), "missing_required_parameter", "prompt"),
        ("/tokenize", json!({"prompt": "a", "content": "b"}), "invalid_value", "content"),
        ("/tokenize", json!({"prompt": "a", "parse_special": true}), "unsupported_parameter", "parse_special"),
        ("/tokenize", json!({"messages": []}), "unsupported_parameter", "messages"),
        ("/tokenize", json!({"prompt": "a", "with_pieces": true}), "unknown_parameter", "with_pieces"),
        ("/detokenize", json!({}), "missing_required_parameter", "tokens"),
        ("/detokenize", json!({"tokens": [1, 256]}), "invalid_value", "tokens[1]"),
        ("/detokenize", json!({"tokens": [-1]}), "invalid_value", "tokens"),
        ("/render", json!({"model": "fake/model", "prompt": ["a", "b"]}), "invalid_value", "prompt"),
        ("/render", json!({"model": "fake/model"}), "missing_required_parameter", "messages"),
    ] {
        assert_eq!(refused(&server, path, &body).await, (code.to_owned(), json!(param)), "{path} {body}");
    }
    assert_eq!(server.post("/tokenize", &json!({"prompt": "a", "model": "another"})).await.status, 404);
    let long = json!({"prompt": "a".repeat(server::limits::TOKENS_SHOWN_MAX + 1)});
    let (code, message) = server.post("/tokenize", &long).await.error();
    assert_eq!(code, "invalid_value");
    assert!(message.contains("262145 tokens") && message.contains("in parts"), "{message}");
}

#[tokio::test]
async fn a_prompt_is_shown_with_where_it_comes_from() {
    let segments = vec![
        Segment::Template("<s>".to_owned()),
        Segment::Content("Hi".to_owned()),
        Segment::Tokens(vec![Token(7), Token(8)]),
    ];
    let annotations = vec![("policy.seen".to_owned(), "1".to_owned())];
    let pipeline = FakePipeline { renders: Some(segments), annotations, ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    let body = json!({"model": "fake/model", "messages": [{"role": "user", "content": "Hi"}], "stream": true});
    let reply = server.post("/render", &body).await;
    assert_eq!(
        reply.json(),
        json!({
            "model": "fake/model",
            "prompt": "<s>Hi",
            "segments": [
                {"type": "template", "text": "<s>"},
                {"type": "content", "text": "Hi"},
                {"type": "tokens", "tokens": [7, 8]},
            ],
            "count": 7,
            "max_model_len": CONTEXT_LENGTH,
            "tokens": [60, 115, 62, 72, 105, 7, 8],
            "stop": ["<template stop>"],
            "outrigger": {"annotations": [{"name": "policy.seen", "value": "1"}]},
        })
    );
    // The plugins were told that nobody waits for an answer; it counts as a request, and no slot is held.
    assert_eq!(server.pipeline.ends.lock().unwrap()[0].0, Finish::Cancelled);
    assert_eq!(server.metric("llm_prompt_tokens_total", &LABELS.replace("false", "true")), 7);
    server.until_idle().await;
    assert!(server.engine.taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_prompt_that_stands_as_it_is_is_shown_so_and_one_too_long_too() {
    let server = Setup::default().start().await;
    let reply = server.post("/render", &json!({"model": "fake/model", "prompt": [72, 105]})).await.json();
    assert_eq!(reply["segments"], json!([{"type": "tokens", "tokens": [72, 105]}]));
    let reply = server.post("/render", &json!({"model": "fake/model", "prompt": "x".repeat(600)})).await.json();
    assert_eq!(reply["count"], 600);
}

#[tokio::test]
async fn the_tokens_of_a_message_are_counted_as_it_would_be_read() {
    let server = Setup::default().start().await;
    let body = json!({"model": "fake/model", "system": "ab", "messages": [{"role": "user", "content": "Hi"}]});
    let reply = server.post("/v1/messages/count_tokens", &body).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"input_tokens": 4})));
    // It counts as what it is, and not as a message that was answered.
    server.until_idle().await;
    assert_eq!(server.metric("llm_requests", &LABELS.replace("render", "count_tokens")), 1);
    assert!(!server.metrics().contains("endpoint=\"messages\""));
    let reply = server.post("/v1/messages/count_tokens", &json!({"model": "fake/model"})).await;
    assert_eq!((reply.status, &reply.json()["type"]), (400, &json!("error")));
}
